"""An engine for the conformance of sources (tests/it/sources/external.rs): `engine.py NAME`.

The first line of standard input is JSON: the folder, the table of values, the port that leads here, the size of the large
model, and whether mirrors are kept. Each line after it is the name of a method and its arguments as a list in JSON; each is
answered by a line of JSON. Ends with its standard input, and its servers with it.
"""

import json
import os
import pathlib
import random
import socket
import sqlite3
import subprocess
import sys
import sysconfig
import time
import tomllib

PACKAGES = pathlib.Path(sysconfig.get_paths()["purelib"])
BIN = pathlib.Path(sys.executable).parent
SECRET = "not-a-secret"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port, process):
    for _ in range(600):
        if process.poll() is not None:
            raise SystemExit(f"the server has ended: {process.args}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit(f"nothing listens: {process.args}")


def model(table=None, sql=None):
    return f"table = {json.dumps(table)}" if table else f"sql = {json.dumps(sql, ensure_ascii=False)}"


def quoted(name, mark='"'):
    return mark + name.replace(mark, mark * 2) + mark


def doubled(text):
    return "'" + text.replace("'", "''") + "'"


def escaped(text):
    """As engines write it that know backslashes."""
    for letter, written in (("\\", "\\\\"), ("'", "\\'"), ("\n", "\\n"), ("\t", "\\t")):
        text = text.replace(letter, written)
    return f"'{text}'"


class Engine:
    middle = "wire"
    environment = {}
    text = staticmethod(doubled)
    # What it calls that in which tables are.
    schema = "SCHEMA"
    # Values that it cannot have: column and number, or the whole column.
    missing = ()

    def __init__(self, settings):
        self.folder = pathlib.Path(settings["folder"])
        self.proxy, self.rows, self.width = settings["proxy"], settings["rows"], settings["width"]
        self.reader, self.mirrors = settings["reader"], settings.get("mirrors", False)
        self.columns = tomllib.loads(pathlib.Path(settings["values"]).read_text())["column"]
        self.names = [column["name"] for column in self.columns]
        self.without = [name if at is None else f"{self.names.index(name)}/{at}" for name, at in self.missing]
        self.keys = settings["keys"]
        self.server = None
        self.port = None

    def cells(self):
        """Key, number of the column, value."""
        for at, column in enumerate(self.columns):
            for number, (value, _) in enumerate(column["values"]):
                if f"{at}/{number}" not in self.without and column["name"] not in self.without:
                    yield f"{at}/{number}", at, value
        for key in self.keys:
            yield key, self.names.index("word"), key

    def name(self, name):
        return quoted(name)

    def type(self, kind):
        return kind

    def literal(self, kind, value):
        is_plain = kind in ("boolean", "smallint", "bigint", "double") or kind.startswith("decimal")
        return value if is_plain and self.type(kind) != "text" else self.text(value)

    def table(self, name):
        """Statements that make the table of values."""
        columns = [column for column in self.columns if column["name"] not in self.without]
        columns = ", ".join(f"{self.name(column['name'])} {self.type(column['type'])}" for column in columns)
        yield f"CREATE TABLE {name} ({self.name('id')} {self.type('text')}, {columns})"
        for key, at, value in self.cells():
            column = self.columns[at]
            yield (
                f"INSERT INTO {name} ({self.name('id')}, {self.name(column['name'])}) "
                f"VALUES ({self.text(key)}, {self.literal(column['type'], value)})"
            )

    def query(self, values, cast):
        """A query that yields the rows without a table, from a list of key, column and value."""
        rows = [f"({self.text(key)}, {at}, {self.text(value)})" for key, at, value in self.cells()]
        columns = [
            f"CAST({cast(f'CASE WHEN c = {at} THEN v END', column['type'])} AS {self.type(column['type'])}) AS {self.name(column['name'])}"
            for at, column in enumerate(self.columns)
        ]
        return f"SELECT id, {', '.join(columns)} FROM {values(rows)}"

    def serve(self, *command, **more):
        """Starts a server in place of the one before; its port is free."""
        log = open(self.folder / "engine.log", "ab")
        self.server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **more)
        wait_for(self.port, self.server)

    def start(self):
        """Has the rows served."""

    def kill(self):
        self.server.kill()
        self.server.wait()

    def revive(self):
        self.start()

    def end(self):
        if self.server:
            self.kill()


