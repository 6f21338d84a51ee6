//! The benchmark behind `make bench`: how does a sync compare with the floor under it, in one run on one machine?
//!
//! 1,000,000 accounts × 20 columns. Nothing changed: against DuckDB merely hashing the columns, and against `psql`
//! copying them to nowhere. Everything new: to a local receiver that only counts. Figures are ratios and seconds of the
//! real program, peak memory as the operating system saw it.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
#![expect(clippy::unwrap_used, reason = "the tests' cluster, used here, fails as tests do")]

#[expect(dead_code, reason = "tests use more of it")]
#[path = "../../tests/it/support/postgres.rs"]
mod postgres;

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Nineteen columns beside the key.
const COLUMNS: &str =
    "name, plan, arr, seats, health, renewal, created, active, city, country, x1, x2, x3, x4, x5, x6, x7, x8, x9";

fn select(rows: u64, series: &str, dialect: &str) -> String {
    let (float, text) = if dialect == "duckdb" { ("DOUBLE", "VARCHAR") } else { ("DOUBLE PRECISION", "VARCHAR") };
    format!(
        "SELECT 'acct_' || i AS account_id, 'Company ' || i AS name, CASE i % 4 WHEN 0 THEN 'free' WHEN 1 THEN 'team' \
         WHEN 2 THEN 'business' ELSE 'enterprise' END AS plan, i * 7 % 100000 AS arr, CAST(i % 200 AS INTEGER) AS seats, \
         CAST((i % 1000) / 10.0 AS {float}) AS health, DATE '2024-01-01' + CAST(i % 700 AS INTEGER) AS renewal, \
         TIMESTAMP '2024-01-01 00:00:00' + i * INTERVAL '1 second' AS created, i % 2 = 0 AS active, 'city' || (i % 1000) AS city, \
         'DE' AS country, i * 3 AS x1, CAST(i * 1.5 AS {float}) AS x2, 'v' || (i % 77) AS x3, 'w' || (i % 999) AS x4, \
         CAST(i % 13 AS INTEGER) AS x5, CAST(i % 17 AS INTEGER) AS x6, CAST(i * 0.01 AS DECIMAL(18, 2)) AS x7, \
         CAST(md5(CAST(i AS {text})) AS {text}) AS x8, i AS x9 FROM {series}",
    )
    .replace("{rows}", &rows.to_string())
}

fn mapping(source: &str) -> String {
    let traits: String = COLUMNS
        .split(", ")
        .map(|name| match name {
            "x7" => "x7 = { column = \"x7\", as = \"number\" }\n".to_owned(),
            name => format!("{name} = \"{name}\"\n"),
        })
        .collect();
    format!(
        "source = \"{source}\"\ndestination = \"receiver\"\n[model]\ntable = \"accounts\"\n\
         [group]\ntype = \"company\"\nkey = \"account_id\"\n[traits]\n{traits}"
    )
}

/// One run of the program: its time and its peak memory.
struct Measured {
    took: Duration,
    peak_mb: f64,
}

fn measure(program: &Path, folder: &Path, arguments: &[&str]) -> Result<Measured> {
    let started = Instant::now();
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env("BENCH_KEY", "benchmark-key")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let status_file = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut peak_kb = 0u64;
    let status = loop {
        if let Ok(status) = std::fs::read_to_string(&status_file) {
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let peak = line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse().ok());
            peak_kb = peak_kb.max(peak.unwrap_or(0));
        }
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(3));
    };
    let took = started.elapsed();
    if !status.success() {
        let mut words = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            std::io::Read::read_to_string(&mut stderr, &mut words)?;
        }
        return Err(format!("groupcast {} ended with {status}: {words}", arguments.join(" ")).into());
    }
    Ok(Measured { took, peak_mb: peak_kb as f64 / 1024.0 })
}

/// The shortest of three runs: what the machine can do when nothing else disturbs it.
fn best(program: &Path, folder: &Path, arguments: &[&str]) -> Result<Measured> {
    let mut runs = (0..3).map(|_| measure(program, folder, arguments)).collect::<Result<Vec<_>>>()?;
    let peak_mb = runs.iter().map(|run| run.peak_mb).fold(0.0, f64::max);
    runs.sort_by_key(|run| run.took);
    Ok(Measured { took: runs[0].took, peak_mb })
}

fn project(folder: &Path, source: &str, receiver: &str) -> Result<()> {
    std::fs::create_dir_all(folder.join("mappings"))?;
    std::fs::write(folder.join("mappings/accounts.toml"), mapping("warehouse"))?;
    std::fs::write(
        folder.join("groupcast.toml"),
        format!(
            "[sources.warehouse]\n{source}\n[destinations.receiver]\ntype = \"amplitude\"\napi_key = \"${{BENCH_KEY}}\"\n\
             base_url = \"{receiver}\"\n"
        ),
    )?;
    Ok(())
}

fn line(what: &str, seconds: Duration, remark: &str) {
    println!("{what:<58} {:>8.2} s   {remark}", seconds.as_secs_f64());
}

