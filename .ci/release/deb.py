"""A Debian package: the program, its service with a user of its own, and a config folder that upgrades leave alone."""

import email.utils
import gzip
import hashlib
import os
import pathlib
import shutil
import subprocess

import archive
from inventory import REPOSITORY

HERE = pathlib.Path(__file__).parent / "debian"
MAINTAINER = "Groupcast contributors <noreply@groupcast.invalid>"

CONTROL = """\
Package: groupcast
Version: {version}
Architecture: {architecture}
Maintainer: {maintainer}
Installed-Size: {size}
Depends: adduser, ca-certificates, libc6 (>= {glibc}), libgcc-s1 | libgcc1, libstdc++6 (>= 8)
Section: database
Priority: optional
Description: keeps account traits of product tools equal to a warehouse
 Groupcast reads account rows from PostgreSQL, DuckDB, files and other
 warehouses, compares them with what each product tool acknowledged, and
 sends only the traits that changed. It shows what it will send before it
 does, and keeps a history of every trait it sent.
"""

CHANGELOG = """\
groupcast ({version}) unstable; urgency=medium

  * Release {upstream}: see changelog.gz.

 -- {maintainer}  {date}
"""


def debian_version(version):
    """`1.2.0-rc.1` comes before `1.2.0`."""
    return version.replace("-", "~") + "-1"


def build(release, out):
    version = debian_version(release.version)
    root = release.tree.parent / "deb"
    control = root / "DEBIAN"
    control.mkdir(parents=True)
    _program(release, root)
    _documents(release, root, version)
    _service(root)
    _config(root)
    for path in [root, *archive.entries(root)]:
        if not path.is_symlink():
            path.chmod(archive.mode(path))
            # dpkg-deb only makes times older: those of the checkout would stay.
            os.utime(path, (release.epoch, release.epoch))
    # systemd reads it before it becomes the service's user.
    (root / "etc/groupcast/secrets.env").chmod(0o600)

    files = [path for path in archive.entries(root) if path.is_file() and control not in path.parents]
    size = sum(-(-path.stat().st_size // 1024) for path in files)
    texts = {
        "control": CONTROL.format(
            version=version,
            architecture=release.debian_machine,
            maintainer=MAINTAINER,
            size=size,
            glibc=".".join(map(str, release.glibc)),
        ),
        "conffiles": "".join(f"/{path.relative_to(root)}\n" for path in files if root / "etc" in path.parents),
        "md5sums": "".join(
            f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(root)}\n" for path in files if root / "etc" not in path.parents
        ),
    }
    for name, text in texts.items():
        (control / name).write_text(text)
        (control / name).chmod(0o644)
    for name in ["postinst", "prerm", "postrm"]:
        shutil.copyfile(HERE / name, control / name)
        (control / name).chmod(0o755)
    package = out / f"groupcast_{version}_{release.debian_machine}.deb"
    # Debian 11 does not read zstd yet.
    pressed = ["-Zgzip", "-z1"] if release.fast else ["-Zxz"]
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(release.epoch)}
    command = ["dpkg-deb", "--root-owner-group", *pressed, "--build", root, package]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return package


def _program(release, root):
    usr = root / "usr"
    for top in ["bin", "lib", "share/bash-completion", "share/fish"]:
        if (release.tree / top).exists():
            shutil.copytree(release.tree / top, usr / top)
    shutil.copytree(release.tree / "share/zsh/site-functions", usr / "share/zsh/vendor-completions")
    for page in sorted((release.tree / "share/man/man1").iterdir()):
        _zipped(page.read_bytes(), usr / "share/man/man1" / f"{page.name}.gz")


def _documents(release, root, version):
    documents, folder = release.tree / "share/doc/groupcast", root / "usr/share/doc/groupcast"
    folder.mkdir(parents=True)
    shutil.copyfile(HERE / "copyright", folder / "copyright")
    date = email.utils.formatdate(release.epoch)
    text = CHANGELOG.format(version=version, upstream=release.version, maintainer=MAINTAINER, date=date)
    _zipped(text.encode(), folder / "changelog.Debian.gz")
    _zipped((documents / "CHANGELOG.md").read_bytes(), folder / "changelog.gz")
    for name in ["README.md", "THIRD-PARTY-LICENSES.txt", "sbom.cdx.json"]:
        _zipped((documents / name).read_bytes(), folder / f"{name}.gz")
    shutil.copytree(REPOSITORY / "examples/deploy/config", folder / "examples/config")
    shutil.copytree(REPOSITORY / "mappings", folder / "examples/mappings")


def _service(root):
    folder = root / "usr/lib/systemd/system"
    folder.mkdir(parents=True)
    for unit in (REPOSITORY / "examples/deploy/systemd").iterdir():
        (folder / unit.name).write_text(unit.read_text().replace("/usr/local/bin/groupcast", "/usr/bin/groupcast"))


def _config(root):
    folder = root / "etc/groupcast"
    (folder / "mappings").mkdir(parents=True)
    for name in ["groupcast.toml", "secrets.env"]:
        shutil.copyfile(HERE / name, folder / name)


def _zipped(content, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, mtime=0))