class Spark(Engine):
    """Sail, which speaks Spark's dialect over Flight SQL. All connections share a session, and so its tables, which are
    files below the folder that it was started in."""

    text = staticmethod(escaped)
    driver = PACKAGES / "adbc_driver_flightsql/libadbc_driver_flightsql.so"

    def start(self):
        self.port = free_port()
        self.serve(BIN / "sail", "flight", "server", "--port", str(self.port), cwd=self.folder)

    def execute(self, *statements):
        import adbc_driver_manager.dbapi as dbapi

        options = {"uri": f"grpc://127.0.0.1:{self.port}"}
        with dbapi.connect(driver=str(self.driver), db_kwargs=options, autocommit=True) as connection:
            for statement in statements:
                with connection.cursor() as cursor:
                    cursor.execute(statement)
                    # What is not fetched is not done.
                    cursor.fetchall()

    def name(self, name):
        return quoted(name, "`")

    def type(self, kind):
        return {"text": "string", "timestamp": "timestamp_ntz", "timestamptz": "timestamp"}.get(kind, kind)

    def describe(self):
        rows = self.query(lambda rows: f"VALUES {', '.join(rows)} AS t(id, c, v)", lambda text, _: text)
        large = f"SELECT CONCAT('k', id) AS id, 1 AS version, repeat('x', {self.width}) AS word FROM range({self.rows})"
        return {
            "settings": f'[sources.engine]\ntype = "adbc"\ndriver = "{self.driver}"\ndialect = "databricks"\n'
            f'uri = "grpc://127.0.0.1:{self.proxy}"\n',
            "small": model(sql=rows),
            "large": model(sql=large),
        }


class Snowflake(Engine):
    """Snowflake's own driver, at fakesnow."""

    text = staticmethod(escaped)
    environment = {"SNOWFLAKE_PASSWORD": SECRET}
    # fakesnow's own catalog does not bear it.
    missing = (("don't", None),)

    def start(self):
        self.port = free_port()
        self.serve(sys.executable, __file__, "fakesnow", str(self.port))
        import snowflake.connector

        self.connection = snowflake.connector.connect(
            user="fake", password="snow", account="fakesnow", host="127.0.0.1", port=self.port, protocol="http",
            session_parameters={"CLIENT_OUT_OF_BAND_TELEMETRY_ENABLED": False},
        )
        self.execute("create database if not exists prod", "create schema if not exists prod.analytics")
        self.execute("use database prod", "use schema analytics")
        if self.mirrors:
            return
        self.execute(*self.table('"My Accounts"'))
        self.execute(
            f"create table large as select concat('k', n) as id, 1 as version, repeat('x', {self.width}) as word "
            f"from (select row_number() over (order by seq4()) as n from table(generator(rowcount => {self.rows})))"
        )

    def execute(self, *statements):
        cursor = self.connection.cursor()
        for statement in statements:
            cursor.execute(statement)

    def change(self):
        self.execute("update large set version = 2")

    def name(self, name):
        # A plain name means what it means without quotation marks.
        return quoted(name.upper() if name.isascii() and name.isidentifier() else name)

    def type(self, kind):
        return {"text": "varchar", "timestamp": "timestamp_ntz", "timestamptz": "timestamp_tz"}.get(kind, kind)

    def describe(self):
        driver = PACKAGES / "adbc_driver_snowflake/libadbc_driver_snowflake.so"
        options = {
            "adbc.snowflake.sql.account": "fakesnow",
            "adbc.snowflake.sql.uri.host": "127.0.0.1",
            "adbc.snowflake.sql.uri.port": str(self.proxy),
            "adbc.snowflake.sql.uri.protocol": "http",
            "adbc.snowflake.sql.db": "PROD",
            "adbc.snowflake.sql.schema": "ANALYTICS",
        }
        return {
            "settings": f'[sources.engine]\ntype = "adbc"\ndriver = "{driver}"\nusername = "groupcast"\n'
            'password = "${SNOWFLAKE_PASSWORD}"\n[sources.engine.options]\n'
            + "".join(f'"{name}" = "{value}"\n' for name, value in options.items()),
            "small": model(table='"My Accounts"'),
            "large": model(table="large"),
        }


