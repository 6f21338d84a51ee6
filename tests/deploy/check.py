"""Does what examples/deploy ships work? Schemas, linters, and whatever of it can be executed without Docker or a cluster.

usage: check.py GROUPCAST [CARGO_FEATURE_FLAG]
"""

import http.server
import json
import os
import pathlib
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import yaml

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "examples/deploy"
GROUPCAST = pathlib.Path(sys.argv[1]).resolve()
FEATURES = sys.argv[2:]
# The oldest version that knows every field, and the newest whose schema the checker has.
KUBERNETES = ["1.29", "1.37"]
# What gcr.io/distroless/cc-debian12 has: libc6, libgcc-s1, libstdc++6.
IMAGE_LIBRARIES = {
    "ld-linux-x86-64.so.2", "libc.so.6", "libdl.so.2", "libgcc_s.so.1", "libm.so.6", "libpthread.so.0", "librt.so.1",
    "libstdc++.so.6",
}
# What systemd calls 2.0; this many tenths.
EXPOSURE_MAX = 20
SECRETS = {
    "GROUPCAST_TOKEN": "0123456789abcdef0123456789abcdef",
    "WAREHOUSE_URL": "postgres://reader@localhost/none",
    "AMPLITUDE_API_KEY": "0123456789abcdef",
}


def run(*command, code=0, **options):
    """Runs a command; fails, showing all it said, unless it ends with `code`."""
    words = [str(word) for word in command]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode != code:
        sys.exit(f"{shlex.join(words)}\n{done.stdout}\nfailed: exit code {done.returncode} instead of {code}")
    return done.stdout


def expect(what, holds, shown=""):
    if not holds:
        sys.exit(f"{shown}\nfailed: {what}")


def environment(**more):
    """The environment of a program: nothing of ours is inherited."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GROUPCAST")}
    return plain | more


def schemas(_):
    for manifest in sorted((DEPLOY / "kubernetes").glob("*.yaml")):
        for version in KUBERNETES:
            run("kubernetes-validate", "--strict", "-k", version, manifest)
    run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "docker/compose.yaml")
    run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", DEPLOY / "github/groupcast.yml")
    run("hadolint", DEPLOY / "docker/Dockerfile")
    run("shellcheck", *DEPLOY.glob("*/*.sh"), REPOSITORY / "tests/deploy/run.sh")


def units(folder):
    for unit in (DEPLOY / "systemd").iterdir():
        # The program need not be installed on the machine that checks.
        (folder / unit.name).write_text(unit.read_text().replace("/usr/local/bin/groupcast", str(GROUPCAST)))
    said = run("systemd-analyze", "verify", "--man=no", *sorted(folder.iterdir()))
    # Unknown keys are warnings, and end with 0.
    expect("systemd-analyze verify has nothing to say of our units", str(folder) not in said, said)
    for unit in folder.glob("*.service"):
        run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", unit)


def mounted_config(work):
    """The config folder as the kubelet lays out a ConfigMap: links to links."""
    made = {file.name: file for file in [*DEPLOY.glob("config/*.toml"), *DEPLOY.glob("config/mappings/*.toml")]}
    documents = [
        document
        for name in ["deployment.yaml", "cronjob.yaml"]
        for document in yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text())
        if document["kind"] != "Service"
    ]
    for document in documents:
        spec = document["spec"].get("jobTemplate", document)["spec"]["template"]["spec"]
        items = {item["key"]: item["path"] for volume in spec["volumes"] for item in volume.get("configMap", {}).get("items", [])}
        expect(f"{document['kind']} mounts every file of config/", set(items) == set(made), items)
        folder = work / document["kind"]
        data = folder / "..2026_01_01_00_00_00.1"
        for key, path in items.items():
            (data / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(made[key], data / path)
        (folder / "..data").symlink_to(data.name)
        for top in {pathlib.Path(path).parts[0] for path in items.values()}:
            (folder / top).symlink_to(f"..data/{top}")
        container = spec["containers"][0]
        given = {one["name"]: one["value"] for one in container.get("env", [])}
        said = run(GROUPCAST, "-C", folder, "check", env=environment(**SECRETS, **given))
        expect("the mounted mapping is found", "1 mapping" in said, said)


def step(workflow, name):
    """One step's script and environment, with the expressions that stand for secrets left out."""
    [found] = [one for one in workflow["jobs"]["plan"]["steps"] if one.get("name") == name]
    expect("no expression is pasted into a script", "${{" not in found["run"], found["run"])
    return found["run"], {key: value for key, value in found.get("env", {}).items() if "${{" not in value}


