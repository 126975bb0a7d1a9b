#!/usr/bin/env bash
# Reproduce the paper's tables: 11 datasets x 3 seeds x methods x protocols. Interrupted runs resume.
#
#   scripts/reproduce.sh --dry-run                        # list the jobs and what they lack
#   DATA=/path/to/datasets scripts/reproduce.sh
#   scripts/reproduce.sh --methods coop textrefiner --protocols base2new --datasets critters --seeds 1

exec bash "$(dirname "$0")/python.sh" reproduce.py "$@"
