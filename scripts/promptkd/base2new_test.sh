#!/usr/bin/env bash
# PromptKD, base-to-new, test: the model of base2new_train.sh on the new classes. The teacher is not
# loaded: its text features stand beside the checkpoints.
#
#   DATA=/path/to/datasets scripts/promptkd/base2new_test.sh dtd 1
#   scripts/promptkd/base2new_test.sh critters 1                       # on a CPU
#
# DATASET SEED [KEY VALUE ...], --dry-run; the environment's names stand in scripts/run.py.

exec bash "$(dirname "$0")/../run.sh" promptkd base2new_test "$@"