class Runner:
    """What a runner gives a step: its files, its shell, and a checkout with a base branch in `.base`."""

    def __init__(self, work, workflow):
        self.work, self.workflow = work, workflow
        (work / "bin").mkdir(parents=True)
        (work / "bin/groupcast").symlink_to(GROUPCAST)
        self.summary = work / "summary.md"

    def step(self, name, code=0):
        script, own = step(self.workflow, name)
        shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
        set_for_all = self.workflow["env"] | {"GROUPCAST__STATE__PATH": str(self.work / "ledger.duckdb")}
        path = f"{self.work}/bin:{os.environ['PATH']}"
        files = {"GITHUB_STEP_SUMMARY": str(self.summary), "RUNNER_TEMP": str(self.work), "PATH": path}
        return run(*shell, code=code, cwd=self.work, env=environment(**set_for_all, **own, **files))


def workflow_runs(work):
    workflow = yaml.safe_load((DEPLOY / "github/groupcast.yml").read_text())
    for one in workflow["jobs"]["plan"]["steps"]:
        if "run" in one:
            script = work / "step.sh"
            script.write_text("#!/bin/bash\nset -eo pipefail\n" + one["run"])
            run("shellcheck", script)
    # GIVEN a base branch with a mapping of 300 accounts, and a pull request that adds a trait, drops one, and adds a sync
    runner = Runner(work / "edited", workflow)
    base, head = runner.work / ".base/groupcast", runner.work / "groupcast"
    run(GROUPCAST, "init", base)
    shutil.copytree(base, head)
    mapping = head / "mappings/accounts.toml"
    text = mapping.read_text()
    edited = text.replace("[traits]", '[traits]\ntier = "plan"', 1).replace('seats = "seats"\n', "", 1)
    edited = edited.replace("[policy]", '[policy]\non_removed_trait = "unset"', 1)
    mapping.write_text(edited)
    # Another group type each, since two mappings may not write one group's trait.
    (head / "mappings/more.toml").write_text(text.replace('type = "company"', 'type = "team"'))
    (base / "mappings/gone.toml").write_text(text.replace('type = "company"', 'type = "site"'))
    # WHEN the workflow's steps run THEN the summary counts exactly that, and shows no value and no account
    runner.step("Check")
    runner.step("Adopt the base branch")
    runner.step("Plan")
    summary = runner.summary.read_text()
    for line in [
        "| accounts | 0 | 300 | 0 | 0 | 0 |", "| more | 300 | 0 | 0 | 0 | 0 |",
        "| accounts.tier | 0 | 300 | 0 |", "| more.plan | 300 | 0 | 0 |", "**gone**: its mapping is removed",
    ]:
        expect(f"the summary has `{line}`", line in summary, summary)
    # Which of the 300 have seats to unset depends on the sample: some, and nothing but that.
    touched = {line.split(" | ")[0] for line in summary.splitlines() if line.startswith("| accounts.")}
    expect("only the edited traits are counted", touched == {"| accounts.tier", "| accounts.seats"}, summary)
    expect("no account is named", "acct_" not in summary, summary)
    # WHEN the pull request changes nothing THEN nothing is to be sent
    same = Runner(work / "same", workflow)
    for folder in [same.work / ".base/groupcast", same.work / "groupcast"]:
        shutil.copytree(base, folder)
    same.step("Adopt the base branch")
    same.step("Plan")
    expect("nothing to send", "| accounts | 0 | 0 | 0 | 300 | 0 |" in same.summary.read_text(), same.summary.read_text())
    # WHEN it empties the model THEN the guard is told, and the job does not fail
    emptied = same.work / "groupcast/mappings/accounts.toml"
    emptied.write_text(text.replace("[model]", '[model]\nwhere = "false"', 1))
    said = same.step("Plan")
    expect("the guard is a warning", "::warning::" in said, said)
    expect("the guard is in the summary", "**accounts**: a run would be stopped by a guard" in same.summary.read_text())
    # WHEN a mapping is wrong THEN the problem is annotated at its line, and the job fails
    emptied.write_text(text.replace("[traits]", "[traits]\nwrong = 5", 1))
    [line] = [at for at, read in enumerate(emptied.read_text().splitlines(), 1) if read.startswith("wrong = 5")]
    said = same.step("Check", code=2)
    expect("annotated", f"::error file=groupcast/mappings/accounts.toml,line={line},col=9::" in said, said)
    same.step("Plan", code=2)
    # WHEN the base branch has no config yet THEN everything is new
    first = Runner(work / "first", workflow)
    shutil.copytree(base, first.work / "groupcast")
    first.step("Adopt the base branch")
    first.step("Plan")
    expect("all new", "| accounts | 300 | 0 | 0 | 0 | 0 |" in first.summary.read_text(), first.summary.read_text())
    # WHEN the base branch's config cannot be read any more THEN the summary says so
    broken = Runner(work / "broken", workflow)
    for folder in [broken.work / ".base/groupcast", broken.work / "groupcast"]:
        shutil.copytree(base, folder)
    (broken.work / ".base/groupcast/groupcast.toml").write_text("[nonsense]\n")
    broken.step("Adopt the base branch")
    broken.step("Plan")
    said = broken.summary.read_text()
    expect("the lack of a baseline is told", "**accounts**: the base branch's mapping could not be adopted" in said, said)


