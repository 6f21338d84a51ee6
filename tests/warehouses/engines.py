"""Writes the accounts into DuckDB and into a fakesnow server, and serves the latter until it is stopped."""

import pathlib
import sys
import time

import duckdb
import fakesnow
import snowflake.connector

work = pathlib.Path(sys.argv[1])
COLUMNS = (
    "id varchar, seats int, big bigint, mrr decimal(12,2), ratio double, active boolean, day date, "
    "moment {timestamp}, zoned {timestamptz}, word varchar, \"q\"\"x%\" varchar"
)
ROWS = [
    "'a', 3, 9007199254740993, 12.50, 0.1, true, '2024-02-29', '2024-01-02 03:04:05.678901', "
    "'2024-01-02 03:04:05.678901+00:00', 'Grüße 🎉', 'odd'",
    "'b', -2147483648, -9223372036854775807, -0.01, 1e21, false, '1969-12-31', '1677-01-01 00:00:00', "
    "'1969-12-31 23:59:59.5+00:00', 'a \"quoted\" word', null",
    "'c', 2147483647, 9223372036854775807, 9999999999.99, 1e-7, null, '9999-12-31', '2300-01-01 00:00:00.000001', "
    "'2024-07-01 00:00:00+00:00', '', ''",
    "'d', null, null, null, null, null, null, null, null, null, null",
]

native = duckdb.connect(str(work / "warehouse.duckdb"))
native.execute(f"create table accounts ({COLUMNS.format(timestamp='timestamp', timestamptz='timestamptz')})")
for row in ROWS:
    native.execute(f"insert into accounts values ({row})")
native.close()

with fakesnow.server() as settings:
    connection = snowflake.connector.connect(**settings, database="PROD", schema="ANALYTICS")
    cursor = connection.cursor()
    for statement in (
        "create database if not exists prod",
        "create schema if not exists prod.analytics",
        "use schema prod.analytics",
        f"create or replace table accounts ({COLUMNS.format(timestamp='timestamp_ntz', timestamptz='timestamp_tz')})",
        *(f"insert into accounts values ({row})" for row in ROWS),
    ):
        cursor.execute(statement)
    (work / "port.part").write_text(str(settings["port"]))
    (work / "port.part").rename(work / "port")
    while True:
        time.sleep(60)
