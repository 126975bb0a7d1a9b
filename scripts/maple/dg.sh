#!/usr/bin/env bash
# MaPLe, domain generalization, the whole: xd_train.sh on the source, whose folder it shares with xd.sh,
# then xd_test.sh on each of its domains (configs/protocols.yaml, domains: ImageNetV2, -Sketch, -A and
# -R; the last two over their 200 classes). dg.sh SEED means imagenet.
#
#   DATA=/path/to/datasets scripts/maple/dg.sh imagenet 1
#   scripts/maple/dg.sh critters 1                            # on a CPU
#
# DATASET SEED [KEY VALUE ...], --dry-run; the environment's names stand in scripts/run.py.

exec bash "$(dirname "$0")/../run.sh" maple dg "$@"
