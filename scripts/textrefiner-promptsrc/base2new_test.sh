#!/usr/bin/env bash
# PromptSRC + TextRefiner, base-to-new, test: the model of base2new_train.sh on the new classes (the second
# half by label), whose names it has never seen, at the last epoch of its config.
#
#   DATA=/path/to/datasets scripts/textrefiner-promptsrc/base2new_test.sh dtd 1
#   scripts/textrefiner-promptsrc/base2new_test.sh critters 1                     # on a CPU
#
# DATASET SEED [KEY VALUE ...], --dry-run; the environment's names stand in scripts/run.py.

exec bash "$(dirname "$0")/../run.sh" textrefiner-promptsrc base2new_test "$@"
