#!/usr/bin/env bash
# A teacher for PromptKD's xd and dg: PromptSRC on all classes of the source, 16 shots,
# vit_l14_c2_ep20_batch8_4+4ctx with 20 epochs. The students' scripts find its last checkpoint, that of
# SEED 1, by themselves. teacher_xd.sh SEED means imagenet.
#
#   DATA=/path/to/datasets scripts/promptsrc/teacher_xd.sh imagenet 1
#   scripts/promptsrc/teacher_xd.sh critters 1                            # on a CPU
#
# DATASET SEED [KEY VALUE ...], --dry-run; the environment's names stand in scripts/run.py.

exec bash "$(dirname "$0")/../run.sh" promptsrc teacher_xd "$@"
