#!/usr/bin/env bash
# PromptKD + TextRefiner, base-to-new, training: unlabeled images of all classes (16 images a class),
# vit_b16_c2_ep20_batch8_4+4ctx with 20 epochs; its test is that of the base classes. The teacher is
# PromptSRC's of teacher.sh: the runner's own, or PromptKD's published file below teacher_model/
# (docs/checkpoints.md). TRAINER.PROMPTKD.TEACHER_WEIGHTS FILE names another.
#
#   DATA=/path/to/datasets scripts/textrefiner-promptkd/base2new_train.sh dtd 1
#   scripts/textrefiner-promptkd/base2new_train.sh critters 1                       # on a CPU
#
# DATASET SEED [KEY VALUE ...], --dry-run; the environment's names stand in scripts/run.py.

exec bash "$(dirname "$0")/../run.sh" textrefiner-promptkd base2new_train "$@"
