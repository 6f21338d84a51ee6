//! The tables of metrics in `docs/daemon.md` are made of the definitions.

use std::path::Path;

use super::definitions::METRICS;
use super::metric::Metric;
use super::page::PREFIX;

/// A table between two comments of the page.
fn table(of_syncs: bool) -> String {
    let mut table = String::from("| metric | type | labels | meaning |\n|---|---|---|---|\n");
    for metric in METRICS.iter().filter(|metric| metric.is_of_sync() == of_syncs) {
        let Metric { name, help, .. } = metric;
        let labels = metric.labels.iter().map(|(name, values)| {
            let values: Vec<String> = values().iter().map(|value| format!("`{value}`")).collect();
            if values.is_empty() { format!("`{name}`") } else { format!("`{name}`: {}", values.join(", ")) }
        });
        let labels = labels.collect::<Vec<String>>().join("; ");
        table.push_str(&format!("| `{PREFIX}_{name}` | {} | {labels} | {help} |\n", metric.kind()));
    }
    table
}

#[test]
fn the_tables_in_the_docs_are_those_of_the_definitions() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/daemon.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut wanted = text.clone();
    for (name, of_syncs) in [("sync metrics", true), ("process metrics", false)] {
        let (begin, end) = (format!("<!-- {name}: generated -->\n"), format!("<!-- end of {name} -->"));
        let from = wanted.find(&begin).unwrap_or_else(|| panic!("docs/daemon.md has no `{begin}`")) + begin.len();
        let to = from + wanted[from..].find(&end).unwrap_or_else(|| panic!("docs/daemon.md has no `{end}`"));
        wanted.replace_range(from..to, &table(of_syncs));
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
        return;
    }
    let first = wanted.lines().zip(text.lines()).find(|(wanted, line)| wanted != line);
    assert!(wanted == text, "docs/daemon.md: {first:?}; write it with `UPDATE_DOCS=1 cargo test --lib metrics`");
}
