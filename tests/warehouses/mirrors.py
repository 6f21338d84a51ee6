"""What does comparing in the warehouse cost, against comparing here? `mirrors.py PROGRAM [--sizes N,…] [--changed N,…] [--runs N]
[--json FILE] [ENGINE …]`; made for `tests/warehouses/run.sh`, which says where the packages are.

Each engine gets accounts of ten columns. One project compares them here, then in the warehouse: runs that find nothing, and
runs after a thousandth of the accounts (or `--changed`) have changed. Everything that the engine answers passes a port that counts
it. A run's record must say that as many accounts were sent as were changed, and in the warehouse that only their rows were read.
"""

import argparse
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import engine as engines

NUMBERS = [f"n{at}" for at in range(4)]
RATIOS = [f"r{at}" for at in range(2)]
WORDS = [f"w{at}" for at in range(3)]
COLUMNS = NUMBERS + RATIOS + WORDS
# Changes are made in this one.
CHANGED = "n0"
# One account in so many may change.
OF = 1000


class Port:
    """A port that leads to an engine's, and counts its answers."""

    def __init__(self):
        self.engine, self.answered = None, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.number = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.engine))
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.passed_on, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self.passed_on, args=(server, client, True), daemon=True).start()

    def passed_on(self, source, target, counts):
        piece = bytearray(1 << 20)
        try:
            while count := source.recv_into(piece):
                if counts:
                    self.answered += count
                target.sendall(memoryview(piece)[:count])
        except OSError:
            pass
        for one in (source, target):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class PostgreSql(engines.Postgres):
    """PostgreSQL as the program reads it itself."""

    def __init__(self, settings):
        # DuckDB's extensions have no part in it.
        engines.Engine.__init__(self, settings)

    def describe(self):
        return {"settings": f'[sources.engine]\ntype = "postgres"\nurl = "postgres://root@127.0.0.1:{self.proxy}/postgres?sslmode=disable"\n'}


class Sail(engines.Spark):
    """Sail as a cluster: a driver and four workers, each with a port of its own, that exchange rows."""

    def start(self):
        for name, value in {
            "SAIL_MODE": "local-cluster", "SAIL_CLUSTER__WORKER_INITIAL_COUNT": "4", "SAIL_CLUSTER__WORKER_MAX_COUNT": "4",
            "SAIL_CLUSTER__WORKER_TASK_SLOTS": "8", "SAIL_CLUSTER__WORKER_MAX_IDLE_TIME_SECS": "3600",
            "SAIL_EXECUTION__DEFAULT_PARALLELISM": "4",
        }.items():
            os.environ[name] = value
        super().start()


# The engine, what makes numbers of it, and how it names and puts texts together.
ENGINES = {
    "postgresql": (PostgreSql, "generate_series(1, {}) t(n)", "n", "CAST({} AS text)"),
    "sail": (Sail, "range(1, {} + 1)", "id", "CAST({} AS STRING)"),
    "clickhouse": (engines.ClickHouse, "numbers(1, {})", "toInt64(number)", "toString({})"),
    "snowflake": (
        engines.Snowflake, "(SELECT row_number() OVER (ORDER BY seq4()) AS n FROM table(generator(rowcount => {})))", "n",
        "CAST({} AS VARCHAR)",
    ),
}


def columns(n, text):
    parts = [f"'acct_' || {text.format(n)} AS id", f"{n} AS n"]
    parts += [f"({n} * {at + 3}) % 100003 AS {name}" for at, name in enumerate(NUMBERS)]
    parts += [f"{n} / {at + 7}.0e0 AS {name}" for at, name in enumerate(RATIOS)]
    parts += [f"'some words ' || {text.format(f'({n} * {at + 11}) % 1009')} AS {name}" for at, name in enumerate(WORDS)]
    return ", ".join(parts)


