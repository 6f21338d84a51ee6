//! The rows of the table, and what they share: the accounts, the synced state, the time to start.

mod bounds;
mod first_send;
mod ledger;
mod no_change;
mod start_up;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::Result;
use crate::data::{self, Project, Shape, Source};
use crate::measure::{self, Cost, Repeat, Spread};
use crate::receiver::{Manner, Receiver};
use crate::report::Measurement;

/// A part of the table: its name, what it measures, and how.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) run: fn(&mut Bench) -> Result<Vec<Measurement>>,
}

/// Every part, in the table's order. What later ones share is measured by the first that needs it.
pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        name: "first-amplitude",
        about: "first send, ROWS / 10 accounts, Amplitude",
        run: first_send::amplitude,
    },
    Scenario {
        name: "first-file",
        about: "first send to a file, against DuckDB's COPY and a table",
        run: first_send::file,
    },
    Scenario {
        name: "first-http-amplitude",
        about: "first send over HTTP, against a replay of the same bodies",
        run: |bench| first_send::over_http(bench, "amplitude"),
    },
    Scenario {
        name: "first-http-posthog",
        about: "the same to PostHog",
        run: |bench| first_send::over_http(bench, "posthog"),
    },
    Scenario {
        name: "first-http-segment",
        about: "the same to Segment",
        run: |bench| first_send::over_http(bench, "segment"),
    },
    Scenario {
        name: "first-http-webhook",
        about: "the same to a webhook",
        run: |bench| first_send::over_http(bench, "webhook"),
    },
    Scenario { name: "start-up", about: "`status`, and a run of one account", run: start_up::start_up },
    Scenario { name: "adopt", about: "`ledger adopt`, and the ledger's size after it", run: ledger::adopt },
    Scenario { name: "no-change", about: "no change, DuckDB, against hashing", run: no_change::duckdb },
    Scenario {
        name: "no-change-same-file",
        about: "no change, and the file is the one of the last runs",
        run: no_change::same_file,
    },
    Scenario { name: "changed", about: "one account in a hundred changed in one trait", run: no_change::one_percent },
    Scenario {
        name: "no-change-postgres",
        about: "no change, PostgreSQL, against psql COPY",
        run: no_change::postgres,
    },
    Scenario { name: "pages", about: "changed groups of 200 KB: memory", run: bounds::large_groups },
    Scenario { name: "slow", about: "a destination that takes 50 ms per request: memory", run: bounds::slow },
    Scenario {
        name: "extreme-wide",
        about: "200 columns × ROWS / 10",
        run: |bench| bounds::extreme(bench, "extreme-wide", Shape::Columns(199), bench.rows / 10),
    },
    Scenario {
        name: "extreme-narrow",
        about: "1 column × ROWS × 2",
        run: |bench| bounds::extreme(bench, "extreme-narrow", Shape::Columns(1), bench.rows * 2),
    },
    Scenario {
        name: "extreme-columns",
        about: "1,600 columns × 1,000",
        run: |bench| bounds::extreme(bench, "extreme-columns", Shape::Columns(1_599), 1_000),
    },
    Scenario {
        name: "extreme-group",
        about: "one group of 7 MB",
        run: |bench| bounds::extreme(bench, "extreme-group", Shape::Texts(7, 1_000_000), 1),
    },
];

/// What the parts share.
pub(crate) struct Bench {
    programs: PathBuf,
    folder: PathBuf,
    /// Accounts where a part says nothing else.
    pub(crate) rows: u64,
    repeat: Repeat,
    start_up: Option<Spread>,
    adopted: Option<Spread>,
    quiet: Option<Spread>,
}

impl Bench {
    /// Measures the programs in `programs`, with everything temporary in `folder`.
    pub(crate) fn new(programs: PathBuf, folder: PathBuf, rows: u64, runs: usize, budget: Duration) -> Bench {
        let repeat = Repeat { runs, budget };
        Bench { programs, folder, rows, repeat, start_up: None, adopted: None, quiet: None }
    }

    /// A folder below the temporary one.
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The usual accounts, `rows` of them, in a DuckDB file that parts must not change.
    pub(crate) fn accounts(&self, rows: u64) -> Result<PathBuf> {
        let file = self.path(&format!("accounts-{rows}.duckdb"));
        data::warehouse(&file, Shape::Usual, rows)?;
        Ok(file)
    }

    pub(crate) fn receiver(&self) -> Result<Receiver> {
        Receiver::start(&self.programs, &Manner::default())
    }

    /// Runs the program in a project.
    pub(crate) fn groupcast(&self, project: &Project, arguments: &[&str]) -> Result<Cost> {
        let mut command = Command::new(self.programs.join("groupcast"));
        command.args(arguments).current_dir(&project.folder).env("BENCH_KEY", "benchmark-key");
        Ok(measure::run(&mut command)?.0)
    }

