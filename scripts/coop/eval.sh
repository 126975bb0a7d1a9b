#!/usr/bin/env bash
# Evaluate on DATASET the models that main.sh imagenet CFG end 16 16 False trained, at epoch 50, for
# seeds 1, 2 and 3, with the arguments of CoOp's own eval.sh. The results are in
# $OUTPUT/evaluation/CoOp/CFG_16shots/nctx16_cscFalse_ctpend/DATASET/seed<s>
#
#   DATA=/path/to/datasets scripts/coop/eval.sh imagenetv2 rn50_ep50

if [ $# -ne 2 ]; then
    echo "error: got $# arguments; usage: eval.sh DATASET CFG" >&2
    exit 2
fi
root=$(cd "$(dirname "$0")/../.." && pwd)
output=${OUTPUT:-$root/output}
model=CoOp/${2}_16shots/nctx16_cscFalse_ctpend
for seed in 1 2 3; do
    bash "$root/scripts/train.sh" CoOp "$1" "CoOp/$2" "$output/evaluation/$model/$1/seed$seed" \
        --seed "$seed" --model-dir "$output/imagenet/$model/seed$seed" --load-epoch 50 --eval-only \
        TRAINER.COOP.N_CTX 16 TRAINER.COOP.CSC False TRAINER.COOP.CLASS_TOKEN_POSITION end || exit
done
