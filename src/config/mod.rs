//! The config folder: `groupcast.toml` and one file per mapping in `mappings/`.
//!
//! [`load::load`] reads all of it and reports all problems at once. Settings come in layers: defaults, then
//! `groupcast.toml`, then environment variables (`GROUPCAST__SOURCES__WAREHOUSE__URL`), of the process or of `.env`. The `config` crate merges the
//! layers and deserialises them. Reading the file and the variables is ours, because the crate drops where a value was
//! written, so that a problem could not be reported with its line.

pub mod diagnostic;
mod dotenv;
mod environment;
pub mod files;
#[cfg(test)]
mod golden;
mod implausible;
pub mod json_schema;
mod layers;
pub mod layout;
pub mod load;
pub mod location;
mod merge;
mod project;
mod references;
mod schema;
mod secrets;
mod settings;
mod strays;
pub mod test_files;
mod value;

pub use diagnostic::Diagnostics;
pub use load::{Unset, load};
pub use location::{Location, TargetName};
pub use project::{BrokenMapping, Project};
pub use references::ReferenceStatus;
pub use settings::{
    Alerts, Daemon, Defaults, Delivery, DestinationSettings, Settings, SourceSettings, State, StateDatabase,
};

/// What makes a text no TOML, where [`layout::formatted`] cannot read it.
pub fn layout_problems(file: &str, text: &str) -> Diagnostics {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (_, report) = crate::mapping::reader::parse(file, text);
    let mut problems = Diagnostics::new();
    problems.add_text(file, &secrets::blank(text));
    problems.extend(report.into_found().0);
    problems
}

#[cfg(test)]
mod tests {
    use super::load;
    use crate::destination::{amplitude, file, journy, mixpanel, posthog, segment, thrivestack, webhook};
    use crate::source::{duckdb, postgres};

    /// `known` lists the keys of each type for messages with a place; the types' own structs read them. Every key at
    /// once must pass both.
    #[test]
    fn the_known_keys_are_the_ones_the_types_read() {
        let folder = tempfile::tempdir().unwrap();
        let settings = r#"
            [sources.files]
            type = "duckdb"
            path = "warehouse.duckdb"
            [sources.warehouse]
            type = "postgres"
            url = "postgres://reader@localhost/warehouse"
            password = "${PASSWORD}"
            sslmode = "verify-full"
            ca_file = "ca.pem"
            read = "cursor"
            connect_timeout_seconds = 5
            statement_timeout_seconds = 60
            [destinations.amplitude]
            type = "amplitude"
            api_key = "${KEY}"
            api = "http_v2"
            gzip = true
            batch_max = 10
            region = "eu"
            base_url = "http://127.0.0.1:1"
            long_strings = "truncate"
            concurrency = 2
            requests_per_second = 1.5
            timeout = "5s"
            retry_for = "1m"
            attempts_max = 3
            [destinations.changes]
            type = "file"
            path = "-"
            [destinations.journy]
            type = "journy"
            api_key = "${KEY}"
            base_url = "http://127.0.0.1:1"
            [destinations.mixpanel]
            type = "mixpanel"
            token = "${KEY}"
            region = "in"
            base_url = "http://127.0.0.1:1"
            long_strings = "truncate"
            [destinations.hook]
            type = "webhook"
            url = "http://127.0.0.1:1/hook"
            secret_path = "/${KEY}"
            method = "PUT"
            headers = { X-Team = "data" }
            auth_header = "Authorization: Bearer ${KEY}"
            body = "single"
            batch_max = 10
            bytes_max = 100_000
            success = "200, 202"
            success_pointer = "/ok"
            success_equals = "true"
            signing_secret = "${LONG_KEY}"
            signature_header = "x-signature"
            timestamp_header = "x-timestamp"
            dedup = true
            [destinations.segment]
            type = "segment"
            preset = "custom"
            write_key = "${KEY}"
            base_url = "http://127.0.0.1:1"
            wire = "single"
            batch_path = "/v1/batch"
            group_path = "/v1/group"
            auth = "header"
            auth_header = "X-Key"
            key_in_body = true
            event_bytes_max = 32768
            batch_bytes_max = 500000
            batch_count_max = 100
            success_status = 202
            gzip = true
            message_id = false
            user = "optional"
            whole_batch_fails = true
            headers = { "X-Strict.Mode" = "${KEY}" }
            context = { app = { name = "dwh", version = 1.5, since = 2026-01-02 }, tags = ["a", 2, true] }
            integrations = { All = false, "Customer.io Actions" = true }
            downstream = "hubspot, customerio"
            [destinations.thrive]
            type = "thrivestack"
            api_key = "${KEY}"
            base_url = "http://127.0.0.1:1"
            wire = "single"
            legacy_fields = false
            context = { source = "warehouse" }
            [destinations.posthog]
            type = "posthog"
            api_key = "${KEY}"
            personal_api_key = "${KEY}"
            project_id = "12345"
            capture = "auto"
            region = "us"
            base_url = "http://127.0.0.1:1"
            app_url = "http://127.0.0.1:1"
            write_via = "rest"
            gzip = false
        "#;
        std::fs::write(folder.path().join("groupcast.toml"), settings).unwrap();
        let environment = [("PASSWORD", "swordfish"), ("KEY", "a-key"), ("LONG_KEY", "a-key-of-some-length")]
            .map(|(name, value)| (name.into(), value.into()));
        let project = load(folder.path(), environment).unwrap();
        let settings = project.settings;
        settings.sources["files"].values.parse::<duckdb::DuckDbSettings>().unwrap();
        settings.sources["warehouse"].values.parse::<postgres::PostgresSettings>().unwrap();
        settings.destinations["amplitude"].parse::<amplitude::AmplitudeSettings>().unwrap();
        settings.destinations["changes"].parse::<file::FileSettings>().unwrap();
        settings.destinations["journy"].parse::<journy::JournySettings>().unwrap();
        settings.destinations["mixpanel"].parse::<mixpanel::MixpanelSettings>().unwrap();
        let hook = settings.destinations["hook"].parse::<webhook::WebhookSettings>().unwrap();
        webhook::Webhook::new(&hook, "company").unwrap();
        settings.destinations["thrive"].parse::<thrivestack::ThriveStackSettings>().unwrap();
        let segment = settings.destinations["segment"].parse::<segment::SegmentSettings>().unwrap();
        let json = |table: Option<toml::Table>| serde_json::to_value(table.unwrap()).unwrap();
        assert_eq!(json(segment.headers), serde_json::json!({"X-Strict.Mode": "a-key"}), "names keep case and dots");
        assert_eq!(json(segment.integrations), serde_json::json!({"All": false, "Customer.io Actions": true}));
        let context = serde_json::json!({
            "app": {"name": "dwh", "version": 1.5, "since": "2026-01-02"}, "tags": ["a", 2, true]
        });
        assert_eq!(json(segment.context), context);
        settings.destinations["posthog"].parse::<posthog::PostHogSettings>().unwrap();
    }
}
