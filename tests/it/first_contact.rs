//! Does a first contact work with everything we ship? Every example and every ready mapping is planned, run, edited, planned
//! and run again, without and with a daemon: a plan shows exactly what the run then does, and the second run sends only
//! the edit.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::cli::{KEY, Place, Receiver, until};
use crate::support::daemon::Daemon;
use crate::support::group_server::Server;
use crate::support::journy::Journy;
use crate::support::mixpanel::Mixpanel;
use crate::support::postgres::shared;
use crate::support::posthog;
use crate::support::segment::{Kind, Vendor as Segment};
use crate::support::stand_in::{Answer, Api, Received, StandIn};
use crate::support::thrivestack::Vendor as ThriveStack;

/// The key of every stand-in that takes any.
const SECRET: &str = "first-c0ntact-k3y-7f1d2c9a";
/// What Segment makes of it: base64 of the key and a colon.
const BASIC: &str = "Basic Zmlyc3QtYzBudGFjdC1rM3ktN2YxZDJjOWE6";
const TOKEN: &str = "first-contact-token-0123456789";

/// A receiver of one's own: it takes everything.
struct Hook;

impl Api for Hook {
    fn take(&mut self, _: &Received) -> Answer {
        Answer::new(200, "ok")
    }
}

/// A project that can be run.
struct Contact<'a> {
    place: &'a Place,
    sync: &'a str,
    groups: usize,
    /// Changes one column of one row, as the warehouse's owner would.
    edit: &'a dyn Fn(),
}

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What a change says, by the name of its operation.
fn traits_sent(change: &Value) -> usize {
    let change = change.as_object().unwrap();
    // What is only sent along is no change.
    let changed = change.iter().filter(|(name, _)| *name != "repeated");
    changed
        .map(|(_, names)| names.as_object().map(|names| names.len()).or(names.as_array().map(Vec::len)).unwrap_or(0))
        .sum()
}

impl Contact<'_> {
    /// What a plan would change, by key. The plan for people says the same.
    #[track_caller]
    fn plan(&self) -> BTreeMap<String, Value> {
        let lines = self.place.run(&["plan", self.sync, "--json"]).exits(0).json_lines();
        let (summary, lines) = lines.split_last().unwrap();
        assert_eq!(summary["type"], "plan", "{summary}");
        assert!(lines.iter().all(|line| line["type"] == "change"), "{lines:?}");
        let text = self.place.run(&["plan", self.sync, "--show", "all"]).exits(0).stdout;
        let shown: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix(['+', '~', '-'])).collect();
        let shown: BTreeSet<&str> = shown.iter().map(|line| line.split_whitespace().next().unwrap()).collect();
        let keys: BTreeSet<&str> = lines.iter().map(|line| line["key"].as_str().unwrap()).collect();
        assert_eq!(shown, keys, "{text}");
        let count = |name: &str| summary[name].as_u64().unwrap();
        assert_eq!((count("add") + count("change") + count("remove")) as usize, keys.len(), "{summary}");
        let totals = format!("Plan: {} to add, {} to change", count("add"), count("change"));
        assert!(text.contains(&totals), "{totals} is missing in {text}");
        let spoken: usize = lines.iter().map(|line| traits_sent(&line["change"])).sum();
        assert_eq!((count("traits_set") + count("traits_unset")) as usize, spoken, "{summary}");
        lines.iter().map(|line| (line["key"].as_str().unwrap().to_owned(), line["change"].clone())).collect()
    }

    /// Runs, and holds the run to what the plan had shown.
    #[track_caller]
    fn run(&self, planned: &BTreeMap<String, Value>) {
        let output = self.place.run(&["run", self.sync, "--json"]).exits(0);
        let report = &output.json()["runs"][0];
        let count =
            |name: &str| report["counts"][name].as_u64().unwrap_or_else(|| panic!("no {name}: {report}")) as usize;
        // An incremental run reads what is new, and a little more.
        let read = if report["full"] == true { self.groups } else { count("rows") };
        assert!(planned.len() <= read && read <= self.groups, "{report}");
        assert_eq!((count("rows"), count("delivered")), (read, planned.len()), "{report}");
        assert_eq!(count("unchanged"), read - planned.len(), "{report}");
        let spoken: usize = planned.values().map(traits_sent).sum();
        assert_eq!(count("traits_set") + count("traits_unset"), spoken, "{report}");
        for (key, change) in planned.iter().take(3) {
            let group = self.place.run(&["group", self.sync, key, "--json"]).exits(0).json();
            let last = &group["history"][0];
            assert_eq!((&last["outcome"], &last["run"]), (&"delivered".into(), &report["run"]), "{key}: {group}");
            assert_eq!(&last["change"], change, "{key}");
        }
    }

    /// The whole way, beside a daemon or without one.
    #[track_caller]
    fn goes_well(&self, beside: bool) {
        let token = self.place.path("groupcast.toml");
        let token = std::fs::read_to_string(token).unwrap().contains("GROUPCAST_TOKEN").then_some(TOKEN);
        let daemon = beside.then(|| Daemon::start_with(self.place, token));
        let first = self.plan();
        assert_eq!(first.len(), self.groups, "everything is new");
        self.run(&first);
        // A plan once there is a ledger: nothing is left.
        assert_eq!(self.plan(), BTreeMap::new());
        (self.edit)();
        let second = self.plan();
        assert_eq!(second.values().map(traits_sent).collect::<Vec<_>>(), [1], "one trait of one group: {second:?}");
        self.run(&second);
        assert_eq!(self.plan(), BTreeMap::new());
        if let Some(daemon) = daemon {
            daemon.stop().exits(0);
        }
    }
}