class Daemon(http.server.BaseHTTPRequestHandler):
    """Answers as the daemon does, and keeps what it was asked."""

    asked = []

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.path, self.headers["Authorization"], self.headers["Content-Type"], body))
        if self.headers["Authorization"] != f"Bearer {SECRETS['GROUPCAST_TOKEN']}":
            code, answer = 401, {"error": "no"}
        elif "/unknown/" in self.path:
            code, answer = 404, {"error": "no sync is called `unknown`"}
        else:
            code, answer = 202, {"run": "20260101T000000.000Z-abcd", "sync": "x"}
        payload = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_):
        pass


def dbt_hook(_):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Daemon)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    hook = DEPLOY / "dbt/groupcast-sync.sh"
    bearer = SECRETS["GROUPCAST_TOKEN"]
    # No proxy may stand between this test and its own port.
    ours = environment(GROUPCAST_TOKEN=bearer, GROUPCAST_URL=url, no_proxy="127.0.0.1")
    said = run(hook, "accounts", "users", env=ours)
    expect("both runs are told", said.count(f"started, {url}/api/v1/runs/20260101T000000.000Z-abcd") == 2, said)
    wanted = [(f"/api/v1/syncs/{sync}/runs", f"Bearer {bearer}", "application/json", {"full": False}) for sync in ["accounts", "users"]]
    expect("both were asked for", Daemon.asked == wanted, Daemon.asked)
    # One that fails does not keep the next from being asked.
    said = run(hook, "unknown", "users", code=1, env=ours)
    expect("the refusal is shown", "unknown: not started, answer 404" in said and "users: started" in said, said)
    said = run(hook, "accounts", code=1, env=ours | {"GROUPCAST_TOKEN": "wrong"})
    expect("a wrong token is shown, the token is not", "answer 401" in said and "wrong" not in said, said)
    run(hook, code=2, env=ours)
    run(hook, "accounts", code=2, env=environment(GROUPCAST_TOKEN=""))
    server.shutdown()
    server.server_close()
    said = run(hook, "accounts", code=1, env=ours)
    expect("nobody there", "answer none" in said, said)


