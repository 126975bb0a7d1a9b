#!/usr/bin/env bash
# PromptKD + TextRefiner, base-to-new: distils on unlabeled images of all classes (16 images a class),
# vit_b16_c2_ep20_batch8_4+4ctx with 20 epochs; one training is tested on base and on new classes. The
# teacher is PromptSRC's of teacher.sh: the runner's own, else PromptKD's published file below
# teacher_model/ (docs/checkpoints.md), else it is trained first. TRAINER.PROMPTKD.TEACHER_WEIGHTS FILE
# names another.
#
#   DATA=/path/to/datasets scripts/textrefiner-promptkd/base2new.sh dtd 1
#   scripts/textrefiner-promptkd/base2new.sh critters 1                       # on a CPU
#
# DATASET SEED [KEY VALUE ...], --dry-run; the environment's names stand in scripts/run.py.

exec bash "$(dirname "$0")/../run.sh" textrefiner-promptkd base2new "$@"
