#!/usr/bin/env bash
# PromptSRC + TextRefiner, base-to-new: trains on the base classes (16 shots, context "a photo of a",
# vit_b16_c2_ep20_batch4_4+4ctx with 20 epochs), then tests the last epoch on the new classes.
#
#   DATA=/path/to/datasets scripts/textrefiner-promptsrc/base2new.sh dtd 1
#   scripts/textrefiner-promptsrc/base2new.sh critters 1                     # on a CPU
#
# DATASET SEED [KEY VALUE ...], --dry-run; the environment's names stand in scripts/run.py.

exec bash "$(dirname "$0")/../run.sh" textrefiner-promptsrc base2new "$@"
