#!/usr/bin/env bash
# CoCoOp, cross-dataset, training: all classes of ImageNet, 16 shots,
# vit_b16_c4_ep10_batch1_ctxv1 with 10 epochs. Another dataset may be the source; xd_train.sh SEED means imagenet.
#
#   DATA=/path/to/datasets scripts/cocoop/xd_train.sh imagenet 1
#   scripts/cocoop/xd_train.sh critters 1                          # on a CPU
#
# DATASET SEED [KEY VALUE ...], --dry-run; the environment's names stand in scripts/run.py.

exec bash "$(dirname "$0")/../run.sh" cocoop xd_train "$@"
