//! The schema of mappings.

use serde_json::{Map, Value, json};
use strum::VariantNames as _;

use super::settings::{duration, value};
use super::{described, docs, document, properties, table, text};
use crate::mapping::file::TOP;
use crate::mapping::sections::traits::{MEMBER, RESERVED};
use crate::mapping::sections::{group, guards, incremental, model, policy, schedule, user};
use crate::mapping::{CatchUp, Compare, Overlap};
use crate::model::cell::As;
use crate::model::setting::Setting;
use crate::model::{OnNull, Op};

pub(super) fn schema() -> Value {
    let mut schema =
        document("Groupcast mapping", properties(TOP, top), &["source", "destination", "model", "group", "traits"]);
    schema["definitions"] = json!({ "trait": trait_value(&RESERVED, true), "member": trait_value(&MEMBER, false) });
    schema
}

fn top(key: &str) -> Value {
    let documented = |schema: Value| described(schema, docs::configuration("## Mappings", key));
    let section = |keys: &[&str], of: &dyn Fn(&str) -> Value, required: &[&str]| {
        let of = |inner: &str| described(of(inner), docs::configuration("## Mappings", &format!("{key}.{inner}")));
        let mut schema = table(properties(keys.iter().copied(), of));
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        schema
    };
    match key {
        "enabled" => documented(json!({ "type": "boolean" })),
        "tags" => documented(json!({ "type": "array", "items": text() })),
        "schedule" => documented(json!({ "anyOf": [text(), schedule_table()] })),
        "model" => {
            let of = |key: &str| match key {
                "compare" => json!({ "enum": Compare::VARIANTS }),
                _ => text(),
            };
            let mut schema = section(&model::KEYS, &of, &[]);
            schema["oneOf"] = ["table", "sql", "file", "dbt"].iter().map(|key| json!({ "required": [key] })).collect();
            schema
        }
        "group" => section(&group::KEYS, &|_| text(), &["type", "key"]),
        "user" => {
            let from = || {
                json!({ "anyOf": [text(), {
                "type": "object", "properties": {
                    "column": {
                        "type": "string", "minLength": 1, "description": "the column that has it", "examples": ["owner_id"]
                    },
                    "sql": {
                        "type": "string", "minLength": 1, "description": "an SQL expression in the source's dialect",
                        "examples": ["lower(owner_email)"]
                    }
                }, "additionalProperties": false,
                "minProperties": 1, "maxProperties": 1
            }] })
            };
            let mut schema = section(&user::KEYS, &|_| from(), &[]);
            (schema["minProperties"], schema["maxProperties"]) = (json!(1), json!(1));
            schema
        }
        "traits" => json!({
            "type": "object", "minProperties": 1, "additionalProperties": { "$ref": "#/definitions/trait" },
            "description": "what is sent: the trait's name at the destination = a column, or a table that describes it"
        }),
        "policy" => settings(policy::SETTINGS, "### Policy"),
        "guards" => settings(guards::SETTINGS, "### Guards"),
        "incremental" => {
            let of = |key: &str| if key == "cursor" { text() } else { duration() };
            section(&incremental::KEYS, &of, &["cursor"])
        }
        _ => documented(text()),
    }
}

fn settings(settings: &[Setting], heading: &str) -> Value {
    let property = |setting: &Setting| {
        let description = docs::configuration(heading, setting.name);
        (setting.name.to_owned(), described(value(setting.of, false), description))
    };
    table(settings.iter().map(property).collect::<Map<String, Value>>())
}

fn schedule_table() -> Value {
    let of = |key: &str| {
        let schema = match key {
            "every" | "jitter" => duration(),
            "catch_up" => json!({ "enum": CatchUp::VARIANTS }),
            "overlap" => json!({ "enum": Overlap::VARIANTS }),
            _ => text(),
        };
        described(schema, docs::configuration("## Schedules", key))
    };
    let mut schema = table(properties(schedule::SCHEDULE, of));
    schema["oneOf"] = ["cron", "every", "after"].iter().map(|key| json!({ "required": [key] })).collect();
    schema
}

/// A trait or a member of an object: a column's name, a table that describes a value, or an object.
fn trait_value(known: &[&str], is_trait: bool) -> Value {
    let of = |key: &str| match key {
        "column" => json!({
            "type": "string", "minLength": 1, "description": "the column its value is in", "examples": ["account_name"]
        }),
        "sql" => json!({
            "type": "string", "minLength": 1, "description": "an SQL expression in the source's dialect",
            "examples": ["arr_cents / 100"]
        }),
        "const" => json!({ "description": "the same value for every group", "examples": ["groupcast"] }),
        "as" => {
            let types: Vec<&str> = As::ALL.iter().map(|of| of.name()).collect();
            json!({ "enum": types, "description": "the JSON type that is sent", "examples": ["number"] })
        }
        "op" => {
            let ops: Vec<&str> = Op::ALL.iter().map(|op| op.name()).collect();
            json!({ "enum": ops, "default": "set", "description": "what a new value does at the destination" })
        }
        "on_null" => {
            json!({
                "enum": OnNull::VARIANTS, "description": "what a null in the source means for this trait", "examples": ["skip"]
            })
        }
        _ => json!({ "type": "boolean", "default": false, "description": "sent along with every change of its group" }),
    };
    let mut value = table(properties(known.iter().copied(), of));
    let beside_const: Vec<Value> =
        ["column", "sql", "as", "on_null"].iter().map(|key| json!({ "required": [key] })).collect();
    value["anyOf"] = json!([
        { "required": ["const"], "not": { "anyOf": beside_const } },
        { "required": ["column"], "not": { "required": ["const"] } },
        { "required": ["sql"], "not": { "required": ["const"] } },
    ]);
    let object = json!({
        "type": "object", "minProperties": 1, "propertyNames": { "not": { "enum": RESERVED } },
        "additionalProperties": { "$ref": "#/definitions/member" }
    });
    let what = if is_trait { "a trait" } else { "a member of an object" };
    json!({ "description": what, "anyOf": [text(), value, object] })
}
