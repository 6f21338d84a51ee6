"""Archives whose bytes depend on nothing but their content and one time."""

import gzip
import hashlib
import io
import tarfile

# The hardest to the quickest; the content is the same.
LEVEL = {False: 9, True: 1}


def entries(folder):
    """Every path below a folder, sorted, folders before what is in them."""
    return sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).parts)


def mode(path):
    """0644, or 0755 for folders and for what its owner may execute: whatever umask it was made with."""
    bits = path.lstat().st_mode
    if path.is_symlink():
        return 0o777
    if path.is_dir() or bits & 0o100:
        return 0o755
    return 0o644


def tar(folder, epoch, prefix="", owners=None):
    """The tar of what is below a folder. `owners` has the numbers of those paths that are not root's, by their name in it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in entries(folder):
            name = prefix + str(path.relative_to(folder))
            about = archive.gettarinfo(path, name)
            if about.islnk():
                # A second name of a file is a file of its own.
                about.type, about.linkname, about.size = tarfile.REGTYPE, "", path.stat().st_size
            about.mode, about.mtime = mode(path), epoch
            about.uid = about.gid = (owners or {}).get(name, 0)
            about.uname = about.gname = "" if about.uid else "root"
            if about.isreg():
                with path.open("rb") as content:
                    archive.addfile(about, content)
            else:
                archive.addfile(about)
    return out.getvalue()


def zipped(content, fast=False):
    """Gzip without a name and without a time."""
    return gzip.compress(content, compresslevel=LEVEL[fast], mtime=0)


def sha256(content):
    return hashlib.sha256(content).hexdigest()
