#!/bin/sh
# Has the daemon run syncs now, after the tables they read were built:
#
#   dbt build && groupcast-sync.sh accounts users
#
# GROUPCAST_TOKEN   the daemon's token
# GROUPCAST_URL     http://127.0.0.1:4780 if not set
#
# It starts the runs and does not wait for them: their results are the daemon's to tell (`groupcast runs`, /metrics).
# Exit codes: 0 the daemon took every run, 1 it did not, 2 usage.
set -eu

url=${GROUPCAST_URL:-http://127.0.0.1:4780}
if [ $# = 0 ] || [ -z "${GROUPCAST_TOKEN:-}" ]; then
    echo "usage: GROUPCAST_TOKEN=… groupcast-sync.sh SYNC…" >&2
    exit 2
fi

answer=$(mktemp)
trap 'rm -f "$answer"' EXIT
failed=0
for sync; do
    : >"$answer"
    # The header comes by standard input: arguments are everyone's to read. A repeated POST is harmless, since a second
    # run finds nothing left to send.
    code=$(printf 'header = "Authorization: Bearer %s"\n' "$GROUPCAST_TOKEN" |
        curl --config - --silent --show-error --max-time 30 --retry 3 --retry-connrefused \
            --header 'Content-Type: application/json' --data '{"full": false}' \
            --output "$answer" --write-out '%{http_code}' "$url/api/v1/syncs/$sync/runs") || code=none
    if [ "$code" = 202 ]; then
        run=$(sed -n 's/.*"run" *: *"\([^"]*\)".*/\1/p' "$answer")
        echo "$sync: started, $url/api/v1/runs/$run"
    else
        echo "$sync: not started, answer $code: $(head -c 500 "$answer")" >&2
        failed=1
    fi
done
exit "$failed"
