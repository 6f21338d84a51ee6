//! The fields of a query or a form.

use crate::sync::GroupKeys;

/// Fields are read up to this many, which bounds memory: the groups that a run can be limited to, and its options.
const PARAMS_MAX: usize = GroupKeys::MAX + 100;

/// The fields of a query or a form, repeated ones included. An empty text counts as omitted.
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    pub(super) fn read(text: &[u8]) -> Params {
        let pairs = form_urlencoded::parse(text).filter(|(_, value)| !value.is_empty());
        Params(pairs.take(PARAMS_MAX).map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    pub(super) fn of_query(query: &axum::extract::RawQuery) -> Params {
        Params::read(query.0.as_deref().unwrap_or_default().as_bytes())
    }

    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn one<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next()
    }

    /// Whether a box is ticked.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.one(name).is_some_and(|value| !matches!(value, "0" | "false" | "off"))
    }

    /// A number; the default where it is missing or not a number.
    pub(super) fn number(&self, name: &str, default: u64) -> u64 {
        self.one(name).and_then(|value| value.parse().ok()).unwrap_or(default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_with_their_repetitions_and_never_without_end() {
        let params = Params::read(b"accept=keys&accept=removed&full=on&retry_rejected=0&group=&from=x");
        assert_eq!(params.all("accept").collect::<Vec<_>>(), ["keys", "removed"]);
        assert!(params.flag("full") && !params.flag("retry_rejected") && params.one("group").is_none());
        assert_eq!(params.number("from", 7), 7);
        assert_eq!(Params::read("a=1&".repeat(5_000).as_bytes()).all("a").count(), PARAMS_MAX);
    }
}
