//! Models that dbt builds: found through its manifest, guarded by its results, and shown in its docs.

use groupcast::io::{Clock as _, SystemClock};
use serde_json::json;

use crate::support::cli::{Place, Receiver};

/// A place whose model is dbt's, with its manifest.
fn place(receiver: &Receiver, guards: &str) -> Place {
    let place = Place::with(receiver);
    place.warehouse("CREATE SCHEMA analytics; CREATE TABLE analytics.accounts_v1 (id TEXT, plan TEXT); INSERT INTO analytics.accounts_v1 VALUES ('a', 'pro')");
    let settings = place.read("groupcast.toml") + "\n[dbt]\ntarget_folder = \"shop/target\"\n";
    place.write("groupcast.toml", &settings);
    let manifest = json!({
        "metadata": {"project_name": "shop"},
        "nodes": {
            "model.shop.dim_accounts": {
                "resource_type": "model", "package_name": "shop", "name": "dim_accounts", "database": "warehouse",
                "schema": "analytics", "alias": "accounts_v1", "config": {"materialized": "table"}
            },
            "test.shop.unique_id.1": {"resource_type": "test", "package_name": "shop", "name": "unique_id", "attached_node": "model.shop.dim_accounts"}
        }
    });
    place.write("shop/target/manifest.json", &manifest.to_string());
    let text = "source = \"warehouse\"\ndestination = \"amplitude\"\n\n[model]\ndbt = \"ref('dim_accounts')\"\n\n\
                [group]\ntype = \"company\"\nkey = \"id\"\n\n[traits]\nplan = \"plan\"\n";
    place.mapping("accounts", &format!("{text}\n{guards}"));
    place
}

fn results(place: &Place, at: &str, results: &[(&str, &str)]) {
    let results: Vec<_> = results.iter().map(|(id, status)| json!({"unique_id": id, "status": status})).collect();
    let all = json!({"metadata": {"generated_at": at}, "results": results});
    place.write("shop/target/run_results.json", &all.to_string());
}

#[test]
fn a_model_of_dbts_is_read_from_the_table_that_dbt_built() {
    let receiver = Receiver::start();
    let place = place(&receiver, "");
    place.run(&["check", "--connect"]).exits(0);
    place.run(&["run"]).exits(0);
    assert_eq!(receiver.group("company", "a").unwrap()["plan"], "pro");
    // WHEN dbt gives the table another name THEN that one is read
    place.warehouse("CREATE TABLE analytics.accounts_v2 AS SELECT id, 'free' AS plan FROM analytics.accounts_v1; DROP TABLE analytics.accounts_v1");
    let manifest = place.read("shop/target/manifest.json").replace("accounts_v1", "accounts_v2");
    place.write("shop/target/manifest.json", &manifest);
    place.run(&["run"]).exits(0);
    assert_eq!(receiver.group("company", "a").unwrap()["plan"], "free");
}

#[test]
fn a_name_that_dbt_does_not_have_is_an_error_at_its_line() {
    let receiver = Receiver::start();
    let place = place(&receiver, "");
    let text = place.read("mappings/accounts.toml").replace("dim_accounts", "dim_acounts");
    place.mapping("accounts", &text);
    place.run(&["check"]).exits(2).says(&["mappings/accounts.toml:5", "did you mean `dim_accounts`?"]);
    std::fs::remove_file(place.path("shop/target/manifest.json")).unwrap();
    place.run(&["check"]).exits(2).says(&["mappings/accounts.toml:5", "run `dbt parse`"]);
}

#[test]
fn a_build_that_failed_or_is_too_old_stops_the_run_before_anything_is_sent() {
    let receiver = Receiver::start();
    let place = place(&receiver, "[guards]\ndbt = true\ndbt_age_max = \"26h\"\n");
    let now = SystemClock::start().now();
    let at = |hours: i64| (now - chrono::TimeDelta::hours(hours)).to_rfc3339();
    // GIVEN no results, a failed model, a failed test, or results of the day before yesterday
    place.run(&["run"]).exits(4).says(&["stopped by the guard `dbt`", "has left no", "--accept dbt"]);
    for (hours, id, status, words) in [
        (1, "model.shop.dim_accounts", "error", "the model `dim_accounts` ended with `error`"),
        (1, "test.shop.unique_id.1", "fail", "its test `unique_id` ended with `fail`"),
        (48, "model.shop.dim_accounts", "success", "dbt last ran 2d ago, longer than 26h"),
    ] {
        results(&place, &at(hours), &[(id, status)]);
        // THEN the run stops, with and without a plan
        place.run(&["run"]).exits(4).says(&["stopped by the guard `dbt`", words]);
        place.run(&["plan"]).says(&[words]);
        assert_eq!(receiver.requests(), 0);
    }
    // WHEN dbt has built it THEN it is sent
    results(&place, &at(1), &[("model.shop.dim_accounts", "success"), ("test.shop.unique_id.1", "pass")]);
    place.run(&["run"]).exits(0);
    assert_eq!(receiver.group("company", "a").unwrap()["plan"], "pro");
    // AND what failed can be accepted once
    place.warehouse("UPDATE analytics.accounts_v1 SET plan = 'free'");
    results(&place, &at(1), &[("model.shop.dim_accounts", "error")]);
    place.run(&["run", "--accept", "dbt"]).exits(0);
    assert_eq!(receiver.group("company", "a").unwrap()["plan"], "free");
}

#[test]
fn exposures_name_the_model_and_the_destination() {
    let receiver = Receiver::start();
    let place = place(&receiver, "");
    let text = place.run(&["dbt", "exposures", "--owner", "Data", "--email", "data@example.org"]).exits(0).stdout;
    for line in [
        "exposures:",
        "name: \"groupcast_accounts\"",
        "depends_on: [\"ref('dim_accounts')\"]",
        "type: \"application\"",
        "\"email\":\"data@example.org\"",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    let all = place.run(&["dbt", "exposures", "--json"]).exits(0).json();
    assert_eq!(all["exposures"][0]["owner"]["name"], "Groupcast");
}
