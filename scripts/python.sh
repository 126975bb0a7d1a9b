#!/usr/bin/env bash
# Run one of scripts/*.py with the project's Python: $PYTHON if it is set, else .venv/bin/python of
# the repository, else python3.
#
#   scripts/python.sh run.py coop base2new critters 1

scripts=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-$scripts/../.venv/bin/python}
if ! command -v "$python" >/dev/null; then
    [ -z "$PYTHON" ] || { echo "error: PYTHON=$PYTHON is not a program" >&2; exit 2; }
    python=python3
fi
has_torch='import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)'
if ! "$python" -c "$has_torch" >/dev/null; then
    echo "error: $python has no torch: run \`make demo\` once to make .venv," \
        "or set PYTHON to a Python that has requirements.txt" >&2
    exit 2
fi
script=$1
shift
exec "$python" "$scripts/$script" "$@"
