#!/usr/bin/env bash
# CoOp, few-shot: all classes with 1, 2, 4, 8 and 16 shots, 16 shared random context vectors, class name
# at the end; vit_b16 with 200 epochs (2 and 4 shots: 100; 1 shot and ImageNet: 50). SHOTS="4 16" runs those only.
#
#   DATA=/path/to/datasets scripts/coop/fewshot.sh dtd 1
#   SHOTS=1 scripts/coop/fewshot.sh critters 1             # on a CPU
#
# DATASET SEED [KEY VALUE ...], --dry-run; the environment's names stand in scripts/run.py.

exec bash "$(dirname "$0")/../run.sh" coop fewshot "$@"
