//! What does the query of a request ask for? Nothing is guessed: an unknown key, a repeated one or a value out of bounds is
//! refused with the key's name.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use axum::http::Uri;

use super::refused::Refused;

/// The keys of a query, each once.
#[derive(Debug)]
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    /// Reads a query in which only these keys may occur.
    pub(super) fn read(uri: &Uri, keys: &[&str]) -> Result<Query, Refused> {
        let text = uri.query().unwrap_or_default();
        let mut found = BTreeMap::new();
        for (key, value) in form_urlencoded::parse(text.as_bytes()) {
            let advice = || match keys {
                [] => "leave the query out".to_owned(),
                keys => format!("known keys: {}", keys.join(", ")),
            };
            if !keys.contains(&key.as_ref()) {
                let shown: String = key.chars().take(40).collect();
                return Err(Refused::bad(format!("unknown key `{shown}` in the query"), advice()));
            }
            // Bytes that are no UTF-8 are replaced silently; no key or run of ours has the replacement character.
            if value.contains('\u{fffd}') {
                return Err(Refused::bad(format!("`{key}` is not UTF-8"), "percent-encode the bytes of UTF-8 text"));
            }
            if found.insert(key.to_string(), value.into_owned()).is_some() {
                return Err(Refused::bad(format!("`{key}` occurs twice in the query"), "give it once"));
            }
        }
        Ok(Query(found))
    }

    /// The value of a key, as text.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// A number within bounds, or the default.
    pub(super) fn number(&self, key: &str, default: u64, bounds: RangeInclusive<u64>) -> Result<u64, Refused> {
        let Some(text) = self.text(key) else { return Ok(default) };
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|number| digits && bounds.contains(number)).ok_or_else(|| {
            let advice = format!("give a whole number from {} to {}", bounds.start(), bounds.end());
            Refused::bad(format!("`{key}` is no number within bounds"), advice)
        })
    }

    /// `true` or `false`; false when it is absent.
    pub(super) fn flag(&self, key: &str) -> Result<bool, Refused> {
        match self.text(key) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Refused::bad(format!("`{key}` is neither true nor false"), "write `true` or `false`")),
        }
    }

    /// One of these words.
    pub(super) fn word(&self, key: &str, words: &[&str]) -> Result<Option<&str>, Refused> {
        let Some(text) = self.text(key) else { return Ok(None) };
        if words.contains(&text) {
            return Ok(Some(text));
        }
        Err(Refused::bad(format!("`{key}` is an unknown word"), format!("known words: {}", words.join(", "))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(query: &str) -> Uri {
        format!("/api/v1/runs{query}").parse().unwrap()
    }

    #[test]
    fn queries_are_read_strictly() {
        for query in ["?x=1", "?count=1&count=2", "?before=%ff", "?count", "?Count=1", "?=1"] {
            let read = Query::read(&uri(query), &["count", "before"]);
            let refused = read.and_then(|read| read.number("count", 20, 1..=1_000));
            assert!(refused.is_err(), "{query}");
        }
        for count in ["0", "1001", "-1", "+1", "1.0", "", "ten", "99999999999999999999999", "0x10"] {
            let read = Query::read(&uri(&format!("?count={}", count.replace('+', "%2B"))), &["count"]).unwrap();
            assert!(read.number("count", 20, 1..=1_000).is_err(), "{count}");
        }
        let read = Query::read(&uri("?before=a%2Fb+c&count=7"), &["count", "before"]).unwrap();
        assert_eq!(read.text("before"), Some("a/b c"));
        assert_eq!(read.number("count", 20, 1..=1_000).unwrap(), 7);
        assert_eq!(read.number("from", 3, 0..=9).unwrap(), 3);
        assert!(!read.flag("full").unwrap());
        assert!(Query::read(&uri(""), &[]).is_ok() && Query::read(&uri("?"), &[]).is_ok());
    }
}
