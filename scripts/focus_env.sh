#!/usr/bin/env bash
# Makes .venv-focus, an environment with the FinOps Foundation's focus-validator, and checks with it a file that `mlflow-cost export`
# wrote: `scripts/focus_env.sh costs.csv`. Non-interactive; needs Python 3.11 or later. It asks no network: its rules are in it.
set -euo pipefail
cd "$(dirname "$0")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

# Of its own: it wants pandas 2 and numpy 1. Its newest rules that need no download are those of FOCUS 1.0.
[ -x .venv-focus/bin/focus-validator ] || {
    python3 -m venv .venv-focus
    .venv-focus/bin/pip install -q "focus-validator==1.0.0" "multimethod<2" "setuptools<81"
}
if [ "$#" -gt 0 ]; then
    exec .venv-focus/bin/focus-validator --validate-version 1.0 --data-file "$1"
fi
