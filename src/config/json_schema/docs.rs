//! Descriptions of keys, from the tables of docs/: they are written once.

const CONFIGURATION: &str = include_str!("../../../docs/configuration.md");
const DESTINATIONS: &str = include_str!("../../../docs/destinations.md");
const TESTING: &str = include_str!("../../../docs/testing.md");

/// What docs/configuration.md says of a key: `state.path`, `model.where`, `on_null`. `heading` is that of the table.
pub(super) fn configuration(heading: &str, key: &str) -> Option<String> {
    in_rows(section(CONFIGURATION, heading).lines(), key)
}

/// What it says of a setting of a type of source.
pub(super) fn source(kind: &str, key: &str) -> Option<String> {
    let mut current = "";
    let of_kind = section(CONFIGURATION, "### Sources").lines().filter(|line| {
        if let (false, Some((_, rest))) = (line.starts_with('|'), line.split_once("type = \"")) {
            current = rest.split('"').next().unwrap_or_default();
        }
        current == kind
    });
    in_rows(of_kind.collect::<Vec<_>>().into_iter(), key)
}

/// What docs/destinations.md says of a setting of a type of destination: the comment beside it in its example.
pub(super) fn destination(kind: &str, key: &str) -> Option<String> {
    let example = section(DESTINATIONS, &format!("## {kind}")).split("```toml").nth(1)?.split("```").next()?;
    example.lines().find_map(|line| {
        let line = line.trim_start_matches("# ");
        let value = line.strip_prefix(key)?.trim_start().strip_prefix('=')?;
        let (value, comment) = value.rsplit_once(" # ")?;
        Some(format!("{}: {}", value.trim(), comment.trim()))
    })
}

/// What docs/testing.md says of a key.
pub(super) fn testing(heading: &str, key: &str) -> Option<String> {
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

/// The last cell of the row whose first cell has the key.
fn in_rows<'t>(lines: impl Iterator<Item = &'t str>, key: &str) -> Option<String> {
    let mut rows = lines.filter_map(|line| line.strip_prefix("| ").or(line.strip_prefix('|')));
    rows.find_map(|row| {
        let (keys, rest) = row.split_once(" |")?;
        keys_of(keys)
            .iter()
            .any(|other| other == key)
            .then(|| plain(rest.trim_end_matches(['|', ' ']).rsplit(" | ").next()?))?
    })
    .filter(|text| !text.is_empty())
}

/// The keys in a cell: `[model] table` / `sql` are `model.table` and `model.sql`.
fn keys_of(cell: &str) -> Vec<String> {
    let mut above = String::new();
    let mut keys = Vec::new();
    for name in cell.split('`').skip(1).step_by(2) {
        match name.strip_prefix('[').and_then(|name| name.split_once(']')) {
            Some((section, key)) => {
                above = section.to_owned();
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
    let mut rest = cell.trim().trim_start_matches('|').trim();
    while let Some(at) = rest.find("](") {
        let open = rest[..at].rfind('[')?;
        let end = at + rest[at..].find(')')?;
        out.push_str(&rest[..open]);
        out.push_str(&rest[open + 1..at]);
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_come_from_the_rows_of_their_section() {
        assert!(configuration("## groupcast.toml", "state.path").unwrap().starts_with("the ledger: the synced state"));
        assert!(configuration("## Mappings", "model.file").unwrap().starts_with("a table or view"));
        assert!(configuration("### Guards", "dbt_age_max").unwrap().starts_with("dbt's last command"));
        assert!(configuration("### Destinations", "timeout").unwrap().contains("one attempt"));
        assert!(source("postgres", "url").unwrap().starts_with("`postgres://"));
        assert!(source("duckdb", "path").unwrap().starts_with("a DuckDB file"));
        assert!(destination("mixpanel", "region").unwrap().contains("\"eu\""));
        assert_eq!(configuration("## groupcast.toml", "nothing"), None);
    }
}
