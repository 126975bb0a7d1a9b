#!/usr/bin/env bash
# MaPLe + TextRefiner, base-to-new: trains on the base classes (16 shots, context "a photo of a",
# vit_b16_c2_ep5_batch4_2ctx with 5 epochs), then tests the last epoch on the new classes.
#
#   DATA=/path/to/datasets scripts/textrefiner-maple/base2new.sh dtd 1
#   scripts/textrefiner-maple/base2new.sh critters 1                     # on a CPU
#
# DATASET SEED [KEY VALUE ...], --dry-run; the environment's names stand in scripts/run.py.

exec bash "$(dirname "$0")/../run.sh" textrefiner-maple base2new "$@"
