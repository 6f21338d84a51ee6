//! A guard over the pure functions that run for every group: how many times each allocates, and how many bytes.
//!
//! Allocations are the same on every machine, so a failure here is a change of the code and not of the weather. Only a gross
//! one fails: twice what is recorded below. A change that allocates much less should record its own figures, so that it
//! cannot be lost again; the figures of every function are printed (`cargo test --test allocations -- --nocapture`).
//!
//! Allocations are counted per thread and inside one closure, so neither other tests nor the test harness are counted. The
//! counting allocator replaces the system's in this test program only.

#![expect(clippy::unwrap_used, reason = "a test fails where something is not as it should be")]

use std::sync::Arc;

use allocation_counter::measure;
use chrono::DateTime;
use groupcast::destination::batch::{self, Size};
use groupcast::destination::{AddressedChange, Attempt, Destination, Element, registry};
use groupcast::mapping::compile::{self, Assembly};
use groupcast::mapping::file::{self, Context};
use groupcast::mapping::sections::model::Lookup;
use groupcast::mapping::{Guards, Policy};
use groupcast::model::setting::SettingValues;
use groupcast::model::{Cell, ColumnType, Document, Known, OnNull, Op, Rules, TraitRule, delta};

/// Recorded allocations and bytes for one group of twenty traits, unless the name says something else.
const RECORDED: &[(&str, u64, u64)] = &[
    ("assembly: a row's cells to a document", 63, 5913),
    ("document: to text", 3, 896),
    ("document: from text", 51, 3176),
    ("document: equal to another", 0, 0),
    ("delta: a new group", 0, 0),
    ("delta: nothing changed", 24, 2784),
    ("delta: one trait changed", 25, 2785),
    ("amplitude: parts of a change", 24, 650),
    ("amplitude: an element", 20, 3056),
    ("amplitude: a request of 100 elements", 4, 82159),
    ("file: parts of a change", 1, 16),
    ("file: an element", 3, 896),
    ("file: a request of 100 elements", 2, 50819),
    ("mixpanel: parts of a change", 49, 7416),
    ("mixpanel: an element", 47, 7240),
    ("mixpanel: a request of 100 elements", 5, 54476),
    ("posthog: parts of a change", 31, 1472),
    ("posthog: an element", 17, 4129),
    ("posthog: a request of 100 elements", 8, 77166),
    ("segment: parts of a change", 7, 794),
    ("segment: an element", 9, 2890),
    ("segment: a request of 100 elements", 9, 69359),
    ("webhook: parts of a change", 1, 16),
    ("webhook: an element", 9, 2890),
    ("webhook: a request of 100 elements", 4, 62316),
    ("batch: 1,000 elements packed", 124, 21248),
];

/// What exceeds its record; shown together when the test ends.
#[derive(Default)]
struct Guard {
    exceeded: Vec<String>,
}

