//! Runs SQL on a DuckDB file, so that the quick start and the benchmark need no DuckDB shell:
//! `cargo run --example sql -- warehouse.duckdb 'UPDATE accounts SET …'`, or a file's name after `@`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, statements] = arguments.as_slice() else {
        eprintln!("usage: sql DATABASE STATEMENTS|@FILE");
        return ExitCode::from(2);
    };
    match run(path, statements) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sql: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(path: &str, statements: &str) -> Result<(), Box<dyn std::error::Error>> {
    let text = match statements.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file)?,
        None => statements.to_owned(),
    };
    duckdb::Connection::open(path)?.execute_batch(&text)?;
    Ok(())
}
