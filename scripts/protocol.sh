#!/usr/bin/env bash
# Run a protocol of a method: scripts/<method>/<protocol>.sh calls this with its own path first.
#
#   scripts/coop/base2new.sh dtd 1    # python scripts/run.py coop base2new dtd 1
#   scripts/coop/base2new.sh --help   # the arguments and the environment variables
#
# configs/protocols.yaml has the settings of each method and protocol, docs/protocols.md explains them.

entry=$1
shift
method=$(basename "$(cd "$(dirname "$entry")" && pwd)")
[ $# -eq 0 ] || set -- "$method" "$(basename "$entry" .sh)" "$@"
exec bash "$(dirname "$0")/python.sh" run.py "$@"  # without arguments it prints its usage
