//! How is a change written as a line of NDJSON, to a file or to standard output?
//!
//! One JSON object per line, of which only the non-empty fields are present:
//! `{"group_type":"company","key":"acme","set":{"arr":1200},"unset":["plan"]}`, or `"delete":true`. Everything a mapping can
//! ask for can be written, numbers keep all their digits, and a change is never cut.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{AddressedChange, Attempt, Destination, Element, Features, Part, RequestLimits, Route, UserRule, Verdict};
use crate::io::http::{Applied, FILE_URL, Request, Response, STDOUT_URL};
use crate::model::{Change, OnNull, Op};

/// Lines in one write. A write ends with an fsync (about 1 ms on an SSD, 10 ms on a disk), so a page of changes is one or two.
const LINES_MAX: usize = 5_000;
/// Bytes in one write, and so in one change: far more than any account row, and little memory.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// The `[destinations.<name>]` table of `type = "file"`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The file lines are appended to; its folder is created. Standard output when absent.
    #[serde(default)]
    pub path: Option<PathBuf>,
}

/// An NDJSON file or standard output, for one group type.
pub struct File {
    url: String,
    group_type: String,
}

#[derive(Serialize)]
struct Line<'a> {
    group_type: &'a str,
    key: &'a str,
    #[serde(flatten)]
    change: &'a Change,
}

impl File {
    /// The destination that these settings describe, for groups of `group_type`.
    pub fn new(settings: &Settings, group_type: &str) -> File {
        let url = match &settings.path {
            Some(path) => format!("{FILE_URL}{}", path.display()),
            None => STDOUT_URL.to_owned(),
        };
        File { url, group_type: group_type.to_owned() }
    }
}

impl Destination for File {
    fn name(&self) -> &'static str {
        "file"
    }

    fn features(&self) -> Features {
        Features {
            ops: Op::ALL,
            on_null: &[OnNull::Unset, OnNull::Null, OnNull::Skip],
            delete: true,
            exact_numbers: true,
            objects: true,
            gzip: false,
            user: UserRule::Never,
        }
    }

    fn limits(&self, _: Route) -> RequestLimits {
        RequestLimits {
            elements_max: LINES_MAX,
            traits_max: usize::MAX,
            body_bytes_max: BYTES_MAX,
            element_bytes_max: BYTES_MAX - 1,
            // The line end after the last line; the others are separators.
            envelope_bytes: 1,
            separator_bytes: 1,
        }
    }

    /// A line may be there twice after an unknown outcome; read in order, twice says the same, unless it accumulates.
    fn repeatable(&self, route: Route) -> bool {
        route == 0
    }

    fn parts(&self, change: &AddressedChange) -> Result<Vec<Part>, String> {
        if change.change.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![Part { route: Route::from(change.change.accumulates()), change: Arc::clone(&change.change) }])
    }

    fn element(&self, addressed: &AddressedChange, part: &Part) -> Element {
        serde_json::to_vec(&Line { group_type: &self.group_type, key: &addressed.key, change: &part.change })
            .expect("writing JSON values to memory cannot fail")
            .into()
    }

    fn request(&self, _: Route, elements: &[&Element], _: Attempt) -> Request {
        let mut body = Vec::with_capacity(elements.iter().map(|element| element.bytes.len() + 1).sum());
        for element in elements {
            body.extend_from_slice(&element.bytes);
            body.push(b'\n');
        }
        Request { method: "APPEND", url: self.url.clone(), headers: Vec::new(), body, gzip: false }
    }

    fn interpret(&self, _: Route, _: usize, response: &Response) -> Verdict {
        let mut reason = String::from_utf8_lossy(&response.body).into_owned();
        if reason.trim().is_empty() {
            reason = format!("status {}", response.status);
        }
        match response.status {
            200..=299 => Verdict::ACCEPTED,
            // The transport takes back what a failed write left behind, so nothing was applied.
            400..=499 => Verdict::stop(reason, "check the path and its permissions"),
            507 => Verdict::stop(reason, "make room on the disk"),
            _ => Verdict::Retry { reason, after: None, applied: Applied::Maybe },
        }
    }

    fn masked(&self, request: &Request) -> Request {
        request.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_is_said_is_written_and_digits_stay() {
        let file = File::new(&Settings { path: Some("out/changes.ndjson".into()) }, "company");
        let change: Change = serde_json::from_value(json!({"set": {"note": null}, "unset": ["plan"]})).unwrap();
        let mut exact = Change::default();
        exact.set.insert("arr".into(), crate::model::document::number_value("12345678901234567890.123").unwrap());
        let delete = Change { delete: true, ..Change::default() };
        let elements: Vec<Element> = [("acme", change), ("b \"c\"", exact), ("gone", delete)]
            .into_iter()
            .map(|(key, change)| {
                let addressed =
                    AddressedChange { key: key.into(), change: change.into(), ..AddressedChange::default() };
                file.element(&addressed, &file.parts(&addressed).unwrap()[0])
            })
            .collect();
        let all: Vec<&Element> = elements.iter().collect();
        let attempt = Attempt { at: chrono::DateTime::UNIX_EPOCH, number: 1, request: 0 };
        let request = file.request(0, &all, attempt);
        assert_eq!(request.url, "file:out/changes.ndjson");
        assert_eq!(
            String::from_utf8(request.body.clone()).unwrap(),
            concat!(
                r#"{"group_type":"company","key":"acme","set":{"note":null},"unset":["plan"]}"#,
                "\n",
                r#"{"group_type":"company","key":"b \"c\"","set":{"arr":12345678901234567890.123}}"#,
                "\n",
                r#"{"group_type":"company","key":"gone","delete":true}"#,
                "\n"
            )
        );
        let limits = file.limits(0);
        let inner: usize = elements.iter().map(|element| element.bytes.len()).sum();
        assert_eq!(request.body.len(), limits.envelope_bytes + inner + limits.separator_bytes * 2);
        assert_eq!(File::new(&Settings::default(), "company").request(0, &[], attempt).url, "stdout:");
    }

    #[test]
    fn any_status_has_a_verdict() {
        let file = File::new(&Settings::default(), "company");
        for status in 0..1_000 {
            let verdict = file.interpret(0, 1, &Response { status, ..Response::default() });
            assert_eq!(matches!(verdict, Verdict::Accepted { .. }), (200..300).contains(&status), "{status}");
        }
    }
}
