//! A validator of the part of JSON Schema that our schemas use, for tests. It fails at any other keyword. A crate for it would
//! switch on features of crates that the program shares with it, and every dependency would be built twice.

use serde_json::Value;

/// Keywords that say nothing about a value, or that another one covers.
const SILENT: [&str; 8] =
    ["$schema", "title", "description", "default", "examples", "x-required", "definitions", "additionalProperties"];

/// What is wrong with the value at `at`; none when it is valid. `root` has the definitions.
pub(super) fn problem(root: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    let keywords = schema.as_object().unwrap_or_else(|| panic!("{schema} is no schema"));
    let unknown = |name: &str| keywords.get("properties").is_none_or(|known| known.get(name).is_none());
    let each = |list: &Value| list.as_array().unwrap_or_else(|| panic!("{list} is no list")).clone();
    let matching = |list: &Value| each(list).iter().filter(|one| problem(root, one, value, at).is_none()).count();
    let object = value.as_object();
    for (keyword, argument) in keywords {
        let holds = match keyword.as_str() {
            "$ref" => {
                let name = argument.as_str().and_then(|path| path.strip_prefix('#')).unwrap();
                if let Some(problem) = problem(root, root.pointer(name).unwrap(), value, at) {
                    return Some(problem);
                }
                true
            }
            "type" => match argument.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "boolean" => value.is_boolean(),
                "integer" => value.is_i64(),
                "number" => value.is_number(),
                other => panic!("{other} is no type of ours"),
            },
            "enum" => each(argument).contains(value),
            "const" => argument == value,
            "pattern" => value.as_str().is_none_or(|text| fits(argument.as_str().unwrap(), text)),
            "minLength" => value.as_str().is_none_or(|text| text.chars().count() as u64 >= argument.as_u64().unwrap()),
            "minimum" => value.as_f64().is_none_or(|number| number >= argument.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|number| number <= argument.as_f64().unwrap()),
            "exclusiveMinimum" => value.as_f64().is_none_or(|number| number > argument.as_f64().unwrap()),
            "minProperties" => object.is_none_or(|members| members.len() as u64 >= argument.as_u64().unwrap()),
            "maxProperties" => object.is_none_or(|members| members.len() as u64 <= argument.as_u64().unwrap()),
            "required" => object
                .is_none_or(|members| each(argument).iter().all(|key| members.contains_key(key.as_str().unwrap()))),
            "propertyNames" => object.is_none_or(|members| {
                members.keys().all(|name| problem(root, argument, &Value::from(name.as_str()), at).is_none())
            }),
            "not" => problem(root, argument, value, at).is_some(),
            "anyOf" => matching(argument) > 0,
            "oneOf" => matching(argument) == 1,
            "properties" => true,
            "items" => {
                for (n, item) in value.as_array().into_iter().flatten().enumerate() {
                    if let Some(problem) = problem(root, argument, item, &format!("{at}/{n}")) {
                        return Some(problem);
                    }
                }
                true
            }
            silent if SILENT.contains(&silent) => true,
            other => panic!("`{other}` is not known here: {schema}"),
        };
        if !holds {
            return Some(format!("{at}: {value} breaks `{keyword}`: {argument}"));
        }
    }
    for (name, member) in object.into_iter().flatten() {
        let at = format!("{at}/{name}");
        let of = match (
            keywords.get("properties").and_then(|known| known.get(name)),
            keywords.get("additionalProperties"),
        ) {
            (Some(of), _) => Some(of),
            (None, Some(Value::Bool(false))) if unknown(name) => return Some(format!("{at}: unknown key")),
            (None, Some(of @ Value::Object(_))) => Some(of),
            (None, _) => None,
        };
        if let Some(problem) = of.and_then(|of| problem(root, of, member, &at)) {
            return Some(problem);
        }
    }
    None
}

/// Whether a text fits one of the patterns of our schemas, as DuckDB's expressions see it.
fn fits(pattern: &str, text: &str) -> bool {
    use std::sync::Mutex;
    static DUCKDB: Mutex<Option<duckdb::Connection>> = Mutex::new(None);
    let mut duckdb = DUCKDB.lock().unwrap();
    let duckdb = duckdb.get_or_insert_with(|| duckdb::Connection::open_in_memory().unwrap());
    duckdb.query_row("SELECT regexp_matches(?, ?)", [text, pattern], |row| row.get(0)).unwrap()
}
