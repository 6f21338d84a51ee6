"""Does what a release is made of install, and work once installed? Each package in a place of its own, without what built it.

usage: check.py CACHE PROGRAM [DIST]

The packages of another processor are tried under qemu, for which the kernel has to know it (emulated.sh). The commands are the same, but
that outside a root folder the environment names that processor's libraries to qemu, and its platform to Python, whose installers then
choose as they would there.
"""

import hashlib
import json
import os
import pathlib
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
RELEASE = REPOSITORY / ".ci/release"
CACHE = pathlib.Path(sys.argv[1])
PROGRAM = pathlib.Path(sys.argv[2]).resolve()
# Packages of a release run with an old glibc; those of a build for development with that of the machine it was built on.
DIST = pathlib.Path(sys.argv[3]).resolve() if sys.argv[3:] else None
SUITES = {"bullseye": (2, 31), "bookworm": (2, 36), "trixie": (2, 41)}
# What the distributions in use have: RHEL 8 and its C++ library (GCC 8).
GLIBC_MAX, GLIBCXX_MAX = (2, 28), (3, 4, 25)
OLDER = "0.0.9"
# An earlier package's own settings, which an upgrade must leave alone.
SETTINGS = """
[sources.sample]
type = "duckdb"
path = "/var/lib/groupcast/warehouse.duckdb"

[destinations.changes]
type = "file"
path = "/var/lib/groupcast/changes.ndjson"
"""

sys.path.insert(0, str(RELEASE))
import program  # noqa: E402

PROCESSOR, DEBIAN_PROCESSOR = program.machine(PROGRAM)
EMULATED = program.foreign(PROCESSOR)
# What is added to the environment of emulated programs, and of installers.
EMULATION = {}


def run(*command, code=0, **options):
    """Runs a command; fails, showing all it printed, unless it ends with `code`."""
    words = [str(word) for word in command]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode != code:
        sys.exit(f"{shlex.join(words)}\n{done.stdout}\nfailed: exit code {done.returncode} instead of {code}")
    return done.stdout


def expect(what, holds, shown=""):
    if not holds:
        sys.exit(f"{shown}\nfailed: {what}")


def pack(out, *options):
    environment = os.environ | {"SOURCE_DATE_EPOCH": "1790000000"} if "--fast" in options else os.environ
    run(RELEASE / "pack.py", PROGRAM, out, *options, env=environment)
    return out


def one(dist, pattern):
    [found] = dist.glob(pattern)
    return found


def plain(home, path="/usr/bin:/bin"):
    """An environment in which nothing of the build is left."""
    return {"HOME": str(home), "PATH": path, "LANG": "C.UTF-8"} | EMULATION


def used(start, groupcast, work, prefix=(), environment=None):
    """Does what the README's ten minutes do; the seconds from `start` to the first synced group."""
    folder = work / "my-sync"
    options = {"env": environment or plain(work), "cwd": work}
    run(*prefix, groupcast, "init", folder, **options)
    sent = run(*prefix, groupcast, "-C", folder, "run", **options)
    seconds = time.monotonic() - start
    expect("the sample's groups are sent", "300 delivered" in sent, sent)
    run(*prefix, groupcast, "-C", folder, "check", "--connect", **options)
    again = run(*prefix, groupcast, "-C", folder, "run", **options)
    expect("nothing is sent again", "nothing sent" in again, again)
    shown = run(*prefix, groupcast, "-C", folder, "group", "accounts", "acct_0007", **options)
    expect("a group is shown", "acct_0007" in shown, shown)
    return f"{seconds:.1f} s to the first synced group"


def scripts(dist, work):
    files = [RELEASE / "build", RELEASE / "tools", *(RELEASE / "debian").glob("p*"), *(REPOSITORY / "tests/release").glob("*.sh")]
    run("shellcheck", "--external-sources", *files, cwd=REPOSITORY)
    run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *(REPOSITORY / ".github/workflows").glob("*.yml"))


