//! What `groupcast init` writes: a folder with a sample warehouse that runs without an account anywhere.

/// The sample warehouse, as SQL for DuckDB.
pub(super) const WAREHOUSE_SQL: &str = include_str!("../../examples/quickstart/warehouse.sql");

/// `groupcast.toml`.
pub(super) const SETTINGS: &str = r#"# Groupcast's settings. Every key can be overridden by an environment variable: GROUPCAST__STATE__PATH=…

[state]
path = "state/ledger.duckdb"              # what is known of each destination; keep it, and back it up
# memory = "512MB"
# journal_retention = "90d"               # how long the history of what was sent is kept
# runs_retention = "180d"                 # how long the records of runs are kept
# requests_retention = "30d"              # how long the last requests of rejected groups are kept; "0s" keeps none

[sources.warehouse]
type = "duckdb"
path = "warehouse.duckdb"                 # a sample; point it at your own file, or read PostgreSQL:

# [sources.warehouse]
# type = "postgres"
# url = "${WAREHOUSE_URL}"                # postgres://user@host/database; secrets only by reference: to a variable of the
# password = "${file:/run/secrets/warehouse}"   # process or of a file `.env` beside this one, or to a file

[destinations.changes]
type = "file"
path = "changes.ndjson"                   # every change as a line of JSON; replace it by a real destination:

# [destinations.amplitude]
# type = "amplitude"
# api_key = "${AMPLITUDE_API_KEY}"
# region = "eu"
"#;

/// `mappings/accounts.toml`: the quick start's mapping, sent to the file.
pub(super) fn mapping() -> String {
    include_str!("../../examples/quickstart/mappings/accounts.toml")
        .replace("destination = \"amplitude\"", "destination = \"changes\"")
        .replace("as Amplitude groups of type", "as groups of type")
}

/// `mappings/accounts.test.toml`.
pub(super) const TESTS: &str = include_str!("../../examples/quickstart/mappings/accounts.test.toml");

/// `.gitignore`: what is made, and must not be in git.
pub(super) const GITIGNORE: &str = "state/\nchanges.ndjson\n.env\n.env.*\n!.env.example\n";

/// `.env.example`: what `.env` looks like.
pub(super) const ENVIRONMENT: &str = "\
# Copy this file to `.env`, which git ignores, and `chmod 600 .env`. Its variables are used where the process does not have
# them: for ${NAME} in groupcast.toml, and to override a setting, as GROUPCAST__STATE__MEMORY=1GB does.

# WAREHOUSE_URL='postgres://user:password@host/database'
# AMPLITUDE_API_KEY=
";
