//! Is what was synced kept when a mapping file is renamed, and is what is left of a removed one shown and dropped on request?

use crate::support::cli::{Place, Receiver, changes_sent, mapping};
use crate::support::daemon::Daemon;
use crate::support::postgres::shared;

fn traits() -> String {
    mapping("plan = \"plan\"\n", "[guards]\nchanged_max = 1.0\n")
}

/// Three accounts, synced by `accounts`, whose file is called `crm` since.
fn renamed(receiver: &Receiver) -> Place {
    let place = Place::with(receiver);
    rename_after_runs(&place, 3);
    place
}

/// The same of so many accounts in this folder.
fn rename_after_runs(place: &Place, accounts: usize) {
    place.mapping("accounts", &traits());
    place.warehouse(&format!(
        "CREATE TABLE accounts AS SELECT 'a' || i AS id, 'free' AS plan FROM range({accounts}) r(i)"
    ));
    place.run(&["run"]).exits(0);
    place.run(&["run"]).exits(0);
    move_mapping(place, "accounts", "crm");
}

fn move_mapping(place: &Place, from: &str, to: &str) {
    let path = |name: &str| place.path(&format!("mappings/{name}.toml"));
    std::fs::rename(path(from), path(to)).unwrap();
}

const OFFER: &str = "`groupcast ledger rename accounts crm` keeps what is synced";

#[test]
fn a_renamed_mapping_keeps_what_is_synced() {
    let receiver = Receiver::start();
    for beside in [false, true] {
        let place = renamed(&receiver);
        let daemon = beside.then(|| Daemon::start(&place));
        let shown = place.run(&["plan"]).exits(0).says(&["3 synced groups of `accounts`", OFFER]);
        assert!(shown.stdout.contains("3 to add"), "{}", shown.all());
        for check in [&["check"] as &[&str], &["check", "--connect"]] {
            place.run(check).exits(0).says(&["warning: `crm` has nothing synced", "mappings/crm.toml", OFFER, "ok: 1"]);
        }
        let problems = place.run(&["check", "--json"]).exits(0).json();
        assert_eq!(problems["problems"][0]["severity"], "warning", "{problems}");
        assert_eq!(problems["problems"][0]["file"], "mappings/crm.toml", "{problems}");
        let status = place.run(&["status"]).exits(0).says(&["accounts: 3 synced groups without a mapping", OFFER]);
        assert!(!status.stdout.contains("warning"), "{}", status.stdout);
        let json = place.run(&["status", "--json"]).exits(0).json();
        assert_eq!(json["orphaned"][0]["renamed_to"], serde_json::json!(["crm"]), "{json}");
        place.run(&["ledger", "rename", "accounts", "crm"]).exits(0).says(&["accounts: 3 groups now of crm"]);
        let seen = receiver.requests();
        place.run(&["run"]).exits(0).says(&["3 unchanged", "nothing sent"]);
        place.run(&["run"]).exits(0).says(&["3 unchanged"]);
        assert_eq!(receiver.requests(), seen);
        // The next change is an ordinary one, and the history goes back to the old name.
        super::support::cli::until("the warehouse can be written", || {
            let connection = duckdb::Connection::open(place.path("warehouse.duckdb")).ok()?;
            connection.execute_batch("UPDATE accounts SET plan = 'pro' WHERE id = 'a1'").unwrap();
            Some(())
        });
        place.run(&["run"]).exits(0).says(&["1 delivered"]);
        assert_eq!(changes_sent(&receiver.since(seen)).len(), 1);
        let group = place.run(&["group", "crm", "a1", "--json"]).exits(0).json();
        assert_eq!(group["history"].as_array().unwrap().len(), 2, "{group}");
        let after = place.run(&["status"]).exits(0);
        assert!(!after.all().contains("without a mapping"), "{}", after.all());
        if let Some(daemon) = daemon {
            daemon.stop().exits(0);
        }
    }
}

