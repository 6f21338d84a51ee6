//! Is what every command prints with `--json` as the schema says that `groupcast schema output` prints, and does the schema have
//! a description of each key?

use serde_json::{Value, json};

use crate::support::cli::{Place, Receiver, mapping};
use crate::support::daemon::Daemon;

/// What is wrong with a value at `place`; none when it is valid. A key that the schema does not list is wrong, too.
fn problem(root: &Value, schema: &Value, value: &Value, place: &str) -> Option<String> {
    let wrong = |what: String| Some(format!("{place}: {what}: {value}"));
    if let Some(path) = schema["$ref"].as_str() {
        let of = root.pointer(path.strip_prefix('#').unwrap()).unwrap_or_else(|| panic!("{path} leads nowhere"));
        return problem(root, of, value, place);
    }
    for word in ["anyOf", "oneOf"] {
        if let Some(choices) = schema[word].as_array() {
            let found: Vec<Option<String>> = choices.iter().map(|one| problem(root, one, value, place)).collect();
            return match found.iter().any(Option::is_none) {
                true => None,
                false => wrong(format!("none of its choices fits: {found:?}")),
            };
        }
    }
    if let Some(of) = schema.get("const") {
        return if of == value { None } else { wrong(format!("is not {of}")) };
    }
    if let Some(choices) = schema["enum"].as_array() {
        return if choices.contains(value) { None } else { wrong(format!("is none of {choices:?}")) };
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let fits = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => value.is_null(),
    };
    if !types.is_empty() && !types.iter().any(|kind| fits(kind)) {
        return wrong(format!("is not {types:?}"));
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.is_object() && value.get(name).is_none() {
            return wrong(format!("`{name}` is missing"));
        }
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        let at = format!("{place}.{name}");
        let found = match (schema["properties"].get(name), schema.get("additionalProperties")) {
            (Some(of), _) => problem(root, of, member, &at),
            (None, Some(of)) if of.is_object() => problem(root, of, member, &at),
            // What may be anything lists no keys.
            (None, _) if schema.get("properties").is_none() => None,
            (None, _) => Some(format!("{at} is not in the schema")),
        };
        if found.is_some() {
            return found;
        }
    }
    let items = value.as_array().into_iter().flatten().enumerate();
    items.filter_map(|(at, item)| problem(root, schema.get("items")?, item, &format!("{place}[{at}]"))).next()
}

/// Runs commands, and holds what they print to the schema.
struct Commands<'a> {
    place: &'a Place,
    schema: Value,
    tried: Vec<String>,
}

impl Commands<'_> {
    #[track_caller]
    fn run(&mut self, command: &str, arguments: &[&str]) -> Vec<Value> {
        let words: Vec<&str> = command.split(' ').chain(arguments.iter().copied()).collect();
        let output = self.place.run(&[&words[..], &["--json"]].concat());
        let lines = output.json_lines();
        assert!(!lines.is_empty(), "{command}: {}", output.all());
        let of = &self.schema["properties"][command];
        assert!(of.is_object(), "the schema has no `{command}`");
        for line in &lines {
            let found = problem(&self.schema, of, line, command);
            assert_eq!(found, None, "groupcast {command}: {line}");
        }
        assert!(of["x-lines"] == true || lines.len() == 1, "{command} prints several lines");
        self.tried.push(command.to_owned());
        lines
    }

    /// One that fails.
    #[track_caller]
    fn fails(&mut self, arguments: &[&str]) {
        let output = self.place.run(&[arguments, &["--json"]].concat());
        assert_ne!(output.code, Some(0), "{arguments:?}");
        for line in output.json_lines() {
            assert_eq!(problem(&self.schema, &self.schema["properties"]["any"], &line, "any"), None, "{arguments:?}");
        }
        self.tried.push("any".to_owned());
    }
}

