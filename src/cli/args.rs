//! The arguments of the command line, and the texts of `--help`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches, Parser, Subcommand, ValueEnum};

use super::only_sync::name_one;
use crate::config::{Location, TargetName};
use crate::error::{Error, Kind, Result};
use crate::mapping::units;
use crate::service::open::selection::Selection;
use crate::sync::planned::CHANGE_KINDS;
use crate::sync::{Flag, GroupKeys, RunOptions};

/// Keeps the account traits of product tools equal to a warehouse.
#[derive(Debug, Parser)]
#[command(name = "groupcast", version, propagate_version = true, max_term_width = 110, after_help = EXAMPLES)]
pub(super) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(super) command: Command,

    /// The folder with groupcast.toml and mappings/.
    #[arg(short = 'C', long, global = true, default_value = ".", env = "GROUPCAST_FOLDER", value_name = "DIR")]
    pub(super) folder: PathBuf,

    /// The target: reads groupcast.NAME.toml instead of groupcast.toml, with a ledger of its own.
    #[arg(long, global = true, env = "GROUPCAST_TARGET", value_name = "NAME")]
    pub(super) target: Option<TargetName>,

    /// Print JSON instead of text.
    #[arg(long, global = true)]
    pub(super) json: bool,

    /// How long to wait for another command that is using the ledger, such as `10m`.
    #[arg(long, global = true, default_value = "0s", value_name = "DURATION", value_parser = units::duration)]
    pub(super) lock_timeout: Duration,

    /// When to use colour.
    #[arg(long, global = true, default_value = "auto", value_name = "WHEN")]
    pub(super) color: Color,
}

impl Cli {
    /// Where the config is.
    pub(super) fn location(&self) -> Location {
        Location { folder: self.folder.clone(), target: self.target.clone() }
    }

    /// The option by which a next command has the same target; nothing without one.
    pub(super) fn target_option(&self) -> String {
        self.target.as_ref().map(|target| format!(" --target {target}")).unwrap_or_default()
    }
}

const EXAMPLES: &str = "\
Examples:
  groupcast init my-sync && cd my-sync     create a folder with a sample that runs
  groupcast check --connect                find every problem of the config, source columns included
  groupcast test                           run the tests beside the mappings
  groupcast plan                           show what a run would send, old → new; nothing is written
  groupcast run                            send what changed
  groupcast group accounts acct_42         show one group: its synced state and its history
  groupcast verify accounts                compare the destination with the synced state

Exit codes:
  0 succeeded   1 failed or incomplete   2 bad config or usage   3 some groups rejected (verify: some differ)
  4 stopped by a guard   5 there are changes (plan --detailed-exitcode)   130 cancelled (Ctrl-C)