class ClickHouse(Engine):
    """chDB: ClickHouse as a library that is a driver itself."""

    middle = "reader"
    schema = "DATABASE"
    text = staticmethod(escaped)
    driver = PACKAGES / "chdb/_chdb.abi3.so"
    # Its dates and times end at 1900 and 2299.
    missing = (("day", 2), ("day", 3), ("moment", 2), ("moment", 3))

    def name(self, name):
        return quoted(name, "`")

    def type(self, kind):
        known = {
            "boolean": "Bool", "smallint": "Int16", "bigint": "Int64", "double": "Float64", "text": "String",
            "date": "Date32", "timestamp": "DateTime64(6, 'UTC')", "timestamptz": "DateTime64(6, 'UTC')",
        }
        return f"Nullable({known.get(kind, kind)})"

    @property
    def data(self):
        return self.folder / "clickhouse"

    def execute(self, *statements):
        # Its folder takes one process at a time.
        command = [sys.executable, __file__, "chdb", str(self.driver), str(self.data)]
        subprocess.run(command, input=json.dumps(statements).encode(), check=True)

    def describe(self):
        reader = self.folder / "reader"
        python = pathlib.Path(sysconfig.get_config_var("LIBDIR")) / sysconfig.get_config_var("LDLIBRARY")
        reader.write_text(f'#!/bin/sh\nLD_PRELOAD="{python}" exec "{self.reader}" "$@"\n')
        reader.chmod(0o755)

        def cast(text, kind):
            return f"replace({text}, '+00:00', '')" if kind == "timestamptz" else text

        rows = self.query(lambda rows: f"VALUES('id String, c Int32, v String', {', '.join(rows)})", cast)
        large = (
            f"SELECT concat('k', toString(number)) AS id, 1 AS version, repeat('x', {self.width}) AS word "
            f"FROM numbers({self.rows})"
        )
        # Without a folder each of its processes has rows of its own, in memory.
        options = f'options = {{ path = "{self.data}" }}\n' if self.mirrors else ""
        return {
            "settings": f'[sources.engine]\ntype = "adbc"\ndriver = "{self.driver}"\n'
            f'entrypoint = "AdbcDriverInit"\ndialect = "clickhouse"\nreader = "reader"\n{options}',
            "small": model(sql=rows),
            "large": model(sql=large),
        }


class Gateway(Engine):
    """What is read through an extension of DuckDB."""

    extension = ""

    def __init__(self, settings):
        super().__init__(settings)
        self.environment = {"LD_LIBRARY_PATH": os.environ["GROUPCAST_GATEWAY_LIBRARY"], "ENGINE_SECRET": SECRET}

    def settings(self, source, secret=None):
        import duckdb

        version = f"v{duckdb.__version__}"
        folder = self.folder / "extensions" / version / "linux_amd64"
        folder.mkdir(parents=True)
        for file in PACKAGES.glob(f"duckdb_extension_*/extensions/{version}/*.duckdb_extension"):
            (folder / file.name).symlink_to(file)
        text = f'[duckdb]\nextensions = ["{self.extension}"]\nextension_folder = "extensions"\n'
        if secret:
            text += "[duckdb.secrets.engine]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in secret.items())
        return f"{text}[sources.engine]\n{source}\n"

    def duckdb(self, *extensions):
        """DuckDB with the table of values, and the large one in words that cannot be packed."""
        import duckdb

        connection = duckdb.connect(config={"extension_directory": str(self.folder / "extensions")})
        connection.execute("SET TimeZone = 'UTC'")
        for statement in self.table("small"):
            connection.execute(statement)
        words = self.width // 32
        connection.execute(
            f"CREATE TABLE large AS SELECT 'k' || n AS id, 1 AS version, (SELECT string_agg(md5(n || '-' || i), '') "
            f"FROM range({words}) r(i)) AS word FROM range({self.rows}) t(n)"
        )
        for extension in extensions:
            connection.execute(f"LOAD {extension}")
        return connection