class Accounts:
    """The accounts in an engine, and their changes."""

    def __init__(self, name, engine, rows):
        _, source, n, text = ENGINES[name]
        self.name, self.engine, self.rows, self.round = name, engine, rows, 0
        select = f"SELECT {columns(n, text)} FROM {source.format(rows)}"
        engine.execute(f"CREATE {engine.schema} groupcast_mirror")
        if name == "sail":
            # Files are replaced as a whole: what will change has files of its own.
            for table, which in (("cold", "<>"), ("hot", "=")):
                engine.execute(f"CREATE TABLE {table} AS SELECT * FROM ({select}) AS t WHERE n % {OF} {which} 0")
            self.model = "sql = 'SELECT * FROM cold UNION ALL SELECT * FROM hot'"
        else:
            storage = " ENGINE = MergeTree ORDER BY id" if name == "clickhouse" else ""
            engine.execute(f"CREATE TABLE accounts{storage} AS {select}")
            self.model = "table = 'accounts'"
        if name == "postgresql":
            engine.execute("ALTER TABLE accounts ADD PRIMARY KEY (id)", "VACUUM ANALYZE accounts")

    def change(self, count):
        """Changes one column of so many accounts; how many there were."""
        self.round += 1
        step = OF * max(self.rows // OF // count, 1)
        if self.name == "sail":
            rest = [name for name in ["id", "n", *COLUMNS] if name != CHANGED]
            new = f"CASE WHEN n % {step} = 0 THEN {CHANGED} + 1 ELSE {CHANGED} END AS {CHANGED}"
            self.engine.execute(
                f"CREATE TABLE warm AS SELECT {', '.join(rest)}, {new} FROM hot", "DROP TABLE hot",
                "CREATE TABLE hot AS SELECT * FROM warm", "DROP TABLE warm",
            )
        elif self.name == "clickhouse":
            self.engine.execute(
                f"ALTER TABLE accounts UPDATE {CHANGED} = {CHANGED} + 1 WHERE n % {step} = 0 SETTINGS mutations_sync = 1"
            )
        else:
            self.engine.execute(f"UPDATE accounts SET {CHANGED} = {CHANGED} + 1 WHERE n % {step} = 0")
        return self.rows // step


class Project:
    def __init__(self, program, folder, engine, model, port):
        self.program, self.folder, self.port = program, folder, port
        self.environment = {**os.environ, **engine.environment}
        (folder / "mappings").mkdir()
        settings = engine.describe()["settings"]
        (folder / "groupcast.toml").write_text(f'{settings}\n[destinations.file]\ntype = "file"\npath = "sent.ndjson"\n')
        kinds = {name: "string" if name in WORDS else "number" for name in COLUMNS}
        traits = "".join(f'{name} = {{ column = "{name}", as = "{kind}" }}\n' for name, kind in kinds.items())
        self.mapping = (
            f'source = "engine"\ndestination = "file"\n[model]\n{model}\ncompare = "WHERE"\n[group]\ntype = "company"\nkey = "id"\n'
            f"[traits]\n{traits}[guards]\ngroups_min = 1000000000\n"
        )

    def compares(self, where):
        (self.folder / "mappings/accounts.toml").write_text(self.mapping.replace("WHERE", where))

    def asked(self, *arguments):
        command = [self.program, "--folder", self.folder, *arguments, "--json"]
        return json.loads(subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True).stdout)

    def run(self, sent, where, rows_read=None):
        """A run that must send so many accounts, and read so many rows through the mirror."""
        answered, begin = self.port.answered, time.monotonic()
        with open(self.folder / "run.log", "wb") as log:
            child = subprocess.Popen([self.program, "--folder", self.folder, "run"], env=self.environment, stdout=log, stderr=log)
            _, status, usage = os.wait4(child.pid, 0)
        seconds = time.monotonic() - begin
        if status:
            raise SystemExit((self.folder / "run.log").read_text())
        last = self.asked("runs", "accounts", "-n", "1")["runs"][0]
        mirror = self.asked("runs", "show", last["run"])["detail"].get("mirror")
        found = (last["counts"]["delivered"], mirror and mirror["compared"], mirror and mirror["rows_read"])
        expected = (sent, None if rows_read is None else where, rows_read)
        if found != expected:
            raise SystemExit(f"{expected} expected, {found} found: {mirror}\n{(self.folder / 'run.log').read_text()}")
        return {
            "seconds": seconds, "cpu_seconds": usage.ru_utime + usage.ru_stime, "peak_gb": usage.ru_maxrss / 1e6,
            "bytes": self.port.answered - answered,
        }


