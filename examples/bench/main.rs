//! The benchmark behind `make bench`: how does a sync compare with the floor under it, in one run on one machine?
//!
//! Every figure is one of the real program, measured from outside: its time, its processor time and peak memory as the
//! operating system saw them, and what arrived at a receiver that only counts. Beside it is the floor: the least that the
//! machine must do for the same result, measured in the same minute. Targets are of the ratio, so they hold on any machine.
//!
//! | module | contents |
//! |---|---|
//! | [`data`] | the accounts, in DuckDB and PostgreSQL, and the project that syncs them |
//! | [`measure`] | one run of a program; several as a median with a spread |
//! | [`receiver`] | the counting receiver as a process |
//! | [`floors`] | what DuckDB or a plain replay takes for the same |
//! | [`scenarios`] | the rows of the table |
//! | [`report`] | the table, its targets, JSON, the block in `docs/performance.md` |
//! | [`peers`] | other tools with the same accounts and receiver |
//! | [`mirrors`] | comparing in the warehouse, as `tests/warehouses/mirrors.py` measured it |
//! | [`plot`] | cost against size as an SVG |

#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
#![expect(clippy::unwrap_used, reason = "the tests' cluster, used here, fails as tests do")]

mod data;
mod floors;
mod measure;
mod mirrors;
mod peers;
mod plot;
#[expect(dead_code, reason = "tests use more of it")]
#[path = "../../tests/it/support/postgres.rs"]
mod postgres;
mod receiver;
mod report;
mod scenarios;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use report::Report;
use scenarios::{Bench, Point};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "usage: bench run FOLDER_WITH_PROGRAMS [--rows N] [--only NAME]… [--runs N] [--json FILE]
       bench peers FOLDER_WITH_PROGRAMS FOLDER_WITH_TOOLS FOLDER_WITH_SCRIPTS [the same]
       bench list                          the names for --only
       bench show JSON                     the table of an earlier run
       bench docs JSON PAGE                the same, written into a page
       bench scale FOLDER_WITH_PROGRAMS --json FILE [--sizes 10000,100000,…] [--runs N]
       bench plot JSON SVG                 cost against size, as `scale` measured it
       bench plot-mirrors JSON ENGINE SVG  the same of mirrors, as tests/warehouses/mirrors.py measured it

  --rows N      accounts, where a row says nothing else (1000000)
  --only NAME   only rows whose name begins so; repeatable
  --runs N      runs per row, where there is time for them (3)
  --json FILE   also write the figures there
  --temp FOLDER where data is made (the system's temporary folder): up to 4 KB an account";

/// What the command line asks for.
struct Arguments {
    positional: Vec<String>,
    rows: u64,
    sizes: Vec<u64>,
    only: Vec<String>,
    runs: usize,
    json: Option<PathBuf>,
    temp: Option<PathBuf>,
}

fn arguments() -> Result<Arguments> {
    let mut parsed = Arguments {
        positional: Vec::new(),
        rows: 1_000_000,
        sizes: vec![10_000, 100_000, 1_000_000, 10_000_000],
        only: Vec::new(),
        runs: 3,
        json: None,
        temp: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("`{argument}` needs a value"));
        match argument.as_str() {
            "--rows" => parsed.rows = value()?.parse()?,
            "--only" => parsed.only.push(value()?),
            "--runs" => parsed.runs = value()?.parse()?,
            "--json" => parsed.json = Some(value()?.into()),
            "--temp" => parsed.temp = Some(value()?.into()),
            "--sizes" => {
                parsed.sizes = value()?.split(',').map(str::parse).collect::<std::result::Result<_, _>>()?;
            }
            flag if flag.starts_with("--") => return Err(format!("unknown argument `{flag}`\n{USAGE}").into()),
            _ => parsed.positional.push(argument),
        }
    }
    Ok(parsed)
}

/// Everything temporary goes below here.
fn temporary(arguments: &Arguments) -> Result<tempfile::TempDir> {
    let parent = arguments.temp.clone().unwrap_or_else(std::env::temp_dir);
    Ok(tempfile::Builder::new().prefix("groupcast-bench-").tempdir_in(parent)?)
}

fn empty_report(arguments: &Arguments, programs: &Path) -> Result<Report> {
    let output = measure::run(std::process::Command::new(programs.join("groupcast")).arg("--version"))?.1;
    Ok(Report {
        version: output.trim().to_owned(),
        date: chrono::Utc::now().format("%Y-%m-%d").to_string(),
        machine: report::machine(),
        rows: arguments.rows,
        measurements: Vec::new(),
    })
}