#[test]
fn a_renamed_sync_stays_paused() {
    let receiver = Receiver::start();
    let place = Place::with(&receiver);
    place.mapping("accounts", &traits());
    place.warehouse("CREATE TABLE accounts (id text, plan text); INSERT INTO accounts VALUES ('a', 'free')");
    let paused_since = |sync: &str| {
        let json = place.run(&["status", sync, "--json"]).exits(0).json();
        json["syncs"][0]["activity"]["paused_since"].as_str().map(str::to_owned)
    };
    let daemon = Daemon::start(&place);
    place.run(&["run"]).exits(0).says(&["1 delivered"]);
    daemon.post("/api/v1/syncs/accounts/pause", &serde_json::json!({})).is(200);
    let since = paused_since("accounts").unwrap();
    // Beside the daemon, then without one; and a pause is no pause of the name's next owner.
    std::fs::rename(place.path("mappings/accounts.toml"), place.path("mappings/crm.toml")).unwrap();
    crate::support::cli::until("the daemon knows the new name", || {
        (place.run(&["ledger", "rename", "accounts", "crm"]).code == Some(0)).then_some(())
    });
    assert_eq!(paused_since("crm").as_ref(), Some(&since));
    daemon.stop().exits(0);
    std::fs::rename(place.path("mappings/crm.toml"), place.path("mappings/sales.toml")).unwrap();
    place.run(&["ledger", "rename", "crm", "sales"]).exits(0);
    std::fs::copy(place.path("mappings/sales.toml"), place.path("mappings/crm.toml")).unwrap();
    place.mapping("crm", &traits().replace("company", "team"));
    let daemon = Daemon::start(&place);
    assert_eq!(paused_since("sales").as_ref(), Some(&since));
    assert_eq!(paused_since("crm"), None);
    daemon.stop().exits(0);
}

#[test]
fn what_cannot_be_renamed_stays_as_it_is() {
    let receiver = Receiver::start();
    let place = renamed(&receiver);
    let refused =
        |arguments: &[&str], texts: &[&str]| drop(place.run(&[&["ledger"], arguments].concat()).exits(2).says(texts));
    refused(&["rename", "accounts", "crmm"], &["sync `crmm` not found; did you mean `crm`?"]);
    refused(&["rename", "nosuch", "crm"], &["the ledger has nothing of a sync `nosuch`"]);
    refused(&["rename", "crm", "crm"], &["sync `crm` has a mapping"]);
    refused(&["drop", "crm", "--yes"], &["sync `crm` has a mapping"]);
    refused(&["drop", "accounts"], &["nothing was dropped", "--yes"]);
    // Once the new name has groups of its own, it is too late.
    place.run(&["run"]).exits(0).says(&["3 delivered"]);
    refused(&["rename", "accounts", "crm"], &["sync `crm` has 3 groups of its own", "groupcast ledger drop accounts"]);
    place.run(&["ledger", "drop", "accounts", "--yes"]).exits(0).says(&["accounts: 3 groups dropped from the ledger"]);
    refused(&["drop", "accounts", "--yes"], &["the ledger has nothing of a sync `accounts`"]);
    place.run(&["run"]).exits(0).says(&["3 unchanged"]);
    let runs = place.run(&["runs"]).exits(0).stdout;
    assert!(runs.contains("crm") && !runs.contains("accounts"), "{runs}");
}

#[test]
fn another_destination_is_no_renaming() {
    let receiver = Receiver::start();
    let place = renamed(&receiver);
    place.mapping("crm", &traits().replace("company", "team"));
    let plan = place.run(&["plan"]).exits(0);
    assert!(!plan.all().contains("renamed"), "{}", plan.all());
    place.run(&["status"]).exits(0).says(&["accounts: 3 synced groups without a mapping"]);
    let check = place.run(&["check"]).exits(0);
    assert!(!check.all().contains("renamed"), "{}", check.all());
    // Nor is it one to a run that sends many.
    let many = Place::with(&receiver);
    rename_after_runs(&many, 30);
    many.mapping("crm", &traits().replace("company", "team"));
    many.run(&["run"]).exits(0).says(&["30 delivered"]);
}

#[test]
fn a_renamed_mapping_does_not_send_everything_again() {
    let receiver = Receiver::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = runtime.block_on(shared().create_database());
    let url = format!("postgres://root_user@127.0.0.1:{}/{}", shared().port(), database.name());
    for (state, beside) in [(None, false), (None, true), (Some(&url), false), (Some(&url), true)] {
        let mut place = Place::with(&receiver);
        if let Some(url) = state {
            place.set("GROUPCAST__STATE__URL", url);
            place.set("GROUPCAST__STATE__SCHEMA", if beside { "beside" } else { "alone" });
        }
        rename_after_runs(&place, 30);
        let daemon = beside.then(|| Daemon::start(&place));
        let seen = receiver.requests();
        let figures = ["`crm` has nothing synced", "30 groups of `accounts`, which has no mapping", OFFER];
        for command in ["plan", "run"] {
            let stopped = place.run(&[command]).exits(4).says(&figures);
            stopped.says(&["stopped by the guard `renamed` before anything was sent", "--accept renamed"]);
        }
        place.run(&["run", "--accept", "changed"]).exits(4);
        assert_eq!(receiver.requests(), seen, "nothing was sent");
        // A ledger in a database is looked at where `check` may connect.
        let check = place.run(&["check"]).exits(0);
        assert_eq!(check.all().contains(OFFER), state.is_none(), "{}", check.all());
        place.run(&["check", "--connect"]).exits(0).says(&[OFFER]);
        // The stopped runs are no obstacle, and stay on record.
        place.run(&["ledger", "rename", "accounts", "crm"]).exits(0).says(&["accounts: 30 groups now of crm"]);
        place.run(&["run"]).exits(0).says(&["30 unchanged", "nothing sent"]);
        place.run(&["runs", "crm"]).exits(0).says(&["stopped by guard", "succeeded"]);
        assert_eq!(receiver.requests(), seen);
        // Who means it accepts it, once.
        move_mapping(&place, "crm", "sales");
        crate::support::cli::until("the new name is known", || {
            (place.run(&["run", "sales"]).code == Some(4)).then_some(())
        });
        place.run(&["run", "sales", "--accept", "renamed"]).exits(0).says(&["30 delivered"]);
        place.run(&["run", "sales"]).exits(0).says(&["30 unchanged"]);
        if let Some(daemon) = daemon {
            daemon.stop().exits(0);
        }
    }
}

