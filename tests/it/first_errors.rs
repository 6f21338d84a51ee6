//! Does the message alone lead on where a newcomer goes wrong? The mistakes are those of docs/first-errors.md, made in the sample.

use crate::support::cli::Place;
use crate::support::postgres::shared;

const SETTINGS: &str = "groupcast.toml";
const MAPPING: &str = "mappings/accounts.toml";

/// The sample, which runs.
fn sample() -> Place {
    let place = Place::new();
    place.run(&["init", ".", "--sample"]).exits(0);
    place
}

#[test]
fn a_slip_in_a_file_is_shown_with_the_next_step() {
    let place = sample();
    let originals = [SETTINGS, MAPPING].map(|file| (file, place.read(file)));
    for (file, from, to, texts) in [
        (
            SETTINGS,
            "\"duckdb\"",
            "\"postgresql\"",
            &["source type `postgresql` not found", "did you mean `postgres`?"][..],
        ),
        (MAPPING, "\"changes\"", "changes", &["put the value in quotation marks: `key = \"value\"`"]),
        (MAPPING, "\"changes\"", "\"changes", &["end the text with a quotation mark, on the same line"]),
        (MAPPING, "\"changes\"", "“changes”", &["write straight ones, `\"`"]),
        (MAPPING, "destination = ", "destination: ", &["`key = value`, with `=` in place of the colon"]),
        (MAPPING, "is_customer = \"is_customer\"", "is_customer = { const = True }", &["write `true` or `false`"]),
        (MAPPING, "[policy]", "[group]", &["this section is in the file already: put its keys there"]),
        (MAPPING, "seats = \"seats\"", "plan = \"seats\"", &["this key is in its section already"]),
        (SETTINGS, "\"warehouse.duckdb\"", "\"C:\\data\\warehouse.duckdb\"", &["write the text in single ones"]),
        (MAPPING, "on_null", "on_nul", &["unknown key `on_nul`", "did you mean `on_null`?"]),
        (
            MAPPING,
            "{ cron = \"0 2 * * *\"",
            "{ cron = \"every 5 minutes\"",
            &["for an interval write `{ every = \"5m\" }`"],
        ),
        (MAPPING, "{ cron = \"0 2 * * *\"", "{ cron = \"@dayly\"", &["did you mean `@daily`?"]),
        (MAPPING, "Europe/Berlin", "Berlin", &["did you mean `Europe/Berlin`?"]),
        (
            MAPPING,
            "table = \"accounts\"",
            "table = \"acounts\"",
            &["table `acounts` not found", "did you mean `accounts`?"],
        ),
        (MAPPING, "key = \"account_id\"", "key = \"acount_id\"", &["did you mean `account_id`?"]),
        (SETTINGS, "\"warehouse.duckdb\"", "\"${NOSUCH}\"", &["variable `NOSUCH`, which is not set", "`.env` beside"]),
    ] {
        for (name, text) in &originals {
            place.write(name, text);
        }
        let text = place.read(file);
        assert!(text.contains(from), "{from} is not in {file}");
        place.write(file, &text.replacen(from, to, 1));
        place.run(&["check", "--connect"]).exits(2).says(texts).says(&[file]);
    }
}

#[test]
fn a_mapping_in_the_wrong_place_is_found() {
    let place = sample();
    let text = place.read(MAPPING);
    for (name, help) in [
        ("crm.toml", "move it into the folder `mappings`"),
        ("mapping/crm.toml", "move it into the folder `mappings`"),
        ("mappings/sales/crm.toml", "mappings are directly in `mappings`"),
        ("mappings/crm.yml", "a file that ends in `.toml`"),
    ] {
        place.write(name, &text);
        let shown = place.run(&["check"]).exits(0);
        shown.says(&["this looks like a mapping, and is not read", name, help]);
        std::fs::remove_file(place.path(name)).unwrap();
    }
    let shown = place.run(&["check"]).exits(0);
    assert!(!shown.all().contains("warning"), "{}", shown.all());
    place.run(&["-C", "mappings", "plan"]).exits(2).says(&["the config folder is mappings/..: add `-C mappings/..`"]);
    place.write("empty/x", "");
    let elsewhere = place.run(&["-C", "empty", "plan"]).exits(2);
    assert!(!elsewhere.all().contains("there are no mappings"), "{}", elsewhere.all());
}

