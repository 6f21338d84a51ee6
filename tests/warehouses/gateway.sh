#!/bin/sh
# DuckDB's own extensions, as users install them: S3, DuckLake, Delta, MariaDB and SQLite. Packages of them end at DuckDB
# 1.5, so the program runs with that library here. $1: the folder of the program. Needs Python 3.11 or newer with venv, a C
# compiler, MariaDB (`mariadbd`), and the Python package registry.
set -eu
cd "$(dirname "$0")"
program=$1/groupcast
version=1.5.5
work=$(mktemp -d)
pids=""
trap 'for pid in $pids; do kill "$pid" 2>/dev/null || true; done; sleep 1; rm -rf "$work"' EXIT

venv=${XDG_CACHE_HOME:-$HOME/.cache}/groupcast/gateway
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check duckdb==$version "moto[s3,server]" boto3 pyarrow deltalake \
    duckdb-extension-httpfs==$version duckdb-extension-ducklake==$version duckdb-extension-delta==$version \
    duckdb-extension-mysql-scanner==$version duckdb-extension-sqlite-scanner==$version
packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')

# The library, as .ci/env makes it of the package of 2.0.
library=$venv/library
if [ ! -f "$library/libpystub.so" ]; then
    mkdir -p "$library"
    cp "$packages"/_duckdb.*.so "$library/libduckdb.so"
    nm -D --undefined-only "$library/libduckdb.so" | awk '$2 ~ /^_?Py/ { print "char " $2 "[512];" }' >"$library/pystub.c"
    cc -shared -fPIC -Wl,-soname,libpystub.so -o "$library/libpystub.so" "$library/pystub.c"
fi
folder=$work/extensions/v$version/linux_amd64
mkdir -p "$folder" "$work/mappings"
cp "$packages"/duckdb_extension_*/extensions/v$version/*.duckdb_extension "$folder"

"$venv/bin/python" gateway.py "$work" >"$work/python.log" 2>&1 &
pids="$pids $!"

mysql_port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
mkdir -p "$work/mariadb"
chmod 755 "$work"
user=$(id -un)
[ "$user" != root ] || { user=mysql; chown mysql "$work/mariadb"; }
mariadb-install-db --no-defaults --user="$user" --datadir="$work/mariadb" --auth-root-authentication-method=normal \
    >"$work/mariadb.log" 2>&1
mariadbd --no-defaults --user="$user" --datadir="$work/mariadb" --socket="$work/mariadb/socket" \
    --port="$mysql_port" --bind-address=127.0.0.1 --pid-file="$work/mariadb/pid" >>"$work/mariadb.log" 2>&1 &
pids="$pids $!"
tries=0
until mariadb-admin --no-defaults --socket="$work/mariadb/socket" -uroot ping >/dev/null 2>&1 && [ -f "$work/port" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 120 ] || { cat "$work/python.log" "$work/mariadb.log" >&2; exit 1; }
    sleep 1
done
mariadb --no-defaults --default-character-set=utf8mb4 --socket="$work/mariadb/socket" -uroot <accounts.mysql.sql

export LAKE_SECRET=not-a-secret CRM_PASSWORD=not-a-secret
cat >"$work/groupcast.toml" <<EOF
[duckdb]
extensions = ["httpfs", "ducklake", "delta", "mysql", "sqlite"]
extension_folder = "extensions"
[duckdb.secrets.lake]
type = "s3"
scope = "s3://lake"
key_id = "AKIAGROUPCAST"
secret = "\${LAKE_SECRET}"
endpoint = "127.0.0.1:$(cat "$work/port")"
use_ssl = false
url_style = "path"
[duckdb.secrets.crm]
type = "mysql"
host = "127.0.0.1"
port = $mysql_port
user = "groupcast"
password = "\${CRM_PASSWORD}"
database = "crm"
[sources.native]
type = "duckdb"
path = "warehouse.duckdb"
[sources.s3]
type = "files"
[sources.ducklake]
type = "duckdb"
attach = "ducklake:metadata.ducklake"
[sources.delta]
type = "files"
[sources.mariadb]
type = "duckdb"
attach = "mysql:"
attach_options = { secret = "crm" }
[sources.sqlite]
type = "duckdb"
attach = "sqlite:accounts.db"
EOF
sources="s3 ducklake delta mariadb sqlite"
for source in native few $sources; do
    printf '[destinations.%s]\ntype = "file"\npath = "%s.ndjson"\n' "$source" "$source" >>"$work/groupcast.toml"
    case $source in
    s3) model='table = "s3://lake/accounts/*.parquet"' ;;
    delta) model="sql = \"FROM delta_scan('$work/delta')\"" ;;
    *) model='table = "accounts"' ;;
    esac
    printf 'source = "%s"\ndestination = "%s"\n[model]\n%s\n' "$(echo "$source" | sed s/few/native/)" "$source" "$model" \
        >"$work/mappings/$source.toml"
    case $source in
    # SQLite has neither decimals nor dates: those columns are left out.
    sqlite | few) grep -v '^\(mrr\|active\|day\|moment\|zoned\) ' mapping.toml >>"$work/mappings/$source.toml" ;;
    mariadb) sed 's/^zoned = .*/zoned = { sql = "zoned::TIMESTAMPTZ" }/' mapping.toml >>"$work/mappings/$source.toml" ;;
    *) cat mapping.toml >>"$work/mappings/$source.toml" ;;
    esac
done

export LD_LIBRARY_PATH="$library"
"$program" --folder "$work" check --connect
"$program" --folder "$work" run
for source in $sources; do
    if ! diff "$work/$(echo "$source" | sed 's/sqlite/few/; t; s/.*/native/').ndjson" "$work/$source.ndjson"; then
        echo "$source yields something else than DuckDB" >&2
        exit 1
    fi
    echo "$source yields what DuckDB yields: $(wc -l <"$work/$source.ndjson") groups"
done
before=$(cat "$work"/*.ndjson | wc -l)
"$program" --folder "$work" run
[ "$(cat "$work"/*.ndjson | wc -l)" = "$before" ] || { echo "a second run has sent something" >&2; exit 1; }
echo "a second run sends nothing"

# What fails at one source is that source's alone, and shows no secret.
export CRM_PASSWORD=wrong-but-secret
if "$program" --folder "$work" run >"$work/failed" 2>&1; then
    echo "a wrong password was not noticed" >&2
    exit 1
fi
cat "$work/failed"
! grep -q "wrong-but-secret\|not-a-secret" "$work/failed" || { echo "a secret is shown" >&2; exit 1; }
grep -q "mariadb: source mariadb" "$work/failed"
[ "$(grep -c "nothing sent" "$work/failed")" = 6 ] || { echo "another sync did not run" >&2; exit 1; }
