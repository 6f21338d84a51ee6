//! Does what `examples/deploy` ships fit the program? Its config, the variables it sets, what its Dockerfile copies.
//!
//! What needs other tools (schemas, systemd, namespaces) is in `tests/deploy`: `make test-deploy`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// `[daemon] drain` where nothing is set, in seconds. Whoever stops the daemon must wait longer.
const DRAIN_SECONDS: u64 = 30;

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/deploy").join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(shipped(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file that sets variables of ours.
const SETTING: [&str; 6] = [
    "docker/Dockerfile",
    "docker/compose.yaml",
    "github/groupcast.yml",
    "kubernetes/deployment.yaml",
    "systemd/groupcast.service",
    "systemd/groupcast-run.service",
];

/// The names in `secrets.env.example`.
fn secrets() -> BTreeSet<String> {
    let lines = text("secrets.env.example");
    let names = lines.lines().filter(|line| !line.starts_with('#')).map(|line| line.split_once('=').unwrap().0);
    names.map(str::to_owned).collect()
}

fn secret(name: &str) -> &'static str {
    if name.ends_with("_URL") { "postgres://reader@localhost/none" } else { "0123456789abcdef0123456789abcdef" }
}

fn check(environment: &BTreeMap<String, String>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_groupcast"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GROUPCAST")) {
        command.env_remove(name);
    }
    command.arg("-C").arg(shipped("config")).arg("check").envs(environment).output().unwrap()
}

#[track_caller]
fn is_fine(environment: &BTreeMap<String, String>) {
    let output = check(environment);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {stderr}", environment.keys());
    // What the next version will refuse is a warning today, and no example for anyone.
    assert!(!stderr.contains("warning"), "{stderr}");
}

/// The variables of ours that a file sets: `NAME=value`, `NAME: value`, or `name: NAME` with `value:` on the next line.
fn set_in(text: &str) -> BTreeMap<String, String> {
    let plain =
        |value: &str| value.split(['"', '\'', ' ', '\\']).find(|part| !part.is_empty()).unwrap_or("").to_owned();
    let mut found = BTreeMap::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let line = line.trim();
        let Some(at) = line.find("GROUPCAST__").filter(|_| !line.starts_with('#')) else { continue };
        let (name, rest) = line[at..].split_at(line[at..].find(['=', ':']).unwrap_or(line.len() - at));
        let value = match rest.get(1..) {
            Some(value) => value,
            None => lines.peek().and_then(|next| next.trim().strip_prefix("value:")).expect("a value follows"),
        };
        found.insert(name.to_owned(), plain(value));
    }
    found
}

#[test]
fn the_config_needs_the_listed_secrets_and_nothing_else() {
    let all: BTreeMap<String, String> =
        secrets().into_iter().map(|name| (name.clone(), secret(&name).into())).collect();
    is_fine(&all);
    for name in all.keys() {
        let mut fewer = all.clone();
        fewer.remove(name);
        let output = check(&fewer);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(name.as_str()), "{stderr}");
    }
    // The workflow brings each of them along.
    let workflow = text("github/groupcast.yml");
    for name in all.keys() {
        assert!(workflow.contains(&format!("{name}: ")), "{name}");
    }
}

#[test]
fn the_program_knows_every_variable_that_is_set() {
    let secrets: BTreeMap<String, String> =
        secrets().into_iter().map(|name| (name.clone(), secret(&name).into())).collect();
    for file in SETTING {
        let set = set_in(&text(file));
        assert!(!set.is_empty(), "{file}");
        is_fine(&secrets.iter().chain(&set).map(|(name, value)| (name.clone(), value.clone())).collect());
    }
    // The same test would see a name that is wrong.
    let mut wrong = secrets;
    wrong.insert("GROUPCAST__STATE__PATHS".to_owned(), "x".to_owned());
    assert_eq!(check(&wrong).status.code(), Some(2));
}

#[test]
fn what_is_written_goes_where_the_state_is_kept() {
    for file in ["docker/Dockerfile", "systemd/groupcast.service", "systemd/groupcast-run.service"] {
        let set = set_in(&text(file));
        assert_eq!(set["GROUPCAST__STATE__PATH"], "/var/lib/groupcast/ledger.duckdb", "{file}");
        assert_eq!(set["GROUPCAST__STATE__TEMP_FOLDER"], "/var/lib/groupcast/spill", "{file}");
    }
    assert!(text("docker/compose.yaml").contains("- state:/var/lib/groupcast\n"));
    for file in ["kubernetes/deployment.yaml", "kubernetes/cronjob.yaml"] {
        assert!(text(file).contains("{ name: state, mountPath: /var/lib/groupcast }"), "{file}");
    }
    for file in ["systemd/groupcast.service", "systemd/groupcast-run.service"] {
        assert!(text(file).contains("StateDirectory=groupcast\n"), "{file}");
    }
}

