"""What is told to people: the word that was meant, URLs without credentials, each cause once."""

from __future__ import annotations

import logging
import shlex
import threading
import warnings

import pytest

from langchain_mlflow_cost.notices import Once, nearest, printable, shell_word, warn_or_log, without_credentials

log = logging.getLogger("test_notices")

NEAREST = {
    "artefact_level": "artifact_level",
    "LOG_PROMPTS": "log_prompts",
    "EMAIL": "EMAIL_ADDRESS",
    "NUMBER": None,
    "zzz": None,
}
KNOWN = ("artifact_level", "log_prompts", "EMAIL_ADDRESS", "PHONE_NUMBER", "MOBILE_NUMBER")


@pytest.mark.parametrize("word", NEAREST)
def test_the_word_that_was_meant(word: str) -> None:
    """A slip is recognised in any capitals, and a name cut short; what could be any of several is not guessed."""
    assert NEAREST[word] == nearest(word, KNOWN)


URLS = {
    "http://127.0.0.1:5000/x": "http://127.0.0.1:5000/x",
    "http://bob:s3same@host:5000": "http://****@host:5000",
    "redis://:s3same@host/0": "redis://****@host/0",
    "http://s3same@host": "http://****@host",
    "postgresql://u:s3s@me/w0rd@host/db": "postgresql://****@host/db",
    "unix:///run/redis?password=s3same&db=1": "unix:///run/redis?password=****&db=****",
    "failed at (http://u:s3same@h/api) twice": "failed at (http://****@h/api) twice",
    "http://a:s3same@x, http://b:s3same@y": "http://****@x, http://****@y",
    "sqlite:///mlflow.db": "sqlite:///mlflow.db",
    "bob@example.com": "bob@example.com",
}


@pytest.mark.parametrize("text", URLS)
def test_a_url_without_its_credentials(text: str) -> None:
    """Users, passwords and what a query says are not shown; the rest says which address is meant."""
    assert URLS[text] == without_credentials(text)


def test_a_cause_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever tells it again, and in whatever words, it is not said twice."""
    once = Once(log)
    told = [once.log("cause", "said %s", "first"), once.log("cause", "said again"), once.log("other", "said")]

    assert [True, False, True] == told
    assert ["said first", "said"] == caplog.messages


def test_causes_are_bounded() -> None:
    """The causes told last are remembered; names out of data do not fill the memory."""
    once = Once(log, most=2)
    for cause in "abab":
        once.is_new(cause)

    assert [True, False, False] == [once.is_new("c"), once.is_new("b"), once.is_new("c")]
    assert once.is_new("a")


def test_threads_tell_a_cause_once() -> None:
    """Of many threads with one cause, one tells it."""
    once, told, gate = Once(log), [], threading.Barrier(8)

    def tell() -> None:
        gate.wait()
        told.append(once.is_new("cause"))

    threads = [threading.Thread(target=tell) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 1 == sum(told)


def test_a_warning_is_at_the_user_s_line() -> None:
    """It names the line outside this package that led to it."""
    with pytest.warns(UserWarning, match="told") as caught:
        Once(log).warn("cause", "told")

    assert [__file__] == [each.filename for each in caught]


def test_warnings_as_errors_stop_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Where warnings are errors, the operator hears it and nobody's graph ends."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_or_log("100 % sure", log)
        Once(log).warn("cause", "once")

    assert ["100 % sure", "once"] == caplog.messages


NAMES = {
    "plan": "plan",
    "a\x1b[2Jb": r"a\x1b[2Jb",
    "a\nb\r\tc": r"a\nb\r\tc",
    "abc\u202edef": r"abc\u202edef",
    "a\u2028b\u200fc\ufeff": r"a\u2028b\u200fc\ufeff",
    "\x9b31mred": r"\x9b31mred",
    "a\ud800b": r"a\ud800b",
    "[/b] <b> é 名": "[/b] <b> é 名",
    "👩\u200d🔬": "👩\u200d🔬",
    "x" * 1_000: "x" * 199 + "…",
}
"""The last thing that a model's or a node's name should do is to act."""


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_name_cannot_act(name: str) -> None:
    """Controls, bidi marks and line ends are written out, in one line of bounded length; readable text stays as it is."""
    assert NAMES[name] == printable(name)


def test_two_names_stay_two() -> None:
    """What differs only in what is invisible is seen to differ."""
    assert len({printable(name) for name in ("plan", "plan\u200b", "plan\u200e", "plan\x00")}) == 4


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("mlflow.db", "mlflow.db"),
        ("sqlite:////tmp/a b/mlflow.db", '"sqlite:////tmp/a b/mlflow.db"'),
        ("langchain-mlflow-cost[redis]", '"langchain-mlflow-cost[redis]"'),
        ("it's", '"it\'s"'),
        ("$HOME/x", "'$HOME/x'"),
        ("", '""'),
    ],
)
def test_a_word_for_every_shell(text: str, word: str) -> None:
    """Double quotes mean the same in sh, zsh, PowerShell and cmd, as long as nothing in them is read by one of these."""
    assert shell_word(text) == word
    assert shlex.split(word) == [text]