#[test]
fn a_first_send_of_something_else_goes_on() {
    let receiver = Receiver::start();
    let place = Place::with(&receiver);
    rename_after_runs(&place, 30);
    // One account to try it, and below as many as the mapping allows.
    place.run(&["run", "crm", "--group", "a7"]).exits(0).says(&["1 delivered"]);
    place.run(&["run"]).exits(0).says(&["29 delivered", "1 unchanged"]);
    let place = Place::with(&receiver);
    rename_after_runs(&place, 30);
    place.mapping("crm", &traits().replace("[guards]", "[guards]\ngroups_min = 31"));
    place.run(&["run"]).exits(0).says(&[OFFER, "30 delivered"]);
}

#[test]
fn a_check_of_files_needs_no_ledger() {
    let receiver = Receiver::start();
    let mut place = renamed(&receiver);
    // A command that uses the ledger is asked; whatever else has it open only keeps the question open.
    receiver.vendor.change(|rules| rules.answer_after = std::time::Duration::from_secs(30));
    let seen = receiver.requests();
    let running = place.start(&["run"]);
    crate::support::cli::until("the run sends", || (receiver.requests() > seen).then_some(()));
    place.run(&["check"]).exits(0).says(&["ok: 1 mapping valid"]);
    running.kill();
    let held = duckdb::Connection::open(place.path("state/ledger.duckdb")).unwrap();
    let busy = place.run(&["check"]).exits(0);
    busy.says(&["warning: renamed mappings are not looked for", "ok: 1 mapping valid"]);
    let busy = place.run(&["check", "--json"]).exits(0);
    assert_eq!((busy.json()["problems"].as_array().unwrap().len(), busy.stderr.as_str()), (0, ""));
    drop(held);
    place.write("state/ledger.duckdb", "no ledger at all");
    place.run(&["check"]).exits(0).says(&["warning: renamed mappings are not looked for", "ok: 1 mapping valid"]);
    place.run(&["check", "--connect"]).exits(1).says(&["ledger"]);
    // One in a database is left alone, though nothing answers there.
    place.set("GROUPCAST__STATE__URL", "postgres://nobody@127.0.0.1:1/none");
    let check = place.run(&["check"]).exits(0);
    assert!(!check.all().contains("warning"), "{}", check.all());
}

#[test]
fn a_sync_whose_last_run_goes_on_is_neither_renamed_nor_dropped() {
    let receiver = Receiver::start();
    let place = Place::with(&receiver);
    place.mapping("accounts", &traits());
    place.warehouse(
        "CREATE TABLE accounts (id text, plan text); INSERT INTO accounts VALUES ('a', 'free'), ('b', 'free')",
    );
    place.run(&["run", "accounts", "--group", "a"]).exits(0);
    let daemon = Daemon::start(&place);
    receiver.vendor.change(|rules| rules.answer_after = std::time::Duration::from_secs(20));
    let running = place.start(&["run"]);
    let is_running = || place.run(&["status", "--json"]).exits(0).json()["syncs"][0]["activity"]["state"] == "running";
    super::support::cli::until("the run is in progress", || is_running().then_some(()));
    std::fs::rename(place.path("mappings/accounts.toml"), place.path("mappings/crm.toml")).unwrap();
    super::support::cli::until("the daemon knows the new name", || {
        place.run(&["ledger", "rename", "accounts", "crm"]).all().contains("of accounts is in progress").then_some(())
    });
    place.run(&["ledger", "drop", "accounts", "--yes"]).exits(1).says(&["of accounts is in progress", "try again"]);
    receiver.vendor.change(|rules| rules.answer_after = std::time::Duration::ZERO);
    running.wait();
    super::support::cli::until("it can be renamed", || {
        (place.run(&["ledger", "rename", "accounts", "crm"]).code == Some(0)).then_some(())
    });
    place.run(&["run"]).exits(0).says(&["2 unchanged", "nothing sent"]);
    daemon.stop().exits(0);
}