#[test]
fn the_image_and_the_manifests_mean_the_same_user() {
    let dockerfile = text("docker/Dockerfile");
    let user = dockerfile.lines().find_map(|line| line.strip_prefix("USER ")).unwrap();
    let (id, group) = user.split_once(':').unwrap();
    assert!(id.parse::<u32>().unwrap() > 0 && group.parse::<u32>().unwrap() > 0, "{user}");
    assert!(dockerfile.contains(&format!("COPY --from=build --chown={user} /state /var/lib/groupcast\n")));
    for file in ["kubernetes/deployment.yaml", "kubernetes/cronjob.yaml"] {
        let text = text(file);
        for line in [format!("runAsUser: {id}\n"), format!("runAsGroup: {group}\n"), format!("fsGroup: {group}\n")] {
            assert!(text.contains(&line), "{file}: {line}");
        }
    }
}

#[test]
fn one_process_owns_the_ledger() {
    let deployment = text("kubernetes/deployment.yaml");
    assert!(deployment.contains("replicas: 1\n") && deployment.contains("type: Recreate\n"));
    assert!(text("kubernetes/cronjob.yaml").contains("concurrencyPolicy: Forbid\n"));
    assert!(text("kubernetes/volume.yaml").contains("accessModes: [ReadWriteOncePod]\n"));
}

#[test]
fn whoever_stops_the_daemon_waits_longer_than_it_drains() {
    for (file, key) in [
        ("docker/compose.yaml", "stop_grace_period: "),
        ("kubernetes/deployment.yaml", "terminationGracePeriodSeconds: "),
        ("kubernetes/cronjob.yaml", "terminationGracePeriodSeconds: "),
        ("systemd/groupcast.service", "TimeoutStopSec="),
        ("systemd/groupcast-run.service", "TimeoutStopSec="),
    ] {
        let text = text(file);
        let value =
            text.lines().find_map(|line| line.trim().strip_prefix(key)).unwrap_or_else(|| panic!("{file}: {key}"));
        let seconds: u64 = value.trim_end_matches('s').parse().unwrap();
        assert!(seconds > DRAIN_SECONDS, "{file}: {key}{value}");
    }
}

#[test]
fn the_image_is_built_from_everything_the_program_is_made_of() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dockerfile = text("docker/Dockerfile");
    let ignore = text("docker/Dockerfile.dockerignore");
    let mut copied = Vec::new();
    for line in dockerfile.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|line| !line.contains("--from"))
    {
        let mut parts: Vec<&str> = line.split_whitespace().collect();
        parts.pop();
        copied.extend(parts);
    }
    for path in &copied {
        assert!(root.join(path).exists(), "{path}");
        assert!(ignore.lines().any(|line| line == format!("!{path}")), "{path} reaches the build");
    }
    assert_eq!(ignore.lines().filter(|line| line.starts_with('!')).count(), copied.len());
    // Files that are compiled in from outside `src`.
    let mut included = 0;
    for file in rust_files(&root.join("src")) {
        let source = std::fs::read_to_string(&file).unwrap();
        for part in source.split("include_str!(").skip(1) {
            let path = part.split('"').nth(1).unwrap();
            let path = file.parent().unwrap().join(path).canonicalize().unwrap();
            let below = path.strip_prefix(root.canonicalize().unwrap()).unwrap().to_owned();
            assert!(copied.iter().any(|copied| below.starts_with(copied)), "{} is not copied", below.display());
            included += 1;
        }
    }
    assert!(included > 0);
    let compiler = dockerfile.lines().find_map(|line| line.strip_prefix("ARG RUST=")).unwrap();
    let numbers = |version: &str| version.split('.').map(|part| part.parse().unwrap()).collect::<Vec<u32>>();
    assert!(numbers(compiler) >= numbers(env!("CARGO_PKG_RUST_VERSION")), "{compiler}");
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

#[test]
fn the_images_carry_this_version() {
    let tag = format!("groupcast:{}", env!("CARGO_PKG_VERSION"));
    for file in [
        "docker/Dockerfile",
        "docker/compose.yaml",
        "github/groupcast.yml",
        "kubernetes/cronjob.yaml",
        "kubernetes/deployment.yaml",
    ] {
        let text = text(file);
        let tags: Vec<&str> = text.match_indices("groupcast:0").map(|(at, _)| &text[at..at + tag.len()]).collect();
        assert!(!tags.is_empty() && tags.iter().all(|found| *found == tag), "{file}: {tags:?}");
    }
}

#[test]
fn both_units_are_confined_alike() {
    let confined = |file: &str| {
        let text = text(file);
        let from = text.find("# What it may touch").unwrap();
        text[from..].lines().take_while(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let daemon = confined("systemd/groupcast.service");
    assert!(daemon.contains(&"NoNewPrivileges=yes".to_owned()) && daemon.contains(&"ProtectSystem=strict".to_owned()));
    assert_eq!(daemon, confined("systemd/groupcast-run.service"));
}
