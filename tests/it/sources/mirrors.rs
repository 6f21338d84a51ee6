//! Does every engine whose dialect can write a mirror compare as this program would? One story ([`compares`]), gone through
//! by every such engine ([`MirrorEngine`]) with the real program: in `make test` by those that it can start, in
//! `make test-warehouses` by the others (`external`). After each run the receiver must hold what the source has, and the
//! run's record must say which rows left the engine.
//!
//! What a mirror must withstand beyond that is in `mirror`, at PostgreSQL, and in `mirrored`, as random histories.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, SecondsFormat, TimeDelta};
use serde_json::{Map, Value, json};

use crate::support::cli::{Output, Place};
use crate::support::stand_in::{Groups, StandIn};
use crate::support::webhook::Hook;

use super::drivers::{DuckDbDriver, driver};
use super::native::PostgreSql;
use super::values::KEYS;

/// Accounts at first: when all of them have changed three times, their mirror is compacted.
const ACCOUNTS: usize = 3_400;
/// Rows of one INSERT.
const INSERTED: usize = 500;
const MAPPING: &str = "source = \"engine\"\ndestination = \"hook\"\n[model]\ntable = \"accounts\"\n\
    [group]\ntype = \"company\"\nkey = \"id\"\n[traits]\nplan = \"plan\"\n\
    seats = { column = \"seats\", as = \"integer\" }\nspend = { column = \"spend\", as = \"number\" }\n\
    ratio = { column = \"ratio\", as = \"number\" }\nborn = { column = \"born\", as = \"date\" }\n\
    seen = { column = \"seen\", as = \"timestamp\" }\nlive = { column = \"live\", as = \"boolean\" }\n\
    [policy]\non_missing = \"delete\"\n[guards]\ngroups_min = 100000\n";

/// The columns of the accounts, and their types in the words of standard SQL.
const COLUMNS: [(&str, &str); 8] = [
    ("id", "text"),
    ("plan", "text"),
    ("seats", "bigint"),
    ("spend", "decimal(12,2)"),
    ("ratio", "double"),
    ("born", "date"),
    ("seen", "timestamp"),
    ("live", "boolean"),
];

/// An engine that keeps mirrors.
pub(super) trait MirrorEngine {
    /// Starts it with a schema for mirrors. `[sources.engine]` and what else groupcast.toml needs for it.
    fn set_up(&mut self, place: &mut Place) -> String;

    /// Runs statements as the owner of the rows.
    fn execute(&mut self, place: &Place, statements: &[String]);

    /// How its SQL is written.
    fn words(&self) -> SqlWords;

    /// Columns whose types it cannot have.
    fn without(&self) -> &'static [&'static str] {
        &[]
    }

    /// Bytes that it has answered with so far, where they go over a wire.
    fn answered(&self) -> Option<u64> {
        None
    }
}

/// What differs between the SQL of engines here.
#[derive(Clone, Copy)]
pub(super) struct SqlWords {
    /// The name of a type.
    pub(super) kind: fn(&str) -> String,
    pub(super) text: fn(&str) -> String,
    /// What follows the columns of a new table, or its name where they come from a query.
    pub(super) storage: &'static str,
}

/// The words of standard SQL.
pub(super) const STANDARD: SqlWords = SqlWords {
    kind: |kind| if kind == "double" { "double precision" } else { kind }.to_owned(),
    text: |text| format!("'{}'", text.replace('\'', "''")),
    storage: "",
};

#[test]
fn postgresql() {
    compares(&mut PostgreSql::new("type = \"postgres\"\nurl = \"URL\""));
}

#[test]
fn postgresql_driver() {
    let driver = driver("postgresql");
    compares(&mut PostgreSql::new(&format!("type = \"adbc\"\ndriver = \"{}\"\nuri = \"URL\"", driver.display())));
}

