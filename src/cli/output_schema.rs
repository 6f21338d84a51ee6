//! The JSON Schema of what `--json` prints, by command. The types of views are those that are printed; the others are here only
//! for their schema, and `tests/it/json_output.rs` holds what commands print to it.

use std::collections::BTreeMap;

use schemars::generate::{Contract, SchemaSettings};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::error::Kind;
use crate::ledger::{Comparison, RunStatus};
use crate::mapping::diagnostic::Problem;
use crate::model::Change;
use crate::service::views::{
    DaemonView, ExportedGroup, GroupView, OrphanedSync, RejectedView, RunDetail, RunView, ScheduledTime, SyncView,
    TraitSummary,
};
use crate::sync::report::Counts;
use crate::sync::verify::{Drift, Verified};

/// The version of these shapes. It grows with a change that a program may trip over: a key that is renamed or gone, or that has
/// another meaning. New keys do not count.
const VERSION: u32 = 1;

/// A command, what it prints, and whether that is one object or one per line.
struct Output {
    command: &'static str,
    lines: bool,
    what: &'static str,
    schema: fn(&mut SchemaGenerator) -> Schema,
}

impl Output {
    const fn one<T: JsonSchema>(command: &'static str, what: &'static str) -> Output {
        Output { command, lines: false, what, schema: SchemaGenerator::subschema_for::<T> }
    }

    const fn lines<T: JsonSchema>(command: &'static str, what: &'static str) -> Output {
        Output { lines: true, ..Output::one::<T>(command, what) }
    }
}

const OUTPUTS: [Output; 26] = [
    Output::one::<FailureOutput>("any", "What every command prints instead, or as well, when it fails."),
    Output::one::<Problems>("check", "Every problem of every file."),
    Output::one::<WrittenFiles>("init", "The files that were written."),
    Output::lines::<TestLine>("test", "A line for each test, and a summary last."),
    Output::one::<Formatted>("fmt", "The files, and which of them changed (with `--check`: would change)."),
    Output::one::<WrittenFiles>("schema --write", "The files that were written."),
    Output::one::<Examination>("doctor", "What was examined."),
    Output::lines::<PlanLine>(
        "plan",
        "Lines for each sync: its changes and rejected groups, with `--requests` its requests, and a summary last.",
    ),
    Output::one::<RunOutput>("run", "The end of each run."),
    Output::one::<DetachedRuns>("run --detach", "The runs that were submitted."),
    Output::one::<Status>("status", "Each sync with its groups, schedule and last run."),
    Output::one::<DaemonView>("daemon drain", "The daemon that drains."),
    Output::one::<Runs>("runs", "Runs, the newest first."),
    Output::one::<RunDetail>("runs show", "One run with its whole record."),
    Output::one::<ScheduleOutput>("schedule", "When each sync runs."),
    Output::one::<GroupOutput>("group", "One group: its traits and their history."),
    Output::one::<Rejected>("rejected", "The rejected groups."),
    Output::lines::<VerifyLine>("verify", "A line for each group that differs, and a summary last."),
    Output::one::<Adopted>("ledger adopt", "How many groups were marked as synced."),
    Output::one::<Reset>("ledger reset", "How many groups were reset."),
    Output::one::<BackedUp>("ledger backup", "What was copied."),
    Output::lines::<ExportedGroup>("ledger export", "A line for each group, also without `--json`."),
    Output::one::<Renamed>("ledger rename", "How many groups belong to the new name."),
    Output::one::<Dropped>("ledger drop", "How many groups were dropped."),
    Output::one::<Exposures>("dbt exposures", "The exposures, as dbt's YAML has them."),
    Output::one::<WrittenFiles>("man", "The files that were written."),
];

/// The schema: an object with a key for each command, whose value is what the command prints, or each of its lines.
pub(super) fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.contract = Contract::Serialize);
    let mut generator = settings.into_generator();
    let mut commands = Map::new();
    for Output { command, lines, what, schema } in OUTPUTS {
        let mut schema = Value::from(schema(&mut generator));
        schema["description"] = what.into();
        schema["x-lines"] = lines.into();
        commands.insert(command.to_owned(), schema);
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What `groupcast … --json` prints",
        "x-version": VERSION,
        "type": "object",
        "properties": commands,
        "$defs": generator.take_definitions(true),
    })
}

