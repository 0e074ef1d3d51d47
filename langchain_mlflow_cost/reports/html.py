"""A report as one HTML file with plots that one can ask: everything in it, nothing fetched (extra `html`).

Altair writes the plots and vl-convert brings Vega's program: 0.9 MB a page, and no page of it links anywhere.
"""

from __future__ import annotations

import html
import json
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from langchain_mlflow_cost.notices import printable
from langchain_mlflow_cost.pricing.rates import OUTPUT_CLASSES
from langchain_mlflow_cost.reports.dimensions import dimensions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import tzinfo

    from langchain_mlflow_cost.reports.query import Question, Store
    from langchain_mlflow_cost.reports.sums import Report, Sums

_MOST_SERIES: Final = 12
"""Models or nodes with a colour of their own; the others are one."""
_OTHERS: Final = "(others)"
_BINS: Final = 30
_MOST_ROWS: Final = 20
_CACHE_CLASSES: Final = frozenset({"cache_read", "cache_read_audio"})


@dataclass(frozen=True)
class Figures:
    """What the plots show."""

    report: Report
    spend: list[dict[str, Any]]
    """`day`, `model`, `node`, `usd`, `calls`."""
    runs: list[dict[str, Any]]
    """How many traces cost between `from` and `to` USD."""
    cache: list[dict[str, Any]]
    """`day`, `model`, `share` of input tokens that a provider's cache had."""
    classes: list[dict[str, Any]]
    """`model`, `kind`, `tokens`, `usd`."""
    stops: list[dict[str, Any]]
    """`budget`, `traces`."""
    nodes: list[tuple[str, Sums]]
    """The dearest."""


def figures(store: Store, question: Question, zone: tzinfo) -> Figures:
    """Ask a store for all of them.

    Args:
        store: Where the traces are.
        question: Which of them; its prices tell classes of tokens apart.
        zone: Whose days.
    """
    split = store.report(replace(question, by=dimensions("day,model,node", zone)))
    by_day = store.report(replace(question, by=dimensions("day,model", zone)))
    by_trace = store.report(replace(question, by=dimensions("trace", zone), book=None))
    by_node = store.report(replace(question, by=dimensions("node", zone), book=None))
    models, nodes = _largest(split, 1), _largest(split, 2)
    return Figures(
        report=split,
        spend=_spend(split, models, nodes),
        runs=_runs([sums.cost_usd for sums in by_trace.groups.values() if not sums.is_unpriced]),
        cache=list(_cache(by_day, models)),
        classes=_classes(by_day, models),
        stops=[{"budget": printable(words), "traces": count} for words, count in split.stops.items()],
        nodes=[(printable(values[0]) or "(outside nodes)", sums) for values, sums in by_node.groups.items()],
    )


def _largest(report: Report, place: int) -> set[str]:
    sums: dict[str, float] = {}
    for values, each in report.groups.items():
        sums[values[place]] = sums.get(values[place], 0.0) + each.cost_usd
    return set(sorted(sums, key=lambda name: -sums[name])[:_MOST_SERIES])


def _named(name: str, known: set[str], nameless: str) -> str:
    return (printable(name) or nameless) if name in known else _OTHERS


def _spend(report: Report, models: set[str], nodes: set[str]) -> list[dict[str, Any]]:
    found: dict[tuple[str, str, str], list[float]] = {}
    for (day, model, node), sums in report.groups.items():
        key = (day, _named(model, models, "(no model)"), _named(node, nodes, "(outside nodes)"))
        row = found.setdefault(key, [0.0, 0.0])
        row[0] += sums.cost_usd
        row[1] += sums.calls
    return [
        {"day": day, "model": model, "node": node, "usd": usd, "calls": int(calls)}
        for (day, model, node), (usd, calls) in found.items()
    ]


def _runs(costs: Sequence[float]) -> list[dict[str, Any]]:
    """Bins of equal width; the last one holds the rest where a few runs cost far more than all others."""
    if not costs:
        return []
    ordered = sorted(costs)
    top = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))] or ordered[-1]
    if not top:
        return [{"from": 0.0, "to": 0.0, "traces": len(costs)}]
    step = _round_step(top / _BINS)
    found: dict[int, int] = {}
    for usd in ordered:
        at = min(int(usd / step), _BINS)
        found[at] = found.get(at, 0) + 1
    return [
        {"from": at * step, "to": max((at + 1) * step, ordered[-1] if at == _BINS else 0.0), "traces": count}
        for at, count in found.items()
    ]


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(each * power for each in (1, 2, 5, 10) if each * power >= step * (1 - 1e-9))


def _cache(report: Report, models: set[str]) -> Iterator[dict[str, Any]]:
    for (day, model), sums in report.groups.items():
        read = sum(count for name, count in sums.tokens.items() if name in _CACHE_CLASSES)
        all_input = sum(count for name, count in sums.tokens.items() if name not in OUTPUT_CLASSES)
        if all_input and model in models:
            share = {"share": read / all_input, "read": read, "input": all_input}
            yield {"day": day, "model": printable(model) or "(no model)", **share}


