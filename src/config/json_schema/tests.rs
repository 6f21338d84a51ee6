//! The schemas are held to the parsers: what one knows the other knows, and what is valid is valid to both.

use std::path::Path;

use serde_json::{Map, Value};

use super::validator::problem;
use super::*;
use crate::config::environment::Environment;
use crate::config::files::Files;
use crate::config::layers;
use crate::config::location::Location;
use crate::config::secrets::References;
use crate::mapping::diagnostic::{Diagnostic, Severity};
use crate::mapping::file::{Context, parse};
use crate::mapping::sections::model::Lookup;
use crate::mapping::{Guards, Policy, test_file as tests_of_mapping};

/// A kind of file: its schema, and what its parser finds in a text.
struct Kind {
    schema: Value,
    found: fn(&str) -> Vec<Diagnostic>,
}

fn kinds() -> [Kind; 3] {
    [
        Kind { schema: project().1, found: in_settings },
        Kind { schema: mapping().1, found: in_mapping },
        Kind { schema: test().1, found: |text| tests_of_mapping::parse("a.test.toml", text).1 },
    ]
}

fn in_settings(text: &str) -> Vec<Diagnostic> {
    let environment = Environment::of_process(std::collections::BTreeMap::new());
    let (location, files) = (Location::from(Path::new(".")), Files::default());
    let folder = location.folder.as_path();
    let references = References { variables: &environment.values, folder, files: &files, stand_ins: true };
    layers::read(&location, text, &environment, references).found
}

fn in_mapping(text: &str) -> Vec<Diagnostic> {
    let (policy, guards) = (Policy::default(), Guards::default());
    let lookup = Lookup { sql_file: &|_| Ok("select 1".to_owned()), dbt: &|_| Err("is no dbt model".to_owned()) };
    let context = Context { names: None, policy: &policy, guards: &guards, lookup: &lookup };
    parse("a", "a.toml", text, &context).1
}

impl Kind {
    fn parses(&self, text: &str) -> bool {
        (self.found)(text).iter().all(|found| found.severity != Severity::Error)
    }

    /// What is wrong with the text by the schema; none when it is valid.
    fn invalid(&self, text: &str) -> Option<String> {
        let table: toml::Table = toml::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        problem(&self.schema, &self.schema, &json(toml::Value::Table(table)), "")
    }
}

/// As an editor hands it to a validator: times are text.
fn json(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(flag) => flag.into(),
        toml::Value::Datetime(moment) => moment.to_string().into(),
        toml::Value::Array(items) => items.into_iter().map(json).collect(),
        toml::Value::Table(table) => {
            Value::Object(table.into_iter().map(|(name, value)| (name, json(value))).collect::<Map<_, _>>())
        }
    }
}

/// Every key that a schema lists, as a dotted path with what leads to it.
fn paths(schema: &Value, above: &str, out: &mut Vec<String>) {
    for (key, of) in schema["properties"].as_object().into_iter().flatten() {
        let path = if above.is_empty() { key.clone() } else { format!("{above}.{key}") };
        out.push(path.clone());
        paths(of, &path, out);
    }
    for of in ["oneOf", "anyOf"].iter().flat_map(|word| schema[*word].as_array().into_iter().flatten()) {
        paths(of, above, out);
    }
    if let Some(of) = schema.get("items") {
        paths(of, &format!("{above}[]"), out);
    }
    if schema["additionalProperties"].is_object() {
        paths(&schema["additionalProperties"], &format!("{above}.any"), out);
    }
}

/// A text that has a key at this path, and nothing else.
fn text_with(path: &str) -> String {
    match path.rsplit_once("[].") {
        Some((list, key)) => match list.split_once("[].") {
            Some((outer, inner)) => format!("[[{outer}]]\nname = \"a\"\n[[{outer}.{inner}]]\n{key} = 1\n"),
            None => format!("[[{list}]]\n{key} = 1\n"),
        },
        None => format!("{path} = 1\n"),
    }
}

#[test]
fn every_key_of_a_schema_is_known_to_the_parser_and_no_other_is() {
    for kind in kinds() {
        let mut all = Vec::new();
        paths(&kind.schema, "", &mut all);
        assert!(all.len() > 15, "{all:?}");
        for path in all {
            let has_type = path.starts_with("sources.any.") || path.starts_with("destinations.any.");
            let unknown = |text: &str| (kind.found)(text).iter().any(|found| found.message.contains("unknown key"));
            if has_type {
                continue;
            }
            assert!(!unknown(&text_with(&path)), "{path} is in the schema only");
            assert!(unknown(&text_with(&format!("{path}_x"))), "{path} is not checked by the parser");
        }
    }
}

