#!/usr/bin/env bash
# CoCoOp, base-to-new: trains on the base classes (16 shots, context "a photo of a",
# vit_b16_c4_ep10_batch1_ctxv1 with 10 epochs), then tests the last epoch on the new classes.
#
#   DATA=/path/to/datasets scripts/cocoop/base2new.sh dtd 1
#   scripts/cocoop/base2new.sh critters 1                     # on a CPU
#
# DATASET SEED [KEY VALUE ...], --dry-run; the environment's names stand in scripts/run.py.

exec bash "$(dirname "$0")/../run.sh" cocoop base2new "$@"
