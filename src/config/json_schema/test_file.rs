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
        "duckdb" => table(properties(DUCKDB, |inner| {
            let schema = if inner == "traits" { json!({ "type": "object" }) } else { text() };
            described(schema, docs::testing("## The file", &format!("duckdb.{inner}")))
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
        "changes" => groups(table(properties(CHANGE, |inner| {
            let schema = match inner {
                "unset" => json!({ "type": "array", "items": { "type": "string" }, "examples": [["seats"]] }),
                "delete" => json!({ "type": "boolean", "examples": [true] }),
                _ => json!({ "type": "object" }),
            };
            described(schema, docs::testing("## Expectations", &format!("changes.{inner}")))
        }))),
        "requests" => {
            let request = table(properties(REQUEST, |inner| {
                let schema = if inner == "body" { json!({}) } else { json!({ "type": "string" }) };
                described(schema, docs::testing("## Expectations", &format!("requests.{inner}")))
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