# What the examples for orchestrators use of these: enough to run their functions, and to see what they report.
STUBS = {
    "dagster.py": """
class AssetExecutionContext: ...
class MetadataValue:
    url = staticmethod(str)
class MaterializeResult:
    def __init__(self, metadata): self.metadata = metadata
class Failure(Exception):
    def __init__(self, description, metadata): super().__init__(description); self.metadata = metadata
class Definitions:
    def __init__(self, assets): self.assets = assets
def asset(**_): return lambda function: function
""",
    "prefect/__init__.py": "def flow(function): return function\ndef task(**_): return lambda function: function\n",
    "prefect/artifacts.py": "links = []\ndef create_link_artifact(key, link): links.append(link)\n",
    "airflow/sdk.py": """
class DAG:
    def __init__(self, *_, **__): ...
    def __enter__(self): return self
    def __exit__(self, *_): ...
""",
    "airflow/providers/standard/operators/bash.py": """
operators = []
def BashOperator(**given): operators.append(given)
""",
}
# Runs an example's function, and prints what came of it as JSON.
CALLS = {
    "prefect": """
import prefect.artifacts, prefect_groupcast
try: result = {"counts": prefect_groupcast.nightly(sys.argv[1:])}
except RuntimeError as error: result = {"error": str(error)}
result["links"] = prefect.artifacts.links
""",
    "dagster": """
import dagster, dagster_groupcast
try: result = dagster_groupcast.amplitude_accounts(None).metadata
except dagster.Failure as error: result = {"error": str(error), **error.metadata}
""",
    "airflow": """
import airflow_groupcast
from airflow.providers.standard.operators.bash import operators
[result] = [{"command": one["bash_command"], "append": one["append_env"]} for one in operators]
""",
}


class Orchestrators:
    """A machine with the program, the daemon's address and its token, and nothing else of ours."""

    def __init__(self, work, url):
        self.url, examples = url, DEPLOY / "orchestrators"
        self.paths = [str(work / "stubs"), str(examples)]
        for name, text in STUBS.items():
            file = work / "stubs" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        bin = work / "bin"
        bin.mkdir()
        (bin / "groupcast").symlink_to(GROUPCAST)
        # moreutils' `chronic`, but for what it hides.
        (bin / "chronic").write_text('#!/bin/sh\nexec "$@"\n')
        (bin / "chronic").chmod(0o755)
        token = work / "token"
        token.write_text(SECRETS["GROUPCAST_TOKEN"] + "\n")
        token.chmod(0o600)
        path = f"{bin}:{os.environ['PATH']}"
        self.plain = environment(PATH=path, no_proxy="127.0.0.1", GROUPCAST_URL=url)
        self.env = self.plain | {"GROUPCAST_TOKEN": SECRETS["GROUPCAST_TOKEN"]}
        [line] = [line for line in (examples / "crontab").read_text().splitlines() if line[:1].isdigit()]
        self.cron = line.split(None, 5)[5].replace("/etc/groupcast/token", str(token))
        self.work = work

    def call(self, name, *arguments):
        script = f"import json, sys\nsys.path[:0] = {self.paths!r}\n{CALLS[name]}\nprint(json.dumps(result))"
        said = run(sys.executable, "-c", script, *arguments, env=self.env, cwd=self.work)
        return json.loads(said.splitlines()[-1])

    def shell(self, command, code, env):
        said = run("bash", "-c", command, code=code, env=env, cwd=self.work)
        return said.rstrip().splitlines()[-1] if code == 0 else said

    def is_page(self, link):
        """Whether a link leads to a run's page."""
        expect("the link is a run's", link.startswith(f"{self.url}/runs/"), link)
        request = urllib.request.Request(link, headers={"Authorization": f"Bearer {SECRETS['GROUPCAST_TOKEN']}"})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as page:
            return page.status == 200 and link.rsplit("/", 1)[1] in page.read().decode()