/// Redshift's statements at PostgreSQL, which is given the two functions that it does not have. It cannot be given `DATEDIFF`,
/// whose first argument is a word.
#[test]
fn redshift() {
    let driver = driver("postgresql");
    let source = format!("type = \"adbc\"\ndialect = \"redshift\"\ndriver = \"{}\"\nuri = \"URL\"", driver.display());
    let mut engine = PostgreSql::new(&source);
    engine.execute(
        "CREATE FUNCTION len(text) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT length($1)'; \
         CREATE FUNCTION strtol(text, int) RETURNS bigint LANGUAGE sql IMMUTABLE AS \
         $$ SELECT CAST(CAST('x' || lpad($1, 16, '0') AS bit(64)) AS bigint) WHERE $2 = 16 $$",
    );
    compares(&mut engine);
}

#[test]
fn duckdb_driver() {
    // Where DuckDB is compiled into the program there is no library of it.
    if let Some(library) = DuckDbDriver::find() {
        compares(&mut DuckDbMirrors(library));
    }
}

impl MirrorEngine for PostgreSql {
    fn set_up(&mut self, _place: &mut Place) -> String {
        PostgreSql::execute(self, "CREATE SCHEMA groupcast_mirror");
        self.section()
    }

    fn execute(&mut self, _place: &Place, statements: &[String]) {
        PostgreSql::execute(self, &statements.join(";\n"));
    }

    fn words(&self) -> SqlWords {
        STANDARD
    }

    fn without(&self) -> &'static [&'static str] {
        if self.section().contains("redshift") { &["born", "seen"] } else { &[] }
    }

    fn answered(&self) -> Option<u64> {
        Some(self.proxy().answered())
    }
}

struct DuckDbMirrors(DuckDbDriver);

impl MirrorEngine for DuckDbMirrors {
    fn set_up(&mut self, place: &mut Place) -> String {
        place.warehouse("CREATE SCHEMA groupcast_mirror");
        self.0.section()
    }

    fn execute(&mut self, place: &Place, statements: &[String]) {
        place.warehouse(&statements.join(";\n"));
    }

    fn words(&self) -> SqlWords {
        STANDARD
    }
}

/// An account.
#[derive(Debug, Clone, PartialEq)]
struct Account {
    plan: Option<String>,
    seats: i64,
    /// In hundredths.
    spend: i64,
    ratio: f64,
    /// Days since 1970.
    born: i64,
    /// Microseconds since 1970.
    seen: i64,
    live: bool,
}

impl Account {
    fn new(number: usize) -> Account {
        let at = i64::try_from(number).unwrap();
        let plan = match number % 50 {
            0 => None,
            1 => Some(String::new()),
            2 => Some("it's \\ \"quoted\" 🎉".to_owned()),
            _ => Some(format!("plan {}", number % 7)),
        };
        let (ratio, seen) = (number as f64 / 7.0, 1_700_000_000_000_000 + at * 1_000_001);
        Account { plan, seats: at * 1_000_003, spend: at * 37, ratio, born: at, seen, live: number.is_multiple_of(3) }
    }

    /// A change of one column, the smallest that the type has; which column goes by `number`.
    fn change(&mut self, number: usize) {
        match number % 8 {
            0 => self.plan = Some("changed".to_owned()),
            1 => self.seats += 1,
            2 => self.spend += 1,
            3 => self.ratio = self.ratio.next_up(),
            4 => self.born += 1,
            5 => self.seen += 1,
            6 => self.live = !self.live,
            _ => self.plan = if self.plan.is_none() { Some(String::new()) } else { None },
        }
    }

    fn day(&self) -> String {
        (NaiveDate::default() + TimeDelta::days(self.born)).to_string()
    }

    fn literals(&self, key: &str, words: SqlWords) -> String {
        let SqlWords { kind, text, .. } = words;
        let cast = |value: String, of: &str| format!("CAST({} AS {})", text(&value), kind(of));
        let seen = DateTime::from_timestamp_micros(self.seen).unwrap().format("%Y-%m-%d %H:%M:%S%.6f");
        let plan = self.plan.as_ref().map_or_else(|| "NULL".to_owned(), |plan| text(plan));
        let (spend, (born, seen)) =
            (decimal(self.spend), (cast(self.day(), "date"), cast(seen.to_string(), "timestamp")));
        format!("({}, {plan}, {}, {spend}, {:e}, {born}, {seen}, {})", text(key), self.seats, self.ratio, self.live)
    }

