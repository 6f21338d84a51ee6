//! Tests of a mapping: rows in, documents and requests out, without a warehouse and without a ledger.
//!
//! A test takes the path of a plan: the rows become the model of a DuckDB source, the mapping is checked against it and
//! compiled, the ledger is one in memory that holds the documents of `before`, and what [`sync::plan`] decides is
//! compared with what is expected. Nothing is evaluated twice.
//!
//! | module | contents |
//! |---|---|
//! | `table`, `file_rows` | the rows as a relation of DuckDB |
//! | `adapt` | the mapping over these rows instead of its own model |
//! | `observe` | what came out, as JSON |
//! | [`mod@compare`] | where that differs from what is expected |
//! | [`update`] | the file with expectations that match |

mod adapt;
pub mod compare;
mod file_rows;
mod observe;
mod table;
pub mod update;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio::sync::watch;

use self::compare::{Mismatch, compare};
use self::observe::Observed;
use super::open;
use crate::config::Project;
use crate::delivery::Signal;
use crate::destination::AddressedChange;
use crate::error::{Kind, Result};
use crate::io::{Clock, Random};
use crate::ledger;
use crate::mapping::diagnostic::{Diagnostic, Severity};
use crate::mapping::test_file::{MappingTest, Rows, TestFile};
use crate::mapping::{MappingFile, fingerprint};
use crate::model::Document;
use crate::source::Source;
use crate::source::duckdb::{DuckDb, DuckDbSettings};
use crate::sync::decide::Decision;
use crate::sync::{self, Event, Monitor, RunOptions, RunOrigin, Session, Warehouse};

/// The name of the source that a test's rows come from, in messages.
const SOURCE: &str = "rows of the test";

/// How a test ended.
#[derive(Debug)]
pub struct Tested {
    /// The verdict.
    pub outcome: Outcome,
    /// What came out, by kind of expectation; null where the test did not run.
    pub actual: Value,
}

/// The verdict about a test.
#[derive(Debug)]
pub enum Outcome {
    /// Everything is as expected.
    Passed,
    /// Something differs.
    Failed(Vec<Mismatch>),
    /// The rows and the mapping do not fit each other, or the run failed.
    Broken(Vec<Diagnostic>),
    /// It cannot run here, and why.
    Skipped(String),
}

