#!/usr/bin/env bash
# PromptSRC + TextRefiner, base-to-new, training: the base classes (the first half by label), 16 shots,
# context "a photo of a", vit_b16_c2_ep20_batch4_4+4ctx with 20 epochs.
#
#   DATA=/path/to/datasets scripts/textrefiner-promptsrc/base2new_train.sh dtd 1
#   scripts/textrefiner-promptsrc/base2new_train.sh critters 1                     # on a CPU
#
# DATASET SEED [KEY VALUE ...], --dry-run; the environment's names stand in scripts/run.py.

exec bash "$(dirname "$0")/../run.sh" textrefiner-promptsrc base2new_train "$@"