def orchestrators(work):
    """Each example has a daemon run syncs, waits, links to the run's page, and fails when the run does."""
    project = work / "project"
    run(GROUPCAST, "init", project, "--sample")
    mapping = project / "mappings/accounts.toml"
    text = mapping.read_text().replace("source = ", 'tags = ["nightly"]\nsource = ', 1)
    mapping.write_text(text)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    machine = Orchestrators(work, f"http://{listen}")
    given = environment(GROUPCAST__DAEMON__LISTEN=listen, GROUPCAST__DAEMON__TOKEN=SECRETS["GROUPCAST_TOKEN"])
    log = (work / "daemon.log").open("w")
    daemon = subprocess.Popen([str(GROUPCAST), "-C", str(project), "daemon"], env=given, stdout=log, stderr=log)
    try:
        for _ in range(300):
            try:
                with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{machine.url}/readyz", timeout=5):
                    break
            except OSError:
                time.sleep(0.1)
        # WHEN each of them runs the sync THEN the first sends 300 groups, and every one ends well with a link to its run
        first = machine.call("prefect", "accounts")
        expect("Prefect returns the counts", [of["delivered"] for of in first["counts"]] == [300], first)
        second = machine.call("dagster")
        expect("Dagster shows the counts", (second["delivered"], second["rejected"]) == (0, 0), second)
        bash = machine.call("airflow")
        expect("Airflow's command gets its environment", bash["append"] is True, bash)
        links = [*first["links"], second["run"], machine.shell(bash["command"], 0, machine.env)]
        links.append(machine.shell(machine.cron, 0, machine.plain))
        expect("each links to a run of its own", len(set(links)) == 4 and all(map(machine.is_page, links)), links)
        # WHEN there is no such sync THEN Prefect's flow fails with the reason
        failed = machine.call("prefect", "nosuch")
        expect("it fails, and says why", "nosuch" in failed.get("error", "") and not failed["links"], failed)
        # WHEN a guard stops the run THEN all fail, with the run's page and the next step
        mapping.write_text(text.replace("[model]", '[model]\nwhere = "false"', 1))
        for _ in range(100):
            stopped = machine.call("dagster")
            if "error" in stopped:
                break
            time.sleep(0.2)
        expect("Dagster fails with the guard", "the guard `empty`" in stopped.get("error", ""), stopped)
        expect("the next step is shown", "--accept empty" in stopped["next step"], stopped)
        failed = machine.call("prefect", "accounts")
        expect("Prefect fails with the guard", "the guard `empty`" in failed.get("error", ""), failed)
        expect("both link to their runs", all(map(machine.is_page, [stopped["run"], *failed["links"]])), [stopped, failed])
        for command, env in [(bash["command"], machine.env), (machine.cron, machine.plain)]:
            said = machine.shell(command, 4, env)
            expect("the guard is printed", "the guard `empty`" in said, said)
    finally:
        daemon.terminate()
        daemon.wait(60)
        log.close()
    expect("the token is not shown", SECRETS["GROUPCAST_TOKEN"] not in (work / "daemon.log").read_text())


def dockerfile():
    """The Dockerfile's instructions, continuation lines joined."""
    lines = (line for line in (DEPLOY / "docker/Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#"))
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def build_stage(work):
    """The sources that are copied are all that the build command needs."""
    source = work / "src"
    source.mkdir()
    for name, rest in dockerfile():
        if name == "COPY" and "--from" not in rest:
            *parts, to = rest.split()
            for part in parts:
                target = source / (pathlib.Path(part).name if to == "./" else to)
                copy = shutil.copytree if (REPOSITORY / part).is_dir() else shutil.copy
                target.parent.mkdir(parents=True, exist_ok=True)
                copy(REPOSITORY / part, target)
    [script] = [rest for name, rest in dockerfile() if name == "RUN"]
    [build] = [part.strip() for part in script.split("&&") if "cargo build" in part]
    words = build[build.index("cargo build") :].split()
    expect("a locked release build of the program", words[1:] == ["build", "--release", "--locked", "--bin", "groupcast"], words)
    # Not the half hour that DuckDB takes, nor an optimised build: the same package, checked.
    words = ["cargo", "check", *[word for word in words[2:] if word != "--release"], *FEATURES]
    run(*words, cwd=source)


