"""Writes the accounts where DuckDB's extensions find them: a Parquet file and a DuckLake on S3 (moto), a Delta table, a
SQLite file. Serves S3 until it is stopped. Runs with DuckDB 1.5, for which extensions can be had as packages."""

import pathlib
import sqlite3
import sys
import time

import boto3
import deltalake
import duckdb
from moto.server import ThreadedMotoServer

work = pathlib.Path(sys.argv[1])
COLUMNS = (
    "id varchar, seats int, big bigint, mrr decimal(12,2), ratio double, active boolean, day date, "
    "moment timestamp, zoned timestamptz, word varchar, \"q\"\"x%\" varchar"
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

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
server.start()
host, port = server.get_host_and_port()
boto3.client(
    "s3",
    endpoint_url=f"http://{host}:{port}",
    aws_access_key_id="AKIAGROUPCAST",
    aws_secret_access_key="not-a-secret",
    region_name="us-east-1",
).create_bucket(Bucket="lake")

native = duckdb.connect(str(work / "warehouse.duckdb"), config={"extension_directory": str(work / "extensions")})
native.execute("SET TimeZone = 'UTC'")
native.execute(f"create table accounts ({COLUMNS})")
for row in ROWS:
    native.execute(f"insert into accounts values ({row})")
for extension in ("httpfs", "ducklake", "sqlite_scanner"):
    native.execute(f"load {extension}")
native.execute(
    f"create secret (type s3, key_id 'AKIAGROUPCAST', secret 'not-a-secret', endpoint '{host}:{port}', "
    "use_ssl false, url_style 'path')"
)
native.execute("copy accounts to 's3://lake/accounts/part-0.parquet'")
native.execute(f"attach 'ducklake:{work}/metadata.ducklake' as lake (data_path 's3://lake/ducklake/')")
native.execute("create table lake.accounts as from accounts")
native.execute("detach lake")
deltalake.write_deltalake(str(work / "delta"), native.execute("from accounts").fetch_arrow_table())
native.close()

# SQLite has neither decimals nor dates: they are text.
connection = sqlite3.connect(work / "accounts.db")
connection.execute(
    """create table accounts (id text, seats integer, big integer, ratio real, word text, "q""x%" text)"""
)
connection.executemany(
    "insert into accounts values (?, ?, ?, ?, ?, ?)",
    [
        ("a", 3, 9007199254740993, 0.1, "Grüße 🎉", "odd"),
        ("b", -2147483648, -9223372036854775807, 1e21, 'a "quoted" word', None),
        ("c", 2147483647, 9223372036854775807, 1e-7, "", ""),
        ("d", None, None, None, None, None),
    ],
)
connection.commit()
connection.close()

(work / "port.part").write_text(str(port))
(work / "port.part").rename(work / "port")
while True:
    time.sleep(60)
