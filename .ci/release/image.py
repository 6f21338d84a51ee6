"""An OCI image, without a container engine: the libraries and certificates of Debian 12 as one layer, the program as another.

What it runs as, and what is set there, is read from the Dockerfile in examples/deploy, so that both are one image. The base is made
as the distroless images are: packages are unpacked, nothing of them is run, and scanners find them in /var/lib/dpkg/status.d. Needs
`mmdebstrap`, and `debian-archive-keyring` where the machine is not Debian's.
"""

import datetime
import json
import re
import shutil
import subprocess
import tarfile

import archive
from inventory import REPOSITORY
from program import run

DOCKERFILE = REPOSITORY / "examples/deploy/docker/Dockerfile"
SUITE = "bookworm"
# Time zones are compiled into the program.
PACKAGES = ["base-files", "ca-certificates", "gcc-12-base", "libc6", "libgcc-s1", "libstdc++6"]
# What only those read who log in, or convert encodings by the C library.
SPARED = ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian", "usr/share/bug", "usr/lib/*/gconv"]
DURATIONS = {"s": 10**9, "m": 60 * 10**9}
STATE = "var/lib/groupcast"


def runtime():
    """The instructions of the Dockerfile's last stage, continuation lines joined."""
    lines = (line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#"))
    joined = "\n".join(lines).replace("\\\n", " ")
    instructions = [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]
    last = max(index for index, (name, _) in enumerate(instructions) if name == "FROM")
    return dict(instructions[last:])


def nanoseconds(text):
    return int(text[:-1]) * DURATIONS[text[-1]]


def config(stage):
    """The image's config, by the names that OCI (and Docker, for the health check) has for it."""
    options, command = stage["HEALTHCHECK"].split("CMD", 1)
    durations = dict(re.findall(r"--([a-z-]+)=(\S+)", options))
    return {
        "User": stage["USER"],
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", *stage["ENV"].split()],
        "Entrypoint": json.loads(stage["ENTRYPOINT"]),
        "Cmd": json.loads(stage["CMD"]),
        "ExposedPorts": {f"{stage['EXPOSE']}/tcp": {}},
        "Volumes": {stage["VOLUME"]: {}},
        "Healthcheck": {
            "Test": ["CMD", *json.loads(command)],
            "Interval": nanoseconds(durations["interval"]),
            "Timeout": nanoseconds(durations["timeout"]),
            "StartPeriod": nanoseconds(durations["start-period"]),
        },
    }


def base(debian_machine, work):
    """The root folder of the first layer, below a folder that is made for it."""
    work.mkdir()
    fetched, root, status = work / "fetched.tar", work / "base", work / "base/var/lib/dpkg/status.d"
    options = ["--quiet", "--variant=extract", "--skip=cleanup", f"--architectures={debian_machine}"]
    # A tar, because a folder would take root.
    subprocess.run(["mmdebstrap", *options, f"--include={','.join(PACKAGES)}", SUITE, fetched], check=True)
    status.mkdir(parents=True)
    with tarfile.open(fetched) as archives:
        for about in archives:
            package = re.fullmatch(r"\./var/cache/apt/archives/([^_/]+)_[^/]+\.deb", about.name)
            if package and package[1] in PACKAGES:
                deb = work / "package.deb"
                deb.write_bytes(archives.extractfile(about).read())
                subprocess.run(["dpkg-deb", "--extract", deb, root], check=True)
                (status / package[1]).write_text(run("dpkg-deb", "--field", deb))
    missing = set(PACKAGES) - {path.name for path in status.iterdir()}
    if missing:
        raise SystemExit(f"mmdebstrap did not fetch {', '.join(sorted(missing))}")
    for folder in (found for pattern in SPARED for found in root.glob(pattern)):
        _without(folder)
    _authorities(root)
    _user(root)
    for folder in ["proc", "sys", "dev", "etc/groupcast"]:
        (root / folder).mkdir(parents=True, exist_ok=True)
    return root


def _without(folder):
    """Removes a folder, but for the licences that must travel with what they are about."""
    for path in reversed(archive.entries(folder)):
        if path.name == "copyright":
            continue
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        else:
            path.unlink()


def _authorities(root):
    """The one file of all certificates, which the package's script would write."""
    certificates = sorted((root / "usr/share/ca-certificates").rglob("*.crt"))
    target = root / "etc/ssl/certs/ca-certificates.crt"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(path.read_text().rstrip("\n") + "\n" for path in certificates))


def _user(root):
    """Names for the numbers of root and of the image's user."""
    user, group = runtime()["USER"].split(":")
    (root / "etc/passwd").write_text(f"root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:{user}:{group}:nonroot:/{STATE}:/sbin/nologin\n")
    (root / "etc/group").write_text(f"root:x:0:\nnonroot:x:{group}:\n")
    (root / "etc/nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")


def program_layer(release, work):
    root = work / "layer"
    for top in ["bin", "lib"]:
        if (release.tree / top).exists():
            shutil.copytree(release.tree / top, root / "usr/local" / top)
    documents = root / "usr/local/share/doc/groupcast"
    documents.mkdir(parents=True)
    for name in ["LICENSE", "THIRD-PARTY-LICENSES.txt", "sbom.cdx.json"]:
        shutil.copyfile(release.tree / "share/doc/groupcast" / name, documents / name)
    # A volume that is mounted here for the first time gets this owner.
    (root / STATE).mkdir(parents=True)
    return root


def build(release, out):
    base_folder = release.base
    work = base_folder.parent
    stage = runtime()
    owner = int(stage["USER"].split(":")[0])
    layers = [archive.tar(base_folder, release.epoch)]
    layers.append(archive.tar(program_layer(release, work), release.epoch, owners={STATE: owner}))
    zipped = [archive.zipped(layer, release.fast) for layer in layers]
    created = datetime.datetime.fromtimestamp(release.epoch, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    labels = {
        "org.opencontainers.image.title": "groupcast",
        "org.opencontainers.image.version": release.version,
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.description": release.summary,
    }
    described = {
        "created": created,
        "architecture": release.debian_machine,
        "os": "linux",
        "config": config(stage) | {"Labels": labels},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{archive.sha256(layer)}" for layer in layers]},
        "history": [
            {"created": created, "created_by": f"packages of Debian {SUITE}"},
            {"created": created, "created_by": f"groupcast {release.version}"},
        ],
    }
    layout = work / "layout"
    (layout / "blobs/sha256").mkdir(parents=True)

    def blob(kind, content):
        digest = archive.sha256(content)
        (layout / "blobs/sha256" / digest).write_bytes(content)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob("config.v1+json", json.dumps(described).encode()),
        "layers": [blob("layer.v1.tar+gzip", layer) for layer in zipped],
        "annotations": labels,
    }
    index = blob("manifest.v1+json", json.dumps(manifest).encode())
    index["platform"] = {"architecture": release.debian_machine, "os": "linux"}
    index["annotations"] = {"org.opencontainers.image.ref.name": release.version}
    (layout / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [index]}))
    path = out / f"groupcast-{release.version}-{release.debian_machine}.oci.tar"
    path.write_bytes(archive.tar(layout, release.epoch))
    return path
