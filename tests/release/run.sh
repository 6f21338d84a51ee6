#!/bin/sh
# Installs and uses what a release is made of: `make test-release`, or
#
#   tests/release/run.sh PROGRAM [DIST]
#
# with the program that is packed, and the folder of its packages (`make release`); without a folder they are packed first, and
# are tried on this Debian alone. TARGET names the processor of the packages where it is not this machine's; they are tried under
# qemu then. Needs root, Debian's mirror and Python 3.11; mmdebstrap, skopeo, umoci and lintian are installed with
# apt where they are missing, installers and checkers at pinned versions into the user's cache folder, once, with pip.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/groupcast/release-test
[ "$(id -u)" = 0 ] || { echo "make test-release needs root: it installs packages in folders of their own" >&2; exit 1; }

missing=""
emulator=""
[ "${TARGET:-$(uname -m)}" = "$(uname -m)" ] || emulator="qemu-user-static:qemu-$TARGET-static arch-test"
for tool in mmdebstrap skopeo umoci lintian man-db:man $emulator; do
    command -v "${tool#*:}" >/dev/null 2>&1 || missing="$missing ${tool%:*}"
done
if [ -n "$missing" ]; then
    apt-get update -qq
    # shellcheck disable=SC2086 # one word for each
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing >/dev/null
fi

# A stamp holds the versions that are installed, so that a change of the file installs anew.
wanted=$(cksum <"$here/requirements.txt")
if [ "$(cat "$cache/stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "installing installers and checkers into $cache"
    mkdir -p "$cache"
    rm -f "$cache/stamp"
    python3 -m venv --clear "$cache/venv"
    "$cache/venv/bin/pip" install --quiet --no-input --disable-pip-version-check --only-binary :all: \
        -r "$here/requirements.txt"
    printf '%s\n' "$wanted" >"$cache/stamp"
fi

export PATH="$cache/venv/bin:$PATH" PYTHONDONTWRITEBYTECODE=1
set -- python "$here/check.py" "$cache" "$@"
[ -z "$emulator" ] || set -- "$here/emulated.sh" "$TARGET" "$@"
exec "$@"