def _classes(report: Report, models: set[str]) -> list[dict[str, Any]]:
    found: dict[tuple[str, str], list[float]] = {}
    for (_, model), sums in report.groups.items():
        for kind in dict.fromkeys([*sums.tokens, *sums.usd]):
            row = found.setdefault((_named(model, models, "(no model)"), kind.replace("_", " ")), [0.0, 0.0])
            row[0] += sums.tokens.get(kind, 0)
            row[1] += sums.usd.get(kind, 0.0)
    return [
        {"model": model, "kind": kind, "tokens": int(tokens), "usd": usd}
        for (model, kind), (tokens, usd) in found.items()
    ]


# --- the page ---------------------------------------------------------------------------------------------------------


def page(told: Figures, *, title: str, period: str, made: str) -> str:
    """The whole file.

    Args:
        told: What it shows.
        title: Of what.
        period: From when to when.
        made: When it was made, and by which version.

    Raises:
        ImportError: The extra is not installed.
    """
    import vl_convert  # noqa: PLC0415 - an extra

    program = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub has no defaults
    plots = _plots(told)
    total = told.report.total
    numbers = [
        ("USD", f"{total.cost_usd:,.4f}"),
        ("traces", f"{told.report.traces:,}"),
        ("model calls", f"{total.calls:,}"),
        ("tokens", f"{total.input_tokens + total.output_tokens:,}"),
        ("from LangChain's cache", f"{total.cached_calls:,}"),
        ("stopped by a budget", f"{sum(told.report.stops.values()):,}"),
    ]
    notes = []
    if total.unpriced_calls:
        models = ", ".join(printable(each) for each in total.unpriced_models)
        notes.append(f"{total.unpriced_calls:,} calls have no known price and are in no amount: {models}")
    if total.estimated_calls:
        notes.append(f"{total.estimated_calls:,} calls are estimated: ${total.estimated_usd:,.4f}")
    return _PAGE.format(
        title=html.escape(printable(title)),
        period=html.escape(period),
        made=html.escape(made),
        numbers="".join(f"<div><b>{value}</b><span>{html.escape(name)}</span></div>" for name, value in numbers),
        notes="".join(f"<p class=note>{html.escape(note)}</p>" for note in notes),
        figures="".join(
            f"<figure><figcaption>{html.escape(head)}</figcaption><div id=plot{at} class=plot></div></figure>"
            for at, (head, _) in enumerate(plots)
        ),
        rows="".join(_table_row(name, sums) for name, sums in told.nodes[:_MOST_ROWS]),
        specs=_script_json([spec for _, spec in plots]),
        program=program.replace("</script", "<\\/script"),
    )


def _table_row(name: str, sums: Sums) -> str:
    usd = "unknown" if sums.is_unpriced else f"{sums.cost_usd:,.6f}"
    cells = (usd, f"{sums.calls:,}", f"{sums.input_tokens:,}", f"{sums.output_tokens:,}")
    return f"<tr><th>{html.escape(name)}</th>{''.join(f'<td>{each}</td>' for each in cells)}</tr>"


def _script_json(value: Any) -> str:
    # A name of somebody's must not end the script that it stands in.
    return json.dumps(value).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _plots(told: Figures) -> list[tuple[str, dict[str, Any]]]:
    """Each plot's head and Vega-Lite specification; those with nothing to show are left out."""
    import altair as alt  # noqa: PLC0415 - an extra

    def chart(rows: list[dict[str, Any]], bars: str | None = None) -> Any:
        height = 260 if bars is None else 70 + 32 * len({row[bars] for row in rows})
        data = alt.Data(values=rows)  # type: ignore[no-untyped-call]  # altair annotates it not
        return alt.Chart(data).properties(width="container", height=height)

    def by_time(series: str) -> Any:
        picked = alt.selection_point(fields=[series], bind="legend")
        return (
            chart(told.spend)
            .mark_bar()
            .encode(
                x=alt.X("day:O", title=None),
                y=alt.Y("sum(usd):Q", title="USD"),
                color=alt.Color(f"{series}:N", title=None, legend=_legend(alt)),
                opacity=alt.condition(picked, alt.value(1), alt.value(0.12)),
                tooltip=[
                    alt.Tooltip("day:O"),
                    alt.Tooltip(f"{series}:N"),
                    alt.Tooltip("sum(usd):Q", title="USD", format=",.6f"),
                    alt.Tooltip("sum(calls):Q", title="calls", format=","),
                ],
            )
            .add_params(picked)
        )

    found: list[tuple[str, list[dict[str, Any]], Any]] = [
        ("Spend by model", told.spend, by_time("model") if told.spend else None),
        ("Spend by node", told.spend, by_time("node") if told.spend else None),
        (
            "What one run costs",
            told.runs,
            chart(told.runs)
            .mark_bar()
            .encode(
                x=alt.X("from:Q", bin="binned", title="USD"),
                x2="to:Q",
                y=alt.Y("traces:Q", title="traces"),
                tooltip=[
                    alt.Tooltip("from:Q", format=".3~g"),
                    alt.Tooltip("to:Q", format=".3~g"),
                    alt.Tooltip("traces:Q", format=","),
                ],
            ),
        ),
        (
            "Input that a provider's cache had",
            told.cache,
            chart(told.cache)
            .mark_line(point=True)
            .encode(
                x=alt.X("day:O", title=None),
                y=alt.Y("share:Q", title=None, axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1])),
                color=alt.Color("model:N", title=None, legend=_legend(alt)),
                tooltip=[
                    alt.Tooltip("day:O"),
                    alt.Tooltip("model:N"),
                    alt.Tooltip("share:Q", format=".1%"),
                    alt.Tooltip("read:Q", title="cached tokens", format=","),
                    alt.Tooltip("input:Q", title="input tokens", format=","),
                ],
            ),
        ),
        (
            "Tokens by class",
            told.classes,
            chart(told.classes, "model")
            .mark_bar()
            .encode(
                y=alt.Y("model:N", title=None, sort="-x", axis=alt.Axis(labelLimit=140)),
                x=alt.X("sum(tokens):Q", title="tokens", axis=alt.Axis(format="~s")),
                color=alt.Color("kind:N", title=None, legend=_legend(alt)),
                tooltip=[
                    alt.Tooltip("model:N"),
                    alt.Tooltip("kind:N", title="class"),
                    alt.Tooltip("sum(tokens):Q", title="tokens", format=","),
                    alt.Tooltip("sum(usd):Q", title="USD", format=",.6f"),
                ],
            ),
        ),
        (
            "Runs that a budget stopped",
            told.stops,
            chart(told.stops, "budget")
            .mark_bar()
            .encode(
                y=alt.Y("budget:N", title=None, sort="-x", axis=alt.Axis(labelLimit=220)),
                x=alt.X("traces:Q", title="traces", axis=alt.Axis(tickMinStep=1)),
                tooltip=[alt.Tooltip("budget:N"), alt.Tooltip("traces:Q", format=",")],
            ),
        ),
    ]
    return [(head, made.to_dict()) for head, rows, made in found if rows]