def runtime_stage(work):
    """The runtime stage's root folder, made from this machine's libraries, tried as Kubernetes would run it."""
    instructions = dockerfile()
    last = [index for index, (name, _) in enumerate(instructions) if name == "FROM"][-1]
    runtime = {name: rest for name, rest in instructions[last:] if name != "COPY"}
    set_there = dict(pair.split("=", 1) for pair in runtime["ENV"].split())
    entry, command = json.loads(runtime["ENTRYPOINT"]), json.loads(runtime["CMD"])
    health = json.loads(runtime["HEALTHCHECK"].split("CMD", 1)[1])
    expect("the daemon is what runs", command == ["daemon"] and entry == ["/usr/local/bin/groupcast"], runtime)

    root, state = work / "root", work / "state"
    for folder in ["usr/local/bin", "etc/groupcast", "etc/ssl/certs", "var/lib/groupcast", "proc"]:
        (root / folder).mkdir(parents=True)
    run("strip", "--strip-debug", "-o", root / "usr/local/bin/groupcast", GROUPCAST)
    for line in run("ldd", GROUPCAST).splitlines():
        path = next((word for word in line.split() if word.startswith("/")), None)
        if path is None:
            continue
        name = pathlib.Path(path).name
        prebuilt = name in ("libduckdb.so", "libpystub.so") and "--no-default-features" in FEATURES
        expect(f"the image has {name}", name in IMAGE_LIBRARIES or prebuilt, line)
        (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / path[1:])
    authorities = "etc/ssl/certs/ca-certificates.crt"
    shutil.copy(f"/{authorities}", root / authorities)
    shutil.copytree(REPOSITORY / "examples/duckdb-to-file", root / "etc/groupcast", dirs_exist_ok=True)
    state.mkdir()
    user = runtime["USER"]
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    # Whose the state is, the Dockerfile says apart from whose the process is.
    [owner] = [word.removeprefix("--chown=") for name, rest in instructions for word in rest.split() if word.startswith("--chown=")]
    run(*sudo, "chown", owner, state)

    inside = """
        set -eu
        root=$1 state=$2 user=$3; shift 3
        mount --make-rprivate /
        mount --bind "$root" "$root"
        mount --bind "$state" "$root/var/lib/groupcast"
        mount -t proc proc "$root/proc"
        mount -o remount,bind,ro "$root"
        exec env -i "$@"
    """

    def jailed(*arguments, **given):
        """The program as process 1 of namespaces of its own: that user, no privileges, a read-only root, no /tmp."""
        variables = [f"{name}={value}" for name, value in (set_there | given).items()]
        jail = ["setpriv", "--no-new-privs", "chroot", f"--userspec={user}", f"--groups={user.split(':')[1]}", root]
        outside = [*sudo, "unshare", "--mount", "--pid", "--fork", "sh", "-c", inside, "inside", root, state, user]
        return [*outside, "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *variables, *jail, *entry, *arguments]

    def container(*arguments, code=0, **given):
        return run(*jailed(*arguments, **given), code=code)

    changes = {"GROUPCAST__DESTINATIONS__CHANGES__PATH": "/var/lib/groupcast/changes.ndjson"}
    container("check", "--connect", **changes)
    said = container("run", **changes)
    expect("everything is delivered", "3 delivered" in said, said)
    said = container("run", **changes)
    expect("nothing is sent again", "nothing sent" in said, said)
    container(*health[1:], **changes)
    written = sorted(file.name for file in state.iterdir())
    # The ledger with its mark of how new it is, and the folder that DuckDB spills to.
    ours = ["changes.ndjson", "ledger.duckdb", "ledger.duckdb.generation", "spill"]
    expect("only the ledger and the changes are written", written == ours, written)
    owners = {f"{file.stat().st_uid}:{file.stat().st_gid}" for file in state.iterdir()}
    expect("by that user", owners == {user}, owners)
    served(jailed, container, command, health, changes)
    expect("the daemon's address is taken away", not (state / "ledger.duckdb.daemon").exists())
    # HTTPS finds the authorities: it gets as far as a port where nobody listens.
    settings = root / "etc/groupcast/groupcast.toml"
    settings.write_text("".join(line for line in settings.open() if not line.startswith("path =")))
    amplitude = {"TYPE": "amplitude", "API_KEY": "0123456789abcdef", "BASE_URL": "https://127.0.0.1:9", "ATTEMPTS_MAX": "1"}
    elsewhere = {f"GROUPCAST__DESTINATIONS__CHANGES__{name}": value for name, value in amplitude.items()}
    said = container("run", "--full", code=1, **elsewhere, GROUPCAST__STATE__PATH="/var/lib/groupcast/other.duckdb")
    expect("HTTPS gets as far as connecting", "refused" in said and "no HTTPS" not in said, said)
    # Or the folder could not be removed.
    run(*sudo, "chown", "-R", os.getuid(), state)


def served(jailed, container, command, health, changes):
    """The image's daemon: ready, queried by the health check and by the dbt hook, stopped."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    token = SECRETS["GROUPCAST_TOKEN"]
    given = changes | {"GROUPCAST__DAEMON__LISTEN": listen, "GROUPCAST__DAEMON__TOKEN": token}
    words = [str(word) for word in jailed(*command, **given)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as daemon:
        try:
            for _ in range(100):
                try:
                    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://{listen}/readyz", timeout=5):
                        break
                except OSError:
                    time.sleep(0.1)
            said = container(*health[1:], **given)
            expect("the health check queries the daemon", f"http://{listen}" in said, said)
            hook = environment(GROUPCAST_TOKEN=token, GROUPCAST_URL=f"http://{listen}", no_proxy="127.0.0.1")
            said = run(DEPLOY / "dbt/groupcast-sync.sh", "accounts", env=hook)
            expect("the daemon takes the hook's run", f"accounts: started, http://{listen}/api/v1/runs/" in said, said)
            # Process 1 of the container is the child of what made its namespaces.
            first = run("pgrep", "-P", str(daemon.pid)).strip()
            run("kill", "-TERM", first)
            said, _ = daemon.communicate(timeout=60)
        finally:
            daemon.kill()
    expect("it stops", daemon.returncode == 0 and said.rstrip().endswith("stopped"), said)
    expect("the token is not shown", token not in said, said)


PARTS = [
    (schemas, f"manifests (Kubernetes {' and '.join(KUBERNETES)}), compose file, workflow, Dockerfile, scripts"),
    (units, "systemd units and timer"),
    (mounted_config, "the config folder as a ConfigMap is mounted"),
    (workflow_runs, "the workflow's steps on pull requests of six kinds"),
    (dbt_hook, "the dbt hook against a server that answers as the daemon does"),
    (orchestrators, "the examples for Airflow, Dagster, Prefect and cron, over a daemon: their results, links and failures"),
    (build_stage, "the Dockerfile's build stage has all the sources it needs"),
    (runtime_stage, "the Dockerfile's runtime stage: its user, a read-only root, the image's libraries only; its daemon"),
]

with tempfile.TemporaryDirectory(prefix="groupcast-deploy-") as made:
    for check, title in PARTS:
        here = pathlib.Path(made) / check.__name__
        here.mkdir()
        check(here)
        print(f"ok: {title}", flush=True)