fn duckdb(program: &Path, folder: &Path, receiver: &str, rows: u64) -> Result<()> {
    let warehouse = folder.join("warehouse.duckdb");
    let connection = duckdb::Connection::open(&warehouse)?;
    let series = format!("range({rows}) AS series(i)");
    connection.execute_batch(&format!("CREATE TABLE accounts AS {}; CHECKPOINT;", select(rows, &series, "duckdb")))?;
    let floor = (0..5)
        .map(|_| {
            let started = Instant::now();
            let sql = format!("SELECT max(hash(account_id, {COLUMNS})) FROM accounts");
            connection.query_row(&sql, [], |row| row.get::<_, u64>(0))?;
            Ok(started.elapsed())
        })
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .min()
        .unwrap_or_default();
    drop(connection);
    project(folder, "type = \"duckdb\"\npath = \"warehouse.duckdb\"", receiver)?;

    let tiny = folder.join("tiny");
    std::fs::create_dir_all(&tiny)?;
    let connection = duckdb::Connection::open(tiny.join("warehouse.duckdb"))?;
    connection.execute_batch(&format!("CREATE TABLE accounts AS {}", select(1, "range(1) AS series(i)", "duckdb")))?;
    drop(connection);
    project(&tiny, "type = \"duckdb\"\npath = \"warehouse.duckdb\"", receiver)?;
    measure(program, &tiny, &["run"])?;
    let start_up = best(program, &tiny, &["run"])?.took;

    line("floor: DuckDB hashes the columns", floor, "");
    line("start-up: a run of one account", start_up, "");
    let first = measure(program, folder, &["run"])?;
    let pace = rows as f64 / first.took.as_secs_f64();
    line("first run: every account is sent", first.took, &format!("{pace:.0} groups/s, peak {:.0} MB", first.peak_mb));
    let quiet = best(program, folder, &["run"])?;
    let ratio = quiet.took.saturating_sub(start_up).as_secs_f64() / floor.as_secs_f64();
    line(
        "nothing changed, from DuckDB",
        quiet.took,
        &format!("{ratio:.1} × the floor, plus start-up; peak {:.0} MB", quiet.peak_mb),
    );
    let connection = duckdb::Connection::open(&warehouse)?;
    connection.execute_batch("UPDATE accounts SET seats = seats + 1 WHERE x9 % 100 = 0")?;
    drop(connection);
    let some = measure(program, folder, &["run"])?;
    line("one account in a hundred changed", some.took, &format!("peak {:.0} MB", some.peak_mb));
    Ok(())
}

fn postgresql(program: &Path, folder: &Path, receiver: &str, rows: u64) -> Result<()> {
    let cluster = postgres::shared();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let url = runtime.block_on(async {
        let database = cluster.create_database().await;
        let series = format!("generate_series(0, {}) AS series(i)", rows - 1);
        database.execute(&format!("CREATE TABLE accounts AS {}", select(rows, &series, "postgres"))).await;
        database.execute("VACUUM ANALYZE accounts").await;
        format!("postgres://root_user@127.0.0.1:{}/{}?sslmode=disable", cluster.port(), database.name())
    });
    let copy = format!("\\copy (SELECT account_id, {COLUMNS} FROM accounts) TO '/dev/null' (FORMAT BINARY)");
    let mut floor = Duration::MAX;
    for _ in 0..3 {
        let started = Instant::now();
        let status = Command::new("psql").args(["-q", "-d", &url, "-c", &copy]).status()?;
        if !status.success() {
            return Err("psql failed".into());
        }
        floor = floor.min(started.elapsed());
    }
    project(folder, &format!("type = \"postgres\"\nurl = \"{url}\""), receiver)?;
    measure(program, folder, &["ledger", "adopt", "accounts"])?;
    let quiet = best(program, folder, &["run"])?;
    line("floor: psql COPY BINARY to nowhere", floor, "");
    let ratio = quiet.took.as_secs_f64() / floor.as_secs_f64();
    line(
        "nothing changed, from PostgreSQL",
        quiet.took,
        &format!("{ratio:.1} × the floor; peak {:.0} MB", quiet.peak_mb),
    );
    Ok(())
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let programs = PathBuf::from(arguments.next().ok_or("usage: bench FOLDER_WITH_PROGRAMS [ROWS]")?);
    let rows: u64 = arguments.next().map_or(Ok(1_000_000), |rows| rows.parse())?;
    let program = programs.join("groupcast");
    let folder = tempfile::tempdir()?;
    let mut receiver = Command::new(programs.join("examples/receiver"))
        .args(["--port", "0", "--count-only"])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut first = String::new();
    BufReader::new(receiver.stdout.take().ok_or("the receiver has no output")?).read_line(&mut first)?;
    let address = first.split_whitespace().find(|word| word.starts_with("http://")).ok_or("no address")?.to_owned();

    println!("{rows} accounts × 20 columns, {} cores", std::thread::available_parallelism()?);
    let (over_duckdb, over_postgres) = (folder.path().join("duckdb"), folder.path().join("postgres"));
    std::fs::create_dir_all(&over_duckdb)?;
    std::fs::create_dir_all(&over_postgres)?;
    let measured = duckdb(&program, &over_duckdb, &address, rows)
        .and_then(|()| postgresql(&program, &over_postgres, &address, rows));
    receiver.kill()?;
    receiver.wait()?;
    measured
}