With `--json` every command but `daemon` and `completions` prints JSON on standard output, one object or one per line;
problems come as {\"error\": …} or {\"problems\": […]}. `ledger export` always prints JSON.";

/// When to use colour.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Color {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create a folder for your own warehouse or with a sample that runs, or a mapping from a table's columns.
    #[command(after_help = "\
Examples:
  groupcast init my-sync             on a terminal: asks for warehouse, table and destination, and checks them; else the sample
  groupcast init my-sync --sample    a sample warehouse, a mapping, a file as destination; asks nothing
  WAREHOUSE_URL=postgres://… AMPLITUDE_API_KEY=… groupcast init my-sync --source-type postgres \
    --table analytics.dim_accounts --destination-type amplitude
                                                            the same answers without a terminal
  groupcast init --source warehouse --table analytics.dim_accounts --destination amplitude
                                                            mappings/dim_accounts.toml from the table's real columns")]
    Init(Init),

    /// Find every problem of groupcast.toml and the mappings.
    #[command(after_help = "\
Examples:
  groupcast check              files only: needs no network
  groupcast check --connect    also connect: columns, types, permissions, reachable destinations
  groupcast check --json       one object with all problems, for editors and pull requests")]
    Check {
        /// Query the sources as well.
        #[arg(long)]
        connect: bool,
    },

    /// Run the tests of mappings: rows in, expected documents and requests out.
    #[command(after_help = "\
Examples:
  groupcast test                             the tests of every mapping
  groupcast test accounts --name null        those of one mapping with `null` in their name
  groupcast test --update                    rewrite what the tests expect to what comes out; review the diff
  groupcast test --junit results.xml         also as JUnit XML, for CI

Tests are in mappings/NAME.test.toml, beside the mapping:

  [[tests]]
  name = \"a price in euros\"
  rows = [{ account_id = \"acct_1\", arr_cents = 129900 }]
  expect.traits.acct_1 = { arr = 1299 }

They need no warehouse, no ledger, no network and no secrets. Exit codes: 0 passed, 1 a test failed, 2 a file has mistakes.")]
    Test(Test),

    /// Write groupcast.toml, mappings and their tests in canonical layout.
    #[command(after_help = "\
Examples:
  groupcast fmt                     groupcast.toml and everything in mappings/
  groupcast fmt --check             only show what would change; exits with 1 if something would
  groupcast fmt - < a.toml          standard input to standard output, for editors

Spaces, blank lines, quotation marks and the alignment of comments change; values, comments and the order of keys never do.")]
    Fmt(Fmt),

    /// Print a JSON Schema of our TOML files, for completion and errors in editors, or of what `--json` prints.
    #[command(after_help = "\
Examples:
  groupcast schema mapping > mapping.schema.json
  groupcast schema output           of the JSON that commands print
  groupcast schema --write          .groupcast/*.schema.json, which the line `#:schema` of files names

Editors with taplo (Even Better TOML) read the schema that a file's first line names:
  #:schema ../.groupcast/mapping.schema.json")]
    Schema(Schema),

    /// Look at everything that a run depends on: program, machine, config, secrets, ledger, daemon, sources, destinations.
    #[command(after_help = "\
Examples:
  groupcast doctor             one line each: ok, warning or error, with the next step
  groupcast doctor --json      for a support request; no value of a secret is in it

Exits with 1 if there is an error. Nothing is sent, and the ledger stays as it is.")]
    Doctor,

    /// Show what a run would send; nothing is sent, and the ledger stays as it is.
    #[command(after_help = "\
Examples:
  groupcast plan                             every sync: by trait, then group by group
  groupcast plan accounts --show all         every group, not only the first 20
  groupcast plan accounts --trait arr --kind changed
                                             only groups of which that trait changes
  groupcast plan accounts --requests         the exact HTTP requests, keys masked
  groupcast plan --out nightly.plan          and later `groupcast run --plan nightly.plan`: sends exactly this
  groupcast plan --output markdown           for the comment of a pull request
  groupcast plan --json | jq .               one object per change, a summary last

A plan file has the keys and values of every change; only its owner can read it.")]
    Plan(Plan),

    /// Send what changed.
    #[command(after_help = "\
Examples:
  groupcast run                                    every enabled sync
  groupcast run accounts --group acct_42           one group
  groupcast run accounts --group acct_42 --group acct_43 --retry-rejected
                                                   two groups, also if they are rejected and did not change
  groupcast run --select tag:nightly --exclude crm every enabled sync with this tag, but for one
  groupcast run accounts --limit 100               at most 100 changes, to review them first
  groupcast run accounts --accept rows-dropped     accept a guard once
  groupcast run --plan nightly.plan                what `groupcast plan --out` wrote, and nothing else

  groupcast run accounts --url https://groupcast.example.com
                                                   at a daemon elsewhere, with the token in GROUPCAST_TOKEN; no config folder
                                                   is needed. It waits, and exits like a run here

With --plan, a group is sent only if its change is still the planned one. Groups whose row or synced state changed since are not
sent, and nothing is sent where the mapping, the target, the version or the destination's settings are others; either ends with
exit code 1. With --url as well, the daemon checks this; it gets hashes of the changes, no keys and no values.")]
    Run(RunArgs),

    /// Run every sync on its schedule, with an HTTP API and a console.
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "\
Examples:
  groupcast daemon                          runs in the foreground; http://127.0.0.1:4780 shows the console
  groupcast daemon --listen 127.0.0.1:9000
  groupcast daemon --name web-1             one of several that share a ledger in PostgreSQL
  groupcast daemon drain web-1              it starts no more runs and ends with those it has; others go on
  kill -HUP PID                             reload the config (changed files are noticed without it)

SIGTERM or SIGINT stops the runs within `daemon.drain`; a second one aborts requests in flight. Nothing is lost either way:
the next start continues. While the daemon runs, every other command works through it, with the same output and the same exit
code. GROUPCAST_LOG=debug|info|warn|error sets the log level."
    )]
    Daemon {
        /// What is done with a daemon that runs.
        #[command(subcommand)]
        command: Option<DaemonCommand>,
        /// Its name among the daemons that share a ledger in PostgreSQL (default: the machine's, and a number for the folder).
        #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
        name: Option<String>,
        /// Address and port of the API and the console, instead of `daemon.listen`.
        #[arg(long, value_name = "ADDRESS")]
        listen: Option<String>,
    },

    /// Show the status of each sync: its groups by state and its last run.
    Status {
        /// Which syncs.
        #[command(flatten)]
        which: SyncSelection,
    },

    /// List runs, the newest first; `runs show ID` shows one with all details.
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "\
Examples:
  groupcast runs                                the latest 20
  groupcast runs accounts -n 100
  groupcast runs show 20261122T020000.123Z-1a2b   counts, guards, requests over time, rejected groups"
    )]
    Runs {
        /// One run.
        #[command(subcommand)]
        command: Option<RunsCommand>,
        /// Only this sync.
        #[arg(value_name = "SYNC")]
        sync: Option<String>,
        /// How many.
        #[arg(short = 'n', long, default_value_t = 20, value_name = "N")]
        number: u64,
    },

    /// Show when each sync runs next, in its time zone and in UTC.
    #[command(after_help = "\
Examples:
  groupcast schedule                    the next 3 times of every sync
  groupcast schedule accounts --next 10
  groupcast schedule --json | jq '.syncs[] | {sync, next}'

`groupcast daemon` runs them. An overdue sync starts as soon as the daemon does.")]
    Schedule {
        /// Which syncs.
        #[command(flatten)]
        which: SyncSelection,
        /// How many times per sync.
        #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_000))]
        next: u16,
    },

    /// Show one group: its synced traits, when and by which run each was sent, and its history.
    #[command(
        allow_missing_positional = true,
        after_help = "\
Examples:
  groupcast group acct-42                            in a project of one sync
  groupcast group accounts acct-42
  groupcast group accounts acct-42 --requests        the last request about it and the response, secrets masked
  groupcast group accounts acct-42 --remote          what the destination holds

Requests are kept of groups that were rejected or not delivered, for `state.requests_retention` (30 days), and of a group that a
run was for alone: `groupcast run accounts --group acct-42`."
    )]
    Group {
        /// The sync's name; not needed where there is only one.
        #[arg(allow_negative_numbers = true)]
        sync: Option<String>,
        /// The group's id.
        #[arg(allow_negative_numbers = true)]
        key: String,
        /// How many changes of the history to show.
        #[arg(short = 'n', long, default_value_t = 50, value_name = "N")]
        number: u64,
        /// Query the destination as well: what it holds, what is related to the group, what was done to it.
        #[arg(long)]
        remote: bool,
        /// Show the last requests about it and their responses, secrets masked, where they are kept.
        #[arg(long)]
        requests: bool,
    },

    /// Read the groups back from the destination and compare them with the synced state.
    #[command(after_help = "\
Examples:
  groupcast verify accounts                  prints every difference, and exits with 3 if there is one
  groupcast verify accounts --repair         mark those groups for a full resend by the next run
  groupcast verify accounts --json | jq .    one object per group that differs, a summary last

Works with destinations that can be read (posthog, with a personal API key). Destinations take a while until an accepted
change can be read back: a verify right after a run shows differences that disappear by themselves. No run of the sync starts
meanwhile.")]
    Verify {
        /// The sync's name; not needed where there is only one.
        sync: Option<String>,
        /// Mark the groups that differ for a full resend by the next run.
        #[arg(long)]
        repair: bool,
        /// How many groups to show, or `all`.
        #[arg(long, default_value = "20", value_name = "N")]
        show: Show,
    },

    /// List rejected groups with their error messages.
    Rejected {
        /// Only this sync.
        #[arg(value_name = "SYNC")]
        sync: Option<String>,
        /// How many per sync.
        #[arg(short = 'n', long, default_value_t = 100, value_name = "N")]
        number: u64,
    },

    /// Maintain the ledger.
    #[command(subcommand)]
    Ledger(LedgerCommand),

    /// Work with dbt's artifacts.
    #[command(subcommand)]
    Dbt(DbtCommand),

    /// Print a completion script.
    #[command(after_help = "Example:\n  groupcast completions bash > /etc/bash_completion.d/groupcast")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },

    /// Write the man pages into a folder, for packages.
    #[command(hide = true, after_help = "Example:\n  groupcast man /usr/local/share/man/man1")]
    Man {
        /// The folder, created when it does not exist.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

/// `groupcast test`.
#[derive(Debug, Args)]
pub(super) struct Test {
    /// Only the tests of these syncs.
    #[arg(value_name = "SYNC")]
    pub(super) syncs: Vec<String>,
    /// Only tests with this text in their name.
    #[arg(long, value_name = "TEXT")]
    pub(super) name: Option<String>,
    /// Rewrite what the tests expect to what comes out.
    #[arg(long)]
    pub(super) update: bool,
    /// Write the results to this file as JUnit XML.
    #[arg(long, value_name = "FILE")]
    pub(super) junit: Option<PathBuf>,
}

/// `groupcast fmt`.
#[derive(Debug, Args)]
pub(super) struct Fmt {
    /// Only these files; `-` is standard input.
    #[arg(value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// Change nothing; show what would change.
    #[arg(long)]
    pub(super) check: bool,
}

/// `groupcast schema`.
#[derive(Debug, Args)]
pub(super) struct Schema {
    /// Of which files, or of what commands print.
    #[arg(default_value = "mapping")]
    pub(super) of: SchemaOf,
    /// Write all of them below .groupcast/ in the config folder.
    #[arg(long, conflicts_with = "of")]
    pub(super) write: bool,
}

/// The files that have a schema.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum SchemaOf {
    /// groupcast.toml.
    Project,
    /// mappings/NAME.toml.
    Mapping,
    /// mappings/NAME.test.toml.
    Test,
    /// What every command prints with `--json`.
    Output,
}

/// `groupcast dbt`.
#[derive(Debug, Subcommand)]
pub(super) enum DbtCommand {
    /// Print exposures for dbt's docs: which model feeds which destination.
    #[command(after_help = "\
Example:
  groupcast dbt exposures > ../analytics/models/groupcast_exposures.yml

Mappings with `dbt = \"…\"` under [model] are listed; dbt's docs and lineage show them after the next `dbt docs generate`.")]
    Exposures {
        /// Who answers for them.
        #[arg(long, value_name = "NAME", default_value = "Groupcast")]
        owner: String,
        /// Their address.
        #[arg(long, value_name = "ADDRESS")]
        email: Option<String>,
    },
}

/// `groupcast init`.
#[derive(Debug, Args)]
pub(super) struct Init {
    /// The folder to create; the current one when absent.
    #[arg(conflicts_with = "source")]
    pub(super) path: Option<PathBuf>,
    /// Write a mapping for a table of this source of groupcast.toml.
    #[arg(long, requires = "table", group = "origin", value_name = "NAME")]
    pub(super) source: Option<String>,
    /// The table or view, such as `analytics.dim_accounts`.
    #[arg(long, requires = "origin", value_name = "TABLE")]
    pub(super) table: Option<String>,
    /// The destination the mapping names; the only one of groupcast.toml when absent.
    #[arg(long, requires = "source", value_name = "NAME")]
    pub(super) destination: Option<String>,
    /// The mapping's name; the table's when absent.
    #[arg(long, requires = "source", value_name = "SYNC")]
    pub(super) name: Option<String>,
    /// Create the sample without a question.
    #[arg(long, group = "origin", conflicts_with = "table")]
    pub(super) sample: bool,
    /// Create a folder with a source of this type. Its secrets come from variables, such as `WAREHOUSE_URL`.
    #[arg(long, group = "origin", value_name = "TYPE")]
    pub(super) source_type: Option<String>,
    /// A setting of that source; may be repeated.
    #[arg(long, requires = "source_type", value_name = "KEY=VALUE")]
    pub(super) source_set: Vec<String>,
    /// The column with the group's id.
    #[arg(long, requires = "source_type", value_name = "COLUMN")]
    pub(super) key: Option<String>,
    /// The column with the group's name.
    #[arg(long, requires = "source_type", value_name = "COLUMN")]
    pub(super) label: Option<String>,
    /// The group type at the destination.
    #[arg(long, requires = "source_type", value_name = "NAME")]
    pub(super) group_type: Option<String>,
    /// The type of the destination. Its secrets come from variables, such as `AMPLITUDE_API_KEY`.
    #[arg(long, requires = "source_type", value_name = "TYPE")]
    pub(super) destination_type: Option<String>,
    /// A setting of that destination; may be repeated.
    #[arg(long, requires = "source_type", value_name = "KEY=VALUE")]
    pub(super) destination_set: Vec<String>,
}

/// `groupcast run`.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// What to run.
    #[command(flatten)]
    pub(super) select: Select,
    /// Send at most N changes.
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<u64>,
    /// Send only what this plan has.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["group", "full", "retry_rejected"])]
    pub(super) plan: Option<PathBuf>,
    /// Have the daemon run it, and do not wait for its end.
    #[arg(long)]
    pub(super) detach: bool,
    /// Wait for the end, as without `--detach`.
    #[arg(long, conflicts_with = "detach")]
    wait: bool,
    /// Run it at the daemon with this address.
    #[arg(long, value_name = "URL", env = "GROUPCAST_URL")]
    pub(super) url: Option<String>,
    /// The file with the daemon's token; `GROUPCAST_TOKEN` when absent.
    #[arg(long, value_name = "FILE", requires = "url")]
    pub(super) token_file: Option<PathBuf>,
}

/// `groupcast plan`.
#[derive(Debug, Args)]
pub(super) struct Plan {
    /// Which syncs, and how.
    #[command(flatten)]
    pub(super) select: Select,
    /// How many groups to show per sync, or `all`.
    #[arg(long, default_value = "20", value_name = "N")]
    pub(super) show: Show,
    /// Only changes of this trait; may be repeated.
    #[arg(long = "trait", value_name = "TRAIT")]
    pub(super) traits: Vec<String>,
    /// Only changes of this kind; may be repeated.
    #[arg(long = "kind", value_name = "KIND", value_parser = clap::builder::PossibleValuesParser::new(CHANGE_KINDS))]
    pub(super) kinds: Vec<String>,
    /// Print the requests that would be sent, keys masked.
    #[arg(long)]
    pub(super) requests: bool,
    /// Write the plan to a file, for `groupcast run --plan FILE`.
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
    /// How the plan is printed.
    #[arg(long, default_value = "text", value_name = "FORMAT")]
    pub(super) output: PlanFormat,
    /// Exit with 5 instead of 0 if there are changes.
    #[arg(long)]
    pub(super) detailed_exitcode: bool,
}

/// How a plan is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum PlanFormat {
    /// For a terminal.
    Text,
    /// For a pull request.
    Markdown,
    /// The same as `--json`.
    Json,
}

/// Which syncs, and how.
#[derive(Debug, Args)]
pub(super) struct Select {
    #[command(flatten)]
    pub(super) which: SyncSelection,
    /// Only this group, where one sync is selected or the only one; may be repeated.
    #[arg(long, value_name = "KEY", allow_negative_numbers = true)]
    pub(super) group: Vec<String>,
    #[command(flatten)]
    flags: RunFlags,
    /// Accept a guard this once; may be repeated.
    #[arg(long, value_name = "GUARD", value_parser = clap::builder::PossibleValuesParser::new(crate::sync::guard::NAMES))]
    pub(super) accept: Vec<String>,
}

impl Select {
    /// The options of the runs or plans of these syncs, for the command that was typed.
    pub(super) fn options(&self, command: &str, syncs: &[&str], limit: Option<u64>) -> Result<RunOptions> {
        if !self.group.is_empty() && syncs.len() != 1 {
            return Err(Error::new(
                Kind::Config,
                format!("`--group` needs exactly one sync, and there are {}", syncs.len()),
            )
            .advise(name_one(&format!("groupcast {command} SYNC --group KEY"), syncs)));
        }
        let accept = self.accept.iter().cloned().collect();
        let group = GroupKeys::new(self.group.iter().cloned())?;
        let mut options = RunOptions { group, limit, accept, ..RunOptions::default() };
        self.flags.0.iter().for_each(|flag| flag.turn_on(&mut options));
        Ok(options)
    }
}

/// Which syncs a command is about.
#[derive(Debug, Args)]
pub(super) struct SyncSelection {
    /// Only these syncs; all enabled ones when absent.
    #[arg(value_name = "SYNC")]
    syncs: Vec<String>,
    /// Only these: names, `tag:NAME`, `source:NAME`, `destination:NAME`, separated by commas (any of them); may be repeated.
    #[arg(long, value_name = "WHICH")]
    select: Vec<String>,
    /// Not these, written like `--select`.
    #[arg(long, value_name = "WHICH")]
    exclude: Vec<String>,
}

impl SyncSelection {
    /// What is selected.
    pub(super) fn read(&self) -> Result<Selection> {
        Selection::new(&[&self.syncs[..], &self.select[..]].concat(), &self.exclude)
    }
}

/// The options of a run that are on or off, by their definitions.
#[derive(Debug)]
struct RunFlags(Vec<&'static Flag>);

impl Args for RunFlags {
    fn augment_args(command: clap::Command) -> clap::Command {
        let argument = |flag: &Flag| Arg::new(flag.name).long(flag.long).help(flag.help).action(ArgAction::SetTrue);
        command.args(RunOptions::FLAGS.iter().map(argument))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        RunFlags::augment_args(command)
    }
}

impl FromArgMatches for RunFlags {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<RunFlags, clap::Error> {
        Ok(RunFlags(RunOptions::FLAGS.iter().filter(|flag| matches.get_flag(flag.name)).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> std::result::Result<(), clap::Error> {
        *self = RunFlags::from_arg_matches(matches)?;
        Ok(())
    }
}

/// `groupcast daemon …`.
#[derive(Debug, Subcommand)]
pub(super) enum DaemonCommand {
    /// Have a daemon start no more runs, and end with those it has; others over the same ledger go on.
    #[command(after_help = "\
Examples:
  groupcast daemon drain            the one on this machine
  groupcast daemon drain web-1      one of several that share a ledger in PostgreSQL; `groupcast status` lists them

It returns at once. The daemon ends with exit code 0.")]
    Drain {
        /// Its name (default: the daemon on this machine).
        name: Option<String>,
    },
}

/// `groupcast runs …`.
#[derive(Debug, Subcommand)]
pub(super) enum RunsCommand {
    /// Show one run with all details.
    Show {
        /// The run's id.
        run: String,
    },
}

/// How many groups a plan shows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Show(pub(super) usize);

impl std::str::FromStr for Show {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Show, String> {
        if text == "all" {
            return Ok(Show(usize::MAX));
        }
        text.parse().map(Show).map_err(|_| "a number, or `all`".to_owned())
    }
}

/// `groupcast ledger …`.
#[derive(Debug, Subcommand)]
pub(super) enum LedgerCommand {
    /// Mark the source's current rows as already synced, without sending: for migrating from another tool.
    Adopt {
        /// The sync's name; not needed where there is only one.
        sync: Option<String>,
    },
    /// Print the synced state of a sync, one JSON object per group.
    Export {
        /// The sync's name; not needed where there is only one.
        sync: Option<String>,
    },
    /// Import the synced state of syncs from another ledger, as `export` prints it.
    #[command(after_help = "\
Example: from a ledger in a file to one in PostgreSQL
  groupcast ledger export accounts > accounts.jsonl
  # set `url` below `[state]` in groupcast.toml, then:
  groupcast ledger import accounts.jsonl

The next run sends what it would have sent with the other ledger. Histories of what was sent and the records of runs are not
moved. No other process may use the ledger meanwhile; an import that fails changes nothing of its sync.")]
    Import {
        /// The file to read, of one sync or of several after each other; `-` for standard input.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Drop what the ledger has of these syncs.
        #[arg(long)]
        replace: bool,
    },
    /// Copy the whole ledger to a new file, its write-ahead log included.
    #[command(after_help = "\
Example:
  groupcast ledger backup backups/ledger-2026-11-26.duckdb

While a daemon runs, it makes the copy, and its runs continue. To restore: put the copy in the ledger's place, remove a `.wal`
file that remains there, and keep the `.generation` file: if anything was sent since, the next run resends everything.")]
    Backup {
        /// The file to create.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Give the synced state of a renamed mapping to its new name.
    #[command(after_help = "\
Example:
  git mv mappings/accounts.toml mappings/crm_accounts.toml
  groupcast ledger rename accounts crm_accounts

Without it the new name would start from nothing and send every group again. `plan`, `run`, `check` and `status` show where it is
needed.")]
    Rename {
        /// The old name, which has no mapping any more.
        from: String,
        /// The new name, which has nothing synced yet.
        to: String,
    },
    /// Drop everything recorded of a sync whose mapping is gone. Nothing is sent.
    Drop {
        /// The sync's name.
        sync: String,
        /// Do not ask for confirmation.
        #[arg(long)]
        yes: bool,
    },
    /// Force a full resend on the next run.
    #[command(after_help = "\
The synced state is kept and marked as unconfirmed, so that the next run also unsets traits. With --forget it is dropped, as
if nothing had ever been sent: traits that left the warehouse meanwhile then stay at the destination.")]
    Reset {
        /// The sync's name; not needed where there is only one.
        sync: Option<String>,
        /// Only this group.
        #[arg(long, value_name = "KEY", allow_negative_numbers = true)]
        group: Option<String>,
        /// Drop the synced state instead.
        #[arg(long)]
        forget: bool,
        /// Do not ask for confirmation.
        #[arg(long)]
        yes: bool,
    },
}
