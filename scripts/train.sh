#!/usr/bin/env bash
# Run train.py on $DATA: TRAINER DATASET CONFIG OUTPUT_DIR [ARGUMENT ...]. With
# TEXTREFINER_DRY_RUN=1 its command is printed instead.
#
#   scripts/train.sh CoOp critters CoOp/critters output/try --seed 1 DATASET.NUM_SHOTS 16

[ $# -ge 4 ] || { echo "usage: train.sh TRAINER DATASET CONFIG OUTPUT_DIR [ARGUMENT ...]" >&2; exit 2; }
root=$(cd "$(dirname "$0")/.." && pwd)
arguments=(
    --root "${DATA:-$root/data}" --trainer "$1" --dataset-config-file "$root/configs/datasets/$2.yaml"
    --config-file "$root/configs/trainers/$3.yaml" --output-dir "$4" "${@:5}"
)
if [ "$TEXTREFINER_DRY_RUN" = 1 ]; then
    printf '%q ' python train.py "${arguments[@]}"
    echo
else
    exec bash "$root/scripts/python.sh" ../train.py "${arguments[@]}"
fi
