#!/usr/bin/env bash
# What every scripts/<method>/<protocol>.sh calls: run.py with the project's Python.
# PYTHON names another interpreter; else .venv/bin/python of the repository, else python3.
#
#   scripts/run.sh coop base2new dtd 1
#   scripts/run.sh coop base2new critters 1     # on a CPU

scripts=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-$scripts/../.venv/bin/python}
if ! command -v "$python" >/dev/null; then
    [ -z "$PYTHON" ] || { echo "error: PYTHON=$PYTHON is not a program" >&2; exit 2; }
    python=python3
fi
exec "$python" "$scripts/run.py" "$@"
