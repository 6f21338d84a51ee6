//! JSON Schemas of our TOML files, for completion and errors in editors.
//!
//! Keys and types are those that the parsers read, descriptions those of docs/. A schema reports less than `groupcast check`:
//! it knows no other file, no SQL and no environment. It is draft 7, the newest that taplo and the editors on it read whole.

mod docs;
mod examples;
mod mapping;
mod settings;
mod test_file;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod validator;

use serde_json::{Map, Value, json};

use self::docs::KeyDoc;
use self::examples::ExampleOf;

/// Where `groupcast init` and `groupcast schema --write` put the schemas, below the config folder.
pub const FOLDER: &str = ".groupcast";

/// The name and the schema of groupcast.toml.
pub fn project() -> (&'static str, Value) {
    ("groupcast.schema.json", with_examples(settings::schema(), ExampleOf::Project))
}

/// The name and the schema of mappings.
pub fn mapping() -> (&'static str, Value) {
    ("mapping.schema.json", with_examples(mapping::schema(), ExampleOf::Mapping))
}

/// The name and the schema of the tests of mappings.
pub fn test() -> (&'static str, Value) {
    ("test.schema.json", with_examples(test_file::schema(), ExampleOf::Test))
}

/// A whole schema.
fn document(title: &str, properties: Map<String, Value>, required: &[&str]) -> Value {
    let mut schema = table(properties);
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema["title"] = json!(title);
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// A table with these keys and no others.
fn table(properties: Map<String, Value>) -> Value {
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

/// Text that is not empty.
fn text() -> Value {
    json!({ "type": "string", "minLength": 1 })
}

/// A schema with what the docs have of its key.
fn described(mut schema: Value, doc: Option<KeyDoc>) -> Value {
    if let (Some(doc), Some(members)) = (doc, schema.as_object_mut()) {
        members.insert("description".to_owned(), Value::from(doc.description));
        members.extend(doc.default.map(|default| ("default".to_owned(), default)));
    }
    schema
}

/// A schema with the examples that the docs have of its keys.
fn with_examples(mut schema: Value, of: ExampleOf) -> Value {
    examples::add(&mut schema, of);
    schema
}

/// The keys of a section, each with its schema.
fn properties<'a>(keys: impl IntoIterator<Item = &'a str>, of: impl Fn(&str) -> Value) -> Map<String, Value> {
    keys.into_iter().map(|key| (key.to_owned(), of(key))).collect()
}