def sums(dist, work):
    listed = dict(reversed(line.split("  ")) for line in (dist / "SHA256SUMS").read_text().splitlines())
    there = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in dist.iterdir() if path.name != "SHA256SUMS"}
    expect("SHA256SUMS lists every file", listed == there, listed)
    run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=dist)


def libraries(dist, work):
    """What the program and its libraries need of the machine they run on."""
    run("tar", "-xzf", one(dist, "*.tar.gz"), "-C", work)
    parts = [*work.glob("*/bin/groupcast"), *work.glob("*/lib/groupcast/*.so")]
    for part in parts:
        glibc, glibcxx = program.newest(part, "GLIBC"), program.newest(part, "GLIBCXX")
        if DIST:
            expect(f"{part.name} runs with glibc 2.28 and GCC 8's C++ library", glibc <= GLIBC_MAX and glibcxx <= GLIBCXX_MAX, (glibc, glibcxx))
        expect("no folder of the build machine is left in it", program.runpath(part) in ("", program.RUNPATH), program.runpath(part))
    if DIST:
        tagged = one(dist, "*.whl").name
        expect("the wheel is named for that glibc", f"manylinux_2_28_{PROCESSOR}" in tagged, tagged)


def reproducible(dist, work):
    kinds = "tarball,deb,wheel,components"
    first = pack(work / "first", "--fast", "--only", kinds)
    # Also by someone who keeps files private.
    os.umask(0o077)
    second = pack(work / "second", "--fast", "--only", kinds)
    os.umask(0o022)
    expect("packed twice, the bytes are the same", (first / "SHA256SUMS").read_text() == (second / "SHA256SUMS").read_text())


def components(dist, work):
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = one(dist, "*.cdx.json").read_text()
    wrong = JsonStrictValidator(SchemaVersion.V1_5).validate_str(text)
    expect("the list of components is valid CycloneDX", wrong is None, wrong)
    listed = json.loads(text)
    names = {component["name"] for component in listed["components"]}
    expect("it has what the program is made of", {"duckdb", "tokio", "rustls", "clap"} <= names, names)
    expect("it has nothing that only tests need", not {"proptest", "rcgen", "insta"} & names, names)
    refs = {component["bom-ref"] for component in listed["components"]} | {listed["metadata"]["component"]["bom-ref"]}
    pairs = {ref for entry in listed["dependencies"] for ref in [entry["ref"], *entry["dependsOn"]]}
    expect("every dependency is listed", pairs == refs, pairs ^ refs)
    lacking = [component["name"] for component in listed["components"] if "NOASSERTION" in json.dumps(component["licenses"])]
    expect("every component has a licence", not lacking, lacking)
    run("tar", "-xzf", one(dist, "*.tar.gz"), "-C", work)
    texts = one(work, "*/share/doc/groupcast/THIRD-PARTY-LICENSES.txt").read_text()
    expect("and its text is there", texts.count("Permission is hereby granted") > 50 and "Stichting DuckDB" in texts)


def tarball(dist, work):
    prefix = work / "prefix"
    prefix.mkdir()
    start = time.monotonic()
    run("tar", "-xzf", one(dist, "*.tar.gz"), "-C", prefix, "--strip-components", "1")
    took = used(start, prefix / "bin/groupcast", work)
    # A link elsewhere finds the libraries too.
    (work / "linked").symlink_to(prefix / "bin/groupcast")
    run(work / "linked", "--version", env=plain(work))
    pages = sorted(path.name for path in (prefix / "share/man/man1").iterdir())
    expect("there are man pages", {"groupcast.1", "groupcast-run.1", "groupcast-ledger-adopt.1"} <= set(pages), pages)
    for page in pages:
        warned = run("man", "--warnings", "-l", "-P", "cat", prefix / "share/man/man1" / page, env=plain(work) | {"MANWIDTH": "80"})
        expect(f"{page} is set without warnings", ": warning" not in warned and "NAME" in warned, warned)
    completed = run("bash", "-c", f". {prefix}/share/bash-completion/completions/groupcast; complete -p groupcast")
    expect("bash completes", "groupcast" in completed, completed)
    return took


