//! Do imports point one way? Reads every `use crate::…` and path `crate::…` of src/ and holds them to the map in lib.rs.

use std::collections::BTreeMap;
use std::path::Path;

/// What each module may import, beside itself, `error`, `format` and `secret`, which everybody may.
const MAY: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("format", &[]),
    ("secret", &[]),
    ("time_zone", &[]),
    ("model", &[]),
    ("io", &[]),
    ("destination", &["io", "model"]),
    ("mapping", &["destination", "model", "time_zone"]),
    ("duckdb", &["mapping"]),
    ("source", &["duckdb", "io", "mapping", "model"]),
    ("ledger", &["duckdb", "source", "model"]),
    ("delivery", &["destination", "io", "model"]),
    ("config", &["duckdb", "io", "mapping", "model", "time_zone"]),
    ("scheduler", &["mapping", "time_zone"]),
    ("sync", &["delivery", "destination", "duckdb", "io", "ledger", "mapping", "model", "source"]),
    (
        "service",
        &[
            "config",
            "delivery",
            "destination",
            "duckdb",
            "io",
            "ledger",
            "mapping",
            "model",
            "scheduler",
            "source",
            "sync",
            "time_zone",
        ],
    ),
    (
        "daemon",
        &[
            "config",
            "delivery",
            "destination",
            "duckdb",
            "io",
            "ledger",
            "mapping",
            "model",
            "scheduler",
            "service",
            "sync",
            "time_zone",
        ],
    ),
    (
        "server",
        &[
            "config",
            "delivery",
            "destination",
            "duckdb",
            "io",
            "ledger",
            "mapping",
            "model",
            "scheduler",
            "service",
            "sync",
            "time_zone",
        ],
    ),
    (
        "cli",
        &[
            "config",
            "daemon",
            "delivery",
            "destination",
            "duckdb",
            "io",
            "ledger",
            "mapping",
            "model",
            "scheduler",
            "server",
            "service",
            "source",
            "sync",
            "time_zone",
        ],
    ),
];
/// Modules that know no clock, files, network or async.
const PURE: [&str; 5] = ["format", "model", "mapping", "destination", "scheduler"];
const IMPURE: [&str; 6] = ["std::fs", "std::net", "tokio::", "reqwest::", "tokio_postgres::", "duckdb::"];

fn sources(folder: &Path, out: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The code of a file: without comments and without its tests.
fn code(text: &str) -> String {
    let before_tests = text.split("#[cfg(test)]").next().unwrap();
    before_tests.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn imports_point_one_way_and_the_core_is_pure() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let may: BTreeMap<&str, &[&str]> = MAY.iter().copied().collect();
    let mut files = Vec::new();
    sources(&src, &mut files);
    assert!(files.len() > 40, "src/ is read");
    let mut wrong = Vec::new();
    for (path, text) in files {
        let inside = path.strip_prefix(&src.display().to_string()).unwrap().trim_start_matches('/');
        let module = inside.split('/').next().unwrap().trim_end_matches(".rs");
        let code = code(&text);
        if let Some(allowed) = may.get(module) {
            for rest in code.split("crate::").skip(1) {
                let imported: String = rest.chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect();
                let free = imported == module || ["error", "format", "secret"].contains(&imported.as_str());
                if !free && may.contains_key(imported.as_str()) && !allowed.contains(&imported.as_str()) {
                    wrong.push(format!("{inside} imports {imported}"));
                }
            }
        } else {
            assert!(["lib", "main"].contains(&module), "{inside} is not on the map");
        }
        if PURE.contains(&module) {
            wrong
                .extend(IMPURE.iter().filter(|used| code.contains(**used)).map(|used| format!("{inside} uses {used}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
