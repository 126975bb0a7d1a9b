#!/usr/bin/env bash
# CoCoOp, few-shot: all classes with 1, 2, 4, 8 and 16 shots, context "a photo of a",
# vit_b16_c4_ep10_batch1_ctxv1 with 10 epochs. SHOTS="4 16" runs those only.
#
#   DATA=/path/to/datasets scripts/cocoop/fewshot.sh dtd 1
#   SHOTS=1 scripts/cocoop/fewshot.sh critters 1             # on a CPU
#
# DATASET SEED [KEY VALUE ...], --dry-run; the environment's names stand in scripts/run.py.

exec bash "$(dirname "$0")/../run.sh" cocoop fewshot "$@"
