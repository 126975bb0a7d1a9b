#!/usr/bin/env bash
# What every scripts/<method>/<protocol>.sh calls: run.py with the project's Python.
#
#   scripts/run.sh coop base2new dtd 1
#   scripts/run.sh coop base2new critters 1     # on a CPU

exec bash "$(dirname "$0")/python.sh" run.py "$@"