def wheel(dist, work):
    path = one(dist, "*.whl")
    tag = path.stem.split("-")[-1]
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-index", "--no-deps", "--only-binary=:all:", "--find-links", dist]
    download += ["--dest", work / "download", "groupcast", "--platform"]
    run(*download, tag)
    expect("pip takes it for its platform", (work / "download" / path.name).is_file())
    [(other, _)] = [names for names in program.MACHINES.values() if names[0] != PROCESSOR]
    run(*download, tag.replace(PROCESSOR, other), code=1)
    took = {}
    start = time.monotonic()
    run(sys.executable, "-m", "venv", work / "venv")
    install = ["install", "--quiet", "--no-index", "--disable-pip-version-check", path]
    run(work / "venv/bin/pip", *install, env=plain(work))
    (work / "pip").mkdir()
    took["pip"] = used(start, work / "venv/bin/groupcast", work / "pip")
    expect("the libraries are the environment's", program.runpath(work / "venv/bin/groupcast") in ("", program.RUNPATH))
    expect("man pages and completions come along", (work / "venv/share/man/man1/groupcast.1").is_file())
    run(work / "venv/bin/pip", "uninstall", "--quiet", "--yes", "groupcast", env=plain(work))
    left = [path for path in (work / "venv").rglob("*groupcast*") if path.is_file()]
    expect("uninstalled, nothing is left", not left, left)

    with_python = plain(work, f"{pathlib.Path(sys.executable).parent}:/usr/bin:/bin") | {"UV_OFFLINE": "1", "UV_PYTHON": sys.executable}
    start = time.monotonic()
    (work / "uvx").mkdir()
    # With `uvx` every command starts like this, from uv's cache.
    took["uvx"] = used(start, "groupcast", work / "uvx", prefix=["uvx", "--from", path], environment=with_python)
    start = time.monotonic()
    run("uv", "tool", "install", path, env=with_python)
    (work / "uv").mkdir()
    took["uv tool"] = used(start, work / ".local/bin/groupcast", work / "uv")
    run("uv", "tool", "uninstall", "groupcast", env=with_python)
    start = time.monotonic()
    # pipx asks the registry for a newer pip unless it is told not to.
    run("pipx", "install", "--pip-args=--no-index", path, env=with_python | {"PIP_NO_INDEX": "1"})
    (work / "pipx").mkdir()
    took["pipx"] = used(start, work / ".local/bin/groupcast", work / "pipx")
    return ", ".join(f"{name}: {seconds}" for name, seconds in took.items())


def machine(suite, work):
    """The root folder of a fresh Debian, as an administrator finds it, but for what the package depends on."""
    name = f"{suite}-{DEBIAN_PROCESSOR}" if EMULATED else suite
    kept = CACHE / f"{name}.tar"
    if not kept.exists():
        part = CACHE / f"{name}.part.tar"
        # In a user namespace /sys cannot be mounted, and no package needs it.
        options = ["--quiet", "--variant=apt", "--skip=chroot/mount/sys", f"--architectures={DEBIAN_PROCESSOR}"]
        run("mmdebstrap", *options, "--include=adduser,ca-certificates,init-system-helpers,libstdc++6", suite, part)
        part.rename(kept)
    root = work / suite
    root.mkdir()
    # The machine's own /dev is mounted there.
    run("tar", "-xf", kept, "-C", root, "--exclude=./dev/*")
    # The tools that are tested say nothing of it, and a machine has it.
    run("chmod", "755", root)
    return root


class Machine:
    """Commands in a root folder, as processes of their own namespaces."""

    def __init__(self, root):
        self.root = root

    def run(self, *command, user=None, code=0, **given):
        inside = 'mount --make-rprivate / && mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && root=$1 && shift && exec env -i "$@"'
        variables = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "DEBIAN_FRONTEND=noninteractive", "LANG=C.UTF-8"]
        variables += [f"{name}={value}" for name, value in given.items()]
        as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
        jail = ["chroot", self.root, *as_user]
        return run("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", inside, "inside", self.root, *variables, *jail, *command, code=code)

    def put(self, path):
        shutil.copy(path, self.root / "tmp" / path.name)
        return f"/tmp/{path.name}"


