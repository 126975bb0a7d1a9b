#!/usr/bin/env bash
# Zero-shot CLIP with hand-written prompts on all, base and new classes, the reference of every table:
# nothing is trained, ViT-B/16. The same for every method.
#
#   DATA=/path/to/datasets scripts/promptkd/zeroshot.sh dtd 1
#   scripts/promptkd/zeroshot.sh critters 1                     # on a CPU
#
# DATASET SEED [KEY VALUE ...], --dry-run; the environment's names stand in scripts/run.py.

exec bash "$(dirname "$0")/../run.sh" promptkd zeroshot "$@"
