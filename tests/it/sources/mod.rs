//! Does every source keep what the program promises of all of them? One table of cases ([`CASES`]), gone through by every
//! engine ([`Engine`]): in `make test` those that it can start, in `make test-warehouses` the others (`external`), which are
//! set up by `tests/warehouses/engine.py`. A case that an engine cannot have has its reason beside the engine.
//!
//! What is peculiar to one source is tested beside it: `adbc`, `duckdb_source`, `files`, `gateway`, `postgres`.

pub(crate) mod drivers;
mod external;
mod files;
mod mirrors;
mod native;
mod values;

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::support::cli::{Place, Running, until};
use crate::support::proxy::Proxy;

type Check = fn(&mut Trial<'_>);

/// What every source is tried with, in this order: those behind the first go on where the one before ended.
const CASES: [(Case, Check); 4] = [
    (Case::Values, values_arrive_alike),
    (Case::Cancel, a_cancelled_read_leaves_nothing),
    (Case::Death, an_engine_that_dies_fails_the_run),
    (Case::Snapshot, a_change_during_the_read_is_not_half_seen),
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Case {
    /// Types × nulls × extremes × hostile names and keys.
    Values,
    /// The run is interrupted in the middle of the read.
    Cancel,
    /// The engine, or its process, ends in the middle of the read.
    Death,
    /// Every row changes in the middle of the read.
    Snapshot,
}

/// Rows of the large model. With [`WIDTH`] more than sockets and pipes hold.
const ROWS: usize = 3_000;
/// Characters of its column `word`.
const WIDTH: usize = 3_600;
/// How often a run is started to be stopped in its middle.
const TRIES: usize = 50;

/// Where an engine can be held in the middle of a read, and how it is found out that it is there.
enum Middle {
    /// Between the program and the engine.
    Wire(Proxy),
    /// In the reader process, which has passed a part of the rows on.
    Reader,
    /// In the file that is being read.
    File(&'static str),
    /// Nowhere: the engine is a part of the program. It is given the model [`Models::endless`].
    Program,
}

/// What a mapping's `[model]` holds.
struct Models {
    /// The rows of [`values`].
    small: String,
    /// `id`, `version` and `word`: [`ROWS`] rows, of [`WIDTH`] characters each.
    large: String,
    /// A model with the same columns that takes for ever, of engines that are a part of the program.
    endless: Option<String>,
}

trait Engine {
    /// Makes the rows, and writes `[sources.engine]` and what else groupcast.toml needs for it.
    fn set_up(&mut self, place: &mut Place) -> (String, Models);

    fn middle(&self) -> Middle;

    /// Why it cannot have a case.
    fn cannot(&self, _case: Case) -> Option<&'static str> {
        None
    }

    /// Keys of rows, and names of columns, that it cannot have.
    fn without(&self) -> Vec<String> {
        Vec::new()
    }

    /// Ends what serves the read, without a word.
    fn kill(&mut self, _run: &Running, _place: &Place) {
        unreachable!("an engine without this case")
    }

    /// Has it serve again, if it does not by itself.
    fn revive(&mut self, _place: &Place) {}

    /// Gives every row of the large model the version 2, durably.
    fn change(&mut self, _place: &Place) {
        unreachable!("an engine without this case")
    }
}

/// An engine on trial.
struct Trial<'a> {
    engine: &'a mut dyn Engine,
    place: Place,
    endless: Option<String>,
}

/// Goes through all cases.
fn conforms(engine: &mut dyn Engine) {
    let mut trial = Trial::of(engine);
    for (case, check) in CASES {
        match trial.engine.cannot(case) {
            Some(reason) => println!("{case:?}: {reason}"),
            None => {
                println!("{case:?}");
                check(&mut trial);
            }
        }
    }
}
const LARGE: &str =
    "version = { column = \"version\", as = \"integer\" }\nword = { column = \"word\", as = \"string\" }\n";

fn mapping(name: &str, model: &str, traits: &str) -> String {
    format!(
        "source = \"engine\"\ndestination = \"{name}\"\n[model]\n{model}\n[group]\ntype = \"company\"\nkey = \"id\"\n\
         [traits]\n{traits}"
    )
}

impl<'a> Trial<'a> {
    fn of(engine: &'a mut dyn Engine) -> Trial<'a> {
        let mut place = Place::new();
        let (mut settings, models) = engine.set_up(&mut place);
        for name in ["small", "large"] {
            settings.push_str(&format!("\n[destinations.{name}]\ntype = \"file\"\npath = \"{name}.sent\"\n"));
        }
        place.write("groupcast.toml", &settings);
        place.mapping("small", &mapping("small", &models.small, &values::traits(&engine.without())));
        place.mapping("large", &mapping("large", &models.large, LARGE));
        Trial { engine, place, endless: models.endless }
    }

    /// A run of the large model that is in the middle of its read, and what lets it go on.
    fn in_the_middle(&self, arguments: &[&str]) -> (Running, Hold) {
        match self.engine.middle() {
            Middle::Wire(proxy) => {
                proxy.hold();
                let mut run = self.place.start(arguments);
                until("an answer is held", || {
                    assert!(!run.ended(), "the run ended before its middle: {}", run.stderr());
                    proxy.is_holding().then_some(())
                });
                (run, Hold::Wire(proxy))
            }
            // What the reader has written waits in a pipe of 64 KB at most: while it has more to write, the run has more to read.
            // It writes a batch at a time, of up to 2,048 of the rows.
            Middle::Reader => self.stopped_in_the_middle(arguments, |run| {
                let written = readers_of(run).first().map_or(0, |reader| written(*reader));
                (written > 500_000).then_some(written + 1_000_000 < (ROWS * WIDTH) as u64)
            }),
            Middle::File(name) => {
                let path = self.place.path(name);
                self.stopped_in_the_middle(arguments, |run| (position(run, &path) > 1_000_000).then_some(true))
            }
            Middle::Program => {
                let mut run = self.place.start(arguments);
                until("it works on the model", || {
                    assert!(!run.ended(), "the run ended before its middle: {}", run.stderr());
                    (catches_interrupts(run.pid()) && processor_time(run.pid()) > 100).then_some(())
                });
                (run, Hold::None)
            }
        }
    }

    /// A run that was stopped while it read. `at` says whether a run has come to the middle of its read, and whether it still
    /// is there: where the machine is busy it may have read everything before the signal comes. Then another run is stopped.
    fn stopped_in_the_middle(&self, arguments: &[&str], at: impl Fn(u32) -> Option<bool>) -> (Running, Hold) {
        let was_sent = self.place.path("large.sent").exists();
        for _ in 0..TRIES {
            let mut run = self.place.start(arguments);
            until("it is in the middle of its read", || (run.ended() || at(run.pid()).is_some()).then_some(()));
            if !run.ended() {
                signal(run.pid(), Signal::STOP);
                if at(run.pid()) == Some(true) {
                    return (run, Hold::Stopped);
                }
                signal(run.pid(), Signal::CONT);
            }
            run.wait().exits(0);
            if !was_sent {
                self.place.run(&["ledger", "reset", "large", "--forget", "--yes"]).exits(0);
                std::fs::remove_file(self.place.path("large.sent")).unwrap();
            }
        }
        panic!("no run was in the middle of its read in {TRIES} tries");
    }

    fn sent(&self, name: &str) -> Vec<String> {
        let path = self.place.path(&format!("{name}.sent"));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// Nothing of the large model was sent or is recorded, and its last run ended so.
    fn nothing_but(&self, status: &str, kind: &str) {
        assert_eq!(self.sent("large").len(), 0);
        let all = self.place.run(&["status", "--json"]).exits(0).json();
        let sync = all["syncs"].as_array().unwrap().iter().find(|sync| sync["sync"] == "large").unwrap();
        assert_eq!((&sync["groups"]["synced"], &sync["groups"]["unconfirmed"]), (&json!(0), &json!(0)), "{sync}");
        let runs = self.place.run(&["runs", "large", "--json"]).exits(0).json();
        let last = &runs["runs"][0];
        assert_eq!(last["status"], status, "{last}");
        assert_eq!(last["error_kind"], kind, "{last}");
    }

    /// All rows of the large model were sent once more, with this version.
    fn all_sent(&self, before: usize, version: u32) {
        let text = self.place.read("large.sent");
        let new: Vec<&str> = text.lines().skip(before).collect();
        assert_eq!(new.len(), ROWS);
        let version = format!("\"version\":{version}");
        assert!(new.iter().all(|line| line.contains(&version)), "{version} is not everywhere");
    }
}

/// What keeps a run in the middle.
enum Hold {
    Wire(Proxy),
    Stopped,
    None,
}

impl Hold {
    fn release(&self, run: &Running) {
        match self {
            Hold::Wire(proxy) => proxy.release(),
            Hold::Stopped => signal(run.pid(), Signal::CONT),
            Hold::None => {}
        }
    }
}

fn values_arrive_alike(trial: &mut Trial<'_>) {
    let place = &trial.place;
    place.run(&["check", "--connect"]).exits(0);
    place.run(&["run", "small"]).exits(0);
    let (sent, expected) = (trial.sent("small"), values::documents(&trial.engine.without()));
    for (sent, expected) in sent.iter().zip(&expected) {
        assert_eq!(sent, expected, "what was sent, what was expected");
    }
    assert_eq!(sent.len(), expected.len());
    // AND nothing is sent again
    place.run(&["run", "small"]).exits(0);
    assert_eq!(trial.sent("small").len(), sent.len());
}

fn a_cancelled_read_leaves_nothing(trial: &mut Trial<'_>) {
    let mapped = trial.place.read("mappings/large.toml");
    if let Some(endless) = &trial.endless {
        trial.place.mapping("large", &mapping("large", endless, LARGE));
    }
    let (run, hold) = trial.in_the_middle(&["run", "large"]);
    let readers = readers_of(run.pid());
    run.signal("INT");
    // An engine that says nothing more is not waited for; a program that was stopped must go on to notice.
    if !matches!(hold, Hold::Wire(_)) {
        hold.release(&run);
    }
    run.wait().exits(130);
    if let Hold::Wire(proxy) = &hold {
        proxy.release();
        proxy.closes();
    }
    assert!(readers.iter().all(|reader| has_ended(*reader)), "a reader outlives its run");
    trial.nothing_but("cancelled", "interrupted");
    trial.place.mapping("large", &mapped);
}

fn an_engine_that_dies_fails_the_run(trial: &mut Trial<'_>) {
    let (run, hold) = trial.in_the_middle(&["run", "large"]);
    trial.engine.kill(&run, &trial.place);
    hold.release(&run);
    let output = run.wait().exits(1).says(&["source engine", "help:"]);
    assert!(!output.all().contains("panicked"), "{}", output.all());
    trial.engine.revive(&trial.place);
    trial.nothing_but("failed", "source_busy");
    trial.place.run(&["run", "large"]).exits(0);
    trial.all_sent(0, 1);
}

fn a_change_during_the_read_is_not_half_seen(trial: &mut Trial<'_>) {
    // Where an engine cannot die, nothing was sent before.
    trial.place.run(&["run", "large"]).exits(0);
    trial.all_sent(0, 1);
    let (run, hold) = trial.in_the_middle(&["run", "large", "--full"]);
    trial.engine.change(&trial.place);
    hold.release(&run);
    let output = run.wait();
    // All rows are as they were, or all as they are now, or the read has failed and says why.
    match output.code {
        Some(0) => drop(output.says(&["nothing sent"])),
        Some(4) => drop(output.says(&[&format!("{ROWS} of {ROWS} synced groups")])),
        _ => drop(output.exits(1).says(&["source engine", "chang", "help:"])),
    }
    trial.all_sent(0, 1);
    trial.place.run(&["run", "large", "--accept", "changed"]).exits(0);
    trial.all_sent(ROWS, 2);
}

/// The reader processes of a process, by number.
pub(crate) fn readers_of(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers
        .filter(|number| {
            let line = std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
            let after = line.rsplit_once(')').map_or("", |(_, after)| after);
            let mut fields = after.split_whitespace();
            fields.next().is_some_and(|state| state != "Z") && fields.next() == Some(&parent.to_string())
        })
        .collect()
}

/// Whether a process is gone, or only its number is left.
pub(crate) fn has_ended(process: u32) -> bool {
    std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default().is_empty()
}

/// Sends a signal at once: to start a program for it takes longer than some reads.
fn signal(process: u32, signal: Signal) {
    let process = Pid::from_raw(process.try_into().unwrap()).unwrap();
    kill_process(process, signal).unwrap();
}

/// Bytes that a process has written.
fn written(process: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/io")).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("wchar: ")).and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// How far a process has read a file that it has open.
fn position(process: u32, path: &Path) -> u64 {
    let entries = std::fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    let open = entries.filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| to == path));
    let position = |entry: std::fs::DirEntry| {
        let info = Path::new("/proc").join(process.to_string()).join("fdinfo").join(entry.file_name());
        std::fs::read_to_string(info).ok()?.lines().next()?.strip_prefix("pos:")?.trim().parse().ok()
    };
    open.filter_map(position).max().unwrap_or(0)
}

fn catches_interrupts(process: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0").trim();
    u64::from_str_radix(caught, 16).unwrap_or(0) & 2 != 0
}

/// In hundredths of a second.
fn processor_time(process: u32) -> u64 {
    let line = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let after = line.rsplit_once(')').map_or("", |(_, after)| after);
    after.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}
