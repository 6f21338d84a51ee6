//! The schema of groupcast.toml.

use serde_json::{Map, Value, json};

use super::docs::KeyDoc;
use super::{described, docs, document, properties, table, text};
use crate::config::layers::TOP;
use crate::config::schema::{self, DELIVERY, SECTIONS, SettingsType};
use crate::model::setting::{Setting, SettingType};

pub(super) fn schema() -> Value {
    document("groupcast.toml", properties(TOP, top), &[])
}

fn top(key: &str) -> Value {
    match key {
        "sources" => named("a warehouse, by name", &schema::sources(), docs::source),
        "destinations" => named("a destination, by name", &schema::destinations(), |kind, setting| {
            docs::destination(kind, setting).or_else(|| docs::configuration("### Destinations", setting))
        }),
        section => fixed(section),
    }
}

/// A section whose name is fixed, with those inside it.
fn fixed(path: &str) -> Value {
    let settings = SECTIONS.iter().find(|(name, _)| *name == path).map_or(&[][..], |(_, settings)| settings);
    let heading = match path {
        "defaults.policy" => "### Policy",
        "defaults.guards" => "### Guards",
        _ => "## groupcast.toml",
    };
    let of = |setting: &Setting| {
        let key = match path.strip_prefix("defaults.") {
            Some(_) => setting.name.to_owned(),
            None => format!("{path}.{}", setting.name),
        };
        (setting.name.to_owned(), described(value(setting.of, true), docs::configuration(heading, &key)))
    };
    let mut properties: Map<String, Value> = settings.iter().map(of).collect();
    let inner = SECTIONS.iter().filter_map(|(name, _)| Some((name.strip_prefix(path)?.strip_prefix('.')?, *name)));
    properties.extend(inner.map(|(name, path)| (name.to_owned(), fixed(path))));
    table(properties)
}

/// A section of sections that a person names, each of one of these types.
fn named(what: &str, types: &[SettingsType], describe: impl Fn(&str, &str) -> Option<KeyDoc>) -> Value {
    let is_destination = what.contains("destination");
    let one = |of: &SettingsType| {
        let delivery = if is_destination { DELIVERY } else { &[] };
        let property = |setting: &Setting| {
            let mut schema = described(value(setting.of, true), describe(of.name, setting.name));
            if setting.required {
                // For the reference: an editor must not miss what is in the environment.
                schema["x-required"] = json!(true);
            }
            (setting.name.to_owned(), schema)
        };
        let mut properties: Map<String, Value> = of.settings.iter().chain(delivery).map(property).collect();
        properties.insert("type".to_owned(), json!({ "const": of.name }));
        // What is required may also be in the environment.
        let mut schema = table(properties);
        schema["title"] = json!(of.name);
        schema["required"] = json!(["type"]);
        schema
    };
    let types: Vec<Value> = types.iter().map(one).collect();
    json!({
        "type": "object", "description": format!("{what}: its type and settings"),
        "additionalProperties": { "description": what, "oneOf": types }
    })
}

/// What a setting may be. `refers`: whether text may refer to the environment, as in groupcast.toml.
pub(super) fn value(of: SettingType, refers: bool) -> Value {
    const REFERENCE: &str = r"\$\{";
    let or_reference = |schema: Value| match refers {
        true => json!({ "anyOf": [schema, { "type": "string", "pattern": REFERENCE }] }),
        false => schema,
    };
    match of {
        SettingType::Text
        | SettingType::ConnectionString
        | SettingType::Path
        | SettingType::PathOrDash
        | SettingType::TimeZone => text(),
        SettingType::Secret | SettingType::SecretUrl => json!({ "type": "string", "pattern": r"\$\{.+\}|^\s*$" }),
        SettingType::Url => or_reference(json!({ "type": "string", "pattern": "^https?://." })),
        SettingType::Boolean => or_reference(json!({ "type": "boolean" })),
        SettingType::Integer(least, most) => or_reference(match most {
            i64::MAX => json!({ "type": "integer", "minimum": least }),
            most => json!({ "type": "integer", "minimum": least, "maximum": most }),
        }),
        SettingType::Rate => or_reference(json!({ "type": "number", "exclusiveMinimum": 0 })),
        SettingType::Duration(_) => or_reference(duration()),
        SettingType::Size(_) => {
            or_reference(json!({ "type": "string", "pattern": "^[0-9]+ *([kKmMgGtT][iI]?)?[bB]$" }))
        }
        SettingType::Share => json!({ "anyOf": [
            { "type": "number", "minimum": 0, "maximum": 1 },
            { "type": "string", "pattern": if refers { r"^[0-9.]+ *%?$|\$\{" } else { "^[0-9.]+ *%?$" } }
        ] }),
        SettingType::OneOf(words) => or_reference(json!({ "enum": words })),
        SettingType::Names => or_reference(json!({ "type": "array", "items": text() })),
        SettingType::Table => json!({ "type": "object" }),
    }
}

/// A whole number and its unit.
pub(super) fn duration() -> Value {
    json!({ "type": "string", "pattern": "^[0-9]+ *[smhdw]$" })
}
