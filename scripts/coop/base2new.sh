#!/usr/bin/env bash
# CoOp, base-to-new: trains on the base classes (16 shots, context "a photo of a", vit_b16_ctxv1 with
# 200 epochs; ImageNet: vit_b16_ep50_ctxv1 with 50), then tests the last epoch on the new classes.
#
#   DATA=/path/to/datasets scripts/coop/base2new.sh dtd 1
#   scripts/coop/base2new.sh critters 1                     # on a CPU
#
# DATASET SEED [KEY VALUE ...], --dry-run; the environment's names stand in scripts/run.py.

exec bash "$(dirname "$0")/../run.sh" coop base2new "$@"
