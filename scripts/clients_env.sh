#!/usr/bin/env bash
# Makes .venv-clients, the environment in which tests/clients runs with the real clients of all providers, and runs them
# with the arguments given, if any: `scripts/clients_env.sh -q tests/clients`. Non-interactive; needs Python 3.11 or later.
set -euo pipefail
cd "$(dirname "$0")/.."
export LITELLM_LOCAL_MODEL_COST_MAP=True
export MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

# Of its own: litellm, which some clients bring, changes what MLflow's store prices. Without the constraints of the other
# environment: some clients want older versions of what that one has.
[ -x .venv-clients/bin/python ] || python3 -m venv .venv-clients
.venv-clients/bin/pip install -q -e ".[dev,clients]"
if [ "$#" -gt 0 ]; then
    exec .venv-clients/bin/python -m pytest "$@"
fi
