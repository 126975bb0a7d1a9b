#!/usr/bin/env bash
# PromptKD, domain generalization, the whole: xd_train.sh on each domain of the source
# (configs/protocols.yaml, domains: ImageNetV2, -Sketch, -A, -R), whose test images are the unlabeled
# ones: these sets have no others. dg.sh SEED means imagenet. The teacher is PromptSRC's of
# teacher_xd.sh: the runner's own, else PromptKD's published file below teacher_model/
# (docs/checkpoints.md), else it is trained first. TRAINER.PROMPTKD.TEACHER_WEIGHTS FILE names another.
#
#   DATA=/path/to/datasets scripts/promptkd/dg.sh imagenet 1
#   scripts/promptkd/dg.sh critters 1                            # on a CPU
#
# DATASET SEED [KEY VALUE ...], --dry-run; the environment's names stand in scripts/run.py.

exec bash "$(dirname "$0")/../run.sh" promptkd dg "$@"
