//! The usual night: nothing changed, or little.

use std::process::Command;
use std::time::Duration;

use super::{Bench, Measurement, Result};
use crate::data::{self, Dialect, Project, Shape, Source};
use crate::measure::{self, Spread};
use crate::{floors, postgres as cluster};

pub(super) fn duckdb(bench: &mut Bench) -> Result<Vec<Measurement>> {
    let rows = bench.rows;
    let (_, spread) = bench.quiet()?;
    let start_up = bench.start_up()?.median.seconds;
    let (file, columns) = (bench.accounts(rows)?.display().to_string(), Shape::Usual.columns());
    let mut arguments = vec!["hash", &file];
    arguments.extend(columns.iter().map(String::as_str));
    let floor = floors::run(&arguments)?;
    let seconds = spread.median.seconds;
    let without_start = (seconds - start_up).max(0.0) / floor.seconds;
    let row = Measurement::new("no-change", "no change × 20 columns, DuckDB", rows)
        .took(spread)
        .floor("DuckDB hashes the columns", floor)
        .at_most("(time − start-up) / floor", Some(without_start), 2.0, "×");
    let peak = row.peak_mb();
    let row = match rows {
        // The whole process for a million; larger ones have a target for their memory.
        rows if rows <= 1_000_000 => row.at_most("time", Some(seconds), 0.25 * rows as f64 / 1e6, "s"),
        _ => row.at_most("peak", peak, 400.0, "MB"),
    };
    Ok(vec![row])
}

/// How long a file must not have changed to be known again, and a second.
const SETTLED: Duration = Duration::from_secs(61);

/// No change, from a file that is the one of the runs before.
pub(super) fn same_file(bench: &mut Bench) -> Result<Vec<Measurement>> {
    let rows = bench.rows;
    let (project, _) = bench.quiet()?;
    let start_up = bench.start_up()?.median;
    std::thread::sleep(SETTLED);
    for _ in 0..3 {
        bench.groupcast(&project, &["run"])?;
    }
    let spread = bench.many(|bench| bench.groupcast(&project, &["run"]))?;
    let row = Measurement::new("no-change-same-file", "no change, DuckDB, the file of the last runs", rows)
        .took(spread)
        .floor("a run of one account", start_up);
    Ok(vec![row])
}

/// One account in a hundred changed in one trait.
pub(super) fn one_percent(bench: &mut Bench) -> Result<Vec<Measurement>> {
    let rows = bench.rows;
    let (adopted, quiet) = bench.quiet()?;
    let changed = bench.path("changed.duckdb");
    std::fs::copy(bench.accounts(rows)?, &changed)?;
    data::execute(&changed, "UPDATE accounts SET seats = seats + 1 WHERE x9 % 100 = 0")?;
    let source = Source::DuckDb(&changed);
    let project = Project::create(bench.path("changed"), &source, Shape::Usual, "file", "")?;
    let spread = bench.repeated(&project, &["run"], || project.restore(&adopted.state()))?;
    let lines = std::fs::read_to_string(project.folder.join("changes.ndjson"))?.lines().count() as u64;
    if lines != rows.div_ceil(100) {
        return Err(format!("changed: {lines} changes were sent, not {}", rows.div_ceil(100)).into());
    }
    project.reset()?;
    std::fs::remove_file(&changed)?;
    let more = spread.median.seconds - quiet.median.seconds;
    Ok(vec![
        Measurement::new("changed", "1 % changed in one trait, DuckDB", rows)
            .took(spread)
            .floor("no change", quiet.median)
            .at_most("beside no change", Some(more), 0.5 * (rows as f64 / 1e6).max(1.0), "s"),
    ])
}

/// No change, from PostgreSQL, against copying the columns to nowhere.
pub(super) fn postgres(bench: &mut Bench) -> Result<Vec<Measurement>> {
    let rows = bench.rows;
    let shape = Shape::Usual;
    let server = cluster::shared();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let url = runtime.block_on(async {
        let database = server.create_database().await;
        let select = shape.select(rows, Dialect::Postgres);
        database.execute(&format!("CREATE TABLE accounts AS {select}")).await;
        database.execute("VACUUM ANALYZE accounts").await;
        format!("postgres://root_user@127.0.0.1:{}/{}?sslmode=disable", server.port(), database.name())
    });
    let columns = shape.columns().join(", ");
    let copy = format!("\\copy (SELECT account_id, {columns} FROM accounts) TO '/dev/null' (FORMAT BINARY)");
    let psql = || Ok(measure::run(Command::new("psql").args(["-q", "-d", &url, "-c", &copy]))?.0);
    let floor = Spread::of((0..3).map(|_| psql()).collect::<Result<_>>()?).median;
    let project = Project::create(bench.path("postgres"), &Source::Postgres(&url), shape, "file", "")?;
    bench.groupcast(&project, &["ledger", "adopt", "accounts"])?;
    bench.groupcast(&project, &["run"])?;
    let spread = bench.many(|bench| bench.groupcast(&project, &["run"]))?;
    project.reset()?;
    let row = Measurement::new("no-change-postgres", "no change × 20 columns, PostgreSQL", rows)
        .took(spread)
        .floor("psql: COPY BINARY to nowhere", floor);
    let times = row.times_the_floor();
    Ok(vec![row.at_most("time / floor", times, 1.0, "×").remark("CPU without the server's")])
}
