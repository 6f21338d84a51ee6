#!/bin/sh
# Drives a real browser over a console: `make test-browser`, or
#
#   tests/browser/run.sh ADDRESS [SCREENSHOT_FOLDER]
#
# against any daemon; its token is taken from GROUPCAST_TOKEN. The browser is the installed Chromium (CHROMIUM names
# another one); the packages that drive it are installed at pinned versions into the user's cache folder, once, with npm.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
address=$1
cache=${XDG_CACHE_HOME:-$HOME/.cache}/groupcast/browser
shots=${2:-${SCREENSHOTS:-$cache/screenshots}}

for tool in npm node; do
    command -v "$tool" >/dev/null 2>&1 || { echo "make test-browser needs $tool" >&2; exit 1; }
done
chromium=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}
[ -n "$chromium" ] || { echo "make test-browser needs Chromium: apt-get install chromium" >&2; exit 1; }

# A stamp holds the versions that are installed, so that a change of the file installs anew.
wanted=$(cksum <"$here/package.json")
if [ "$(cat "$cache/stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "installing what drives the browser into $cache"
    mkdir -p "$cache/node"
    rm -f "$cache/stamp"
    cp "$here/package.json" "$cache/node/package.json"
    npm install --silent --no-audit --no-fund --prefix "$cache/node"
    printf '%s\n' "$wanted" >"$cache/stamp"
fi

mkdir -p "$shots"
exec node "$here/console.mjs" "$cache/node/node_modules" "$chromium" "$address" "$shots"