    /// What a destination holds of it.
    fn traits(&self, without: &[&str]) -> Map<String, Value> {
        let number = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let seen = DateTime::from_timestamp_micros(self.seen).unwrap();
        let spend = decimal(self.spend);
        let mut traits: Map<String, Value> = [
            ("seats", json!(self.seats)),
            ("spend", number(spend.trim_end_matches('0').trim_end_matches('.'))),
            ("ratio", number(&self.ratio.to_string())),
            ("born", json!(self.day())),
            ("seen", json!(seen.to_rfc3339_opts(SecondsFormat::AutoSi, true))),
            ("live", json!(self.live)),
        ]
        .into_iter()
        .filter(|(name, _)| !without.contains(name))
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        traits.extend(self.plan.as_ref().map(|plan| ("plan".to_owned(), json!(plan))));
        traits
    }
}

fn decimal(hundredths: i64) -> String {
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// What came of a run.
struct Run {
    output: Output,
    /// Its record as a person reads it.
    shown: Output,
    /// What its record says of the mirror.
    mirror: Value,
    sent: u64,
    removed: u64,
    /// Bytes that the engine answered with.
    bytes: Option<u64>,
}

impl Run {
    /// The mirror was compared with, and so many rows left the engine.
    #[track_caller]
    fn compared(self, rows: u64) -> Run {
        let Value::Object(mirror) = &self.mirror else { panic!("no mirror\n{}", self.output.all()) };
        assert_eq!(
            (mirror["compared"].as_str(), mirror["rows_read"].as_u64(), mirror.get("reason")),
            (Some("warehouse"), Some(rows), None),
            "{mirror:?}"
        );
        assert!(self.shown.stdout.contains("compared in the warehouse: "), "{}", self.shown.stdout);
        self
    }

    /// Rows were compared here and the mirror was made anew, and the run shows it.
    #[track_caller]
    fn rebuilt(self, reason: &str, rows: usize) -> Run {
        let Value::Object(mirror) = &self.mirror else { panic!("no mirror\n{}", self.output.all()) };
        assert!(mirror.get("reason").is_some_and(|known| known.as_str().unwrap().contains(reason)), "{mirror:?}");
        assert_eq!(
            (mirror["compared"].as_str(), mirror["rebuilt"].as_bool(), mirror["rows_read"].as_u64()),
            (Some("local"), Some(true), Some(rows as u64)),
            "{mirror:?}"
        );
        assert!(
            self.shown.stdout.contains("compared locally, and the mirror was made anew: "),
            "{}",
            self.shown.stdout
        );
        self
    }

    #[track_caller]
    fn sent(self, sent: u64, removed: u64) -> Run {
        assert_eq!((self.sent, self.removed), (sent, removed), "{}", self.output.all());
        self
    }
}

struct Story<'a> {
    engine: &'a mut dyn MirrorEngine,
    place: Place,
    hook: StandIn<Hook>,
    mapping: String,
    accounts: BTreeMap<String, Account>,
}

