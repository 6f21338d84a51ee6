//! `[group]`: the group type's name at the destination, and the column that holds the group's id.

use crate::mapping::reader::{Report, Section, join};

/// The keys of the section.
pub(crate) const KEYS: [&str; 2] = ["type", "key"];

/// Reads the section: type and key.
pub(crate) fn read(section: &Section<'_>, report: &mut Report<'_>) -> (Option<String>, Option<String>) {
    section.expect_keys(&KEYS, report);
    let mut one = |key: &str, help: &str| {
        let entry = section.get(key);
        if entry.is_none() {
            let missing = report.error(&section.at, format!("`[group]` has no `{key}`"));
            report.push_missing(&join("group", key), missing.help(help));
        }
        entry.and_then(|entry| entry.name(report))
    };
    let group_type = one("type", "name the group type at the destination: `type = \"company\"`");
    let key = one("key", "name the column that contains the group's id: `key = \"account_id\"`");
    (group_type, key)
}
