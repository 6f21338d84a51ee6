#!/bin/sh
# Checks examples/deploy with the tools that would read it: `make test-deploy`, or
#
#   tests/deploy/run.sh TARGET_FOLDER [CARGO_FEATURE_FLAG …]
#
# with a built `groupcast` in the target folder. Needs Python 3.11, jq and curl; the checkers are installed at pinned
# versions into the user's cache folder, once, with pip, and systemd's with apt where it is missing. The image's runtime
# stage is tried in namespaces, which takes root or sudo.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
target=$1
cache=${XDG_CACHE_HOME:-$HOME/.cache}/groupcast/deploy
sudo=""
[ "$(id -u)" = 0 ] || sudo=sudo

if ! command -v systemd-analyze >/dev/null 2>&1 && command -v apt-get >/dev/null 2>&1; then
    $sudo apt-get update -qq && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq systemd >/dev/null
fi
for tool in python3 jq curl systemd-analyze unshare setpriv chroot strip; do
    command -v "$tool" >/dev/null 2>&1 || { echo "make test-deploy needs $tool" >&2; exit 1; }
done

# A stamp holds the versions that are installed, so that a change of the file installs anew.
wanted=$(cksum <"$here/requirements.txt")
if [ "$(cat "$cache/stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "installing the checkers into $cache"
    mkdir -p "$cache"
    rm -f "$cache/stamp"
    python3 -m venv --clear "$cache/venv"
    "$cache/venv/bin/pip" install --quiet --no-input --disable-pip-version-check --only-binary :all: \
        -r "$here/requirements.txt"
    printf '%s\n' "$wanted" >"$cache/stamp"
fi

export PATH="$cache/venv/bin:$PATH" PYTHONDONTWRITEBYTECODE=1
shift
exec python "$here/check.py" "$target/groupcast" "$@"
