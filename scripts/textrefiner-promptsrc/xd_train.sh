#!/usr/bin/env bash
# PromptSRC + TextRefiner, cross-dataset, training: all classes of ImageNet, 16 shots,
# vit_b16_c2_ep20_batch4_4+4ctx_cross_datasets with 20 epochs. Another dataset may be the source; xd_train.sh SEED means imagenet.
#
#   DATA=/path/to/datasets scripts/textrefiner-promptsrc/xd_train.sh imagenet 1
#   scripts/textrefiner-promptsrc/xd_train.sh critters 1                          # on a CPU
#
# DATASET SEED [KEY VALUE ...], --dry-run; the environment's names stand in scripts/run.py.

exec bash "$(dirname "$0")/../run.sh" textrefiner-promptsrc xd_train "$@"
