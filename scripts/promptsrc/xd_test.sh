#!/usr/bin/env bash
# PromptSRC, cross-dataset, test: the model of xd_train.sh, at its last epoch, on all classes of
# another dataset. SOURCE names the dataset that it was trained on (default: where configs/protocols.yaml
# lists DATASET).
#
#   DATA=/path/to/datasets scripts/promptsrc/xd_test.sh dtd 1
#   SOURCE=critters scripts/promptsrc/xd_test.sh critters 1     # on a CPU
#
# DATASET SEED [KEY VALUE ...], --dry-run; the environment's names stand in scripts/run.py.

exec bash "$(dirname "$0")/../run.sh" promptsrc xd_test "$@"
