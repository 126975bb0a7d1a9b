#!/usr/bin/env bash
# CoOp + TextRefiner, cross-dataset, training: all classes of ImageNet, 16 shots, vit_b16_ep10_ctxv1 with
# 10 epochs. Another dataset may be the source; xd_train.sh SEED means imagenet.
#
#   DATA=/path/to/datasets scripts/textrefiner/xd_train.sh imagenet 1
#   scripts/textrefiner/xd_train.sh critters 1                          # on a CPU
#
# DATASET SEED [KEY VALUE ...], --dry-run; the environment's names stand in scripts/run.py.

exec bash "$(dirname "$0")/../run.sh" textrefiner xd_train "$@"
