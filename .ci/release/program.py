"""What a program needs of a machine, as `readelf` shows it, and the copy of the program that packages carry."""

import os
import pathlib
import re
import shutil
import subprocess

# Where packages put the libraries that the program brings with it; `build.rs` writes it into the program.
RUNPATH = "$ORIGIN/../lib/groupcast"
# By the names that the kernel, Debian and OCI have for a processor.
MACHINES = {
    "Advanced Micro Devices X86-64": ("x86_64", "amd64"),
    "AArch64": ("aarch64", "arm64"),
}


def run(*command, **options):
    """The standard output of a command; an error ends the packing."""
    return subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def readelf(path, *options):
    return run("readelf", "--wide", *options, path)


def machine(path):
    """The processor it is compiled for: the kernel's name, and Debian's, which is OCI's too."""
    return MACHINES[re.search(r"Machine: +(.+)", readelf(path, "--file-header"))[1].strip()]


def foreign(processor):
    """Is it another processor than this machine's?"""
    return processor != os.uname().machine


def emulated(processor, root):
    """The words before a command of another processor. Its libraries are those below `root`."""
    names = [f"qemu-{processor}-static", f"qemu-{processor}"]
    found = next(filter(None, map(shutil.which, names)), None)
    if not found:
        raise SystemExit(f"programs for {processor} need {names[0]} here: install Debian's qemu-user-static")
    return [found, "-L", root]


def needed(path):
    """The names of the shared libraries it is linked with."""
    return re.findall(r"\(NEEDED\).*\[(.+)\]", readelf(path, "--dynamic"))


def runpath(path):
    found = re.search(r"\((?:RUNPATH|RPATH)\).*\[(.*)\]", readelf(path, "--dynamic"))
    return found[1] if found else ""


def newest(path, family):
    """The newest version of a family of symbols (GLIBC, GLIBCXX) that it needs, as numbers."""
    versions = re.findall(rf"\b{family}_([0-9.]+)", readelf(path, "--version-info"))
    return max((tuple(map(int, version.split("."))) for version in versions), default=(0,))


def libraries(path):
    """The libraries that it must bring with it: DuckDB, where that is not compiled in, and what that needs."""
    folders = [pathlib.Path(folder) for folder in runpath(path).split(":") if folder.startswith("/")]
    names = [name for name in needed(path) if name in ("libduckdb.so", "libpystub.so")]
    found = [next((folder / name for folder in folders if (folder / name).is_file()), None) for name in names]
    missing = [name for name, library in zip(names, found) if library is None]
    if missing:
        raise SystemExit(f"{path} needs {missing}, which are in none of its folders: {runpath(path)}")
    return found


def place(path, to):
    """Copies a program or a library without its debugging information, and without the folders of the machine it was built on."""
    # It keeps the symbols: a backtrace has names.
    if foreign(machine(path)[0]):
        _strip_foreign(path, to)
    else:
        subprocess.run(["strip", "--strip-debug", "-o", to, path], check=True)
    to.chmod(0o755)
    long = runpath(to)
    if not long:
        return
    if long.split(":")[0] != RUNPATH:
        raise SystemExit(f"{path} looks for its libraries in {long} instead of {RUNPATH}: build it anew")
    # Cutting a text short moves nothing in the file.
    libraries_before = needed(to)
    content = to.read_bytes()
    old = long.encode() + b"\0"
    if content.count(old) != 1:
        raise SystemExit(f"{path} has the text {long} {content.count(old)} times instead of once")
    to.write_bytes(content.replace(old, RUNPATH.encode().ljust(len(old), b"\0")))
    if (runpath(to), needed(to)) != (RUNPATH, libraries_before):
        raise SystemExit(f"{path} cannot be packed: its list of libraries is damaged by the cut")


def _strip_foreign(path, to):
    """The machine's `strip` knows no other processor; the Rust compiler's, which is not meant to be called by others, does."""
    sysroot = pathlib.Path(run("rustc", "--print", "sysroot", cwd=pathlib.Path(__file__).parent).strip())
    objcopy = next(sysroot.glob("lib/rustlib/*/bin/rust-objcopy"), None)
    if not objcopy:
        raise SystemExit(f"{path} is another processor's: packing it needs a Rust toolchain of rustup, which {sysroot} is not")
    environment = os.environ | {"LD_LIBRARY_PATH": str(sysroot / "lib")}
    subprocess.run([objcopy, "--strip-debug", path, to], check=True, env=environment)


def bring(program, folder):
    """Puts the program and its libraries below a folder, as `bin` and `lib/groupcast`."""
    (folder / "bin").mkdir(parents=True)
    brought = libraries(program)
    place(program, folder / "bin/groupcast")
    if brought:
        (folder / "lib/groupcast").mkdir(parents=True)
    for library in brought:
        # As its makers built it: its checksum stays the one that is pinned.
        shutil.copyfile(library, folder / "lib/groupcast" / library.name)
    return folder / "bin/groupcast"
