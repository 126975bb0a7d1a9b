#!/usr/bin/env bash
# PromptKD, cross-dataset: distils on all unlabeled images of one target,
# vit_b16_c2_ep20_batch8_4+4ctx_cross_datasets with 20 epochs, and tests on all of its classes. SOURCE
# names the dataset of the teacher (default: where configs/protocols.yaml lists the target, imagenet
# for dtd). The teacher is PromptSRC's of teacher_xd.sh: the runner's own, or PromptKD's published file
# below teacher_model/ (docs/checkpoints.md). TRAINER.PROMPTKD.TEACHER_WEIGHTS FILE names another.
#
#   DATA=/path/to/datasets scripts/promptkd/xd_train.sh dtd 1
#   scripts/promptkd/xd_train.sh critters 1                       # on a CPU
#
# DATASET SEED [KEY VALUE ...], --dry-run; the environment's names stand in scripts/run.py.

exec bash "$(dirname "$0")/../run.sh" promptkd xd_train "$@"
