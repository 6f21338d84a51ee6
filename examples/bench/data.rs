//! The accounts that are synced: tables of several shapes in DuckDB and PostgreSQL, and the project that syncs them.

use std::path::{Path, PathBuf};

use crate::Result;

/// A table's shape. Every table has the key `account_id` and is called `accounts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Nineteen columns of all kinds beside the key.
    Usual,
    /// So many columns beside the key: whole numbers, decimals and texts in turn.
    Columns(u32),
    /// One text of so many bytes beside the key; each group's is another one.
    Text(u32),
    /// So many texts of so many bytes beside the key.
    Texts(u32, u32),
}

const USUAL: [&str; 19] = [
    "name", "plan", "arr", "seats", "health", "renewal", "created", "active", "city", "country", "x1", "x2", "x3",
    "x4", "x5", "x6", "x7", "x8", "x9",
];

/// The dialect of a table's query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    DuckDb,
    Postgres,
}

impl Shape {
    /// The columns beside the key.
    pub(crate) fn columns(self) -> Vec<String> {
        match self {
            Shape::Usual => USUAL.map(str::to_owned).into(),
            Shape::Columns(count) => (1..=count).map(|at| format!("c{at}")).collect(),
            Shape::Text(_) => vec!["note".to_owned()],
            Shape::Texts(count, _) => (1..=count).map(|at| format!("note{at}")).collect(),
        }
    }

    /// The query that yields `rows` rows.
    pub(crate) fn select(self, rows: u64, dialect: Dialect) -> String {
        let (float, series) = match dialect {
            Dialect::DuckDb => ("DOUBLE", format!("range({rows}) AS series(i)")),
            Dialect::Postgres => ("DOUBLE PRECISION", format!("generate_series(0, {}) AS series(i)", rows.max(1) - 1)),
        };
        let columns = match self {
            Shape::Usual => format!(
                "'Company ' || i AS name, CASE i % 4 WHEN 0 THEN 'free' WHEN 1 THEN 'team' WHEN 2 THEN 'business' ELSE \
                 'enterprise' END AS plan, i * 7 % 100000 AS arr, CAST(i % 200 AS INTEGER) AS seats, \
                 CAST((i % 1000) / 10.0 AS {float}) AS health, DATE '2024-01-01' + CAST(i % 700 AS INTEGER) AS renewal, \
                 TIMESTAMP '2024-01-01 00:00:00' + i * INTERVAL '1 second' AS created, i % 2 = 0 AS active, \
                 'city' || (i % 1000) AS city, 'DE' AS country, i * 3 AS x1, CAST(i * 1.5 AS {float}) AS x2, \
                 'v' || (i % 77) AS x3, 'w' || (i % 999) AS x4, CAST(i % 13 AS INTEGER) AS x5, CAST(i % 17 AS INTEGER) AS x6, \
                 CAST(i * 0.01 AS DECIMAL(18, 2)) AS x7, CAST(md5(CAST(i AS VARCHAR)) AS VARCHAR) AS x8, i AS x9"
            ),
            Shape::Columns(count) => {
                let column = |at: u32| match at % 3 {
                    0 => format!("i * {at} % 100000 AS c{at}"),
                    1 => format!("CAST(i % {} / 4.0 AS {float}) AS c{at}", at + 1_000),
                    _ => format!("'v' || (i * {at} % 9999) AS c{at}"),
                };
                (1..=count).map(column).collect::<Vec<_>>().join(", ")
            }
            Shape::Text(bytes) => format!("{} AS note", text(bytes, 0)),
            Shape::Texts(count, bytes) => {
                (1..=count).map(|at| format!("{} AS note{at}", text(bytes, at))).collect::<Vec<_>>().join(", ")
            }
        };
        format!("SELECT 'acct_' || i AS account_id, {columns} FROM {series}")
    }