fn save<T: serde::Serialize>(file: Option<&Path>, figures: &T) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    Ok(std::fs::write(file, serde_json::to_string_pretty(figures)?)?)
}

fn peers(arguments: &Arguments, programs: &str, tools: &str, scripts: &str) -> Result<()> {
    let folder = temporary(arguments)?;
    let programs = std::fs::canonicalize(programs)?;
    let mut report = empty_report(arguments, &programs)?;
    let setting = peers::Setting {
        programs: &programs,
        tools: tools.as_ref(),
        scripts: scripts.as_ref(),
        folder: folder.path(),
        rows: arguments.rows,
        repeat: measure::Repeat { runs: arguments.runs, budget: Duration::from_secs(120) },
        only: &arguments.only,
    };
    let mut failed = Vec::new();
    report.measurements = peers::run(&setting, &mut failed)?;
    save(arguments.json.as_deref(), &report)?;
    println!("{}", report.text());
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n").into()) }
}

fn run(arguments: &Arguments, programs: &str) -> Result<()> {
    let chosen: Vec<_> = scenarios::ALL
        .iter()
        .filter(|one| arguments.only.is_empty() || arguments.only.iter().any(|only| one.name.starts_with(only)))
        .collect();
    if chosen.is_empty() {
        return Err("no row has such a name; `bench list` shows them".into());
    }
    let folder = temporary(arguments)?;
    let programs = std::fs::canonicalize(programs)?;
    let mut report = empty_report(arguments, &programs)?;
    let budget = Duration::from_secs(20);
    let mut bench = Bench::new(programs, folder.path().to_owned(), arguments.rows, arguments.runs, budget);
    let mut failed = Vec::new();
    for one in chosen {
        eprintln!("{}: {}", one.name, one.about);
        // One row that cannot be measured costs none of the others.
        match (one.run)(&mut bench) {
            Ok(rows) => report.measurements.extend(rows),
            Err(error) => failed.push(format!("{}: {error}", one.name)),
        }
        save(arguments.json.as_deref(), &report)?;
    }
    println!("{}", report.text());
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n").into()) }
}

fn scale(arguments: &Arguments, programs: &str) -> Result<()> {
    let file = arguments.json.as_ref().ok_or("`scale` needs --json FILE")?;
    let programs = std::fs::canonicalize(programs)?;
    let mut points: Vec<Point> = Vec::new();
    for rows in &arguments.sizes {
        eprintln!("{} accounts", groupcast::format::thousands(*rows));
        let folder = temporary(arguments)?;
        let budget = Duration::from_secs(60);
        let mut bench = Bench::new(programs.clone(), folder.path().to_owned(), *rows, arguments.runs, budget);
        points.push(scenarios::point(&mut bench)?);
        save(Some(file), &points)?;
    }
    Ok(())
}

fn read<T: serde::de::DeserializeOwned>(file: &str) -> Result<T> {
    Ok(serde_json::from_str(&std::fs::read_to_string(file)?)?)
}

fn command() -> Result<()> {
    let mut raw = std::env::args().skip(1);
    if raw.next().as_deref() == Some("floor") {
        return floors::main(&raw.collect::<Vec<_>>());
    }
    let arguments = arguments()?;
    let positional: Vec<&str> = arguments.positional.iter().map(String::as_str).collect();
    match positional.as_slice() {
        ["run", programs] => run(&arguments, programs),
        ["peers", programs, tools, scripts] => peers(&arguments, programs, tools, scripts),
        ["list"] => {
            scenarios::ALL.iter().for_each(|one| println!("{:<22} {}", one.name, one.about));
            Ok(())
        }
        ["show", json] => {
            println!("{}", read::<Report>(json)?.text());
            Ok(())
        }
        ["docs", json, page] => read::<Report>(json)?.write_into(page.as_ref()),
        ["scale", programs] => scale(&arguments, programs),
        ["plot", json, svg] => {
            let lines = plot::of_scale(&read::<Vec<Point>>(json)?);
            Ok(std::fs::write(svg, plot::svg("Seconds for so many accounts × 20 columns", &lines))?)
        }
        ["plot-mirrors", json, engine, svg] => {
            let lines = mirrors::lines(&read::<Vec<mirrors::MirrorCost>>(json)?, engine);
            Ok(std::fs::write(svg, plot::svg("Seconds of a run over so many accounts × 10 columns", &lines))?)
        }
        _ => Err(USAGE.into()),
    }
}

fn main() -> ExitCode {
    match command() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}
