use crate::destination::{AddressedChange, Attempt, Destination, Element};
use crate::model::Change;

use super::*;
use serde_json::json;

#[test]
fn only_what_is_said_is_written_and_digits_stay() {
    let file = File::new(&FileSettings { path: Some("out/changes.ndjson".into()) }, "company");
    let change: Change = serde_json::from_value(json!({"set": {"note": null}, "unset": ["plan"]})).unwrap();
    let mut exact = Change::default();
    exact.set.insert("arr".into(), crate::model::document::number_value("12345678901234567890.123").unwrap());
    let delete = Change { delete: true, ..Change::default() };
    let elements: Vec<Element> = [("acme", change), ("b \"c\"", exact), ("gone", delete)]
        .into_iter()
        .map(|(key, change)| {
            let addressed = AddressedChange { key: key.into(), change: change.into(), ..AddressedChange::default() };
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
    assert_eq!(File::new(&FileSettings::default(), "company").request(0, &[], attempt).url, "stdout:");
}