    fn mapping(self, destination: &str) -> String {
        let traits: String = self
            .columns()
            .iter()
            .map(|name| match name.as_str() {
                "x7" => "x7 = { column = \"x7\", as = \"number\" }\n".to_owned(),
                name => format!("{name} = \"{name}\"\n"),
            })
            .collect();
        // Segment's calls name a user; no other destination here needs one.
        let user = if destination == "segment" { "[user]\nid = \"account:{key}\"\n" } else { "" };
        format!(
            "source = \"warehouse\"\ndestination = \"receiver\"\n[model]\ntable = \"accounts\"\n\
             [group]\ntype = \"company\"\nkey = \"account_id\"\n{user}[policy]\non_null = \"skip\"\n[traits]\n{traits}"
        )
    }
}

/// A text of so many bytes, another one for every row.
fn text(bytes: u32, salt: u32) -> String {
    format!("repeat(CAST(md5(CAST(i + {salt} AS VARCHAR)) AS VARCHAR), {})", bytes.div_ceil(32))
}

/// Makes a DuckDB file with the accounts, unless it exists.
pub(crate) fn warehouse(file: &Path, shape: Shape, rows: u64) -> Result<()> {
    if file.exists() {
        return Ok(());
    }
    let connection = duckdb::Connection::open(file)?;
    // A large text per row would otherwise be held for a whole vector of rows and more.
    connection.execute_batch("SET preserve_insertion_order = true")?;
    connection
        .execute_batch(&format!("CREATE TABLE accounts AS {}; CHECKPOINT", shape.select(rows, Dialect::DuckDb)))?;
    Ok(())
}

/// Runs statements in a DuckDB file, and folds its log.
pub(crate) fn execute(file: &Path, sql: &str) -> Result<()> {
    let connection = duckdb::Connection::open(file)?;
    connection.execute_batch(&format!("{sql}; CHECKPOINT"))?;
    Ok(())
}

/// A folder with a project: one source, one mapping, one destination.
pub(crate) struct Project {
    pub(crate) folder: PathBuf,
}

/// Where a project's rows come from.
pub(crate) enum Source<'a> {
    DuckDb(&'a Path),
    Postgres(&'a str),
}

impl Project {
    /// Writes the files of a project whose groups of `shape` go to a destination of type `destination` at `address`.
    pub(crate) fn create(
        folder: PathBuf,
        source: &Source<'_>,
        shape: Shape,
        destination: &str,
        address: &str,
    ) -> Result<Project> {
        std::fs::create_dir_all(folder.join("mappings"))?;
        std::fs::write(folder.join("mappings/accounts.toml"), shape.mapping(destination))?;
        let source = match source {
            Source::DuckDb(path) => format!("type = \"duckdb\"\npath = \"{}\"", path.display()),
            Source::Postgres(url) => format!("type = \"postgres\"\nurl = \"{url}\""),
        };
        let settings = match destination {
            "file" => "path = \"changes.ndjson\"".to_owned(),
            "webhook" => format!("url = \"{address}/hook\"\nbatch_max = 1000\nbytes_max = 16000000"),
            // Bodies travel as they are: the cost of gzip would hide what is measured, here and in the replay.
            "segment" => format!("write_key = \"${{BENCH_KEY}}\"\nbase_url = \"{address}\"\ngzip = false"),
            "posthog" => format!("api_key = \"${{BENCH_KEY}}\"\nbase_url = \"{address}\"\ngzip = false"),
            _ => format!("api_key = \"${{BENCH_KEY}}\"\nbase_url = \"{address}\""),
        };
        std::fs::write(
            folder.join("groupcast.toml"),
            format!(
                "[sources.warehouse]\n{source}\n[destinations.receiver]\ntype = \"{destination}\"\n\
                 concurrency = {CONNECTIONS}\n{settings}\n"
            ),
        )?;
        Ok(Project { folder })
    }

    /// The folder of the synced state.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Forgets everything that was sent.
    pub(crate) fn reset(&self) -> Result<()> {
        for path in [self.state(), self.folder.join("changes.ndjson")] {
            if path.is_dir() {
                std::fs::remove_dir_all(path)?;
            } else if path.exists() {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Replaces the synced state by a copy of another project's.
    pub(crate) fn restore(&self, state: &Path) -> Result<()> {
        self.reset()?;
        copy(state, &self.state())
    }
}

/// Copies a folder of files.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()))?;
        } else if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Requests in flight at a time: the program's default, and the connections of a replay.
pub(crate) const CONNECTIONS: usize = 4;