/// Runs SQL on the warehouse once nobody reads it.
fn edit(place: &Place, sql: &str) {
    until("the warehouse can be written", || {
        let connection = duckdb::Connection::open(place.path("warehouse.duckdb")).ok()?;
        connection.execute_batch(sql).unwrap_or_else(|error| panic!("{error}\n{sql}"));
        connection.close().map_err(|(_, error)| error).unwrap();
        Some(())
    });
}

/// Copies a shipped folder, with its files as they are but for these replacements.
fn copy(from: &Path, place: &Place, below: &str, replaced: &[(&str, &str)]) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{below}{}", path.file_name().unwrap().to_str().unwrap());
        // What a person made who tried it there.
        if ["state", "changes.ndjson", "warehouse.duckdb"].contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            copy(&path, place, &format!("{name}/"), replaced);
        } else {
            let text = std::fs::read_to_string(&path).unwrap();
            place.write(&name, &replaced.iter().fold(text, |text, (from, to)| text.replace(from, to)));
        }
    }
}

/// Every folder under `examples/` that is a project.
fn projects(folder: &Path, found: &mut BTreeSet<String>) {
    if folder.join("groupcast.toml").exists() {
        found.insert(folder.strip_prefix(shipped("examples")).unwrap().to_str().unwrap().to_owned());
    }
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        projects(&entry, found);
    }
}

#[test]
fn every_example_is_contacted_below() {
    let mut found = BTreeSet::new();
    projects(&shipped("examples"), &mut found);
    let contacted = ["deploy/config", "duckdb-to-file", "postgres-to-amplitude", "quickstart"];
    assert_eq!(found, contacted.map(str::to_owned).into());
}

#[test]
fn the_sample_of_init() {
    for beside in [false, true] {
        let place = Place::new();
        place.run(&["init"]).exits(0);
        let edit = || edit(&place, "UPDATE accounts SET name = 'Edited' WHERE account_id = 'acct_0007'");
        Contact { place: &place, sync: "accounts", groups: 300, edit: &edit }.goes_well(beside);
    }
}

#[test]
fn the_quick_start() {
    let receiver = Receiver::start();
    for beside in [false, true] {
        let mut place = Place::new();
        copy(&shipped("examples/quickstart"), &place, "", &[("schedule = ", "# schedule = ")]);
        place.set("RECEIVER_URL", &receiver.url);
        place.set("AMPLITUDE_API_KEY", KEY);
        place.warehouse(&place.read("warehouse.sql"));
        let edit = || edit(&place, "UPDATE accounts SET seats = 77777 WHERE account_id = 'acct_0007'");
        let seen = receiver.requests();
        Contact { place: &place, sync: "accounts", groups: 300, edit: &edit }.goes_well(beside);
        assert!(receiver.requests() > seen + 1);
        assert_eq!(receiver.group("company", "acct_0007").unwrap()["seats"], 77_777);
    }
}