def deb(dist, work):
    older = one(pack(work / "older", "--fast", "--only", "deb", "--version", OLDER), "*.deb")
    took = {}
    glibc = program.newest(PROGRAM, "GLIBC")
    fitting = [suite for suite, its in SUITES.items() if DIST or glibc <= its]
    for suite in fitting if DIST else fitting[:1]:
        took[suite] = deb_on(suite, Machine(machine(suite, work)), older, one(dist, "*.deb"))
    return ", ".join(f"{name}: {seconds}" for name, seconds in took.items())


def deb_on(suite, there, older, newer):
    root = there.root
    newer, older = there.put(newer), there.put(older)
    # GIVEN a machine with the package WHEN its sample is run THEN it works at once
    start = time.monotonic()
    there.run("dpkg", "--install", newer)
    there.run("groupcast", "init", "/root/my-sync")
    there.run("groupcast", "-C", "/root/my-sync", "run")
    seconds = time.monotonic() - start
    there.run("apt-get", "purge", "--yes", "groupcast")

    # GIVEN an older package with settings, secrets, a mapping and a ledger of its administrator
    there.run("dpkg", "--install", older)
    expect("the older version is there", OLDER in there.run("dpkg-query", "--show", "groupcast"))
    config, state = root / "etc/groupcast", root / "var/lib/groupcast"
    user = there.run("id", "-u", "groupcast").strip()
    about = state.stat()
    expect("the state is the user's alone", (str(about.st_uid), about.st_mode & 0o777) == (user, 0o700), about)
    expect("secrets are root's alone", ((config / "secrets.env").stat().st_mode & 0o777, (config / "secrets.env").stat().st_uid) == (0o600, 0))
    expect("no one logs in as it", there.run("getent", "passwd", "groupcast").strip().endswith("nologin"))
    there.run("groupcast", "init", "/tmp/sample")
    shutil.move(root / "tmp/sample/warehouse.duckdb", state / "warehouse.duckdb")
    os.chown(state / "warehouse.duckdb", int(user), int(user))
    mapping = (root / "tmp/sample/mappings/accounts.toml").read_text()
    mapping = re.sub(r'(?m)^source = .*$', 'source = "sample"', re.sub(r'(?m)^destination = .*$', 'destination = "changes"', mapping))
    (config / "mappings/accounts.toml").write_text(mapping)
    (config / "groupcast.toml").write_text((config / "groupcast.toml").read_text() + SETTINGS)
    (config / "secrets.env").write_text("WAREHOUSE_URL=postgres://reader@localhost/none\n")
    ours = {path: path.read_bytes() for path in [config / "groupcast.toml", config / "secrets.env", config / "mappings/accounts.toml"]}
    there.run("groupcast", "check", "--connect", user="groupcast", GROUPCAST_FOLDER="/etc/groupcast")
    sent = there.run("groupcast", "run", user="groupcast", GROUPCAST_FOLDER="/etc/groupcast")
    expect("the sample's groups are sent", "300 delivered" in sent, sent)
    # WHEN it is upgraded THEN config and ledger stay
    there.run("dpkg", "--install", newer)
    expect("the newer version is there", OLDER not in there.run("dpkg-query", "--show", "groupcast"))
    changed = [str(path) for path, content in ours.items() if path.read_bytes() != content]
    expect("the config stays as it was", not changed, changed)
    again = there.run("groupcast", "-C", "/etc/groupcast", "run", user="groupcast")
    expect("nothing is sent again", "nothing sent" in again, again)
    expect("dpkg finds every file as it was packed", there.run("dpkg", "--verify", "groupcast").replace("??5?????? c /etc/groupcast/groupcast.toml", "").replace("??5?????? c /etc/groupcast/secrets.env", "").strip() == "")
    # What the service runs, as the service's variables have it.
    unit = (root / "usr/lib/systemd/system/groupcast.service").read_text()
    started = re.search(r"(?m)^ExecStart=(\S+) (\S+)$", unit)
    expect("the unit starts what is installed", (root / started[1].lstrip("/")).is_file() and started[2] == "daemon", unit)
    variables = dict(re.findall(r"(?m)^Environment=(\w+)=(.*)$", unit))
    there.run(started[1], "status", user="groupcast", **variables)
    # WHEN it is removed THEN config and ledger stay, WHEN purged only what its administrator wrote
    there.run("apt-get", "remove", "--yes", "groupcast")
    expect("removed, config and ledger stay", (config / "groupcast.toml").exists() and (state / "ledger.duckdb").exists())
    there.run("apt-get", "purge", "--yes", "groupcast")
    left = [str(path.relative_to(root)) for path in [*config.rglob("*"), *state.rglob("*"), *root.glob("usr/*/groupcast*"), *root.glob("usr/share/*/groupcast*")]]
    expect("purged, only the mapping is left", sorted(left) == ["etc/groupcast/mappings", "etc/groupcast/mappings/accounts.toml"], left)
    expect("its user is gone", "groupcast" not in (root / "etc/passwd").read_text())
    return f"{seconds:.1f} s to the first synced group"


