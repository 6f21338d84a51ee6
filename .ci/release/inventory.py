"""What the program is made of, from `cargo metadata`: a list of components (CycloneDX), and their licences."""

import json
import pathlib
import re
import uuid

from archive import sha256
from program import run

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
LICENCE_FILES = re.compile(r"(?i)^(licen[cs]e|copying|copyright|notice|unlicense)([-._].*)?$")
DUCKDB_LICENCE = pathlib.Path(__file__).parent / "licences/duckdb.txt"


class Crates:
    """The crates that are compiled into the program: reachable from it, without those that only tests or builds need."""

    def __init__(self, triple, bundled):
        features = [] if bundled else ["--no-default-features"]
        options = ["--format-version", "1", "--locked", "--offline", "--filter-platform", triple, *features]
        metadata = json.loads(run("cargo", "metadata", *options, cwd=REPOSITORY))
        nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
        packages = {package["id"]: package for package in metadata["packages"]}
        self.root = packages[metadata["resolve"]["root"]]
        self.needs, waiting = {}, [self.root["id"]]
        while waiting:
            one = waiting.pop()
            if one in self.needs:
                continue
            normal = [d["pkg"] for d in nodes[one]["deps"] if any(kind["kind"] is None for kind in d["dep_kinds"])]
            self.needs[one] = sorted(normal)
            waiting += normal
        others = (packages[one] for one in self.needs if one != self.root["id"])
        self.all = sorted(others, key=lambda package: (package["name"], package["version"]))
        locked = re.findall(r'name = "(.+)"\nversion = "(.+)"\nsource = ".+"\nchecksum = "(.+)"', (REPOSITORY / "Cargo.lock").read_text())
        self.checksums = {(name, version): checksum for name, version, checksum in locked}


def expression(package):
    """Its licence as SPDX writes it; old crates have a slash for OR."""
    return re.sub(r"\s*/\s*", " OR ", package["license"] or "") or "NOASSERTION"


def address(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def duckdb(library):
    """DuckDB, which no crate of its own has the version of: `libduckdb-sys` writes 2.0.1 as 1.20000.1."""
    env = (REPOSITORY / ".ci/env").read_text()
    version = re.search(r"^duckdb_version=(.+)$", env, re.MULTILINE)[1]
    component = {
        "type": "library",
        "bom-ref": f"pkg:github/duckdb/duckdb@v{version}",
        "name": "duckdb",
        "version": version,
        "licenses": [{"license": {"id": "MIT"}}],
        "purl": f"pkg:github/duckdb/duckdb@v{version}",
    }
    if library:
        component["hashes"] = [{"alg": "SHA-256", "content": sha256(library.read_bytes())}]
    return component


def components(crates, version, epoch, library):
    """The list of components, as CycloneDX 1.5."""
    engine = duckdb(library)

    def component(package):
        one = {
            "type": "library",
            "bom-ref": address(package),
            "name": package["name"],
            "version": package["version"],
            "licenses": [{"expression": expression(package)}],
            "purl": address(package),
        }
        checksum = crates.checksums.get((package["name"], package["version"]))
        return one | ({"hashes": [{"alg": "SHA-256", "content": checksum}]} if checksum else {})

    by_id = {package["id"]: address(package) for package in [crates.root, *crates.all]}
    needs = {by_id[one]: sorted(by_id[other] for other in needs) for one, needs in crates.needs.items()}
    for one in needs:
        if one.startswith("pkg:cargo/libduckdb-sys@"):
            needs[one].append(engine["bom-ref"])
    needs[engine["bom-ref"]] = []
    listed = [component(package) for package in crates.all] + [engine]
    # The same content has the same number.
    number = uuid.uuid5(uuid.NAMESPACE_URL, sha256(json.dumps([version, listed]).encode()))
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{number}",
        "version": 1,
        "metadata": {
            "timestamp": epoch.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {
                "type": "application",
                "bom-ref": address(crates.root),
                "name": "groupcast",
                "version": version,
                "licenses": [{"expression": expression(crates.root)}],
            },
        },
        "components": listed,
        "dependencies": [{"ref": one, "dependsOn": others} for one, others in sorted(needs.items())],
    }


def licences(crates):
    """The licence of each crate and the texts that come with it, every text once; DuckDB's and Rust's own."""
    texts = {}
    lines = []
    for package in crates.all:
        name = f"{package['name']} {package['version']}"
        folder = pathlib.Path(package["manifest_path"]).parent
        found = [path for path in sorted(folder.iterdir()) if path.is_file() and LICENCE_FILES.match(path.name)]
        for path in found:
            text = path.read_text(errors="replace").strip()
            texts.setdefault(" ".join(text.split()), (text, []))[1].append(name)
        remark = "" if found else "; its package has no text of it"
        lines.append(f"  {name}: {expression(package)}{remark}")
    duckdb_text = DUCKDB_LICENCE.read_text().strip()
    texts.setdefault(" ".join(duckdb_text.split()), (duckdb_text, []))[1].append("DuckDB")
    rule = "-" * 80
    parts = [
        "Groupcast is under the Apache License 2.0. The program contains, or comes with:",
        "\n".join([*lines, "  DuckDB: MIT", "  the Rust standard library: MIT OR Apache-2.0"]),
        *(f"{rule}\n{', '.join(dict.fromkeys(names))}\n{rule}\n\n{text}" for text, names in texts.values()),
    ]
    return "\n\n".join(parts) + "\n"