#[test]
fn what_commands_print_is_as_their_schema_has_it() {
    let receiver = Receiver::start();
    let place = Place::with(&receiver);
    place.mapping(
        "accounts",
        &mapping(
            "plan = \"plan\"\nseats = { column = \"seats\", as = \"integer\" }\n",
            "[guards]\nunsendable_max = 1.0\n",
        ),
    );
    place.warehouse(
        "CREATE TABLE accounts (id text, plan text, seats text);
         INSERT INTO accounts VALUES ('a', 'free', '1'), ('b', 'pro', '2'), ('c', 'pro', 'many')",
    );
    place.write(
        "mappings/accounts.test.toml",
        "[[tests]]\nname = \"passes\"\nrows = [{ id = \"a\", plan = \"free\" }]\nexpect.traits.a = { plan = \"free\" }\n\
         [[tests]]\nname = \"fails\"\nrows = [{ id = \"a\", plan = \"free\" }]\nexpect.traits.a = { plan = \"pro\" }\n",
    );
    let schema = place.run(&["schema", "output"]).exits(0).json();
    let mut commands = Commands { place: &place, schema, tried: Vec::new() };
    commands.run("check", &["--connect"]);
    commands.run("test", &[]);
    commands.run("doctor", &[]);
    let planned = commands.run("plan", &["--requests"]);
    let kinds: Vec<&Value> = planned.iter().map(|line| &line["type"]).collect();
    for kind in ["change", "rejected", "request", "plan"] {
        assert!(kinds.contains(&&json!(kind)), "{kinds:?}");
    }
    commands.run("run", &[]);
    let runs = commands.run("runs", &[]);
    let run = runs[0]["runs"][0]["run"].as_str().unwrap().to_owned();
    commands.run("runs show", &[&run]);
    commands.run("rejected", &[]);
    commands.run("group", &["accounts", "a"]);
    commands.run("group", &["accounts", "c"]);
    commands.run("status", &[]);
    commands.run("schedule", &[]);
    commands.run("ledger export", &["accounts"]);
    commands.run("ledger backup", &["copy.duckdb"]);
    commands.run("ledger adopt", &["accounts"]);
    commands.run("ledger reset", &["accounts", "--group", "a", "--yes"]);
    // A run that its guard stops, and one that fails.
    place.warehouse("DELETE FROM accounts");
    commands.run("run", &[]);
    place.warehouse("DROP TABLE accounts");
    commands.run("run", &[]);
    place.warehouse(
        "CREATE TABLE accounts (id text, plan text, seats text); INSERT INTO accounts VALUES ('a', 'free', '1')",
    );
    commands.fails(&["plan", "nosuch"]);
    commands.fails(&["verify", "accounts"]);
    // Renamed, then dropped.
    std::fs::rename(place.path("mappings/accounts.toml"), place.path("mappings/crm.toml")).unwrap();
    std::fs::remove_file(place.path("mappings/accounts.test.toml")).unwrap();
    commands.run("status", &[]);
    commands.run("ledger rename", &["accounts", "crm"]);
    std::fs::rename(place.path("mappings/crm.toml"), place.path("mappings/other.toml")).unwrap();
    commands.run("ledger drop", &["crm", "--yes"]);
    commands.run("fmt", &["--check"]);
    commands.run("dbt exposures", &[]);
    commands.run("schema --write", &[]);
    commands.run("man", &["man"]);
    commands.run("init", &["new", "--sample"]);
    place.write("mappings/broken.toml", "source = warehouse");
    commands.fails(&["check"]);
    commands.run("status", &[]);
    std::fs::remove_file(place.path("mappings/broken.toml")).unwrap();
    let daemon = Daemon::start(&place);
    commands.run("status", &[]);
    commands.run("run --detach", &[]);
    commands.run("daemon drain", &[]);
    daemon.stop_was_asked().exits(0);

    let listed: Vec<&String> = commands.schema["properties"].as_object().unwrap().keys().collect();
    // Reading a group back needs PostHog.
    let untried = listed.into_iter().filter(|name| !commands.tried.contains(name) && *name != "verify");
    assert_eq!(untried.collect::<Vec<_>>(), Vec::<&String>::new(), "in the schema, and not tried");
}

/// Keys without a description, by the path that leads to them.
fn undescribed(schema: &Value, place: &str, out: &mut Vec<String>) {
    for (name, of) in schema["properties"].as_object().into_iter().flatten() {
        let at = format!("{place}.{name}");
        let is_described = of["description"].as_str().is_some_and(|text| !text.is_empty());
        if !is_described && of.get("$ref").is_none() && of.get("const").is_none() {
            out.push(at.clone());
        }
        undescribed(of, &at, out);
    }
    for word in ["anyOf", "oneOf"] {
        schema[word].as_array().into_iter().flatten().for_each(|one| undescribed(one, place, out));
    }
}

#[test]
fn every_key_that_commands_print_is_described() {
    let place = Place::new();
    let schema = place.run(&["schema", "output"]).exits(0).json();
    let mut found = Vec::new();
    for (name, of) in schema["$defs"].as_object().unwrap() {
        undescribed(of, name, &mut found);
    }
    assert_eq!(found, Vec::<String>::new());
}