#[test]
fn every_setting_of_every_type_is_in_the_schema() {
    let schema = project().1;
    for (section, types) in
        [("sources", crate::config::schema::sources()), ("destinations", crate::config::schema::destinations())]
    {
        let listed = schema["properties"][section]["additionalProperties"]["oneOf"].as_array().unwrap();
        assert_eq!(listed.len(), types.len());
        for (of, listed) in types.iter().zip(listed) {
            assert_eq!(listed["properties"]["type"]["const"], of.name);
            for setting in of.settings {
                assert!(listed["properties"][setting.name].is_object(), "{} {}", of.name, setting.name);
            }
        }
    }
}

/// What is missing or wrong of the keys below a schema: a description, an example, or one that is not valid.
fn undocumented(root: &Value, schema: &Value, above: &str, out: &mut Vec<String>) {
    let keys = schema["properties"].as_object().into_iter().flatten();
    for (key, of) in keys.filter(|(key, of)| !(*key == "type" && of.get("const").is_some())) {
        let path = format!("{above}.{key}");
        if of.get("properties").is_none() {
            if of["description"].as_str().is_none_or(|text| text.len() < 6) {
                out.push(format!("{path} has no description"));
            }
            // What a person names needs none of its own: what is below it has.
            let is_table = of["type"] == "object"
                || of["anyOf"].as_array().is_some_and(|all| all.iter().any(|one| one["type"] == "object"));
            if of.get("examples").is_none() && of.get("default").is_none() && !is_table {
                out.push(format!("{path} has no example"));
            }
        }
        let examples = of["examples"].as_array().into_iter().flatten();
        for value in examples.chain(of.get("default")) {
            out.extend(problem(root, of, value, &path));
        }
        undocumented(root, of, &path, out);
    }
    for one in ["oneOf", "anyOf"].iter().flat_map(|word| schema[*word].as_array().into_iter().flatten()) {
        let path = one["title"].as_str().map_or_else(|| above.to_owned(), |title| format!("{above}.{title}"));
        undocumented(root, one, &path, out);
    }
    for below in ["items", "additionalProperties"] {
        if schema[below].is_object() {
            undocumented(root, &schema[below], above, out);
        }
    }
}

#[test]
fn every_key_has_a_description_and_an_example_in_the_docs() {
    for (name, schema) in [project(), mapping(), test()] {
        let mut found = Vec::new();
        undocumented(&schema, &schema, name, &mut found);
        for (name, of) in schema["definitions"].as_object().into_iter().flatten() {
            undocumented(&schema, of, name, &mut found);
        }
        assert_eq!(found, Vec::<String>::new());
    }
}

/// Every TOML file that we ship, with its kind.
fn shipped() -> Vec<(String, usize)> {
    fn walk(folder: &Path, out: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, out);
            } else if path.extension().is_some_and(|extension| extension == "toml") {
                out.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    walk(&root.join("examples"), &mut files);
    walk(&root.join("mappings"), &mut files);
    files.sort();
    let kind = |path: &Path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        match name {
            "groupcast.toml" => Some(0),
            _ if name.ends_with(".test.toml") => Some(2),
            _ if path.parent().unwrap().ends_with("mappings") => Some(1),
            _ => None,
        }
    };
    files.iter().filter_map(|path| Some((std::fs::read_to_string(path).unwrap(), kind(path)?))).collect()
}

#[test]
fn all_that_we_ship_is_valid_and_in_canonical_layout() {
    let kinds = kinds();
    let shipped = shipped();
    assert!(shipped.len() > 15);
    for (text, kind) in shipped {
        assert!(kinds[kind].parses(&text) || text.contains("dbt ="), "{text}");
        assert_eq!(kinds[kind].invalid(&text), None, "{text}");
        assert_eq!(crate::config::layout::formatted(&text).as_deref(), Some(text.as_str()));
    }
}

