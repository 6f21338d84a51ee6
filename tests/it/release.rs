//! Can the program be packed and installed? The wheel only, with what the build needs anyway; every package of a release, in a place
//! of its own, is tried by `make test-release`.

use std::path::{Path, PathBuf};
use std::process::Command;

#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{stdout}\n{stderr}");
    stdout.into_owned()
}

/// The Python that has pip, as `.ci/env` looks for it.
fn python() -> &'static str {
    let has_pip = |python: &&str| {
        Command::new(python).args(["-m", "pip", "--version"]).output().is_ok_and(|output| output.status.success())
    };
    ["python3", "python"].into_iter().find(has_pip).expect("Python with pip is installed")
}

/// The file of that name below a folder.
fn find(folder: &Path, wanted: &str) -> Option<PathBuf> {
    let mut paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.find_map(|path| if path.is_dir() { find(&path, wanted) } else { path.ends_with(wanted).then_some(path) })
}

#[cfg(target_os = "linux")]
#[test]
fn the_wheel_is_all_that_the_program_needs() {
    // GIVEN the wheel of the program that is tested
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let work = tempfile::tempdir().unwrap();
    let (dist, prefix) = (work.path().join("dist"), work.path().join("prefix"));
    run(Command::new(python())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("SOURCE_DATE_EPOCH", "1790000000")
        .arg(root.join(".ci/release/pack.py"))
        .arg(env!("CARGO_BIN_EXE_groupcast"))
        .arg(&dist)
        .args(["--fast", "--only", "wheel"]));
    let mut files = std::fs::read_dir(&dist).unwrap().map(|entry| entry.unwrap().path());
    let wheel = files.find(|path| path.extension().is_some_and(|ending| ending == "whl")).unwrap();
    // WHEN it is installed without a network
    let mut install = Command::new(python());
    install.args(["-m", "pip", "install", "--quiet", "--no-index", "--no-warn-script-location", "--prefix"]);
    run(install.arg(&prefix).arg(wheel));
    // THEN its program runs, with nothing of the build in its environment
    let installed = find(&prefix, "bin/groupcast").expect("the program is installed");
    let groupcast = |arguments: &[&str]| run(Command::new(&installed).env_clear().current_dir(&work).args(arguments));
    assert_eq!(groupcast(&["--version"]), concat!("groupcast ", env!("CARGO_PKG_VERSION"), "\n"));
    groupcast(&["init", "my-sync"]);
    let sent = groupcast(&["-C", "my-sync", "run"]);
    assert!(sent.contains("300 delivered"), "{sent}");
    // AND its man pages and completions come along
    for name in ["man1/groupcast-run.1", "completions/groupcast", "site-functions/_groupcast", "groupcast.fish"] {
        assert!(find(&prefix, name).is_some(), "{name}");
    }
}
