#!/usr/bin/env bash
# CoOp, cross-dataset, training: all classes of ImageNet, 16 shots, context "a photo of a",
# vit_b16_ep50_ctxv1 with 50 epochs. Another dataset may be the source; xd_train.sh SEED means imagenet.
#
#   DATA=/path/to/datasets scripts/coop/xd_train.sh imagenet 1
#   scripts/coop/xd_train.sh critters 1                          # on a CPU
#
# DATASET SEED [KEY VALUE ...], --dry-run; the environment's names stand in scripts/run.py.

exec bash "$(dirname "$0")/../run.sh" coop xd_train "$@"
