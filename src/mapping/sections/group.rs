//! `[group]`: the group type's name at the destination, the column that holds the group's id, and the trait that names the group
//! for people.

use super::traits::Trait;
use crate::mapping::diagnostic::{At, did_you_mean, listed_all};
use crate::mapping::reader::{Report, Section, join, shown};

/// The keys of the section.
pub(crate) const KEYS: [&str; 3] = ["type", "key", "label"];

/// What the section has.
pub(crate) struct GroupSection {
    pub(crate) group_type: Option<String>,
    pub(crate) key: Option<String>,
    /// The trait, and where it is named.
    label: Option<(String, At)>,
}

/// Reads the section: type, key and label.
pub(crate) fn read(section: &Section<'_>, report: &mut Report<'_>) -> GroupSection {
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
    let label = section.get("label").and_then(|entry| Some((entry.name(report)?, entry.at.clone())));
    GroupSection { group_type, key, label }
}

impl GroupSection {
    /// The trait that names the group; reports one that the mapping does not have.
    pub(crate) fn label(&self, traits: &[Trait], report: &mut Report<'_>) -> Option<String> {
        let (label, at) = self.label.as_ref()?;
        let names = || traits.iter().map(|mapped| mapped.name.as_str());
        if names().any(|name| name == label) {
            return Some(label.clone());
        }
        let help = match did_you_mean(label, names()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("`label` names one of the traits: {}", listed_all(names())),
        };
        report.push(report.error(at, format!("trait `{}` not found", shown(label))).help(help));
        None
    }
}
