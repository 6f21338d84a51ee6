//! What a test expects beside what came out: every place at which they differ.

use std::ops::Range;

use serde_json::{Map, Value};

use super::observe::body;
use crate::mapping::test_file::{MappingTest, pointer};

/// A place at which something else came out.
#[derive(Debug, Clone, PartialEq)]
pub struct Mismatch {
    /// Where it is expected in the test file, or what is nearest.
    pub at: Range<usize>,
    /// The JSON pointer below `expect`: `/documents/acct_1/name`.
    pub pointer: String,
    /// What is expected; none where nothing is.
    pub expected: Option<Value>,
    /// What came out; none where nothing did.
    pub actual: Option<Value>,
    /// What explains it.
    pub note: Option<String>,
}

/// Every mismatch, in the order of the kinds of expectation.
pub fn compare(test: &MappingTest, actual: &Value) -> Vec<Mismatch> {
    let mut comparison = Comparison { test, found: Vec::new() };
    let none = Value::Object(Map::new());
    let expected = |kind: &str| test.expect.value.get(kind);
    for kind in ["documents", "traits", "changes"] {
        if let Some(expected) = expected(kind) {
            comparison.values(expected, &actual[kind], &pointer("", kind), kind == "traits");
        }
    }
    comparison.rejections(expected("rejected").unwrap_or(&none), &actual["rejected"]);
    if let Some(Value::Array(expected)) = expected("requests") {
        comparison.requests(expected, actual["requests"].as_array().map_or(&[], Vec::as_slice));
    }
    let guard = expected("guard").unwrap_or(&Value::Null);
    if *guard != actual["guard"] {
        let some = |value: &Value| Some(value.clone()).filter(|value| !value.is_null());
        let note = actual["guard_message"].as_str().map(|message| format!("the guard stops the run: {message}"));
        comparison.push("/guard", some(guard), some(&actual["guard"]), note);
    }
    if test.expect.value.as_object().is_none_or(Map::is_empty) && comparison.found.is_empty() {
        let note = "the test expects nothing; `groupcast test --update` writes what comes out";
        comparison.push("/documents", None, Some(actual["documents"].clone()), Some(note.to_owned()));
    }
    comparison.found
}

struct Comparison<'a> {
    test: &'a MappingTest,
    found: Vec<Mismatch>,
}