# What Debian asks of its own packages, and why this one is another matter.
ACCEPTED = {
    "initial-upload-closes-no-bugs": "it is not uploaded to Debian",
    "non-standard-file-perm": "secrets.env is root's alone",
    "shared-library-lacks-prerequisites": "libpystub.so is only names (.ci/env)",
    "unstripped-binary-or-object": "without debugging information, but with the names that a backtrace shows",
}


def lint(dist, work):
    found = subprocess.run(["lintian", "--tag-display-limit", "0", one(dist, "*.deb")], stdout=subprocess.PIPE, text=True).stdout
    lines = [line for line in found.splitlines() if line[:2] in ("E:", "W:")]
    wrong = [line for line in lines if line.split()[2] not in ACCEPTED]
    expect("lintian finds nothing that is not accepted", not wrong, "\n".join(wrong))


def image(dist, work):
    """Unpacked by a tool that others use, and run as a container engine would: that user, a read-only root, no privileges."""
    archived = one(dist, "*.oci.tar")
    layout = work / "layout"
    run("skopeo", "copy", f"oci-archive:{archived}", f"oci:{layout}:test")
    # Raw: OCI has no health check, but Docker reads it from there.
    described = json.loads(run("skopeo", "inspect", "--config", "--raw", f"oci:{layout}:test"))
    config = described["config"]
    expect("it is for the program's processor", described["architecture"] == DEBIAN_PROCESSOR, described)
    expect("it is nobody's in particular", config["User"] == "65532:65532" and config["Cmd"] == ["daemon"], config)
    run("umoci", "unpack", "--image", f"{layout}:test", work / "bundle")
    root = work / "bundle/rootfs"
    owner = (root / "var/lib/groupcast").stat()
    expect("the state is that user's", (owner.st_uid, owner.st_gid) == (65532, 65532), owner)
    shells = [str(path) for path in root.rglob("*") if path.name in ("sh", "bash", "dash", "busybox") and path.is_file()]
    expect("there is no shell", not shells, shells)
    packages = sorted(path.name for path in (root / "var/lib/dpkg/status.d").iterdir())
    expect("scanners find its packages", {"libc6", "libstdc++6", "ca-certificates"} <= set(packages), packages)
    shutil.copytree(REPOSITORY / "examples/duckdb-to-file", root / "etc/groupcast", dirs_exist_ok=True)
    state = work / "state"
    state.mkdir()
    os.chown(state, 65532, 65532)
    inside = """
        mount --make-rprivate / && mount --bind "$1" "$1" && mount --bind "$2" "$1/var/lib/groupcast" &&
        mount -t proc proc "$1/proc" && mount -o remount,bind,ro "$1" && shift 2 && exec env -i "$@"
    """

    def words(*arguments, **given):
        variables = [*config["Env"], *(f"{name}={value}" for name, value in given.items())]
        jail = ["setpriv", "--no-new-privs", "chroot", "--userspec=65532:65532", "--groups=65532", root, *config["Entrypoint"]]
        outside = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", inside, "inside", root, state]
        return [str(word) for word in [*outside, *variables, *jail, *arguments]]

    changes = {"GROUPCAST__DESTINATIONS__CHANGES__PATH": "/var/lib/groupcast/changes.ndjson"}
    run(*words("check", "--connect", **changes))
    sent = run(*words("run", **changes))
    expect("everything is sent", "3 delivered" in sent, sent)
    expect("nothing is sent again", "nothing sent" in run(*words("run", **changes)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    given = changes | {"GROUPCAST__DAEMON__LISTEN": listen}
    with subprocess.Popen(words(*config["Cmd"], **given), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as daemon:
        try:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            for _ in range(600 if EMULATED else 100):
                try:
                    opener.open(f"http://{listen}/readyz", timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.1)
            expect("the health check is a command of the program", config["Healthcheck"]["Test"][:2] == ["CMD", config["Entrypoint"][0]])
            healthy = run(*words(*config["Healthcheck"]["Test"][2:], **given))
            expect("the health check reaches the daemon", f"http://{listen}" in healthy, healthy)
            run("kill", "-TERM", run("pgrep", "-P", str(daemon.pid)).strip())
            shown, _ = daemon.communicate(timeout=60)
        finally:
            daemon.kill()
    expect("it stops", daemon.returncode == 0 and shown.rstrip().endswith("stopped"), shown)
    # HTTPS finds the authorities: it gets as far as a port where nothing listens.
    settings = root / "etc/groupcast/groupcast.toml"
    settings.write_text("".join(line for line in settings.open() if not line.startswith("path =")))
    amplitude = {"TYPE": "amplitude", "API_KEY": "0123456789abcdef", "BASE_URL": "https://127.0.0.1:9", "ATTEMPTS_MAX": "1"}
    elsewhere = {f"GROUPCAST__DESTINATIONS__CHANGES__{name}": value for name, value in amplitude.items()}
    failed = run(*words("run", "--full", **elsewhere, GROUPCAST__STATE__PATH="/var/lib/groupcast/other.duckdb"), code=1)
    expect("HTTPS gets as far as connecting", "refused" in failed and "no HTTPS" not in failed, failed)


PARTS = [
    (scripts, "scripts and workflow"),
    (sums, "checksums"),
    (libraries, "the libraries that are needed"),
    (reproducible, "packed twice: the same bytes"),
    (components, "list of components, licences"),
    (tarball, "tarball: unpacked and used, man pages, completions"),
    (wheel, "wheel: installed and used"),
    (lint, "Debian package: lintian"),
    (deb, "Debian package: installed, used, upgraded, purged"),
    (image, "image: unpacked, run as its user, read-only, with its health check"),
]


def emulate(work):
    """Prepares for packages of another processor, and shows what that means for what follows."""
    qemu = program.emulated(PROCESSOR, "/")[0]
    EMULATION["QEMU_LD_PREFIX"] = str(machine(next(iter(SUITES)), work))
    EMULATION["_PYTHON_HOST_PLATFORM"] = f"linux-{PROCESSOR}"
    version = run(qemu, "--version").splitlines()[0]
    print(f"packages for {PROCESSOR} on {os.uname().machine}, emulated by {version}", flush=True)


def main():
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        work.chmod(0o755)
        dist = DIST or pack(work / "dist", "--fast")
        if EMULATED:
            emulate(work)
        for number, (part, what) in enumerate(PARTS):
            folder = work / str(number)
            folder.mkdir()
            start = time.monotonic()
            remark = part(dist, folder)
            print(f"ok: {what} ({time.monotonic() - start:.0f} s){': ' + remark if remark else ''}", flush=True)
    if EMULATED:
        print(f"not tried: a processor of that kind, its kernel, and how long things take there; the Python of {PROCESSOR}")


if __name__ == "__main__":
    main()