def median(runs):
    middle = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    return {"runs": len(runs), **middle, "fastest": min(run["seconds"] for run in runs), "slowest": max(run["seconds"] for run in runs)}


def measure(program, name, rows, changes, count, budget, report):
    with tempfile.TemporaryDirectory(prefix="groupcast-mirrors-", dir=os.environ.get("BENCH_TEMP")) as made:
        folder, port = pathlib.Path(made), Port()
        values = pathlib.Path(__file__).parent / "../it/sources/values.toml"
        engine = ENGINES[name][0](
            {"folder": folder, "proxy": port.number, "values": values, "keys": [], "rows": 1, "width": 32,
             "reader": os.environ.get("GROUPCAST_READER"), "mirrors": True}
        )
        try:
            engine.start()
            port.engine = engine.port
            accounts = Accounts(name, engine, rows)
            project = Project(program, folder, engine, accounts.model, port)

            def noted(where, what, runs, changed=0):
                report({"engine": name, "rows": rows, "compare": where, "what": what, "changed": changed, **median(runs)})

            def repeated(run):
                begin, runs = time.monotonic(), []
                while len(runs) < count and (not runs or time.monotonic() - begin < budget):
                    runs.append(run())
                return runs

            for where in ("local", "warehouse"):
                project.compares(where)
                if where == "local":
                    noted(where, "first", [project.run(rows, where)])
                else:
                    # The mirror is made, and all rows are read once.
                    noted(where, "first", [project.run(0, "local", rows)])
                through = where == "warehouse" or None
                noted(where, "nothing", repeated(lambda: project.run(0, where, through and 0)))
                for wanted in changes or [rows // OF]:

                    def changed():
                        changed = accounts.change(wanted)
                        return project.run(changed, where, through and changed)

                    noted(where, "changed", repeated(changed), min(wanted, rows // OF))
        finally:
            engine.end()


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("program")
    arguments.add_argument("--sizes", default="10000,100000,1000000,10000000")
    arguments.add_argument("--changed", default="")
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--budget", type=float, default=60, help="seconds after which a row is not repeated")
    arguments.add_argument("--json", type=pathlib.Path)
    arguments.add_argument("engines", nargs="*", default=["postgresql", "sail"])
    given = arguments.parse_intermixed_args()
    numbers = lambda text: [int(one) for one in text.split(",") if one]
    found = json.loads(given.json.read_text()) if given.json and given.json.exists() else []

    def report(row):
        key = ("engine", "rows", "compare", "what", "changed")
        found[:] = [other for other in found if any(other[name] != row[name] for name in key)] + [row]
        if given.json:
            given.json.write_text(json.dumps(found, indent=1) + "\n")
        print(
            f"{row['engine']:<10} {row['rows']:>10,} {row['compare']:<9} {row['what']:<8} {row['changed']:>6,} {row['seconds']:8.2f} s "
            f"({row['fastest']:.2f}–{row['slowest']:.2f}) {row['cpu_seconds']:7.2f} CPU-s {row['peak_gb']:.2f} GB {row['bytes'] / 1e6:10.3f} MB",
            flush=True,
        )

    for name in given.engines:
        for rows in numbers(given.sizes):
            measure(given.program, name, rows, numbers(given.changed), given.runs, given.budget, report)


if __name__ == "__main__":
    main()
