"""How fast is a source read, against its driver or DuckDB alone? `throughput.py PROGRAM [--rows N] [ENGINE …]`; made for
`tests/warehouses/run.sh`, which says where the packages are.

Each engine gets a table of 20 columns. Groupcast's second run (everything is read and compared, nothing sent) is timed beside
the client that hands the same rows to a program: `fetch_arrow_table` of the driver, or DuckDB making a table of the attachment.
Prints rows of Markdown.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import engine as engines

NUMBERS = [f"n{at}" for at in range(1, 7)]
RATIOS = [f"r{at}" for at in range(1, 5)]
WORDS = [f"w{at}" for at in range(1, 10)]
RUNS = 3


def columns(n, text, number=lambda sql: sql):
    """The expressions of a row, from its number and the engine's function that puts texts together."""
    parts = [f"{text('acct_', n)} AS id"]
    parts += [f"{number(f'({n} * {at + 3}) % 100003')} AS {name}" for at, name in enumerate(NUMBERS)]
    parts += [f"{n} / {at + 7}.0e0 AS {name}" for at, name in enumerate(RATIOS)]
    parts += [f"{text('some words ', f'({n} * {at + 11}) % 1009')} AS {name}" for at, name in enumerate(WORDS)]
    return ", ".join(parts)


def concat(text, n):
    return f"concat('{text}', {n})"


def bars(text, n):
    return f"'{text}' || {n}"


def adbc(source, sql):
    """The time in which a driver alone hands the rows over, in a process of its own."""
    return f"""
import os, time, pyarrow, adbc_driver_manager.dbapi as dbapi
begin = time.monotonic()
cursor = dbapi.connect({source}, autocommit=True).cursor()
cursor.execute({sql!r})
rows = cursor.fetch_arrow_table().num_rows
print(rows, time.monotonic() - begin, flush=True)
# chDB waits for itself when it is closed.
os._exit(0)
"""


def duckdb(folder, extension, before, relation):
    return f"""
import time, duckdb
connection = duckdb.connect(config={{"extension_directory": "{folder}/extensions"}})
begin = time.monotonic()
connection.execute("SET enable_progress_bar = false")
connection.execute("LOAD {extension}")
connection.execute({before!r})
connection.execute("CREATE TEMP TABLE copied AS FROM {relation}")
seconds = time.monotonic() - begin
print(connection.execute("SELECT count(*) FROM copied").fetchone()[0], seconds)
"""


def prepare(name, engine, rows):
    """Makes the wide table; the model that means it, and the program that reads it without Groupcast."""
    folder, port = engine.folder, engine.port
    if name == "spark":
        sql = f"SELECT {columns('id', concat)} FROM range({rows})"
        driver = engines.PACKAGES / "adbc_driver_flightsql/libadbc_driver_flightsql.so"
        return engines.model(sql=sql), adbc(f'driver="{driver}", db_kwargs={{"uri": "grpc://127.0.0.1:{port}"}}', sql)
    if name == "clickhouse":
        sql = f"SELECT {columns('toInt64(number)', concat)} FROM numbers({rows})"
        driver = engines.PACKAGES / "chdb/_chdb.abi3.so"
        return engines.model(sql=sql), adbc(f'driver="{driver}", entrypoint="AdbcDriverInit"', sql)
    if name == "snowflake":
        numbers = f"(SELECT row_number() OVER (ORDER BY seq4()) AS n FROM table(generator(rowcount => {rows})))"
        engine.execute(f"CREATE TABLE wide AS SELECT {columns('n', concat)} FROM {numbers}")
        driver = engines.PACKAGES / "adbc_driver_snowflake/libadbc_driver_snowflake.so"
        options = {
            "username": "groupcast", "password": engines.SECRET, "adbc.snowflake.sql.account": "fakesnow",
            "adbc.snowflake.sql.uri.host": "127.0.0.1", "adbc.snowflake.sql.uri.port": str(port),
            "adbc.snowflake.sql.uri.protocol": "http", "adbc.snowflake.sql.db": "PROD", "adbc.snowflake.sql.schema": "ANALYTICS",
        }
        return engines.model(table="wide"), adbc(f'driver="{driver}", db_kwargs={options!r}', "SELECT * FROM wide")
    if name == "mariadb":
        engine.execute("USE crm", f"CREATE TABLE wide AS SELECT {columns('CAST(seq AS SIGNED)', concat)} FROM seq_1_to_{rows}")
        attach = f"ATTACH 'mysql:host=127.0.0.1 port={port} user=groupcast password={engines.SECRET} database=crm' AS a (READ_ONLY)"
        return engines.model(table="wide"), duckdb(folder, "mysql_scanner", attach, "a.wide")
    if name == "postgres_attached":
        engine.execute(f"CREATE TABLE wide AS SELECT {columns('n::bigint', bars)} FROM generate_series(1, {rows}) t(n)")
        attach = f"ATTACH 'postgres:host=127.0.0.1 port={port} user=root dbname=postgres' AS a (READ_ONLY)"
        return engines.model(table="wide"), duckdb(folder, "postgres_scanner", attach, "a.wide")
    if name == "sqlite_attached":
        import sqlite3

        with sqlite3.connect(folder / "accounts.db") as connection:
            types = [("id", "text")]
            types += [(name, "integer") for name in NUMBERS] + [(name, "real") for name in RATIOS] + [(name, "text") for name in WORDS]
            connection.execute(f"CREATE TABLE wide ({', '.join(' '.join(pair) for pair in types)})")
            connection.execute(
                f"INSERT INTO wide WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < {rows}) "
                f"SELECT {columns('n', bars)} FROM t"
            )
        attach = f"ATTACH 'sqlite:{folder}/accounts.db' AS a (READ_ONLY)"
        return engines.model(table="wide"), duckdb(folder, "sqlite_scanner", attach, "a.wide")
    engine.made.execute(f"CREATE TABLE wide AS SELECT {columns('n', bars)} FROM range({rows}) t(n)")
    engine.put("wide")
    secret = (
        f"CREATE TEMPORARY SECRET s (TYPE s3, KEY_ID 'AKIAGROUPCAST', SECRET '{engines.SECRET}', "
        f"ENDPOINT '127.0.0.1:{port}', USE_SSL false, URL_STYLE 'path')"
    )
    return engines.model(table="s3://lake/wide/*.parquet"), duckdb(folder, "httpfs", secret, "'s3://lake/wide/*.parquet'")


