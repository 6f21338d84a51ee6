#!/bin/sh
# The quick start: a warehouse, a receiver that behaves like Amplitude's endpoint, and a first day with Groupcast.
# Real sockets, the real program; everything happens in a temporary folder, on this machine only.
set -eu

bin=$1
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
receiver_pid=""
trap '[ -z "$receiver_pid" ] || kill "$receiver_pid" 2>/dev/null || true; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

title() { printf '\n\033[1m── %s\033[0m\n' "$1"; }
if [ ! -t 1 ]; then title() { printf '\n-- %s\n' "$1"; }; fi
shown() { # print a command as a person would type it, then run it
    printf '$ groupcast %s\n' "$*"
    "$bin/groupcast" "$@"
}

cp -r "$here/groupcast.toml" "$here/mappings" "$work/"
cd "$work"

title "a warehouse: 300 accounts in a DuckDB file"
"$bin/examples/sql" warehouse.duckdb "@$here/warehouse.sql"
echo "$work/warehouse.duckdb"

title "a receiver that behaves like Amplitude's /groupidentify"
"$bin/examples/receiver" --port 0 --quiet > receiver.log 2>&1 &
receiver_pid=$!
tries=0
while ! RECEIVER_URL=$(sed -n 's/^receiver: listening on \(http[^ ]*\).*/\1/p' receiver.log) || [ -z "$RECEIVER_URL" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || { cat receiver.log; exit 1; }
    sleep 0.1
done
export RECEIVER_URL AMPLITUDE_API_KEY=quickstart-key
cat receiver.log

title "is everything right?"
shown check --connect

title "what would be sent?"
shown plan --show 2

title "send it"
shown run

title "and again: nothing changed, nothing is sent"
shown run

title "the warehouse changes: one upgrade, one lost health score"
"$bin/examples/sql" warehouse.duckdb "
    UPDATE accounts SET plan = 'enterprise', arr_cents = 9000000, seats = 450 WHERE account_id = 'acct_0007';
    UPDATE accounts SET health_score = NULL WHERE account_id = 'acct_0002';"
shown plan

title "the requests that would be sent, keys masked"
shown plan --requests --show 0

title "send only that"
shown run

title "what is known of one account, and since when"
shown group accounts acct_0007

title "what the receiver holds for it"
if command -v curl >/dev/null 2>&1; then curl -s "$RECEIVER_URL/groups/company/acct_0007"; echo; fi
shown status
printf '\nThat was the tour. `groupcast init my-sync` makes a folder like this one for you.\n'
