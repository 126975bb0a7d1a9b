#!/usr/bin/env bash
# Train a classifier of your own images, with its zero-shot baseline and a table: docs/own_images.md.
#
#   scripts/own.sh FOLDER [SHOTS] [KEY VALUE ...]
#   BACKBONE=critters-vit-t scripts/own.sh FOLDER    # without a download
#   scripts/own.sh --help

exec bash "$(dirname "$0")/python.sh" own.py "$@"