impl<'a> Story<'a> {
    fn begin(engine: &'a mut dyn MirrorEngine) -> Story<'a> {
        let mut place = Place::new();
        let hook = StandIn::start(Hook { body_bytes_max: 10_000_000, ..Hook::new("POST", "/in") });
        let section = "[sources.engine]\n";
        let settings = engine.set_up(&mut place).replace(section, &format!("{section}compare = \"warehouse\"\n"));
        let destination = format!("[destinations.hook]\ntype = \"webhook\"\nurl = \"{}/in\"\n", hook.url);
        place.write("groupcast.toml", &format!("{settings}\n{destination}"));
        let mapping: String = MAPPING
            .split_inclusive('\n')
            .filter(|line| !engine.without().iter().any(|name| line.starts_with(name)))
            .collect();
        place.mapping("accounts", &mapping);
        let numbered = (0..ACCOUNTS).map(|number| (format!("a{number}"), Account::new(number)));
        let accounts = numbered.chain(KEYS.iter().map(|key| ((*key).to_owned(), Account::new(77)))).collect();
        let mut story = Story { engine, place, hook, mapping, accounts };
        story.fill();
        story
    }

    fn execute(&mut self, statements: &[String]) {
        self.engine.execute(&self.place, statements);
    }

    /// Gives the engine the accounts as they are, in place of those that it has.
    fn fill(&mut self) {
        let words = self.engine.words();
        let columns: Vec<String> =
            COLUMNS.iter().map(|(name, kind)| format!("{name} {}", (words.kind)(kind))).collect();
        let rows: Vec<String> = self.accounts.iter().map(|(key, account)| account.literals(key, words)).collect();
        let mut statements = vec![
            "DROP TABLE IF EXISTS accounts".to_owned(),
            format!("CREATE TABLE accounts ({}){}", columns.join(", "), words.storage),
        ];
        statements.extend(rows.chunks(INSERTED).map(|rows| format!("INSERT INTO accounts VALUES {}", rows.join(", "))));
        self.execute(&statements);
    }

    /// Puts the rows of a query in place of a table's, with nothing but what every engine can.
    fn rewrite(&mut self, table: &str, columns: &str) {
        let create = |table: &str, select: &str, storage: &str| format!("CREATE TABLE {table}{storage} AS {select}");
        let (other, storage) = (format!("{table}_rewritten"), self.engine.words().storage);
        self.execute(&[
            create(&other, &format!("SELECT {columns} FROM {table}"), storage),
            format!("DROP TABLE {table}"),
            create(table, &format!("SELECT * FROM {other}"), storage),
            format!("DROP TABLE {other}"),
        ]);
    }

    /// Gives one account another plan, or all of them.
    fn set_plan(&mut self, key: Option<&str>, plan: &str) {
        let SqlWords { kind, text, .. } = self.engine.words();
        let value = match key {
            Some(key) => format!("CASE WHEN id = {} THEN {} ELSE plan END", text(key), text(plan)),
            None => format!("CAST({} AS {})", text(plan), kind("text")),
        };
        let columns: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
        self.rewrite("accounts", &columns.join(", ").replace("plan", &format!("{value} AS plan")));
        for (at, account) in &mut self.accounts {
            if key.is_none_or(|key| key == at) {
                account.plan = Some(plan.to_owned());
            }
        }
    }

    fn status(&self) -> Value {
        self.place.run(&["status", "--json"]).exits(0).json()["syncs"][0]["mirror"].clone()
    }

    /// The mirror's table.
    fn table(&self) -> String {
        format!("groupcast_mirror.{}", self.status()["table"].as_str().unwrap())
    }

    /// Runs the sync, after which the receiver must hold what the source has.
    #[track_caller]
    fn run(&mut self) -> Run {
        let before = self.engine.answered();
        let output = self.place.run(&["run"]).exits(0);
        let bytes = self.engine.answered().zip(before).map(|(after, before)| after - before);
        let runs = self.place.run(&["runs", "accounts", "-n", "1", "--json"]).exits(0).json();
        let counts = &runs["runs"][0]["counts"];
        let delivered = |of: &Value| of["delivered"].as_u64().unwrap();
        let (sent, removed) = (delivered(counts), delivered(&counts["removed"]));
        let show = ["runs", "show", runs["runs"][0]["run"].as_str().unwrap(), "--json"];
        let mirror = self.place.run(&show).exits(0).json()["detail"]["mirror"].clone();
        let shown = self.place.run(&show[..3]).exits(0);
        let expected: Groups =
            self.accounts.iter().map(|(key, account)| (key.clone(), account.traits(self.engine.without()))).collect();
        let held = self.hook.api().groups.clone();
        for (key, traits) in &expected {
            assert_eq!(held.get(key), Some(traits), "{key}");
        }
        assert_eq!(held.len(), expected.len());
        Run { output, shown, mirror, sent, removed, bytes }
    }
}

/// The story.
pub(super) fn compares(engine: &mut dyn MirrorEngine) {
    let mut story = Story::begin(engine);
    story.place.run(&["check", "--connect"]).exits(0).says(&["groupcast_mirror"]);

    // The first run fills the mirror; a second one finds nothing, and nothing leaves the engine.
    let all = story.accounts.len();
    let first = story.run().rebuilt("there was no mirror", all).sent(all as u64, 0);
    let quiet = story.run().compared(0).sent(0, 0);
    if let Some((first, quiet)) = first.bytes.zip(quiet.bytes) {
        assert!(quiet * 5 < first, "{quiet} bytes left the engine, and {first} when all rows did");
    }

    // Of each type of column some accounts change; some leave, some are new: only their rows leave the engine.
    for number in (13..ACCOUNTS).step_by(100) {
        // The first three columns, where the engine has no others.
        let change = if story.engine.without().is_empty() { number / 100 } else { number / 100 % 3 };
        story.accounts.get_mut(&format!("a{number}")).unwrap().change(change);
    }
    for key in KEYS {
        story.accounts.get_mut(key).unwrap().change(0);
    }
    let changed = (ACCOUNTS / 100 + KEYS.len()) as u64;
    for number in (7..ACCOUNTS).step_by(400) {
        story.accounts.remove(&format!("a{number}")).unwrap();
    }
    let removed = (all - story.accounts.len()) as u64;
    story.accounts.extend((0..5).map(|number| (format!("new {number}"), Account::new(number))));
    story.fill();
    let few = story.run().compared(changed + 5).sent(changed + 5, removed);
    if let Some((first, few)) = first.bytes.zip(few.bytes) {
        assert!(few * 3 < first, "{few} bytes left the engine, and {first} when all rows did");
    }
    story.run().compared(0).sent(0, 0);

    // One that changed and was sent changes back.
    story.set_plan(Some(KEYS[0]), "another");
    story.run().compared(1).sent(1, 0);
    story.set_plan(Some(KEYS[0]), "changed");
    story.run().compared(1).sent(1, 0);

    // The mirror is dropped, and a row of it changed: both are noticed and shown.
    let all = story.accounts.len();
    let table = story.table();
    story.execute(&[format!("DROP TABLE {table}")]);
    story.set_plan(Some("a20"), "after the drop");
    let run = story.run().rebuilt("the mirror could not be read", all).sent(1, 0);
    run.output.says(&["compared here and not in the warehouse"]);
    story.run().compared(0).sent(0, 0);
    let table = story.table();
    let SqlWords { text, .. } = story.engine.words();
    let damaged = format!(
        "group_key, CASE WHEN group_key = {} THEN fingerprint + 1 ELSE fingerprint END AS fingerprint, seq",
        text("a21")
    );
    story.rewrite(&table, &damaged);
    story.set_plan(Some("a22"), "after the damage");
    let run = story.run().rebuilt("the mirror does not hold what it should", all).sent(1, 0);
    run.output.says(&["compared here and not in the warehouse"]);
    story.run().compared(0).sent(0, 0);

    // One line switches to comparing here and back, and nothing is sent again.
    story.place.mapping("accounts", &story.mapping.replace("[group]", "compare = \"local\"\n[group]"));
    let run = story.run().sent(0, 0);
    assert_eq!(run.mirror, Value::Null);
    story.set_plan(Some("a23"), "compared here");
    story.run().sent(1, 0);
    story.place.mapping("accounts", &story.mapping);
    story.run().rebuilt("there was no mirror", all).sent(0, 0);
    story.run().compared(0).sent(0, 0);

    // A mirror of many changes is compacted into another table, which is compared with.
    for round in 0..3 {
        story.set_plan(None, &format!("round {round}"));
        story.run().compared(all as u64).sent(all as u64, 0);
    }
    let status = story.status();
    assert_eq!((status["rows"].as_u64(), status["keys"].as_u64()), (Some(all as u64), Some(all as u64)), "{status}");
    story.run().compared(0).sent(0, 0);
    story.set_plan(Some("a24"), "after the compaction");
    story.run().compared(1).sent(1, 0);
}
