#!/bin/sh
# Real drivers against engines that run here: Spark's dialect at Sail over Flight SQL, Snowflake's own driver at fakesnow, and
# ClickHouse in the form of chDB, which is a driver itself. The same accounts in DuckDB, read natively, say what each of them
# must yield, byte for byte. $1: the folder of the program and of examples/reader. Needs Python 3.11 or newer with venv, and
# the Python package registry.
set -eu
cd "$(dirname "$0")"
program=$1/groupcast
work=$(mktemp -d)
pids=""
trap 'for pid in $pids; do kill "$pid" 2>/dev/null || true; done; rm -rf "$work"' EXIT

venv=${XDG_CACHE_HOME:-$HOME/.cache}/groupcast/warehouses
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check pysail==0.7.2 adbc-driver-flightsql==1.13.0 \
    adbc-driver-snowflake==1.11.0 "fakesnow[server]==0.12.1" "snowflake-connector-python<5" duckdb==2.0.1 pyarrow \
    chdb-core==26.9.0
packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')

"$venv/bin/python" engines.py "$work" >"$work/fakesnow.log" 2>&1 &
pids="$pids $!"
"$venv/bin/sail" flight server --port 32010 >"$work/sail.log" 2>&1 &
pids="$pids $!"
tries=0
until [ -f "$work/port" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 120 ] || { echo "fakesnow did not start" >&2; exit 1; }
    sleep 1
done

python_library=$("$venv/bin/python" -c 'import sysconfig as s; print(s.get_config_var("LIBDIR"), s.get_config_var("LDLIBRARY"), sep="/")')
printf '#!/bin/sh\nLD_PRELOAD="%s" exec "%s" "$@"\n' "$python_library" "$1/examples/reader" >"$work/reader"
chmod +x "$work/reader"

export SNOWFLAKE_PASSWORD=not-a-secret
mkdir -p "$work/mappings"
cat >"$work/groupcast.toml" <<EOF
[sources.native]
type = "duckdb"
path = "warehouse.duckdb"
[sources.spark]
type = "adbc"
driver = "$packages/adbc_driver_flightsql/libadbc_driver_flightsql.so"
dialect = "databricks"
uri = "grpc://127.0.0.1:32010"
[sources.snowflake]
type = "adbc"
driver = "$packages/adbc_driver_snowflake/libadbc_driver_snowflake.so"
username = "groupcast"
password = "\${SNOWFLAKE_PASSWORD}"
[sources.snowflake.options]
"adbc.snowflake.sql.account" = "fakesnow"
"adbc.snowflake.sql.uri.host" = "127.0.0.1"
"adbc.snowflake.sql.uri.port" = "$(cat "$work/port")"
"adbc.snowflake.sql.uri.protocol" = "http"
"adbc.snowflake.sql.db" = "PROD"
"adbc.snowflake.sql.schema" = "ANALYTICS"
[sources.clickhouse]
type = "adbc"
driver = "$packages/chdb/_chdb.abi3.so"
entrypoint = "AdbcDriverInit"
dialect = "clickhouse"
# chDB brings an allocator of its own, and is half a Python module.
reader = "reader"
EOF
# ClickHouse's dates and times end at 1900 and 2299.
in_range='SELECT * REPLACE (CASE WHEN year(day) <= 2299 THEN day END AS day,
    CASE WHEN year(moment) BETWEEN 1900 AND 2299 THEN moment END AS moment) FROM accounts'
for source in native native_in_range spark snowflake clickhouse; do
    printf '[destinations.%s]\ntype = "file"\npath = "%s.ndjson"\n' "$source" "$source" >>"$work/groupcast.toml"
    # Sail keeps tables for one session only: its rows stand in the query.
    case $source in
    native_in_range) model="sql = \"\"\"$in_range\"\"\"" ;;
    clickhouse) model="sql = \"\"\"$(cat rows.clickhouse.sql)\"\"\"" ;;
    spark) model="sql = \"\"\"$(cat rows.spark.sql)\"\"\"" ;;
    *) model='table = "accounts"' ;;
    esac
    {
        printf 'source = "%s"\ndestination = "%s"\n[model]\n%s\n' "${source%_in_range}" "$source" "$model"
        cat mapping.toml
    } >"$work/mappings/$source.toml"
done

"$program" --folder "$work" check --connect
"$program" --folder "$work" run
for source in spark snowflake clickhouse; do
    native=native
    [ $source != clickhouse ] || native=native_in_range
    if ! diff "$work/$native.ndjson" "$work/$source.ndjson"; then
        echo "$source yields something else than DuckDB" >&2
        exit 1
    fi
    echo "$source yields what DuckDB yields: $(wc -l <"$work/$source.ndjson") groups"
done
before=$(cat "$work"/*.ndjson | wc -l)
"$program" --folder "$work" run
[ "$(cat "$work"/*.ndjson | wc -l)" = "$before" ] || { echo "a second run has sent something" >&2; exit 1; }
echo "a second run sends nothing"