#[test]
fn json_of_the_daemon_is_its_log() {
    let place = sample();
    place
        .run(&["daemon", "--json"])
        .exits(2)
        .says(&["`groupcast daemon` takes no `--json`", "GROUPCAST__DAEMON__LOG=json"]);
}

#[test]
fn another_kind_of_file_than_the_source_reads_is_named() {
    let place = sample();
    let sqlite: Vec<u8> = b"SQLite format 3\0".iter().copied().chain([0; 4080]).collect();
    std::fs::write(place.path("app.sqlite"), sqlite).unwrap();
    place.write("accounts.csv", "id;name\na1;Acme\n");
    let settings = place.read(SETTINGS);
    for (path, texts) in [
        ("app.sqlite", &["this is a SQLite database", "`driver = \"sqlite\"`"][..]),
        ("accounts.csv", &["not a readable DuckDB database", "a source of `type = \"files\"`"]),
        ("nosuch.duckdb", &["the DuckDB file does not exist", "a relative path starts at the folder of that file"]),
        ("mappings", &["the path is a folder, not a DuckDB file"]),
    ] {
        place.write(SETTINGS, &settings.replace("warehouse.duckdb", path));
        place.run(&["check", "--connect"]).exits(2).says(texts);
    }
    // The key that the message names is the one that is read.
    place.write(SETTINGS, "[sources.warehouse]\ntype = \"files\"\n[destinations.changes]\ntype = \"file\"\n");
    place.write(MAPPING, "source = \"warehouse\"\ndestination = \"changes\"\n[model]\ntable = \"accounts.csv\"\n[group]\ntype = \"a\"\nkey = \"id\"\n[traits]\nname = \"name\"\n");
    let utf16: Vec<u8> = "id,name\na1,Äcme\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    std::fs::write(place.path("accounts.csv"), utf16).unwrap();
    let texts =
        ["this is UTF-16LE", "`encoding = \"utf-16le\"` at the source (in `csv = { … }` where its type is `files`)"];
    place.run(&["plan"]).exits(2).says(&texts);
    let settings = place.read(SETTINGS).replace("\"files\"", "\"files\"\ncsv = { encoding = \"utf-16le\" }");
    place.write(SETTINGS, &settings);
    place.run(&["plan"]).exits(0).says(&["Äcme"]);
}

#[test]
fn postgresql_says_what_of_the_url_is_wrong_and_text_is_sampled() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let database = runtime.block_on(shared().create_database());
    runtime.block_on(database.execute(
        "CREATE TABLE accounts (account_id text PRIMARY KEY, seats text);
         INSERT INTO accounts SELECT 'a' || i, CASE WHEN i % 3 = 0 THEN 'ten' ELSE i::text END FROM generate_series(1, 9) i",
    ));
    let mut place = Place::new();
    place.write(
        SETTINGS,
        "[sources.w]\ntype = \"postgres\"\nurl = \"${URL}\"\n[destinations.changes]\ntype = \"file\"\n",
    );
    place.write(MAPPING, "source = \"w\"\ndestination = \"changes\"\n[model]\ntable = \"accounts\"\n[group]\ntype = \"a\"\nkey = \"account_id\"\n[traits]\nseats = { column = \"seats\", as = \"integer\" }\n");
    let address = format!("root_user@127.0.0.1:{}/{}", shared().port(), database.name());
    place.set("URL", &address);
    place.run(&["plan"]).exits(2).says(&["`url` is not a valid URL: missing `postgres://`"]);
    place.set("URL", &format!("postgres://{address}x"));
    place.run(&["plan"]).exits(1).says(&["does not exist", "correct the database in `url`"]);
    place.set("URL", &format!("postgres://{address}"));
    place.run(&["check", "--connect"]).exits(0).says(&["3 of the first 9 rows cannot become what is declared"]);
}
