//! What does the program say of files, and what happens when they change?

use crate::support::cli::Place;

fn place(text: &str, traits: &str) -> Place {
    let place = Place::new();
    place.write(
        "groupcast.toml",
        "[sources.files]\ntype = \"duckdb\"\n[destinations.out]\ntype = \"file\"\npath = \"out.ndjson\"\n",
    );
    place.write(
        "mappings/accounts.toml",
        &format!(
            "source = \"files\"\ndestination = \"out\"\n[model]\ntable = \"accounts.csv\"\n[group]\ntype = \"company\"\nkey = \"id\"\n\
             [traits]\n{traits}\n"
        ),
    );
    place.write("accounts.csv", text);
    place
}

#[test]
fn check_says_how_a_file_is_read_and_ends_well() {
    let place = place("id;zip;n\n007;02134;1\n", "zip = \"zip\"\nn = \"n\"");
    place.run(&["check", "--connect"]).exits(0).says(&[
        "note: accounts.csv is read as UTF-8, delimiter `;`, quote `\"`, lines end with newlines: 1 row; by its values `zip` text, `n` number",
        "`as` in the mapping decides it for good",
        "`csv` of the type `files`",
        "ok: 1 mapping valid",
    ]);
    let json = place.run(&["check", "--connect", "--json"]).exits(0).json();
    assert_eq!(json["problems"][0]["severity"], "note");
    assert_eq!(json["problems"][0]["line"], 4);
}

#[test]
fn a_row_that_cannot_be_read_is_found_by_check_and_recorded_by_a_run() {
    let mut text = "id,name\n".to_owned();
    (0..3_000).for_each(|n| text.push_str(&format!("a{n},x\n")));
    text.push_str("b,secret value,3\n");
    let place = place(&text, "name = \"name\"");
    let message = "accounts.csv, line 3002: 3 values instead of 2";
    let check = place.run(&["check", "--connect"]).exits(2).says(&[message]);
    assert!(!check.all().contains("secret"), "{}", check.all());
    let run = place.run(&["run"]).says(&[message]);
    assert!(run.code != Some(0) && !run.all().contains("secret"), "{}", run.all());
    place.run(&["runs", "--json"]).says(&["failed", "line 3002"]);
    assert!(!place.path("out.ndjson").exists());
}

#[test]
fn a_declared_type_stays_when_a_value_comes_that_is_none() {
    let place = place("id,n,m\na,1,1\nb,2,2\n", "n = { column = \"n\", as = \"number\" }\nm = \"m\"");
    place.run(&["run"]).exits(0);
    place.write("accounts.csv", "id,n,m\na,1,1\nb,2,2\nc,x,3\n");
    let output = place.run(&["run"]).says(&["1 rejected"]);
    assert_ne!(output.code, Some(1), "{}", output.all());
    let lines = place.read("out.ndjson");
    assert_eq!(lines.lines().count(), 2, "what did not change is not sent again: {lines}");
}

#[test]
fn a_column_that_turns_to_text_is_sent_anew_only_past_the_guard() {
    let rows = |last: &str| {
        let mut text = "id,n\n".to_owned();
        (0..50).for_each(|n| text.push_str(&format!("a{n},{n}\n")));
        text + last
    };
    let place = place(&rows(""), "n = \"n\"");
    place.run(&["run"]).exits(0);
    place.write("accounts.csv", &rows("z,n/a\n"));
    place.run(&["run"]).says(&["changed"]);
    assert_eq!(place.read("out.ndjson").lines().count(), 50, "nothing is sent when every group would get another type");
}

#[test]
fn a_first_mapping_of_a_file_declares_its_types() {
    let place = place("id,seats,live,since,zip\n007,5,true,2026-03-04 17:30:00,02134\n", "n = { const = 1 }");
    place.run(&["init", "--source", "files", "--table", "accounts.csv", "--destination", "out"]);
    let written = std::fs::read_dir(place.path("mappings")).unwrap().flatten().map(|entry| entry.path());
    let texts: Vec<String> = written.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let all = texts.join("\n");
    for text in ["{ column = \"seats\", as = \"number\" }", "{ column = \"live\", as = \"boolean\" }", "zip = \"zip\""]
    {
        assert!(all.contains(text), "{text} in\n{all}");
    }
}
