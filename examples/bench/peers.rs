//! Other tools with the same accounts and the same receiver, measured as Groupcast is: `make bench-peers`.
//!
//! Each uses batches of a thousand, no limit of requests per second, and the way its documentation shows. What is compared is
//! a first send, and the run after it with nothing changed. Two of them send everything again then, which is what they do
//! every night: to an HTTP destination they keep no state by row.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::data::{Project, Shape, Source};
use crate::measure::{self, Cost, Repeat, Spread};
use crate::receiver::{Received, Receiver};
use crate::report::Measurement;

/// A tool: its name, the target for a first send and for no change as multiples of Groupcast's cost, and its command.
struct Peer {
    name: &'static str,
    first: Option<f64>,
    again: f64,
    command: fn(&Place) -> Command,
}

const PEERS: [Peer; 3] = [
    Peer { name: "script", first: Some(8.0), again: 25.0, command: |place| place.python("script.py", "state.sqlite") },
    Peer { name: "drt", first: Some(8.0), again: 60.0, command: |place| place.drt() },
    Peer { name: "dlt", first: None, again: 150.0, command: |place| place.python("dlt_pipeline.py", "pipelines") },
];

/// Where a tool runs.
struct Place<'a> {
    /// The programs of the virtual environment.
    programs: &'a Path,
    /// The folder with the scripts and drt's project.
    scripts: &'a Path,
    /// Its own folder, empty before a first send.
    folder: PathBuf,
    warehouse: &'a Path,
    receiver: String,
}

impl Place<'_> {
    fn python(&self, script: &str, state: &str) -> Command {
        let mut command = Command::new(self.programs.join("python"));
        command.arg(self.scripts.join(script)).env("STATE", self.folder.join(state));
        self.prepare(command)
    }

    fn drt(&self) -> Command {
        let mut command = Command::new(self.programs.join("drt"));
        command.arg("run");
        self.prepare(command)
    }

    fn prepare(&self, mut command: Command) -> Command {
        command
            .current_dir(&self.folder)
            // Nothing of the user's own configuration, and nothing about this run to anyone.
            .env("HOME", &self.folder)
            .env("DO_NOT_TRACK", "1")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("WAREHOUSE", self.warehouse)
            .env("RECEIVER", &self.receiver);
        command
    }

    /// Forgets what was sent.
    fn reset(&self) -> Result<()> {
        if self.folder.exists() {
            std::fs::remove_dir_all(&self.folder)?;
        }
        std::fs::create_dir_all(self.folder.join("syncs"))?;
        std::fs::create_dir_all(self.folder.join(".drt"))?;
        let drt = self.scripts.join("drt");
        std::fs::copy(drt.join("drt_project.yml"), self.folder.join("drt_project.yml"))?;
        for (from, to) in [("syncs/accounts.yml", "syncs/accounts.yml"), ("profiles.yml", ".drt/profiles.yml")] {
            let text = std::fs::read_to_string(drt.join(from))?;
            let text = text.replace("${RECEIVER}", &self.receiver);
            let text = text.replace("${WAREHOUSE}", &self.warehouse.display().to_string());
            std::fs::write(self.folder.join(to), text)?;
        }
        Ok(())
    }
}

/// First sends and quiet runs in turn, and what the last of each sent.
struct Both {
    first: Spread,
    again: Spread,
    first_sent: Received,
    again_sent: Received,
}

fn both(
    repeat: Repeat,
    receiver: &mut Receiver,
    rows: u64,
    reset: impl Fn() -> Result<()>,
    run: impl Fn() -> Result<Cost>,
) -> Result<Both> {
    let (mut first_sent, mut again_sent) = (Received::default(), Received::default());
    let mut again = Vec::new();
    receiver.received()?;
    let first = repeat.measure(|| {
        reset()?;
        let cost = run()?;
        first_sent = receiver.received()?;
        if first_sent.groups != rows {
            return Err(format!("{} groups arrived, not {rows}", first_sent.groups).into());
        }
        again.push(run()?);
        again_sent = receiver.received()?;
        Ok(cost)
    })?;
    Ok(Both { first, again: Spread::of(again), first_sent, again_sent })
}

/// What is measured.
pub(crate) struct Setting<'a> {
    /// The folder with `groupcast` and the receiver.
    pub(crate) programs: &'a Path,
    /// The folder with `python` and `drt`.
    pub(crate) tools: &'a Path,
    pub(crate) scripts: &'a Path,
    pub(crate) folder: &'a Path,
    pub(crate) rows: u64,
    pub(crate) repeat: Repeat,
    pub(crate) only: &'a [String],
}

/// Measures Groupcast, then the tools. One that fails costs none of the others; it is named in `failed`.
pub(crate) fn run(setting: &Setting<'_>, failed: &mut Vec<String>) -> Result<Vec<Measurement>> {
    let Setting { programs, tools, scripts, folder, rows, repeat, only } = *setting;
    let warehouse = folder.join("accounts.duckdb");
    crate::data::warehouse(&warehouse, Shape::Usual, rows)?;
    let mut receiver = Receiver::start(programs, &crate::receiver::Manner::default())?;
    let mut measured = Vec::new();

    let mut ours = Vec::new();
    for destination in ["amplitude", "webhook"] {
        eprintln!("groupcast, {destination}");
        let source = Source::DuckDb(&warehouse);
        let project = Project::create(folder.join(destination), &source, Shape::Usual, destination, &receiver.url())?;
        let run = || {
            let mut command = Command::new(programs.join("groupcast"));
            command.arg("run").current_dir(&project.folder).env("BENCH_KEY", "benchmark-key");
            Ok(measure::run(&mut command)?.0)
        };
        let both = both(repeat, &mut receiver, rows, || project.reset(), run)?;
        let name = format!("groupcast-{destination}");
        measured.push(row(&name, "first send", rows, &both.first, both.first_sent));
        measured.push(row(&name, "no change", rows, &both.again, both.again_sent));
        ours.push(both);
    }
    // The others send without a vendor's limits; Groupcast keeps Amplitude's 1,024 properties in a request.
    let ours = &ours[0];

    for peer in PEERS.iter().filter(|peer| only.is_empty() || only.iter().any(|only| peer.name == only)) {
        eprintln!("{}", peer.name);
        let place = Place {
            programs: tools,
            scripts,
            folder: folder.join(peer.name),
            warehouse: &warehouse,
            receiver: receiver.url(),
        };
        let run = || Ok(measure::run(&mut (peer.command)(&place))?.0);
        let both = match both(repeat, &mut receiver, rows, || place.reset(), run) {
            Ok(both) => both,
            Err(error) => {
                failed.push(format!("{}: {error}", peer.name));
                continue;
            }
        };
        let first = row(peer.name, "first send", rows, &both.first, both.first_sent)
            .floor("groupcast", ours.first.median.clone());
        let (time, cpu) = (first.times_the_floor(), first.times_the_floor_in_cpu());
        measured.push(match peer.first {
            Some(limit) => first.at_least("time / ours", time, limit, "×").at_least("CPU / ours", cpu, limit, "×"),
            None => first,
        });
        let again = row(peer.name, "no change", rows, &both.again, both.again_sent)
            .floor("groupcast", ours.again.median.clone());
        let time = again.times_the_floor();
        measured.push(again.at_least("time / ours", time, peer.again, "×"));
    }
    Ok(measured)
}

fn row(tool: &str, work: &str, rows: u64, spread: &Spread, received: Received) -> Measurement {
    Measurement::new(tool, format!("{tool}: {work} × 20 columns"), rows).took(spread.clone()).received(received)
}
