//! Descriptions and defaults of keys, from the tables of docs/: they are written once.

use serde_json::Value;

pub(super) const CONFIGURATION: &str = include_str!("../../../docs/configuration.md");
pub(super) const FILES: &str = include_str!("../../../docs/files.md");
pub(super) const TESTING: &str = include_str!("../../../docs/testing.md");
/// The page of each type of destination.
pub(super) const DESTINATIONS: [(&str, &str); 8] = [
    ("amplitude", include_str!("../../../docs/destinations/amplitude.md")),
    ("file", include_str!("../../../docs/destinations/file.md")),
    ("journy", include_str!("../../../docs/destinations/journy.md")),
    ("mixpanel", include_str!("../../../docs/destinations/mixpanel.md")),
    ("posthog", include_str!("../../../docs/destinations/posthog.md")),
    ("segment", include_str!("../../../docs/destinations/segment.md")),
    ("thrivestack", include_str!("../../../docs/destinations/thrivestack.md")),
    ("webhook", include_str!("../../../docs/destinations/webhook.md")),
];

/// What a page has of a key.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct KeyDoc {
    pub(super) description: String,
    /// What counts where the key is absent, if it is a value.
    pub(super) default: Option<Value>,
}

/// What docs/configuration.md has of a key: `state.path`, `model.where`, `on_null`. `heading` is that of the table.
pub(super) fn configuration(heading: &str, key: &str) -> Option<KeyDoc> {
    in_rows(section(CONFIGURATION, heading).lines(), key)
}

/// What it has of a setting of a type of source.
pub(super) fn source(kind: &str, key: &str) -> Option<KeyDoc> {
    let mut current = "";
    let of_kind = section(CONFIGURATION, "### Sources").lines().filter(|line| {
        if let (false, Some((_, rest))) = (line.starts_with('|'), line.split_once("type = \"")) {
            current = rest.split('"').next().unwrap_or_default();
        }
        current == kind
    });
    in_rows(of_kind.collect::<Vec<_>>().into_iter(), key)
}

/// What the page of a type of destination has of a setting.
pub(super) fn destination(kind: &str, key: &str) -> Option<KeyDoc> {
    let (_, page) = DESTINATIONS.iter().find(|(name, _)| *name == kind)?;
    in_rows(section(page, "## Settings").lines(), key)
}

/// What docs/testing.md has of a key.
pub(super) fn testing(heading: &str, key: &str) -> Option<KeyDoc> {
    in_rows(section(TESTING, heading).lines(), key)
}

/// The text from a heading to the next one of its level or above.
fn section<'t>(text: &'t str, heading: &str) -> &'t str {
    let level = heading.bytes().take_while(|byte| *byte == b'#').count();
    let line = format!("\n{heading}\n");
    let Some(start) = text.find(&line).map(|at| at + line.len()) else { return "" };
    let mut end = start;
    let mut in_code = false;
    for line in text[start..].split_inclusive('\n') {
        in_code ^= line.starts_with("```");
        let hashes = line.bytes().take_while(|byte| *byte == b'#').count();
        if !in_code && (1..=level).contains(&hashes) {
            break;
        }
        end += line.len();
    }
    &text[start..end]
}

/// The row of a table whose first cell has the key: its last cell, and the one below `default`.
fn in_rows<'t>(lines: impl Iterator<Item = &'t str>, key: &str) -> Option<KeyDoc> {
    let mut header: Vec<&str> = Vec::new();
    let mut above = "";
    for line in lines {
        if line.starts_with("|---") {
            header = cells(above);
        }
        above = line;
        let row = cells(line);
        let Some(at) = row.first().and_then(|first| keys_of(first).iter().position(|other| other == key)) else {
            continue;
        };
        let description = plain(row.last()?)?;
        let default = header.iter().position(|name| *name == "default").and_then(|column| row.get(column));
        let (default, remark) = default.map_or((None, None), |cell| default_of(cell, at));
        let description = match remark {
            Some(remark) => format!("{description} (default: {remark})"),
            None => description,
        };
        return Some(KeyDoc { description, default }).filter(|doc| !doc.description.is_empty());
    }
    None
}

/// The cells of a row. A bar within a cell is written `\|`.
fn cells(line: &str) -> Vec<&str> {
    let Some(inner) = line.strip_prefix('|') else { return Vec::new() };
    inner.strip_suffix('|').unwrap_or(inner).split(" |").map(|cell| cell.trim_start_matches('|').trim()).collect()
}