/// Declares types of which only the schema is used.
macro_rules! shapes {
    ($($(#[$attribute:meta])* $kind:ident $name:ident $body:tt)*) => {
        $(
            #[derive(JsonSchema)]
            #[expect(dead_code, reason = "only its schema is used")]
            #[allow(clippy::large_enum_variant, reason = "no value of it exists")]
            $(#[$attribute])*
            $kind $name $body
        )*
    };
}

shapes! {
    /// A failure: an error, or the problems of files.
    #[serde(untagged)]
    enum FailureOutput {
        Error(ErrorOutput),
        Problems(Problems),
    }

    /// An error.
    struct ErrorOutput {
        /// What failed.
        error: ErrorShape,
    }

    /// An error.
    struct ErrorShape {
        /// What kind of thing failed, which decides what to do.
        #[schemars(extend("enum" = Kind::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>()))]
        kind: String,
        /// What failed, and where.
        message: String,
        /// What to do next.
        advice: Option<String>,
    }

    /// The problems of files.
    struct Problems {
        /// Errors first by file, line and column.
        problems: Vec<Problem>,
    }

    /// Files.
    struct WrittenFiles {
        /// Their paths.
        written: Vec<String>,
    }

    /// The files of a formatting.
    struct Formatted {
        /// Each file.
        files: Vec<FormattedFile>,
    }

    /// A file that was formatted.
    struct FormattedFile {
        /// Its path.
        file: String,
        /// Whether its layout changed, or would.
        changed: bool,
    }

    /// A line of `groupcast test`.
    #[serde(tag = "type", rename_all = "snake_case")]
    enum TestLine {
        /// A test.
        Test {
            /// The sync whose mapping is tested.
            sync: String,
            /// The test's name.
            name: String,
            /// The file it is in.
            file: String,
            /// Its line.
            line: usize,
            /// What became of it.
            #[schemars(extend("enum" = ["passed", "failed", "broken", "skipped", "updated"]))]
            outcome: String,
            /// How long it took.
            seconds: f64,
            /// Where what came out differs from what is expected.
            mismatches: Vec<TestMismatch>,
            /// Why it could not run.
            problems: Vec<TestProblem>,
            /// Why it was skipped.
            reason: Option<String>,
        },
        /// All tests.
        Summary {
            /// How many there are.
            tests: u64,
            /// Those that passed.
            passed: u64,
            /// Those that failed or could not run.
            failed: u64,
            /// Those that DuckDB cannot run.
            skipped: u64,
            /// Those whose expectations were rewritten.
            updated: u64,
        },
    }

    /// A difference between what a test expects and what came out.
    struct TestMismatch {
        /// The line of the expectation.
        line: usize,
        /// The JSON pointer below `expect`.
        path: String,
        /// What is expected.
        expected: Option<Value>,
        /// What came out.
        actual: Option<Value>,
        /// What explains it.
        note: Option<String>,
    }

    /// Why a test could not run.
    struct TestProblem {
        /// The file.
        file: String,
        /// What is wrong.
        message: String,
        /// What to do.
        help: Vec<String>,
    }

    /// What `doctor` found.
    struct Examination {
        /// Each thing that was examined.
        findings: Vec<Finding>,
        /// How many of them are errors.
        errors: u64,
        /// How many of them are warnings.
        warnings: u64,
    }

    /// One thing that was examined.
    struct Finding {
        /// What it is.
        subject: String,
        /// How it is.
        #[schemars(extend("enum" = ["ok", "warning", "error"]))]
        state: String,
        /// What was found.
        what: String,
        /// What to do.
        help: Option<String>,
    }

    /// A line of `groupcast plan`.
    #[serde(tag = "type", rename_all = "snake_case")]
    enum PlanLine {
        /// A group that a run would send something about.
        Change {
            /// The sync.
            sync: String,
            /// The group's id.
            key: String,
            /// What it is called: the value of the mapping's `label`.
            #[schemars(skip_serializing_if = "Option::is_none")]
            label: Option<String>,
            /// Whether the group is new, its row changed, or it left the model.
            #[schemars(extend("enum" = ["new", "changed", "missing"]))]
            kind: String,
            /// False where the synced state is unconfirmed.
            certain: bool,
            /// The synced value of each trait that changes.
            before: BTreeMap<String, Value>,
            /// What would be sent.
            change: Change,
        },
        /// A group that cannot be sent.
        Rejected {
            /// The sync.
            sync: String,
            /// The group's id.
            key: String,
            /// What it is called.
            #[schemars(skip_serializing_if = "Option::is_none")]
            label: Option<String>,
            /// The error message.
            reason: String,
        },
        /// A request that would be sent, secrets masked.
        Request {
            /// The sync.
            sync: String,
            /// The method.
            method: String,
            /// The address.
            url: String,
            /// The headers by name.
            headers: BTreeMap<String, String>,
            /// The body, as text.
            body: String,
        },
        /// The plan of a sync, after its changes.
        Plan {
            /// The sync.
            sync: String,
            /// Whether the whole model was read.
            full: bool,
            /// What the comparison found.
            comparison: Comparison,
            /// Groups to add.
            add: u64,
            /// Groups to change.
            change: u64,
            /// Groups to remove.
            remove: u64,
            /// Rows without a difference.
            unchanged: u64,
            /// Rows that cannot be sent, or were rejected earlier.
            rejected: u64,
            /// Those among them that were rejected earlier and did not change.
            rejected_unchanged: u64,
            /// Traits to set.
            traits_set: u64,
            /// Traits to unset.
            traits_unset: u64,
            /// What becomes of each trait, over all changes.
            traits: Vec<TraitSummary>,
            /// The guard that would stop the run.
            guard: Option<ErrorShape>,
        },
    }

    /// The runs of a command.
    struct RunOutput {
        /// Each run, in the order of the syncs' names.
        runs: Vec<RunEnd>,
        /// The command's exit code: the worst one of its runs.
        exit_code: u8,
    }

    /// How a run ended.
    #[serde(untagged)]
    enum RunEnd {
        Finished(FinishedRun),
        Failed(FailedRun),
    }

    /// A run that went through, or was stopped on the way.
    struct FinishedRun {
        /// The sync.
        sync: String,
        /// The run's id.
        run: String,
        /// How it ended.
        status: RunStatus,
        /// Every count; they add up.
        counts: Counts,
        /// Whether the whole model was read.
        full: bool,
        /// How long it took.
        seconds: f64,
        /// Changes left pending because of `--limit`.
        beyond_limit: u64,
        /// Warnings of the destination about requests it accepted, and how often; absent without any.
        #[schemars(skip_serializing_if = "BTreeMap::is_empty")]
        warnings: BTreeMap<String, u64>,
        /// Why it did not finish; absent where it did.
        #[schemars(skip_serializing_if = "Option::is_none")]
        stopped: Option<ErrorShape>,
    }

    /// A run that failed before it sent anything.
    struct FailedRun {
        /// The sync.
        sync: String,
        /// The run's id; absent where none was recorded.
        #[schemars(skip_serializing_if = "Option::is_none")]
        run: Option<String>,
        /// How it ended.
        status: RunStatus,
        /// Why.
        error: ErrorShape,
    }

    /// Runs that a daemon was given.
    struct DetachedRuns {
        /// Each run.
        runs: Vec<DetachedRun>,
        /// The command's exit code.
        exit_code: u8,
    }

    /// A run that a daemon was given.
    struct DetachedRun {
        /// The sync.
        sync: String,
        /// The run's id.
        run: String,
        /// Whether it is an equal run that was queued already.
        joined: bool,
        /// Its page in the console, with `--url`.
        url: Option<String>,
    }

    /// The syncs of a project.
    struct Status {
        /// The target; null for `groupcast.toml` itself.
        target: Option<String>,
        /// Each sync.
        syncs: Vec<SyncView>,
        /// The daemons that use the ledger.
        daemons: Vec<DaemonView>,
        /// The mappings with mistakes.
        broken: Vec<BrokenSync>,
        /// What the ledger has of syncs without a mapping.
        orphaned: Vec<OrphanedSync>,
    }

    /// A mapping with mistakes.
    struct BrokenSync {
        /// Its sync.
        sync: String,
        /// Its file.
        file: String,
    }

    /// Runs.
    struct Runs {
        /// The newest first.
        runs: Vec<RunView>,
    }

    /// When syncs run.
    struct ScheduleOutput {
        /// What time it is.
        now: String,
        /// The version of the time zones' rules.
        tzdata: String,
        /// Each sync.
        syncs: Vec<ScheduledSync>,
        /// The mappings with mistakes.
        broken: Vec<BrokenSync>,
    }

    /// When a sync runs.
    struct ScheduledSync {
        /// The sync.
        sync: String,
        /// Whether schedules run it.
        enabled: bool,
        /// The schedule as it is written; null without one.
        schedule: Option<String>,
        /// The time zone in which it is read.
        timezone: Option<String>,
        /// Since when a run is overdue.
        overdue_since: Option<String>,
        /// The next times.
        next: Vec<ScheduledTime>,
        /// The last run.
        last_run: Option<RunView>,
    }

    /// A group, with what the destination has of it where that was requested.
    struct GroupOutput {
        #[serde(flatten)]
        group: GroupView,
        /// With `--remote`: the group at the destination.
        #[schemars(skip_serializing_if = "Option::is_none")]
        remote: Option<GroupAtDestination>,
    }

    /// A group as the destination has it.
    struct GroupAtDestination {
        /// Whether there is one.
        exists: bool,
        /// Its traits.
        traits: Option<BTreeMap<String, Value>>,
        /// What is related to it: a list, or an object with the `error` of reading it.
        related: Value,
        /// What happened to it, likewise.
        activity: Value,
    }

    /// Rejected groups.
    struct Rejected {
        /// Each group, by sync and key.
        rejected: Vec<RejectedView>,
    }

    /// A line of `groupcast verify`.
    #[serde(tag = "type", rename_all = "snake_case")]
    enum VerifyLine {
        /// A group that differs.
        Drift {
            /// The sync.
            sync: String,
            /// The group's id.
            key: String,
            /// Whether the destination has no such group; then no trait is listed.
            missing: bool,
            /// The traits that differ.
            traits: Vec<Drift>,
        },
        /// All groups.
        Verified {
            /// The sync.
            sync: String,
            #[serde(flatten)]
            found: Verified,
        },
    }

    /// What was adopted.
    struct Adopted {
        /// The sync.
        sync: String,
        /// How many groups.
        adopted: u64,
    }

    /// What was reset.
    struct Reset {
        /// The sync.
        sync: String,
        /// How many groups.
        groups: u64,
        /// Whether their synced state was dropped (`--forget`).
        forgotten: bool,
    }

    /// A copy of the ledger.
    struct BackedUp {
        /// Its file.
        file: String,
        /// How many syncs it has.
        syncs: u64,
        /// How many groups.
        groups: u64,
    }

    /// A sync with a new name.
    struct Renamed {
        /// The old name.
        from: String,
        /// The new one.
        to: String,
        /// How many groups.
        groups: u64,
    }

    /// A sync that was dropped.
    struct Dropped {
        /// The sync.
        sync: String,
        /// How many groups.
        groups: u64,
    }

    /// Exposures of dbt.
    struct Exposures {
        /// One for each mapping with a model of dbt's.
        exposures: Vec<Exposure>,
    }

    /// An exposure.
    struct Exposure {
        /// Its name.
        name: String,
        /// What it is called.
        label: String,
        /// Its type, `application`.
        r#type: String,
        /// How mature it is, `high`.
        maturity: String,
        /// What it is.
        description: String,
        /// The model.
        depends_on: Vec<String>,
        /// Who answers for it: `name`, and `email` where given.
        owner: BTreeMap<String, String>,
    }
}
