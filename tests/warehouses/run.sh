#!/bin/sh
# Runs a command with the packages that the engines of tests/it/sources/external.rs come from. $1: the folder of examples/reader;
# then the command. Packages of DuckDB's extensions end at DuckDB 1.5, so what reads through them runs with that library. Needs
# Python 3.11 or newer with venv, the Python package registry, a C compiler, MariaDB (`mariadbd`) and PostgreSQL's server.
set -eu
version=1.5.5
cache=${XDG_CACHE_HOME:-$HOME/.cache}/groupcast
reader=$1/examples/reader
shift

environment() {
    [ -x "$cache/$1/bin/python" ] || python3 -m venv "$cache/$1"
    folder=$cache/$1
    shift
    "$folder/bin/pip" install --quiet --disable-pip-version-check "$@"
}
environment warehouses pysail==0.7.2 adbc-driver-flightsql==1.13.0 adbc-driver-snowflake==1.11.0 "fakesnow[server]==0.12.1" \
    "snowflake-connector-python<5" duckdb==2.0.1 pyarrow chdb-core==26.9.0
environment gateway duckdb==$version "moto[s3,server]" boto3 pyarrow deltalake \
    duckdb-extension-httpfs==$version duckdb-extension-ducklake==$version duckdb-extension-delta==$version \
    duckdb-extension-mysql-scanner==$version duckdb-extension-sqlite-scanner==$version \
    duckdb-extension-postgres-scanner==$version

# DuckDB's library, as .ci/env makes it of the package of 2.0.
library=$cache/gateway/library
if [ ! -f "$library/libpystub.so" ]; then
    packages=$("$cache/gateway/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
    mkdir -p "$library"
    cp "$packages"/_duckdb.*.so "$library/libduckdb.so"
    nm -D --undefined-only "$library/libduckdb.so" | awk '$2 ~ /^_?Py/ { print "char " $2 "[512];" }' >"$library/pystub.c"
    cc -shared -fPIC -Wl,-soname,libpystub.so -o "$library/libpystub.so" "$library/pystub.c"
fi

export GROUPCAST_WAREHOUSES="$cache/warehouses" GROUPCAST_GATEWAY="$cache/gateway" GROUPCAST_GATEWAY_LIBRARY="$library" \
    GROUPCAST_READER="$reader"
exec "$@"