class MariaDb(Gateway):
    extension = "mysql"
    # The extension writes the name as MariaDB does not read it.
    missing = (("back`tick[x]", None),)
    text = staticmethod(escaped)

    def __init__(self, settings):
        super().__init__(settings)
        self.data = self.folder / "mariadb"
        self.user = {"user": "mysql"} if os.getuid() == 0 else {}

    def start(self):
        is_new = not self.data.exists()
        if is_new:
            self.folder.chmod(0o755)
            self.data.mkdir()
            user = self.user.get("user", "")
            if user:
                subprocess.run(["chown", user, self.data], check=True)
            install = ["mariadb-install-db", "--no-defaults", f"--datadir={self.data}", "--auth-root-authentication-method=normal"]
            subprocess.run(install + ([f"--user={user}"] if user else []), check=True, stdout=subprocess.DEVNULL)
        self.port = free_port()
        self.serve(
            "mariadbd", "--no-defaults", f"--datadir={self.data}", f"--socket={self.data}/socket", f"--port={self.port}",
            "--bind-address=127.0.0.1", f"--pid-file={self.data}/pid", *(f"--user={user}" for user in self.user.values()),
        )
        if is_new:
            self.execute(
                "CREATE DATABASE crm CHARACTER SET utf8mb4", "USE crm", *self.table("`My Accounts`"),
                "CREATE TABLE large (id varchar(100) PRIMARY KEY, version int, word longtext)",
                # The client packs what it can: these it cannot.
                f"INSERT INTO large SELECT concat('k', seq), 1, concat({', '.join(['to_base64(random_bytes(900))'] * 3)}) "
                f"FROM seq_1_to_{self.rows}",
                f"CREATE USER groupcast@localhost IDENTIFIED BY '{SECRET}'", "GRANT SELECT ON crm.* TO groupcast@localhost",
            )

    def execute(self, *statements):
        client = ["mariadb", "--no-defaults", "--default-character-set=utf8mb4", f"--socket={self.data}/socket", "-uroot"]
        subprocess.run(client, input=";\n".join(statements).encode(), check=True)

    def change(self):
        self.execute("UPDATE crm.large SET version = 2")

    def name(self, name):
        return quoted(name, "`")

    def type(self, kind):
        return {"text": "varchar(200)", "timestamp": "datetime(6)", "timestamptz": "datetime(6)"}.get(kind, kind)

    def literal(self, kind, value):
        # It has no times with a zone.
        return super().literal(kind, value.removesuffix("+00:00"))

    def describe(self):
        secret = {
            "type": "mysql", "host": "127.0.0.1", "port": self.proxy, "user": "groupcast", "password": "${ENGINE_SECRET}",
            "database": "crm",
        }
        source = 'type = "duckdb"\nattach = "mysql:"\nattach_options = { secret = "engine" }'
        return {
            "settings": self.settings(source, secret),
            "small": model(table='"My Accounts"'),
            "large": model(table="large"),
        }


class Postgres(Gateway):
    extension = "postgres"

    def start(self):
        programs = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))[-1]
        data, user = self.folder / "postgres", {"user": "postgres"} if os.getuid() == 0 else {}
        self.folder.chmod(0o755)
        data.mkdir()
        if user:
            subprocess.run(["chown", user["user"], data], check=True)
        initdb = [programs / "initdb", "--no-sync", "--encoding=UTF8", "--locale=C", "--auth=trust", "--username=root", "-D", data]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd=data, **user)
        self.port = free_port()
        self.serve(
            programs / "postgres", "-D", data, "-c", f"port={self.port}", "-c", "listen_addresses=127.0.0.1",
            "-c", "unix_socket_directories=", "-c", "fsync=off", cwd=data, **user,
        )
        self.client = [programs / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(self.port), "-U", "root", "postgres"]
        for _ in range(100):
            if subprocess.run([*self.client, "-c", "SELECT 1"], capture_output=True).returncode == 0:
                break
            time.sleep(0.1)
        self.execute(
            *self.table('"My Accounts"'),
            f"CREATE TABLE large AS SELECT 'k' || n AS id, 1 AS version, repeat('x', {self.width}) AS word "
            f"FROM generate_series(1, {self.rows}) t(n)",
        )

    def execute(self, *statements):
        subprocess.run(self.client, input=";\n".join(statements).encode(), check=True, stdout=subprocess.DEVNULL)

    def kill(self):
        self.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()")

    def revive(self):
        pass

    def end(self):
        self.server.terminate()
        self.server.wait()

    def change(self):
        self.execute("UPDATE large SET version = 2")

    def type(self, kind):
        return {"double": "double precision"}.get(kind, kind)

    def describe(self):
        source = f'type = "duckdb"\nattach = "postgres:host=127.0.0.1 port={self.proxy} user=root dbname=postgres"'
        return {
            "settings": self.settings(source),
            "small": model(table='"My Accounts"'),
            "large": model(table="large"),
        }


class S3(Gateway):
    """moto."""

    extension = "httpfs"

    def start(self):
        import boto3

        if self.port is None:
            self.port = free_port()
            self.made = self.duckdb()
        self.serve(BIN / "moto_server", "-H", "127.0.0.1", "-p", str(self.port))
        self.client = boto3.client(
            "s3", endpoint_url=f"http://127.0.0.1:{self.port}", aws_access_key_id="AKIAGROUPCAST",
            aws_secret_access_key=SECRET, region_name="us-east-1",
        )
        self.client.create_bucket(Bucket="lake")
        self.put("small", "large")

    def put(self, *tables):
        for table in tables:
            path = self.folder / f"{table}.parquet"
            self.made.execute(f"COPY {table} TO '{path}' (COMPRESSION uncompressed)")
            self.client.upload_file(str(path), "lake", f"{table}/part-0.parquet")

    def change(self):
        self.made.execute("UPDATE large SET version = 2")
        self.put("large")

    def describe(self):
        secret = {
            "type": "s3", "scope": "s3://lake", "key_id": "AKIAGROUPCAST", "secret": "${ENGINE_SECRET}",
            "endpoint": f"127.0.0.1:{self.proxy}", "use_ssl": False, "url_style": "path",
        }
        return {
            "settings": self.settings('type = "files"', secret),
            "small": model(table="s3://lake/small/*.parquet"),
            "large": model(table="s3://lake/large/*.parquet"),
        }


