#!/usr/bin/env bash
# Train CoOp with seeds 1, 2 and 3, with the arguments of CoOp's own main.sh. Finished seeds are
# skipped and interrupted ones resume, as in the few-shot protocol, whose folders these are:
# $OUTPUT/DATASET/CoOp/CFG_<SHOTS>shots/nctx<NCTX>_csc<CSC>_ctp<CTP>/seed<s>
#
#   DATA=/path/to/datasets scripts/coop/main.sh caltech101 rn50_ep50 end 16 1 False

if [ $# -ne 6 ]; then
    echo "error: got $# arguments; usage: main.sh DATASET CFG CTP NCTX SHOTS CSC" >&2
    exit 2
fi
for seed in 1 2 3; do
    CFG=$2 SHOTS=$5 bash "$(dirname "$0")/fewshot.sh" "$1" "$seed" \
        TRAINER.COOP.N_CTX "$4" TRAINER.COOP.CSC "$6" TRAINER.COOP.CLASS_TOKEN_POSITION "$3" || exit
done
