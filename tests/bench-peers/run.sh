#!/bin/sh
# Groupcast beside other tools, on one machine, in one go: `make bench-peers`, or
#
#   tests/bench-peers/run.sh TARGET_FOLDER [--rows 100000] [--runs 3] [--only NAME] [--json FILE]
#
# with built programs and examples (release) in the target folder. The tools are installed at pinned versions into the
# user's cache folder, once.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
target=$1
shift
cache=${XDG_CACHE_HOME:-$HOME/.cache}/groupcast/bench-peers

# A stamp holds the versions that are installed, so that a change of the file installs anew.
wanted=$(cksum <"$here/requirements.txt")
if [ "$(cat "$cache/stamp" 2>/dev/null)" != "$wanted" ]; then
    command -v python3 >/dev/null 2>&1 || { echo "make bench-peers needs python3" >&2; exit 1; }
    echo "installing the tools into $cache" >&2
    mkdir -p "$cache"
    rm -f "$cache/stamp"
    python3 -m venv --clear "$cache/venv"
    "$cache/venv/bin/pip" install --quiet --no-input --disable-pip-version-check -r "$here/requirements.txt"
    printf '%s\n' "$wanted" >"$cache/stamp"
fi

export LD_LIBRARY_PATH="${DUCKDB_LIB_DIR:-}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
exec "$target/examples/bench" peers "$target" "$cache/venv/bin" "$here" "$@"