class Sqlite(Gateway):
    middle = "program"
    extension = "sqlite"

    def type(self, kind):
        return {"boolean": "integer", "smallint": "integer", "bigint": "integer", "double": "real"}.get(kind, "text")

    def start(self):
        connection = sqlite3.connect(self.folder / "accounts.db")
        for statement in (*self.table('"My Accounts"'), "CREATE TABLE large (id text, version integer, word text)"):
            connection.execute(statement)
        connection.commit()
        connection.close()

    def describe(self):
        return {
            "settings": self.settings('type = "duckdb"\nattach = "sqlite:accounts.db"'),
            "small": model(table='"My Accounts"'),
            "large": model(table="large"),
        }


class DuckLake(Gateway):
    middle = "program"
    extension = "ducklake"

    def describe(self):
        settings = self.settings('type = "duckdb"\nattach = "ducklake:metadata.ducklake"')
        made = self.duckdb("ducklake")
        made.execute(f"ATTACH 'ducklake:{self.folder}/metadata.ducklake' AS lake (DATA_PATH '{self.folder}/lake/')")
        for table in ("small", "large"):
            made.execute(f"CREATE TABLE lake.{table} AS FROM memory.{table}")
        made.execute("DETACH lake")
        return {"settings": settings, "small": model(table="small"), "large": model(table="large")}


class Delta(Gateway):
    middle = "program"
    extension = "delta"

    def describe(self):
        import deltalake

        settings = self.settings('type = "files"')
        made = self.duckdb()
        for table in ("small", "large"):
            deltalake.write_deltalake(str(self.folder / table), made.execute(f"FROM {table}").to_arrow_table())
        small, large = (model(sql=f"FROM delta_scan('{self.folder}/{table}')") for table in ("small", "large"))
        return {"settings": settings, "small": small, "large": large}


ENGINES = {
    "spark": Spark, "snowflake": Snowflake, "clickhouse": ClickHouse, "mariadb": MariaDb, "postgres_attached": Postgres,
    "s3": S3, "sqlite_attached": Sqlite, "ducklake": DuckLake, "delta": Delta,
}


def serve_fakesnow(port):
    import fakesnow.macros
    import fakesnow.server
    import uvicorn

    # Snowflake's MD5_NUMBER_LOWER64, which fakesnow does not have and writes like this to DuckDB.
    made = fakesnow.macros.creation_sql
    lower = "CREATE OR REPLACE MACRO {}.m_d5_number_lower64(text) AS md5_number_lower(text);"
    fakesnow.macros.creation_sql = lambda catalog: made(catalog) + lower.format(catalog)
    uvicorn.run(fakesnow.server.app, host="127.0.0.1", port=port, log_level="warning")


def execute_in_chdb(driver, folder):
    import adbc_driver_manager.dbapi as dbapi

    connection = dbapi.connect(driver=driver, entrypoint="AdbcDriverInit", db_kwargs={"path": folder}, autocommit=True)
    for statement in json.load(sys.stdin):
        connection.cursor().execute(statement)
    connection.close()


def answer(what):
    print(json.dumps(what, ensure_ascii=False), flush=True)


def main():
    if sys.argv[1] == "fakesnow":
        return serve_fakesnow(int(sys.argv[2]))
    if sys.argv[1] == "chdb":
        return execute_in_chdb(*sys.argv[2:])
    engine = ENGINES[sys.argv[1]](json.loads(sys.stdin.readline()))
    try:
        engine.start()
        known = ("port", "middle", "without", "environment", "schema")
        answer({**engine.describe(), **{name: getattr(engine, name) for name in known}})
        for line in sys.stdin:
            method, _, arguments = line.strip().partition(" ")
            if method == "end":
                break
            getattr(engine, method)(*json.loads(arguments))
            answer({"port": engine.port})
    finally:
        engine.end()


if __name__ == "__main__":
    main()
