//! The schema of the tests of mappings.

use serde_json::{Value, json};

use super::{described, docs, document, properties, table, text};
use crate::mapping::test_file::{CHANGE, DUCKDB, EXPECT, REQUEST, TEST, TOP};

pub(super) fn schema() -> Value {
    document("Tests of a Groupcast mapping", properties(TOP, |key| of("## The file", key, top)), &["tests"])
}

fn of(heading: &str, key: &str, schema: fn(&str) -> Value) -> Value {
    described(schema(key), docs::testing(heading, key))
}

fn top(key: &str) -> Value {
    match key {
        // Editors show TOML's times as text.
        "now" => json!({ "type": "string" }),
        "columns" => json!({ "type": "object", "additionalProperties": text() }),
        "duckdb" => table(properties(DUCKDB, |key| match key {
            "traits" => json!({ "type": "object" }),
            _ => text(),
        })),
        _ => {
            let mut test = table(properties(TEST, |key| of("## A test", key, test_key)));
            test["required"] = json!(["name"]);
            json!({ "type": "array", "items": test })
        }
    }
}

fn test_key(key: &str) -> Value {
    match key {
        "rows" => json!({ "anyOf": [text(), { "type": "array", "items": { "type": "object" } }] }),
        "before" => groups(json!({ "type": "object" })),
        "expect" => table(properties(EXPECT, |key| of("## Expectations", key, expectation))),
        _ => text(),
    }
}

fn expectation(key: &str) -> Value {
    match key {
        "changes" => groups(table(properties(CHANGE, |key| match key {
            "unset" => json!({ "type": "array", "items": { "type": "string" } }),
            "delete" => json!({ "type": "boolean" }),
            _ => json!({ "type": "object" }),
        }))),
        "requests" => {
            let request = table(properties(REQUEST, |key| match key {
                "body" => json!({}),
                _ => json!({ "type": "string" }),
            }));
            json!({ "type": "array", "items": request })
        }
        "rejected" => groups(text()),
        "guard" => json!({ "type": "string" }),
        _ => groups(json!({ "type": "object" })),
    }
}

/// A key for each group.
fn groups(of: Value) -> Value {
    json!({ "type": "object", "additionalProperties": of })
}