    /// Runs it as often as there is time for, each time after `prepare`.
    fn repeated(
        &self,
        project: &Project,
        arguments: &[&str],
        mut prepare: impl FnMut() -> Result<()>,
    ) -> Result<Spread> {
        self.repeat.measure(|| {
            prepare()?;
            self.groupcast(project, arguments)
        })
    }

    /// First sends: everything that was sent is forgotten before each.
    fn first_sends(&self, project: &Project) -> Result<Spread> {
        self.repeated(project, &["run"], || project.reset())
    }

    /// A run of one account: what every run takes beside its rows.
    fn start_up(&mut self) -> Result<Spread> {
        if let Some(known) = &self.start_up {
            return Ok(known.clone());
        }
        let project = self.one_account()?;
        let measured = self.many(|bench| bench.groupcast(&project, &["run"]))?;
        self.start_up = Some(measured.clone());
        Ok(measured)
    }

    /// A project of one account that was sent.
    fn one_account(&self) -> Result<Project> {
        let warehouse = self.accounts(1)?;
        let source = Source::DuckDb(&warehouse);
        let project = Project::create(self.path("one"), &source, Shape::Usual, "file", "")?;
        project.reset()?;
        self.groupcast(&project, &["run"])?;
        Ok(project)
    }

    /// Work of a fraction of a second, often enough for a steady median.
    fn many(&self, mut work: impl FnMut(&Bench) -> Result<Cost>) -> Result<Spread> {
        let runs = self.repeat.runs.max(9);
        Repeat { runs, ..self.repeat }.measure(|| work(self))
    }

    /// A project whose accounts were adopted: its folder keeps the state, to be copied.
    fn adopted(&mut self) -> Result<(Project, Spread)> {
        let warehouse = self.accounts(self.rows)?;
        let source = Source::DuckDb(&warehouse);
        let project = Project::create(self.path("adopted"), &source, Shape::Usual, "file", "")?;
        let spread = match &self.adopted {
            Some(known) => known.clone(),
            None => self.repeated(&project, &["ledger", "adopt", "accounts"], || project.reset())?,
        };
        self.adopted = Some(spread.clone());
        Ok((project, spread))
    }

    /// Runs over the adopted accounts, of which none changed.
    fn quiet(&mut self) -> Result<(Project, Spread)> {
        let (project, _) = self.adopted()?;
        let spread = match &self.quiet {
            Some(known) => known.clone(),
            // The first run after adopting may fold the ledger's log; every night after it does not.
            None => {
                self.groupcast(&project, &["run"])?;
                let warehouse = self.accounts(self.rows)?;
                // A file that was written since the last run, as every night: it is read.
                self.many(|bench| {
                    touch(&warehouse)?;
                    bench.groupcast(&project, &["run"])
                })?
            }
        };
        self.quiet = Some(spread.clone());
        Ok((project, spread))
    }
}

/// One point of the plot: what the usual work costs for so many accounts.
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct Point {
    pub(crate) rows: u64,
    pub(crate) first_send: Spread,
    pub(crate) no_change: Spread,
    pub(crate) adopt: Spread,
    /// The ledger's bytes after adopting.
    pub(crate) ledger_bytes: u64,
    pub(crate) source_bytes: u64,
}

/// Measures a point with the programs in `bench`, which is of its size.
pub(crate) fn point(bench: &mut Bench) -> Result<Point> {
    let warehouse = bench.accounts(bench.rows)?;
    let source = Source::DuckDb(&warehouse);
    let project = Project::create(bench.path("first-file"), &source, Shape::Usual, "file", "")?;
    let first_send = bench.first_sends(&project)?;
    project.reset()?;
    let (adopted, adopt) = bench.adopted()?;
    let ledger_bytes = measure::bytes_of(&adopted.state())?;
    let (_, no_change) = bench.quiet()?;
    Ok(Point {
        rows: bench.rows,
        first_send,
        no_change,
        adopt,
        ledger_bytes,
        source_bytes: measure::bytes_of(&warehouse)?,
    })
}

/// Makes a file look as if it had just been written.
fn touch(file: &Path) -> Result<()> {
    let file = std::fs::File::options().append(true).open(file)?;
    Ok(file.set_times(std::fs::FileTimes::new().set_modified(file.metadata()?.modified()?))?)
}

/// The size of a file or folder as a multiple of another's.
fn times(of: &Path, base: &Path) -> Result<f64> {
    Ok(measure::bytes_of(of)? as f64 / measure::bytes_of(base)? as f64)
}
