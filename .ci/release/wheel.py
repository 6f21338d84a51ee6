"""A Python wheel whose only content is the program: `pip install groupcast`, `uvx groupcast`, `pipx install groupcast`.

The installer copies `….data/scripts` to the environment's `bin` and `….data/data` to the environment itself, so that the
libraries are where the program looks for them: in `../lib/groupcast`.
"""

import base64
import hashlib
import re
import time
import zipfile

import archive

METADATA = """\
Metadata-Version: 2.4
Name: groupcast
Version: {version}
Summary: {summary}
License-Expression: Apache-2.0
License-File: LICENSE
License-File: THIRD-PARTY-LICENSES.txt
Keywords: {keywords}
Classifier: Environment :: Console
Classifier: Operating System :: POSIX :: Linux
Classifier: Topic :: Database
Requires-Python: >=3.8
Description-Content-Type: text/markdown

{readme}"""

WHEEL = """\
Wheel-Version: 1.0
Generator: groupcast
Root-Is-Purelib: false
Tag: py3-none-{platform}
"""


def python_version(version):
    """`1.2.0-rc.1` as Python writes it."""
    return re.sub(r"-(alpha|beta|rc)\.?(\d+)$", lambda found: {"alpha": "a", "beta": "b", "rc": "rc"}[found[1]] + found[2], version)


def build(release, out):
    version = python_version(release.version)
    # The oldest that is tested is 2.28, whatever an even older one would do.
    glibc = max(release.glibc, (2, 28))
    platform = f"manylinux_{glibc[0]}_{glibc[1]}_{release.machine}"
    info, data = f"groupcast-{version}.dist-info", f"groupcast-{version}.data"
    tree = release.tree
    documents = tree / "share/doc/groupcast"
    files = {f"{data}/scripts/groupcast": tree / "bin/groupcast"}
    for top in ["lib", "share/man", "share/bash-completion", "share/zsh", "share/fish"]:
        for path in archive.entries(tree / top):
            if path.is_file():
                files[f"{data}/data/{path.relative_to(tree)}"] = path
    files[f"{info}/licenses/LICENSE"] = documents / "LICENSE"
    files[f"{info}/licenses/THIRD-PARTY-LICENSES.txt"] = documents / "THIRD-PARTY-LICENSES.txt"
    files[f"{info}/sboms/groupcast.cdx.json"] = documents / "sbom.cdx.json"
    readme = (documents / "README.md").read_text()
    texts = {
        f"{info}/METADATA": METADATA.format(version=version, summary=release.summary, keywords=",".join(release.keywords), readme=readme),
        f"{info}/WHEEL": WHEEL.format(platform=platform),
    }

    wheel = out / f"groupcast-{version}-py3-none-{platform}.whl"
    record = []
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED, compresslevel=archive.LEVEL[release.fast]) as pack:

        def add(name, content, mode):
            about = zipfile.ZipInfo(name, time.gmtime(release.epoch)[:6])
            about.compress_type, about.external_attr = zipfile.ZIP_DEFLATED, (0o100000 | mode) << 16
            pack.writestr(about, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(content)}")

        for name, path in files.items():
            add(name, path.read_bytes(), archive.mode(path))
        for name, text in texts.items():
            add(name, text.encode(), 0o644)
        record.append(f"{info}/RECORD,,")
        about = zipfile.ZipInfo(f"{info}/RECORD", time.gmtime(release.epoch)[:6])
        about.compress_type, about.external_attr = zipfile.ZIP_DEFLATED, 0o100644 << 16
        pack.writestr(about, "\n".join(record) + "\n")
    return wheel