#[test]
fn a_parser_and_its_schema_agree_on_what_is_valid() {
    const MAPPING: &str =
        "source = \"w\"\ndestination = \"d\"\n[model]\ntable = \"t\"\n[group]\ntype = \"g\"\nkey = \"k\"\n[traits]\n";
    let mapped = |text: &str| format!("{MAPPING}{text}");
    let before = |text: &str| MAPPING.replace("[model]", &format!("{text}\n[model]")) + "a = \"a\"\n";
    type Texts = Vec<(usize, String)>;
    let (valid, invalid): (Texts, Texts) = (
        vec![
            (0, String::new()),
            (0, "[state]\nmemory = \"1 GB\"\nthreads = \"${THREADS}\"\n[defaults.guards]\nchanged_max = \"40%\"\nempty = false".into()),
            (0, "[sources.w]\ntype = \"postgres\"\nurl = \"${URL}\"\n[destinations.d]\ntype = \"file\"\ntimeout = \"5s\"".into()),
            (0, "[daemon]\ntoken = \"${TOKEN}\"\n[daemon.alerts]\nurl = \"${URL}\"".into()),
            (0, "[destinations.d]\ntype = \"segment\"\nwrite_key = \"${K}\"\ncontext = { a = { b = 1 } }".into()),
            (1, mapped("a = \"a\"\nb = { column = \"x\", as = \"date\", on_null = \"skip\" }\nc = { const = { x = [1] } }")),
            (1, mapped("a = { b = \"x\", c = { d = { sql = \"1\" } } }\ne = { sql = \"1\", op = \"add\" }")),
            (1, before("schedule = { every = \"5m\", jitter = \"1m\", overlap = \"queue\" }\nenabled = false")),
            (1, before("tags = [\"nightly\", \"crm\"]")),
            (1, mapped("a = \"a\"\n[user]\nid = { column = \"u\" }\n[incremental]\ncursor = \"c\"\nlookback = \"2d\"")),
            (2, "[[tests]]\nname = \"a\"\nrows = \"a.csv\"\n[tests.expect]\nguard = \"keys\"\nchanges.a = { unset = [\"x\"], delete = true }".into()),
            (2, "now = 2026-01-01T00:00:00Z\n[columns]\na = \"DATE\"\n[[tests]]\nname = \"a\"\nrows = [{ a = 2026-01-01 }]".into()),
        ],
        vec![
            (0, "[stat]\npath = \"x\"".into()),
            (0, "[state]\npath = 1".into()),
            (0, "[state]\nmemory = \"much\"".into()),
            (0, "[state]\nthreads = 0".into()),
            (0, "[sources.w]\ntype = \"oracle\"".into()),
            (0, "[sources.w]\npath = \"x\"".into()),
            (0, "[sources.w]\ntype = \"duckdb\"\nurl = \"x\"".into()),
            (0, "[destinations.d]\ntype = \"amplitude\"\napi_key = \"plain\"".into()),
            (0, "[destinations.d]\ntype = \"file\"\ntimeout = 5".into()),
            (0, "[defaults.policy]\non_null = \"drop\"".into()),
            (1, mapped("")),
            (1, mapped("a = 1")),
            (1, mapped("a = { as = \"date\" }")),
            (1, mapped("a = { column = \"x\", as = \"datum\" }")),
            (1, mapped("a = { const = 1, column = \"x\" }")),
            (1, mapped("a = { const = 1, on_null = \"skip\" }")),
            (1, mapped("a = { b = { column = \"x\", op = \"add\" } }")),
            (1, mapped("a = \"a\"\n[policy]\non_nul = \"skip\"")),
            (1, mapped("a = \"a\"\n[incremental]\nlookback = \"1h\"")),
            (1, mapped("a = \"a\"\n[user]\nid = \"x\"\nanonymous_id = \"y\"")),
            (1, before("schedule = { every = \"5m\", after = \"b\" }")),
            (1, before("enabled = \"yes\"")),
            (1, MAPPING.replace("table = \"t\"", "table = \"t\"\nsql = \"select 1\"") + "a = \"a\""),
            (1, MAPPING.replace("destination = \"d\"", "") + "a = \"a\""),
            (2, String::new()),
            (2, "[[tests]]\nrows = []".into()),
            (2, "[[tests]]\nname = \"a\"\nrows = 1".into()),
            (2, "[[tests]]\nname = \"a\"\nexpect.document.a = {}".into()),
            (2, "[[tests]]\nname = \"a\"\nexpect.documents.a = 1".into()),
            (2, "[[tests]]\nname = \"a\"\nexpect.changes.a.sets = {}".into()),
            (2, "[columns]\na = 1\n[[tests]]\nname = \"a\"".into()),
        ],
    );
    let kinds = kinds();
    for (kind, text) in valid {
        assert!(kinds[kind].parses(&text), "{text}: {:?}", (kinds[kind].found)(&text));
        assert_eq!(kinds[kind].invalid(&text), None, "{text}");
    }
    for (kind, text) in invalid {
        assert!(!kinds[kind].parses(&text), "the parser takes {text}");
        assert!(kinds[kind].invalid(&text).is_some(), "the schema takes {text}");
    }
}
