#!/usr/bin/env bash
# PromptSRC + TextRefiner, few-shot: all classes with 1, 2, 4, 8 and 16 shots, context "a photo of a",
# vit_b16_c2_ep50_batch4_4+4ctx_few_shot with 50 epochs. SHOTS="4 16" runs those only.
#
#   DATA=/path/to/datasets scripts/textrefiner-promptsrc/fewshot.sh dtd 1
#   SHOTS=1 scripts/textrefiner-promptsrc/fewshot.sh critters 1             # on a CPU
#
# DATASET SEED [KEY VALUE ...], --dry-run; the environment's names stand in scripts/run.py.

exec bash "$(dirname "$0")/../run.sh" textrefiner-promptsrc fewshot "$@"
