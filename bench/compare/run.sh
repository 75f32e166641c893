#!/bin/sh
# run.sh WORK [speed|parity] [OPTIONS]: compares the engine with TRL; see README.md. PYTHON names another interpreter.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$1
mode=${2:-speed}
shift; [ $# -eq 0 ] || shift
exec "${PYTHON:-python3}" "$here/compare.py" "$mode" --work "$work" "$@"
