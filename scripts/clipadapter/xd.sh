#!/usr/bin/env bash
exec bash "$(dirname "$0")/../protocol.sh" "$0" "$@"
