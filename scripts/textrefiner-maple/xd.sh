#!/usr/bin/env bash
# MaPLe + TextRefiner, cross-dataset, the whole: xd_train.sh on the source, then xd_test.sh on each of
# its targets (configs/protocols.yaml, cross_datasets: ten datasets for ImageNet). xd.sh SEED means
# imagenet.
#
#   DATA=/path/to/datasets scripts/textrefiner-maple/xd.sh imagenet 1
#   scripts/textrefiner-maple/xd.sh critters 1                            # on a CPU
#
# DATASET SEED [KEY VALUE ...], --dry-run; the environment's names stand in scripts/run.py.

exec bash "$(dirname "$0")/../run.sh" textrefiner-maple xd "$@"