impl Guard {
    /// Counts what `work` allocates. What its caller prepares is not counted.
    fn check(&mut self, name: &str, work: impl FnOnce()) {
        let info = measure(work);
        let (count, bytes) = (info.count_total, info.bytes_total);
        let figures = format!("(\"{name}\", {count}, {bytes}),");
        println!("{figures}");
        let recorded = RECORDED.iter().find(|(recorded, ..)| *recorded == name);
        // What hardly allocates may begin to with a handful.
        let within = recorded.is_some_and(|(_, allowed, allowed_bytes)| {
            count <= (2 * allowed).max(2) && bytes <= (2 * allowed_bytes).max(256)
        });
        if !within {
            self.exceeded.push(format!("{figures} recorded: {recorded:?}"));
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        assert!(
            self.exceeded.is_empty() || std::thread::panicking(),
            "twice the recorded allocations or more; allocate less, or record the new figures and say why:\n{}",
            self.exceeded.join("\n")
        );
    }
}

/// Twenty traits of all kinds, as a mapping sends them.
fn assembly() -> (Assembly, Vec<Cell>) {
    let kinds = [ColumnType::Text, ColumnType::Int, ColumnType::Float64, ColumnType::Bool, ColumnType::Date];
    let names: Vec<String> = (0..20).map(|at| format!("trait_{at:02}")).collect();
    let traits: String = names.iter().map(|name| format!("{name} = \"{name}\"\n")).collect();
    let text = format!(
        "source = \"w\"\ndestination = \"d\"\n[model]\ntable = \"accounts\"\n[group]\ntype = \"company\"\nkey = \"id\"\n\
         [traits]\n{traits}"
    );
    let (policy, guards) = (Policy::default(), Guards::default());
    let lookup = Lookup { sql_file: &|_| Err("no file".to_owned()), dbt: &|_| Err("no model".to_owned()) };
    let context = Context { names: None, policy: &policy, guards: &guards, lookup: &lookup };
    let (file, problems) = file::parse("accounts", "mappings/accounts.toml", &text, &context);
    let mapping = file.unwrap_or_else(|| panic!("{problems:?}")).mapping;
    let projection = compile::projection(&mapping, None);
    let kinds: Vec<ColumnType> = (0..20).map(|at| kinds[at % 5].clone()).collect();
    let cells = (0..20)
        .map(|at| match at % 5 {
            0 => Cell::Text(format!("Company \"{at}\" GmbH & Co. KG")),
            1 => Cell::Int(1_000 + at as i64),
            2 => Cell::Double(at as f64 * 1.25),
            3 => Cell::Bool(at % 2 == 0),
            _ => Cell::Int(20_000 + at as i64),
        })
        .collect();
    (compile::assembly(&mapping, &projection.columns, kinds), cells)
}

fn document() -> Document {
    let (assembly, cells) = assembly();
    assembly.document(&cells).unwrap()
}

fn rules(document: &Document) -> Rules {
    let rule = TraitRule { op: Op::Set, on_null: OnNull::Unset, always: false };
    Rules { traits: document.0.keys().map(|name| (name.clone(), rule)).collect(), ..Rules::default() }
}

#[test]
fn assembling_a_document() {
    let mut guard = Guard::default();
    let (assembly, cells) = assembly();
    guard.check("assembly: a row's cells to a document", || drop(assembly.document(&cells)));
    let document = document();
    guard.check("document: to text", || drop(document.to_text()));
    let text = document.to_text();
    guard.check("document: from text", || drop(Document::from_text(&text)));
}

#[test]
fn comparing_documents() {
    let mut guard = Guard::default();
    let (one, other) = (document(), document());
    guard.check("document: equal to another", || assert!(one == other));
    let rules = rules(&one);
    let new = document();
    guard.check("delta: a new group", || drop(delta(new, Known::Confirmed(&Document::default()), &rules)));
    let same = document();
    guard.check("delta: nothing changed", || drop(delta(same, Known::Confirmed(&other), &rules)));
    let mut changed = document();
    changed.0.insert("trait_01".to_owned(), 7.into());
    guard.check("delta: one trait changed", || drop(delta(changed, Known::Confirmed(&other), &rules)));
}

fn open(name: &str, settings: &str) -> Box<dyn Destination> {
    let of = registry::find(name).unwrap_or_else(|| panic!("there is no destination {name}"));
    of.open(&SettingValues::new(settings.parse().unwrap()), "company").unwrap()
}

#[test]
fn encoding_an_element() {
    let mut guard = Guard::default();
    let document = document();
    let rules = rules(&document);
    let change = delta(document, Known::Confirmed(&Document::default()), &rules).change;
    let addressed =
        AddressedChange { key: "acct_1234567".to_owned(), change: Arc::new(change), ..AddressedChange::default() };
    for (name, settings) in [
        ("amplitude", "api_key = \"0123456789abcdef\""),
        ("file", "path = \"changes.ndjson\""),
        ("mixpanel", "token = \"0123456789abcdef\""),
        ("posthog", "api_key = \"phc_0123456789abcdef\""),
        ("segment", "write_key = \"0123456789abcdef\""),
        ("webhook", "url = \"https://example.com/hook\""),
    ] {
        let destination = open(name, settings);
        let addressed = AddressedChange {
            user: Some(groupcast::destination::User::Id("account:acct_1234567".to_owned())),
            ..addressed.clone()
        };
        guard.check(&format!("{name}: parts of a change"), || drop(destination.parts(&addressed)));
        let parts = destination.parts(&addressed).unwrap();
        guard.check(&format!("{name}: an element"), || drop(destination.element(&addressed, &parts[0])));
        let element = destination.element(&addressed, &parts[0]);
        let elements: Vec<&Element> = vec![&element; 100];
        let attempt = Attempt { at: DateTime::UNIX_EPOCH, number: 1, request: 7 };
        guard.check(&format!("{name}: a request of 100 elements"), || {
            drop(destination.request(parts[0].route, &elements, attempt));
        });
    }
}

#[test]
fn packing_requests() {
    let mut guard = Guard::default();
    let limits = open("amplitude", "api_key = \"0123456789abcdef\"").limits(0);
    let sizes = vec![Size { bytes: 600, traits: 20 }; 1_000];
    guard.check("batch: 1,000 elements packed", || drop(batch::pack(&sizes, &limits, usize::MAX)));
}
