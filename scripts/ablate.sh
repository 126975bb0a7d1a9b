#!/usr/bin/env bash
# Compare TextRefiner's parts and controls, base-to-new, in one table: DATASET [--seeds ...] [--rows ...]
#
#   DATA=/path/to/datasets scripts/ablate.sh dtd --seeds 1 2 3 --workers 1
#   scripts/ablate.sh critters --seeds 1 2 3              # on a CPU

exec bash "$(dirname "$0")/python.sh" ablate.py "$@"