/// The default in a cell, as a value or else as a remark. A cell with several values has that of the key at `at`.
fn default_of(cell: &str, at: usize) -> (Option<Value>, Option<String>) {
    const NONE: [&str; 6] = ["", "none", "required", "one is required", "one of these three", "always on"];
    if NONE.contains(&cell) || cell.starts_with("as below") {
        return (None, None);
    }
    let mut quoted = cell.split('`');
    let (between, values): (Vec<&str>, Vec<&str>) = {
        let all: Vec<&str> = quoted.by_ref().collect();
        (all.iter().step_by(2).copied().collect(), all.iter().skip(1).step_by(2).copied().collect())
    };
    let is_list = between.iter().all(|text| text.is_empty() || *text == ", ");
    let values: Vec<&str> = match values.is_empty() {
        true => cell.split(", ").collect(),
        false if is_list => values,
        false => return (None, plain(cell)),
    };
    let text = values.get(at).or(values.first()).copied().unwrap_or_default();
    if NONE.contains(&text) {
        return (None, None);
    }
    let read = format!("x = {text}").parse::<toml::Table>().ok().and_then(|table| table.get("x").cloned());
    match read {
        Some(value) => (serde_json::to_value(value).ok(), None),
        // A word in code is text, one outside of it a remark.
        None if cell.contains('`') => (Some(Value::from(text)), None),
        None => (None, plain(cell)),
    }
}

/// The keys in a cell: `[model] table` / `sql` are `model.table` and `model.sql`.
fn keys_of(cell: &str) -> Vec<String> {
    let mut above = String::new();
    let mut keys = Vec::new();
    for name in cell.split('`').skip(1).step_by(2) {
        match name.strip_prefix('[').and_then(|name| name.split_once(']')) {
            Some((section, key)) => {
                above = section.strip_suffix(".NAME").unwrap_or(section).to_owned();
                let key = key.trim();
                keys.push(if key.is_empty() { above.clone() } else { format!("{above}.{key}") });
            }
            None if above.is_empty() => keys.push(name.to_owned()),
            None => keys.push(format!("{above}.{name}")),
        }
    }
    keys
}

/// A cell as plain text: links become their texts.
fn plain(cell: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = cell.trim();
    while let Some(at) = rest.find("](") {
        let open = rest[..at].rfind('[')?;
        let end = at + rest[at..].find(')')?;
        out.push_str(&rest[..open]);
        out.push_str(&rest[open + 1..at]);
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    Some(out.replace("\\|", "|"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn descriptions_come_from_the_rows_of_their_section() {
        let described = |doc: Option<KeyDoc>| doc.unwrap().description;
        assert!(
            described(configuration("## groupcast.toml", "state.path")).starts_with("the ledger: the synced state")
        );
        assert!(described(configuration("## Mappings", "model.file")).starts_with("a table or view"));
        assert!(described(configuration("### Guards", "dbt_age_max")).starts_with("dbt's last command"));
        assert!(described(configuration("### Destinations", "timeout")).contains("one attempt"));
        assert!(described(source("postgres", "url")).starts_with("`postgres://"));
        assert!(described(source("duckdb", "path")).starts_with("a DuckDB file"));
        assert!(described(destination("mixpanel", "region")).contains("`eu`"));
        assert_eq!(configuration("## groupcast.toml", "nothing"), None);
    }

    #[test]
    fn defaults_are_values_or_a_remark() {
        let of = |doc: Option<KeyDoc>| doc.unwrap().default.unwrap_or_default();
        assert_eq!(of(configuration("## groupcast.toml", "state.memory")), json!("512MB"));
        assert_eq!(of(configuration("### Destinations", "attempts_max")), json!(8));
        assert_eq!(of(configuration("### Guards", "changed_max")), json!(0.5));
        assert_eq!(of(configuration("## groupcast.toml", "duckdb.install")), json!(false));
        assert_eq!(of(destination("webhook", "timestamp_header")), json!("x-groupcast-timestamp"));
        assert_eq!(of(configuration("## Mappings", "group.key")), json!(null));
        let threads = configuration("## groupcast.toml", "state.threads").unwrap();
        assert!(
            threads.default.is_none() && threads.description.ends_with("(default: the machine's, up to 8)"),
            "{threads:?}"
        );
        let bar = destination("webhook", "success").unwrap();
        assert!(bar.default.is_none() && bar.description.ends_with("(default: `2xx`, but no web page)"), "{bar:?}");
    }
}
