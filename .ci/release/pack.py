#!/usr/bin/env python3
"""Makes what a release is made of from a built program: `make release`, or

    .ci/release/pack.py PROGRAM OUT [--only KIND,…] [--version VERSION] [--fast]

The kinds are tarball, deb, wheel and image; without `--only` all of them, the list of components, and SHA256SUMS. The program may
have DuckDB compiled in or bring it as libduckdb.so, and may be another processor's: then it writes its man pages and completions under
qemu, over the image's libraries. The same program and the same SOURCE_DATE_EPOCH (the last commit's time where
it is not set) give the same bytes; only the image's base changes, when Debian updates one of its packages.
"""

import argparse
import datetime
import functools
import json
import os
import pathlib
import shutil
import tempfile

import archive
import deb
import image
import inventory
import program
import wheel

REPOSITORY = inventory.REPOSITORY
COMPLETIONS = {
    "bash": "share/bash-completion/completions/groupcast",
    "zsh": "share/zsh/site-functions/_groupcast",
    "fish": "share/fish/vendor_completions.d/groupcast.fish",
}


class Release:
    """What every package is made from: a folder with `bin`, `lib` and `share`, and what is known of the program."""

    def __init__(self, built, work, version, fast):
        self.fast = fast
        self.epoch = epoch()
        self.machine, self.debian_machine = program.machine(built)
        self.tree = work / "tree"
        path = program.bring(built, self.tree)
        self.bundled = not (self.tree / "lib").exists()
        self.command = [*program.emulated(self.machine, self.base), path] if program.foreign(self.machine) else [path]
        self.version = version or program.run(*self.command, "--version").split()[-1]
        parts = [path, *sorted((self.tree / "lib").rglob("*.so"))]
        self.glibc = max(program.newest(part, "GLIBC") for part in parts)
        self._documents()
        self._helpers()

    @functools.cached_property
    def base(self):
        """The root folder of the image's first layer: libraries of that processor."""
        return image.base(self.debian_machine, self.tree.parent / "image")

    def _documents(self):
        folder = self.tree / "share/doc/groupcast"
        folder.mkdir(parents=True)
        for name in ["README.md", "CHANGELOG.md", "LICENSE"]:
            shutil.copyfile(REPOSITORY / name, folder / name)
        crates = inventory.Crates(f"{self.machine}-unknown-linux-gnu", self.bundled)
        self.summary, self.keywords = crates.root["description"], crates.root["keywords"]
        (folder / "THIRD-PARTY-LICENSES.txt").write_text(inventory.licences(crates))
        library = None if self.bundled else self.tree / "lib/groupcast/libduckdb.so"
        time = datetime.datetime.fromtimestamp(self.epoch, datetime.timezone.utc)
        listed = inventory.components(crates, self.version, time, library)
        (folder / "sbom.cdx.json").write_text(json.dumps(listed, indent=1) + "\n")

    def _helpers(self):
        for shell, name in COMPLETIONS.items():
            (self.tree / name).parent.mkdir(parents=True)
            (self.tree / name).write_text(program.run(*self.command, "completions", shell))
        program.run(*self.command, "man", self.tree / "share/man/man1")


def epoch():
    given = os.environ.get("SOURCE_DATE_EPOCH")
    return int(given or program.run("git", "log", "-1", "--format=%ct", cwd=REPOSITORY))


def tarball(release, out):
    """Unpacked below /usr/local (`tar --strip-components 1`), every file is where it belongs."""
    name = f"groupcast-{release.version}-{release.machine}-unknown-linux-gnu"
    path = out / f"{name}.tar.gz"
    content = archive.tar(release.tree, release.epoch, prefix=f"{name}/")
    path.write_bytes(archive.zipped(content, release.fast))
    return path


def components(release, out):
    path = out / f"groupcast-{release.version}-{release.machine}.cdx.json"
    shutil.copyfile(release.tree / "share/doc/groupcast/sbom.cdx.json", path)
    return path


KINDS = {"tarball": tarball, "deb": deb.build, "wheel": wheel.build, "image": image.build, "components": components}


def main():
    parser = argparse.ArgumentParser(description="Makes the packages of a release from a built program.")
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(KINDS), metavar="KIND,…")
    parser.add_argument("--version", help="instead of the program's own, for tests of an upgrade")
    parser.add_argument("--fast", action="store_true", help="compress less, for tests")
    options = parser.parse_args()
    unknown = [kind for kind in options.only if kind not in KINDS]
    if unknown:
        parser.error(f"unknown kind {', '.join(unknown)}: it is one of {', '.join(KINDS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        release = Release(options.program.resolve(), pathlib.Path(work), options.version, options.fast)
        made = [KINDS[kind](release, options.out) for kind in options.only]
    sums = [f"{archive.sha256(path.read_bytes())}  {path.name}\n" for path in sorted(made)]
    (options.out / "SHA256SUMS").write_text("".join(sums))
    for path in made:
        print(f"{path.stat().st_size / 1e6:8.1f} MB  {path}")


if __name__ == "__main__":
    main()
