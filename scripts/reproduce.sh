#!/usr/bin/env bash
# The whole of the paper: 11 datasets x 3 seeds x methods x protocols, resumable.
#
#   scripts/reproduce.sh --dry-run                        # lists the jobs and what is missing
#   DATA=/path/to/datasets scripts/reproduce.sh
#   scripts/reproduce.sh --methods coop textrefiner --protocols base2new --datasets critters --seeds 1

exec bash "$(dirname "$0")/python.sh" reproduce.py "$@"