#[test]
fn the_example_over_files_without_a_database() {
    for beside in [false, true] {
        let place = Place::new();
        copy(&shipped("examples/duckdb-to-file"), &place, "", &[]);
        let edit = || {
            let accounts = place.read("data/accounts.csv");
            place.write("data/accounts.csv", &accounts.replace("Aster Analytics", "Edited"));
        };
        Contact { place: &place, sync: "accounts", groups: 3, edit: &edit }.goes_well(beside);
        assert_eq!(place.read("changes.ndjson").lines().count(), 4);
    }
}

#[test]
fn the_examples_over_postgresql() {
    let receiver = Receiver::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for example in ["postgres-to-amplitude", "deploy/config"] {
        for beside in [false, true] {
            let database = runtime.block_on(shared().create_database());
            let tables = std::fs::read_to_string(shipped("examples/postgres-to-amplitude/warehouse.sql")).unwrap();
            runtime.block_on(database.execute(&tables));
            let mut place = Place::new();
            let base_url = format!("base_url = \"{}\"", receiver.url);
            let replaced = [("region = \"us\"", base_url.as_str()), ("schedule = ", "# schedule = ")];
            copy(&shipped(&format!("examples/{example}")), &place, "", &replaced);
            let url = format!("postgres://root_user@127.0.0.1:{}/{}", shared().port(), database.name());
            place.set("WAREHOUSE_URL", &url);
            place.set("AMPLITUDE_API_KEY", KEY);
            place.set("GROUPCAST_TOKEN", TOKEN);
            let edited = "UPDATE analytics.dim_accounts SET account_name = 'Edited' WHERE plan = 'enterprise'";
            let edit = || runtime.block_on(database.execute(edited));
            Contact { place: &place, sync: "accounts", groups: 3, edit: &edit }.goes_well(beside);
            let held = receiver.group("company", "6f1c2d3e-0002-4000-8000-000000000002").unwrap();
            assert_eq!(held["name"], "Edited");
        }
    }
}

/// The statements in a mapping's opening comment: its lines that are indented.
fn expected_tables(text: &str) -> String {
    let comment = text.lines().take_while(|line| line.starts_with('#'));
    comment.filter_map(|line| line.strip_prefix("#   ")).map(|line| format!("{line}\n")).collect()
}

/// A value of a column in row `row`, in DuckDB's SQL.
fn value(name: &str, kind: &str, row: u64) -> String {
    match (name, kind) {
        // Alive, open, in use: the models filter on these.
        ("deleted_at" | "closed_at" | "archived_at", _) => "NULL".to_owned(),
        ("is_customer", _) => "true".to_owned(),
        (_, "VARCHAR") => format!("'{name}-{row}'"),
        (_, "BIGINT" | "INTEGER") => format!("{}", 100 + row),
        (_, "DOUBLE") => format!("{row}.25"),
        (_, "BOOLEAN") => format!("{}", row.is_multiple_of(2)),
        (_, "DATE") => format!("DATE '2026-03-0{row}'"),
        (_, "TIMESTAMP") => format!("TIMESTAMP '2026-03-0{row} 10:11:12'"),
        (_, "VARCHAR[]") => format!("['a', 'b{row}']"),
        (_, "JSON") => format!("'{{\"theme\": \"dark\", \"rows\": {row}}}'"),
        (_, "UUID") => format!("'6f1c2d3e-000{row}-4000-8000-00000000000{row}'"),
        (_, decimal) if decimal.starts_with("DECIMAL") => format!("{row}.5"),
        _ => panic!("a value of {name} {kind}"),
    }
}

/// Rows in each of the tables.
fn fill(place: &Place, rows: u64) {
    let connection = duckdb::Connection::open(place.path("warehouse.duckdb")).unwrap();
    let mut columns = connection
        .prepare(
            "SELECT table_schema || '.' || table_name, column_name, data_type FROM information_schema.columns \
             WHERE table_schema IN ('main', 'analytics') ORDER BY table_name, ordinal_position",
        )
        .unwrap();
    let all = columns.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    let mut tables: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for column in all {
        let (table, name, kind): (String, String, String) = column.unwrap();
        tables.entry(table).or_default().push((name, kind));
    }
    for (table, columns) in tables {
        for row in 1..=rows {
            let values: Vec<String> = columns.iter().map(|(name, kind)| value(name, kind, row)).collect();
            connection.execute_batch(&format!("INSERT INTO {table} VALUES ({})", values.join(", "))).unwrap();
        }
    }
}

