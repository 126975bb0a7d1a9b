#!/usr/bin/env bash
# Evaluate zero-shot CLIP. DATASET SEED runs the protocol; DATASET [TRAINER] CFG, as in CoOp's own
# zeroshot.sh, evaluates configs/trainers/CoOp/CFG.yaml into $OUTPUT/TRAINER/CFG/DATASET.
#
#   DATA=/path/to/datasets scripts/coop/zeroshot.sh caltech101 1
#   DATA=/path/to/datasets scripts/coop/zeroshot.sh caltech101 ZeroshotCLIP2 rn50

here=$(dirname "$0")
[[ "$1 $2" == [[:alpha:]]*" "[[:alpha:]]* ]] || exec bash "$here/../protocol.sh" "$0" "$@"
[ $# -ne 2 ] || set -- "$1" ZeroshotCLIP "$2"
if [ $# -ne 3 ]; then
    echo "error: got $# arguments; usage: zeroshot.sh DATASET SEED or DATASET [TRAINER] CFG" >&2
    exit 2
fi
output=${OUTPUT:-$(cd "$here/../.." && pwd)/output}
exec bash "$here/../train.sh" "$2" "$1" "CoOp/$3" "$output/$2/$3/$1" --eval-only
