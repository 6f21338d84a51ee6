#!/bin/sh
# Compares what we send with what the official SDKs send: `make test-sdk`, or
#
#   tests/sdk/run.sh TARGET_FOLDER [--only NAME]
#
# with a built `groupcast` and example `sql` in the target folder. The SDKs are installed at pinned versions into the
# user's cache folder, once, with pip and npm.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
target=$1
shift
cache=${XDG_CACHE_HOME:-$HOME/.cache}/groupcast/sdk

# A stamp holds the versions that are installed, so that a change of either file installs anew.
wanted=$(cat "$here/requirements.txt" "$here/package.json" | cksum)
if [ "$(cat "$cache/stamp" 2>/dev/null)" != "$wanted" ]; then
    for tool in python3 npm node; do
        command -v "$tool" >/dev/null 2>&1 || { echo "make test-sdk needs $tool" >&2; exit 1; }
    done
    echo "installing the official SDKs into $cache"
    mkdir -p "$cache/node"
    rm -f "$cache/stamp"
    python3 -m venv --clear "$cache/venv"
    "$cache/venv/bin/pip" install --quiet --no-input --disable-pip-version-check -r "$here/requirements.txt"
    cp "$here/package.json" "$cache/node/package.json"
    npm install --silent --ignore-scripts --no-audit --no-fund --prefix "$cache/node"
    printf '%s\n' "$wanted" >"$cache/stamp"
fi

export LD_LIBRARY_PATH="${DUCKDB_LIB_DIR:-}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export PYTHONDONTWRITEBYTECODE=1
# One family of SDKs alone has nothing to do with what stands behind Segment.
[ $# -gt 0 ] || "$cache/venv/bin/python" "$here/downstream.py" "$target/groupcast" "$target/examples/sql" "$cache"
exec "$cache/venv/bin/python" "$here/compare.py" "$target/groupcast" "$target/examples/sql" "$cache" "$@"