/// Every destination that a ready mapping may name, at a stand-in of its own.
struct Destinations {
    amplitude: Receiver,
    mixpanel: StandIn<Mixpanel>,
    journy: StandIn<Journy>,
    hook: StandIn<Hook>,
    segment: Server<Segment>,
    thrivestack: Server<ThriveStack>,
    posthog: String,
}

impl Destinations {
    fn start() -> Destinations {
        Destinations {
            amplitude: Receiver::start(),
            mixpanel: StandIn::start(Mixpanel::new(SECRET)),
            journy: StandIn::start(Journy::new(SECRET)),
            hook: StandIn::start(Hook),
            segment: Server::start(Segment::new(Kind::Segment, BASIC)),
            thrivestack: Server::start(ThriveStack::new(SECRET, false)),
            posthog: posthog::Vendor::new(posthog::Rules::default()).start(),
        }
    }

    fn settings(&self) -> String {
        let section =
            |name: &str, lines: &str, url: &str| format!("[destinations.{name}]\n{lines}\nbase_url = \"{url}\"\n");
        [
            "[sources.warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n".to_owned(),
            section("amplitude", "type = \"amplitude\"\napi_key = \"${AMPLITUDE_API_KEY}\"", &self.amplitude.url),
            section("mixpanel", "type = \"mixpanel\"\ntoken = \"${SECRET}\"", &self.mixpanel.url),
            section("journy", "type = \"journy\"\napi_key = \"${SECRET}\"", &self.journy.url),
            format!("[destinations.hook]\ntype = \"webhook\"\nurl = \"{}/in\"\ndedup = true\n", self.hook.url),
            section("segment", "type = \"segment\"\nwrite_key = \"${SECRET}\"", &self.segment.url),
            section("thrivestack", "type = \"thrivestack\"\napi_key = \"${SECRET}\"", &self.thrivestack.url),
            section("posthog", "type = \"posthog\"\napi_key = \"${POSTHOG_API_KEY}\"", &self.posthog),
            "[destinations.changes]\ntype = \"file\"\npath = \"changes.ndjson\"\n".to_owned(),
        ]
        .concat()
    }
}

/// The whole way for every ready mapping.
fn ready_mappings(beside: bool) {
    let destinations = Destinations::start();
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(shipped("mappings")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| !path.to_str().unwrap().ends_with(".test.toml"));
    files.sort();
    assert_eq!(files.len(), 11);
    for file in files {
        let sync = file.file_stem().unwrap().to_str().unwrap();
        println!("{sync}");
        let text = std::fs::read_to_string(&file).unwrap();
        let mut place = Place::new();
        place.set("AMPLITUDE_API_KEY", KEY);
        place.set("POSTHOG_API_KEY", posthog::TOKEN);
        place.set("SECRET", SECRET);
        place.write("groupcast.toml", &destinations.settings());
        // A run of the schedule in between would be none of those that are looked at.
        place.mapping(sync, &text.replace("\nschedule = ", "\n# schedule = "));
        place.warehouse(&format!("CREATE SCHEMA analytics; {}", expected_tables(&text)));
        fill(&place, 4);
        let table =
            text.lines().find_map(|line| line.strip_prefix("table = \"")?.split('"').next()).unwrap_or("workspaces");
        let tables = expected_tables(&text);
        let has = |column: &str| tables.lines().any(|line| line.trim_start().starts_with(&format!("{column} ")));
        let column = ["name", "account_name", "plan"].into_iter().find(|column| has(column)).unwrap();
        // Where only new rows are read, they say that they are new.
        let moved = if text.contains("cursor = \"updated_at\"") { ", updated_at = TIMESTAMP '2026-03-09'" } else { "" };
        let edited = format!("UPDATE {table} SET {column} = 'Edited'{moved} WHERE {column} = '{column}-2'");
        let edit = || edit(&place, &edited);
        Contact { place: &place, sync, groups: 4, edit: &edit }.goes_well(beside);
    }
}

#[test]
fn every_ready_mapping() {
    ready_mappings(false);
}

#[test]
fn every_ready_mapping_beside_a_daemon() {
    ready_mappings(true);
}
