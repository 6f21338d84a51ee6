#!/bin/sh
# The table of docs/warehouses.md, made within tests/warehouses/run.sh. $1: the program, a release build; $2: rows.
set -eu
cd "$(dirname "$0")"
"$GROUPCAST_WAREHOUSES/bin/python" throughput.py "$1" --rows "$2" spark snowflake clickhouse
"$GROUPCAST_GATEWAY/bin/python" throughput.py "$1" --rows "$2" mariadb postgres_attached sqlite_attached s3
