//! The keys of a run that covers some groups only: at least one, and so many that a statement and a request have room for
//! them. As JSON one key, or a list of keys.

use std::borrow::Cow;
use std::collections::BTreeSet;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Kind, Result};
use crate::format::thousands;
use crate::ledger::Comparison;

/// The keys of some groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupKeys(BTreeSet<String>);

impl GroupKeys {
    /// Keys at most. They are literals of one condition, and warehouses limit both its members and the statement's length:
    /// some tens of thousands, and a quarter of a megabyte.
    pub const MAX: usize = 1_000;

    /// These keys; none where there are none, which means every group.
    ///
    /// Errors ([`Kind::Config`]): there are more than [`GroupKeys::MAX`].
    pub fn new(keys: impl IntoIterator<Item = String>) -> Result<Option<GroupKeys>> {
        let keys: BTreeSet<String> = keys.into_iter().collect();
        if keys.len() > GroupKeys::MAX {
            let (given, max) = (thousands(keys.len() as u64), thousands(GroupKeys::MAX as u64));
            return Err(Error::new(
                Kind::Config,
                format!("{given} groups are more than a run can be limited to: {max}"),
            )
            .advise("use several runs, or run the whole sync"));
        }
        Ok((!keys.is_empty()).then_some(GroupKeys(keys)))
    }

    /// One key.
    pub fn one(key: impl Into<String>) -> GroupKeys {
        GroupKeys(BTreeSet::from([key.into()]))
    }

    /// The keys in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// The keys in order.
    pub fn to_vec(&self) -> Vec<String> {
        self.0.iter().cloned().collect()
    }

    /// Whether a key is among them.
    pub fn contains(&self, key: &str) -> bool {
        self.0.contains(key)
    }

    /// Which of them neither the model nor the ledger has, for people.
    pub fn unknown(&self, found: &Comparison) -> Option<String> {
        let all = self.0.len() as u64;
        let unknown = all.saturating_sub(found.rows + found.missing);
        match self.0.first() {
            Some(key) if all == 1 && unknown == 1 => {
                Some(format!("group `{}` is neither in the model nor in the ledger", key.escape_debug()))
            }
            _ if unknown == 0 => None,
            _ => {
                let verb = if unknown == 1 { "is" } else { "are" };
                let (unknown, all) = (thousands(unknown), thousands(all));
                Some(format!("{unknown} of the {all} groups {verb} neither in the model nor in the ledger"))
            }
        }
    }
}

impl Serialize for GroupKeys {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self.0.first() {
            Some(key) if self.0.len() == 1 => key.serialize(serializer),
            _ => self.0.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for GroupKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<GroupKeys, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a group's key, or a list of keys")]
        enum Written {
            One(String),
            Some(Vec<String>),
        }
        match Written::deserialize(deserializer)? {
            Written::One(key) => Ok(GroupKeys::one(key)),
            // Not every group: a program that found none to retry must not run them all.
            Written::Some(keys) => match GroupKeys::new(keys).map_err(D::Error::custom)? {
                Some(keys) => Ok(keys),
                None => Err(D::Error::custom("`group` is an empty list: name a group, or omit it for every group")),
            },
        }
    }
}

impl JsonSchema for GroupKeys {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "GroupKeys".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "array"],
            "items": {"type": "string"},
            "minItems": 1,
            "maxItems": GroupKeys::MAX,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_is_a_text_and_several_are_a_list() {
        let read = |text: &str| serde_json::from_str::<GroupKeys>(text).map_err(|error| error.to_string());
        for (text, written) in [(r#""a""#, r#""a""#), (r#"["a"]"#, r#""a""#), (r#"["b","a","b"]"#, r#"["a","b"]"#)] {
            assert_eq!(serde_json::to_string(&read(text).unwrap()).unwrap(), written, "{text}");
        }
        assert!(read("[]").unwrap_err().contains("`group` is an empty list"));
        assert!(read("5").unwrap_err().contains("a list of keys"));
        let many = |count: usize| serde_json::to_string(&(0..count).map(|at| at.to_string()).collect::<Vec<_>>());
        assert_eq!(read(&many(1_000).unwrap()).unwrap().iter().len(), 1_000);
        assert!(read(&many(1_001).unwrap()).unwrap_err().contains("1,001 groups are more than"));
    }

    #[test]
    fn unknown_groups_are_counted() {
        let unknown = |keys: &[&str], rows, missing| {
            let keys = GroupKeys::new(keys.iter().map(|key| (*key).to_owned())).unwrap().unwrap();
            keys.unknown(&Comparison { rows, missing, ..Comparison::default() })
        };
        assert_eq!(unknown(&["a"], 1, 0), None);
        assert_eq!(unknown(&["a\n"], 0, 0).as_deref(), Some("group `a\\n` is neither in the model nor in the ledger"));
        assert_eq!(unknown(&["a", "b", "c"], 2, 1), None);
        assert_eq!(
            unknown(&["a", "b", "c"], 1, 1).as_deref(),
            Some("1 of the 3 groups is neither in the model nor in the ledger")
        );
    }
}