def _legend(alt: Any) -> Any:
    # Below the plot: beside it there is no room on a telephone.
    return alt.Legend(orient="bottom", columns=2, labelLimit=130)


_PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:">
<title>{title}</title>
<style>
:root {{ --page: #f6f7f9; --card: #fff; --ink: #1c2430; --faint: #5b6675; --line: #dde2e9; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --page: #12161c; --card: #1b212a; --ink: #e6eaf0; --faint: #9aa5b4; --line: #2e3743; }}
}}
* {{ box-sizing: border-box; }}
body {{ margin: 0 auto; max-width: 1280px; padding: 24px 16px; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }}
h1 {{ font-size: 22px; margin: 0; overflow-wrap: anywhere; }}
.sub, .note, footer {{ color: var(--faint); }}
.numbers {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 12px; margin: 20px 0; }}
.numbers div, figure, .table {{ background: var(--card); border: 1px solid var(--line); border-radius: 8px; }}
.numbers div {{ padding: 10px 14px; }}
.numbers b {{ display: block; font-size: 20px; font-variant-numeric: tabular-nums; }}
.numbers span {{ color: var(--faint); font-size: 13px; }}
.plots {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: 16px; }}
figure {{ margin: 0; padding: 14px; min-width: 0; }}
figcaption {{ font-weight: 600; margin-bottom: 6px; }}
.plot {{ width: 100%; }}
.table {{ margin-top: 16px; padding: 6px 14px; overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 6px 10px; text-align: right; border-bottom: 1px solid var(--line); }}
tr:last-child > * {{ border-bottom: 0; }}
th:first-child {{ text-align: left; font-weight: 500; min-width: 110px; overflow-wrap: break-word; }}
thead th {{ color: var(--faint); font-weight: 500; }}
footer {{ margin-top: 20px; font-size: 13px; }}
</style>
</head>
<body>
<h1>{title}</h1>
<div class=sub>{period}</div>
<div class=numbers>{numbers}</div>
{notes}
<div class=plots>{figures}</div>
<div class=table><table>
<thead><tr><th>Node</th><th>USD</th><th>Calls</th><th>Input</th><th>Output</th></tr></thead>
<tbody>{rows}</tbody>
</table></div>
<footer>A click on a legend shows that series alone. {made}</footer>
<script>{program}</script>
<script>
const specs = {specs};
const dark = matchMedia("(prefers-color-scheme: dark)");
function draw() {{
  const ink = getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
  const line = getComputedStyle(document.documentElement).getPropertyValue("--line").trim();
  const config = {{
    background: "transparent", view: {{stroke: "transparent"}},
    axis: {{labelColor: ink, titleColor: ink, gridColor: line, domainColor: line, tickColor: line}},
    legend: {{labelColor: ink, titleColor: ink}},
  }};
  specs.forEach((spec, at) => {{
    const own = Object.assign({{}}, spec);
    delete own.config;
    vegaEmbed("#plot" + at, own, {{actions: false, renderer: "svg", config: config}}).catch(console.error);
  }});
}}
draw();
dark.addEventListener("change", draw);
</script>
</body>
</html>
"""
