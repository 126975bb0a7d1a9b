#!/usr/bin/env bash
# Compare TextRefiner's components on CoOp, base-to-new, in one table: DATASET SEED... [--variants ...]
#
#   DATA=/path/to/datasets scripts/ablate.sh dtd 1 2 3 --workers 1
#   scripts/ablate.sh critters 1 2 3                      # on a CPU

exec bash "$(dirname "$0")/python.sh" ablate.py "$@"