impl Comparison<'_> {
    fn push(&mut self, pointer: &str, expected: Option<Value>, actual: Option<Value>, note: Option<String>) {
        let at = self.test.expect.place(pointer).unwrap_or_else(|| self.test.expect_at.clone());
        self.found.push(Mismatch { at, pointer: pointer.to_owned(), expected, actual, note });
    }

    /// `partly`: what is not expected may be there.
    fn values(&mut self, expected: &Value, actual: &Value, here: &str, partly: bool) {
        match (expected, actual) {
            (Value::Object(expected), Value::Object(actual)) => {
                for (name, value) in expected {
                    let below = pointer(here, name);
                    match actual.get(name) {
                        Some(actual) => self.values(value, actual, &below, partly),
                        None => self.push(&below, Some(value.clone()), None, None),
                    }
                }
                for (name, value) in actual.iter().filter(|(name, _)| !partly && !expected.contains_key(*name)) {
                    self.push(&pointer(here, name), None, Some(value.clone()), None);
                }
            }
            (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
                for (n, (expected, actual)) in expected.iter().zip(actual).enumerate() {
                    self.values(expected, actual, &pointer(here, &n.to_string()), false);
                }
            }
            _ if expected == actual => {}
            _ => self.push(here, Some(expected.clone()), Some(actual.clone()), None),
        }
    }

    /// Of an error message a part is enough.
    fn rejections(&mut self, expected: &Value, actual: &Value) {
        let empty = Map::new();
        let (expected, actual) = (expected.as_object().unwrap_or(&empty), actual.as_object().unwrap_or(&empty));
        for (key, part) in expected {
            let reason = actual.get(key);
            let contains =
                |reason: &Value| reason.as_str().unwrap_or_default().contains(part.as_str().unwrap_or_default());
            if !reason.is_some_and(contains) {
                self.push(&pointer("/rejected", key), Some(part.clone()), reason.cloned(), None);
            }
        }
        for (key, reason) in actual.iter().filter(|(key, _)| !expected.contains_key(*key)) {
            self.push(&pointer("/rejected", key), None, Some(reason.clone()), None);
        }
    }

    /// What a request does not mention is not compared.
    fn requests(&mut self, expected: &[Value], actual: &[Value]) {
        for n in 0..expected.len().max(actual.len()) {
            let here = pointer("/requests", &n.to_string());
            match (expected.get(n), actual.get(n)) {
                (Some(expected), Some(actual)) => {
                    for key in ["method", "path", "body"] {
                        let Some(value) = expected.get(key) else { continue };
                        let value = match value {
                            Value::String(text) if key == "body" => &body(text),
                            value => value,
                        };
                        self.values(value, &actual[key], &pointer(&here, key), false);
                    }
                }
                (expected, actual) => self.push(&here, expected.cloned(), actual.cloned(), None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mapping::test_file;

    /// The mismatches of a test with these expectations, as `line pointer expected actual`.
    fn mismatches(expect: &str, actual: &Value) -> Vec<String> {
        let text = format!("[[tests]]\nname = \"a\"\n{expect}\n");
        let (file, found) = test_file::parse("a.test.toml", &text);
        let file = file.unwrap_or_else(|| panic!("{found:?}"));
        let shown = |value: Option<Value>| value.map_or("nothing".to_owned(), |value| value.to_string());
        let line = |at: usize| text[..at].matches('\n').count() + 1;
        compare(&file.tests[0], actual)
            .into_iter()
            .map(|one| format!("{} {} {} {}", line(one.at.start), one.pointer, shown(one.expected), shown(one.actual)))
            .collect()
    }

    #[test]
    fn every_difference_has_its_line() {
        let actual = json!({
            "documents": {"a": {"name": "Acme", "seats": 5, "tags": ["x", "y"]}, "b": {"name": "B"}},
            "traits": {"a": {"name": "Acme", "seats": 5, "address": {"city": "Rome", "zip": "1"}}},
            "changes": {"a": {"set": {"name": "Acme"}}},
            "requests": [{"method": "POST", "path": "/x", "body": [{"k": 1}]}],
            "rejected": {"c": "trait `d`: cannot convert text to date"},
        });
        for (expect, expected) in [
            ("expect.rejected.c = \"cannot convert\"", vec![]),
            ("", vec!["2 /rejected/c nothing \"trait `d`: cannot convert text to date\""]),
            (
                "[tests.expect]\nrejected.c = \"cannot convert\"\n[tests.expect.documents.a]\nname = \"Acme Ltd\"\nseats = 5\n\
                 tags = [\"x\", \"z\"]\nmore = true",
                vec![
                    "9 /documents/a/more true nothing",
                    "6 /documents/a/name \"Acme Ltd\" \"Acme\"",
                    "8 /documents/a/tags/1 \"z\" \"y\"",
                    "5 /documents/b nothing {\"name\":\"B\"}",
                ],
            ),
            ("expect.rejected.c = \"cannot\"\nexpect.traits.a = { seats = 5 }", vec![]),
            ("expect.rejected.c = \"cannot\"\nexpect.traits.a = { address = { city = \"Rome\" } }", vec![]),
            (
                "expect.rejected = { c = \"cannot\", d = \"x\" }\nexpect.changes.a.set = { name = \"B\" }",
                vec!["4 /changes/a/set/name \"B\" \"Acme\"", "3 /rejected/d \"x\" nothing"],
            ),
            (
                "expect.rejected.c = \"cannot\"\nexpect.requests = [{ path = \"/y\", body = '[{\"k\": 2}]' }, {}]",
                vec!["4 /requests/0/path \"/y\" \"/x\"", "4 /requests/0/body/0/k 2 1", "4 /requests/1 {} nothing"],
            ),
            ("expect.rejected.c = \"cannot\"\nexpect.guard = \"empty\"", vec!["4 /guard \"empty\" nothing"]),
        ] {
            let mut found = mismatches(expect, &actual);
            let mut expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
            found.sort();
            expected.sort();
            assert_eq!(found, expected, "{expect}");
        }
    }
}
