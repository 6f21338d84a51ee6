//! Examples of keys' values, from the TOML of docs/: the first block that sets a key has its example. Lines that are commented
//! out count.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::docs::{CONFIGURATION, DESTINATIONS, FILES, TESTING};

const WAREHOUSES: &str = include_str!("../../../docs/warehouses.md");

/// What kind of file an example is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ExampleOf {
    Project,
    Mapping,
    Test,
}

/// Examples by kind of file and dotted path. Below `sources` and `destinations` a type is in the place of a name.
type Examples = BTreeMap<(ExampleOf, String), Value>;

/// Puts an example beside every key of a schema that the docs have one of.
pub(super) fn add(schema: &mut Value, of: ExampleOf) {
    let examples = all();
    add_below(schema, "", &|path| examples.get(&(of, path.to_owned())));
}

fn add_below<'e>(schema: &mut Value, above: &str, example: &dyn Fn(&str) -> Option<&'e Value>) {
    let below = |key: &str| if above.is_empty() { key.to_owned() } else { format!("{above}.{key}") };
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for (key, of) in properties {
            let path = below(key);
            if of.get("properties").is_none()
                && let Some(value) = example(&path).or_else(|| example(&of_any_type(&path)?))
            {
                of["examples"] = json!([value]);
            }
            add_below(of, &path, example);
        }
    }
    // A list of tables has its keys directly below its own.
    if let Some(items) = schema.get_mut("items") {
        add_below(items, above, example);
    }
    // The type of a source or destination is in the place of its name.
    for word in ["anyOf", "oneOf"] {
        for one in schema.get_mut(word).and_then(Value::as_array_mut).into_iter().flatten() {
            let path = one.get("title").and_then(Value::as_str).map_or_else(|| above.to_owned(), below);
            add_below(one, &path, example);
        }
    }
    if let Some(of) = schema.get_mut("additionalProperties").filter(|of| of.is_object()) {
        add_below(of, above, example);
    }
}

/// The path of a setting that every type has: an example of one type is one of all.
fn of_any_type(path: &str) -> Option<String> {
    let mut parts = path.split('.');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(section @ ("sources" | "destinations")), Some(_), Some(key)) => Some(format!("{section}.*.{key}")),
        _ => None,
    }
}

fn all() -> Examples {
    let mut found = Examples::new();
    let pages = [CONFIGURATION, WAREHOUSES, FILES].into_iter().chain(DESTINATIONS.iter().map(|(_, page)| *page));
    for block in pages.flat_map(blocks) {
        if let Some(table) = parsed(block) {
            let is_project = ["sources", "destinations", "state", "daemon", "dbt", "duckdb", "defaults"]
                .iter()
                .any(|section| table.contains_key(*section) && table.get(*section).is_some_and(toml::Value::is_table));
            let of = if is_project { ExampleOf::Project } else { ExampleOf::Mapping };
            collect(of, "", &table, &mut found);
        }
    }
    for table in blocks(TESTING).filter_map(parsed) {
        collect(ExampleOf::Test, "", &table, &mut found);
    }
    found
}

/// The TOML blocks of a page.
fn blocks(page: &str) -> impl Iterator<Item = &str> {
    page.split("```toml\n").skip(1).filter_map(|rest| rest.split("\n```").next())
}

/// A block with the lines that are commented out, or without them where they do not fit in.
fn parsed(block: &str) -> Option<toml::Table> {
    let live = |line: &'_ str| {
        let inner = line.strip_prefix("# ").filter(|inner| inner.starts_with('[') || inner.contains(" = "));
        inner.unwrap_or(line).to_owned()
    };
    let whole: Vec<String> = block.lines().map(live).collect();
    whole.join("\n").parse().or_else(|_| block.parse()).ok()
}

/// Notes every value of a table. What is named by a person counts by its type; of a list of tables, all tables do.
fn collect(of: ExampleOf, above: &str, table: &toml::Table, found: &mut Examples) {
    for (key, value) in table {
        let named = matches!(above, "sources" | "destinations");
        let kind = value.get("type").and_then(toml::Value::as_str).filter(|_| named);
        let key = kind.unwrap_or(key);
        let path = if above.is_empty() { key.to_owned() } else { format!("{above}.{key}") };
        if let Ok(json) = serde_json::to_value(value)
            && !(value.is_table() && (above.is_empty() || named))
        {
            let json = times_as_text(json);
            if let Some(general) = of_any_type(&path) {
                found.entry((of, general)).or_insert_with(|| json.clone());
            }
            found.entry((of, path.clone())).or_insert(json);
        }
        match value {
            toml::Value::Table(inner) => collect(of, &path, inner, found),
            toml::Value::Array(items) => {
                items.iter().filter_map(toml::Value::as_table).for_each(|inner| collect(of, &path, inner, found));
            }
            _ => {}
        }
    }
}

/// TOML's times as the texts that editors show.
fn times_as_text(value: Value) -> Value {
    match value {
        Value::Object(mut members) => match members.remove("$__toml_private_datetime") {
            Some(text) => text,
            None => Value::Object(members.into_iter().map(|(name, of)| (name, times_as_text(of))).collect()),
        },
        Value::Array(items) => items.into_iter().map(times_as_text).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_block_that_sets_a_key_has_its_example() {
        let examples = all();
        let of = |of: ExampleOf, path: &str| examples.get(&(of, path.to_owned())).cloned();
        assert_eq!(of(ExampleOf::Project, "destinations.amplitude.api_key"), Some(json!("${AMPLITUDE_API_KEY}")));
        assert_eq!(of(ExampleOf::Project, "destinations.amplitude.batch_max"), Some(json!(10)), "commented out");
        assert_eq!(of(ExampleOf::Project, "duckdb.extensions"), Some(json!(["httpfs", "ducklake"])));
        assert_eq!(of(ExampleOf::Test, "tests.name"), Some(json!("cents become whole euros")));
        assert!(of(ExampleOf::Mapping, "model.table").is_some());
        assert_eq!(of(ExampleOf::Mapping, "state.path"), None);
    }
}