/// Runs one test of a mapping.
///
/// Errors: what has nothing to do with the test: DuckDB cannot be started, memory is out.
pub async fn run(project: &Project, file: &MappingFile, tests: &TestFile, test: &MappingTest) -> Result<Tested> {
    let not_run = |outcome: Outcome| Ok(Tested { outcome, actual: Value::Null });
    let limits = project.settings.state.input_limits();
    let folder = Path::new(&tests.file).parent().unwrap_or(Path::new("."));
    let mut source = DuckDb::open(&DuckDbSettings::default(), SOURCE, &project.settings.folder, &limits)?;
    let instance = source.instance(&limits).await?;
    let from_file;
    let rows = match &test.rows {
        Rows::Given(rows) => rows,
        Rows::File { path, at } => match file_rows::read(&folder.join(path), instance.duckdb()).await {
            Ok(rows) => {
                from_file = rows;
                &from_file
            }
            Err(error) => {
                let problem = Diagnostic::error(&tests.file, at, format!("`{path}`: {error}"));
                return not_run(Outcome::Broken(vec![problem.maybe_help(error.advice().map(str::to_owned))]));
            }
        },
    };
    let adapted = match adapt::over_rows(file, tests, rows, instance.duckdb()).await? {
        Ok(adapted) => adapted,
        Err(problems) => return not_run(Outcome::Broken(problems)),
    };
    let found = open::connected_check(&adapted, &mut source).await?;
    if found.iter().any(|problem| problem.severity == Severity::Error) {
        let errors: Vec<Diagnostic> = found.into_iter().filter(|problem| problem.severity == Severity::Error).collect();
        return not_run(match in_another_dialect(project, file, &errors) {
            Some(reason) => Outcome::Skipped(reason),
            None => Outcome::Broken(errors.into_iter().map(|error| with_advice(error, &tests.file)).collect()),
        });
    }
    let settings = open::destination_of(project, file)?;
    let destination = open::destination(settings, &file.mapping.group_type)?;
    if test.expect.value.get("requests").is_some() && destination.setup_request().is_some() {
        let name = &settings.name;
        return not_run(Outcome::Skipped(format!(
            "what requests to `{name}` look like depends on what it answers first: expect `changes` instead"
        )));
    }
    let ledger = ledger::in_memory(&limits).await?;
    let mapping = &adapted.mapping;
    let (_keep, signal) = watch::channel(Signal::default());
    // How a group leaves the model is also tested where no other is left in it.
    let accept = match test.expect.value.get("guard").and_then(Value::as_str) {
        Some("empty") => BTreeSet::new(),
        _ => BTreeSet::from(["empty".to_owned()]),
    };
    let session = Session {
        mapping,
        fingerprint: &fingerprint(mapping),
        syncs: None,
        destination: None,
        ledger: ledger.as_ref(),
        delivery: None,
        clock: &StoppedClock(tests.now),
        random: &Random::seeded(0),
        monitor: &Silent,
        options: &RunOptions { accept, ..RunOptions::default() },
        origin: &RunOrigin::of("test"),
        signal,
    };
    let before: Vec<(String, Document)> =
        test.before.iter().map(|(key, traits)| (key.clone(), Document(traits.clone()))).collect();
    let mut observed = Observed::starting_from(&before);
    if !before.is_empty() {
        sync::synced::record(&session, before).await?;
    }
    let refuse = |addressed: &AddressedChange| destination.parts(addressed).err();
    let mut warehouse = Warehouse { source: Box::new(source), instance };
    let planned = sync::plan(&session, &mut warehouse, &refuse, &mut |page: &[Decision]| {
        observed.add(destination.as_ref(), page, tests.now);
        Ok(())
    })
    .await;
    match planned {
        Ok(plan) => observed.guard = plan.guarded,
        // An expression that fails for some row.
        Err(error) if error.kind() == Kind::Source => {
            let problem = Diagnostic::error(&tests.file, &test.at, error.to_string());
            return not_run(Outcome::Broken(vec![problem.maybe_help(error.advice().map(str::to_owned))]));
        }
        Err(error) => return Err(error),
    }
    let actual = observed.into_json();
    let mismatches = compare(test, &actual);
    let outcome = if mismatches.is_empty() { Outcome::Passed } else { Outcome::Failed(mismatches) };
    Ok(Tested { outcome, actual })
}

/// Why DuckDB cannot run the SQL of a mapping that is written for another warehouse, if that is all that is wrong.
fn in_another_dialect(project: &Project, file: &MappingFile, errors: &[Diagnostic]) -> Option<String> {
    let source = project.settings.sources.get(&file.mapping.source)?;
    let is_foreign = !matches!(source.kind.as_str(), "duckdb" | "files");
    let of_dialect = |error: &Diagnostic| {
        ["Parser Error", "Catalog Error", "syntax error", "No function matches", "does not exist"]
            .iter()
            .any(|words| error.message.contains(words))
            && !error.message.contains("Referenced column")
    };
    let first = errors.first().filter(|_| is_foreign && errors.iter().all(of_dialect))?;
    let (what, place) = match first.path.strip_prefix("traits.") {
        Some(path) => (format!("the SQL of trait `{path}`"), format!("`duckdb.traits.{path}`")),
        None => ("its SQL".to_owned(), "`duckdb.where`".to_owned()),
    };
    let message = first.message.replace(&format!("source {SOURCE}: "), "");
    Some(format!("DuckDB cannot run {what}, which is written for {}: {message}; give it as {place}", source.kind))
}

/// A problem of a mapping over the rows of a test, with what to do about it there.
fn with_advice(problem: Diagnostic, file: &str) -> Diagnostic {
    let message = problem.message.replace(&format!("source {SOURCE}: "), "");
    let mut problem = Diagnostic { message, ..problem };
    if problem.message.contains("Referenced column") {
        problem.help = vec![format!("give it in a row, or declare it with its type under `[columns]` in {file}")];
    }
    problem
}

/// It is always the same time.
struct StoppedClock(DateTime<Utc>);

#[async_trait]
impl Clock for StoppedClock {
    fn now(&self) -> DateTime<Utc> {
        self.0
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }

    async fn sleep(&self, _duration: Duration) {}
}

struct Silent;

impl Monitor for Silent {
    fn note(&self, _event: Event<'_>) {}
}