def run(program, folder, environment, *arguments):
    """Seconds and peak memory, of the reader process too, of a run."""
    begin = time.monotonic()
    with open(folder / "run.log", "wb") as log:
        child = subprocess.Popen([program, "--folder", folder, "run", *arguments], env=environment, stdout=log, stderr=log)
        _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit((folder / "run.log").read_text())
    return time.monotonic() - begin, usage.ru_maxrss / 1e6


def measure(name, program, rows):
    with tempfile.TemporaryDirectory(prefix="throughput-") as made:
        folder = pathlib.Path(made)
        values = pathlib.Path(__file__).parent / "../it/sources/values.toml"
        port = engines.free_port()
        engine = engines.ENGINES[name](
            {"folder": folder, "proxy": port, "values": values, "keys": [], "rows": 1, "width": 32, "reader": os.environ["GROUPCAST_READER"]}
        )
        try:
            engine.start()
            # No proxy stands between.
            engine.proxy = engine.port
            settings = engine.describe()["settings"]
            model, alone = prepare(name, engine, rows)
            (folder / "mappings").mkdir()
            (folder / "groupcast.toml").write_text(f'{settings}\n[destinations.file]\ntype = "file"\npath = "sent.ndjson"\n')
            traits = "".join(f'{column} = "{column}"\n' for column in NUMBERS + RATIOS + WORDS)
            (folder / "mappings/wide.toml").write_text(
                f'source = "engine"\ndestination = "file"\n[model]\n{model}\n[group]\ntype = "company"\nkey = "id"\n[traits]\n{traits}'
            )
            environment = {**os.environ, **engine.environment}
            run(program, folder, environment)
            ours, theirs = [], []
            for _ in range(RUNS):
                ours.append(run(program, folder, environment, "--full"))
                printed = subprocess.run([sys.executable, "-c", alone], check=True, capture_output=True, text=True).stdout
                count, seconds = printed.split()
                assert int(count) == rows, printed
                theirs.append(float(seconds))
        finally:
            engine.end()
    seconds, memory = sorted(ours)[RUNS // 2][0], max(memory for _, memory in ours)
    other = sorted(theirs)[RUNS // 2]
    print(
        f"| {name} | {rows:,} | {seconds:.1f} s ({rows / seconds:,.0f} rows/s) | {memory:.2f} GB | {other:.1f} s | {seconds / other:.1f} |",
        flush=True,
    )


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("program")
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("engines", nargs="*")
    given = arguments.parse_intermixed_args()
    for name in given.engines:
        measure(name, given.program, given.rows)


if __name__ == "__main__":
    main()
