#!/usr/bin/env bash
# PromptKD, cross-dataset, the whole: xd_train.sh on each target of the source (configs/protocols.yaml,
# cross_datasets: ten datasets for ImageNet). xd.sh SEED means imagenet. The teacher is PromptSRC's of
# teacher_xd.sh: the runner's own, else PromptKD's published file below teacher_model/
# (docs/checkpoints.md), else it is trained first. TRAINER.PROMPTKD.TEACHER_WEIGHTS FILE names another.
#
#   DATA=/path/to/datasets scripts/promptkd/xd.sh imagenet 1
#   scripts/promptkd/xd.sh critters 1                            # on a CPU
#
# DATASET SEED [KEY VALUE ...], --dry-run; the environment's names stand in scripts/run.py.

exec bash "$(dirname "$0")/../run.sh" promptkd xd "$@"
