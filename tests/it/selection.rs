//! Can syncs be selected by name, tag, source and destination, and is a mistyped selection an error rather than an empty one?

use crate::support::cli::{Place, Receiver, mapping};

/// Four syncs: one not enabled, one whose file has a mistake but can be read for its tags.
fn place(receiver: &Receiver) -> Place {
    let place = Place::with(receiver);
    place.warehouse("CREATE TABLE accounts (id text, plan text); INSERT INTO accounts VALUES ('a', 'free')");
    for (sync, head) in [
        ("accounts", "tags = [\"nightly\", \"crm\"]"),
        ("billing", "tags = [\"nightly\"]"),
        ("usage", "tags = [\"hourly\"]"),
        ("old", "tags = [\"nightly\"]\nenabled = false"),
    ] {
        place.mapping(sync, &tagged(head, sync));
    }
    place
}

/// A mapping of one trait, called like its sync.
fn tagged(head: &str, sync: &str) -> String {
    format!("{head}\n{}", mapping(&format!("{sync} = \"plan\"\n"), ""))
}

/// The syncs that `status --json` lists.
#[track_caller]
fn shown(place: &Place, arguments: &[&str]) -> Vec<String> {
    let json = place.run(&[&["status", "--json"], arguments].concat()).exits(0).json();
    json["syncs"].as_array().unwrap().iter().map(|sync| sync["sync"].as_str().unwrap().to_owned()).collect()
}

/// The syncs that a plan covers.
#[track_caller]
fn planned(place: &Place, arguments: &[&str]) -> Vec<String> {
    let lines = place.run(&[&["plan", "--json"], arguments].concat()).exits(0).json_lines();
    let plans = lines.iter().filter(|line| line["type"] == "plan");
    plans.map(|plan| plan["sync"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn syncs_are_selected_by_name_tag_source_and_destination() {
    let receiver = Receiver::start();
    let place = place(&receiver);
    assert_eq!(planned(&place, &[]), ["accounts", "billing", "usage"], "all enabled ones");
    assert_eq!(planned(&place, &["--select", "tag:nightly"]), ["accounts", "billing"]);
    assert_eq!(planned(&place, &["--select", "tag:crm,usage"]), ["accounts", "usage"]);
    assert_eq!(planned(&place, &["--select", "tag:nightly", "--exclude", "tag:crm"]), ["billing"]);
    assert_eq!(planned(&place, &["--exclude", "accounts, usage"]), ["billing"]);
    assert_eq!(planned(&place, &["usage", "--select", "old"]), ["old", "usage"], "what is named need not be enabled");
    assert_eq!(planned(&place, &["--select", "source:warehouse", "--exclude", "tag:hourly"]), ["accounts", "billing"]);
    assert_eq!(planned(&place, &["--select", "destination:amplitude", "--exclude", "tag:nightly"]), ["usage"]);
    assert_eq!(planned(&place, &["*s*", "--exclude", "u*"]), ["accounts"]);
    assert_eq!(shown(&place, &["--select", "tag:nightly"]), ["accounts", "billing", "old"], "status shows all");
    place.run(&["run", "--select", "tag:hourly"]).exits(0).says(&["usage: 1 row"]);
    place.run(&["schedule", "--select", "tag:hourly"]).exits(0);
    // One group of whatever is selected, as long as that is one sync.
    place.run(&["run", "--select", "tag:hourly", "--group", "a"]).exits(0);
    place.run(&["run", "--select", "tag:nightly", "--group", "a"]).exits(2).says(&["`--group` needs exactly one sync"]);
}

#[test]
fn a_selection_that_leaves_nothing_is_a_warning() {
    let receiver = Receiver::start();
    let place = place(&receiver);
    for arguments in [&["--select", "tag:nightly", "--exclude", "tag:nightly"][..], &["--exclude", "*"]] {
        let texts = ["warning: the selection leaves no enabled sync: nothing to do", "groupcast status"];
        place.run(&[&["run"], arguments].concat()).exits(0).says(&texts);
        place.run(&[&["plan"], arguments].concat()).exits(0).says(&texts);
        let json = place.run(&[&["run", "--json"], arguments].concat()).exits(0);
        assert_eq!(json.json()["runs"], serde_json::json!([]), "{}", json.all());
    }
    for sync in ["accounts", "billing", "usage"] {
        place.mapping(sync, &tagged("enabled = false", sync));
    }
    place.run(&["run"]).exits(0).says(&["no mapping is enabled: nothing to do"]);
    // A sync that cannot run is reported as that.
    place.mapping("usage", &tagged("tags = [\"a b\"]", "usage"));
    let shown = place.run(&["run"]).exits(2);
    assert!(!shown.all().contains("nothing to do"), "{}", shown.all());
    assert_eq!(receiver.requests(), 0);
}

#[test]
fn a_mistyped_selection_is_an_error() {
    let receiver = Receiver::start();
    let place = place(&receiver);
    for (arguments, texts) in [
        (&["--select", "tag:nigthly"][..], &["no mapping has the tag `nigthly`", "did you mean `nightly`?"][..]),
        (&["--exclude", "tag:weekly"], &["no mapping has the tag `weekly`", "`crm`"]),
        (&["--exclude", "acounts"], &["sync `acounts` not found; did you mean `accounts`?"]),
        (&["--select", "source:warehous"], &["there is no source `warehous`", "did you mean `warehouse`?"]),
        (&["--select", "destination:x"], &["there is no destination `x`", "`amplitude`"]),
        (&["--select", "path:models"], &["cannot select by `path:`"]),
        (&["--select", "tag:"], &["`tag:` selects nothing"]),
        (&["--select", "accounts,,usage"], &["selects nothing"]),
        (&["--select", "crm_*"], &["no sync has a name like `crm_*`"]),
    ] {
        place.run(&[&["run"], arguments].concat()).exits(2).says(texts);
        place.run(&[&["plan"], arguments].concat()).exits(2).says(texts);
    }
    assert_eq!(receiver.requests(), 0);
    place.mapping("usage", &tagged("tags = [\"a b\"]", "usage"));
    place.run(&["check"]).exits(2).says(&["a tag is a string of letters", "usage.toml:1"]);
    place.mapping("usage", &tagged("tags = \"nightly\"", "usage"));
    place.run(&["check"]).exits(2).says(&["`tags` must be a list of strings"]);
}

#[test]
fn a_broken_mapping_concerns_only_selections_that_it_belongs_to() {
    let receiver = Receiver::start();
    let place = place(&receiver);
    place.mapping("billing", &format!("{}[nosuch]\n", tagged("tags = [\"nightly\"]", "billing")));
    place.run(&["run", "--select", "tag:hourly"]).exits(0);
    place.run(&["run", "--select", "tag:nightly"]).exits(2).says(&["accounts: 1 row", "billing.toml"]);
    place.run(&["run", "--select", "tag:nightly", "--exclude", "billing"]).exits(0);
    // What cannot be read at all could belong to any.
    place.mapping("billing", "this is no TOML");
    place.run(&["run", "--select", "tag:hourly"]).exits(2).says(&["billing.toml"]);
    place.run(&["run", "usage"]).exits(0);
}

#[test]
fn a_project_of_one_sync_needs_no_name() {
    let receiver = Receiver::start();
    let place = Place::with(&receiver);
    place.run(&["ledger", "adopt"]).exits(2).says(&["there is no sync yet", "groupcast init"]);
    place.mapping("accounts", &mapping("plan = \"plan\"\n", ""));
    place.warehouse(
        "CREATE TABLE accounts (id text, plan text); INSERT INTO accounts VALUES ('a', 'free'), ('b', 'pro')",
    );
    let planned = place.run(&["plan", "--group", "a", "--json"]).exits(0).json_lines();
    assert_eq!(planned[0]["key"], "a", "{planned:?}");
    place.run(&["run", "--group", "a"]).exits(0).says(&["1 delivered"]);
    place.run(&["group", "a", "--requests"]).exits(0).says(&["a in accounts", "POST "]);
    place.run(&["group", "accounts"]).exits(2).says(&["the group's key is missing", "groupcast group accounts KEY"]);
    place.run(&["verify"]).exits(2).says(&["cannot be read back"]);
    assert!(place.run(&["ledger", "export"]).exits(0).stdout.contains("\"key\":\"a\""));
    place.run(&["ledger", "reset", "--group", "a", "--yes"]).exits(0).says(&["accounts: 1 group will be resent"]);
    place.run(&["ledger", "adopt"]).exits(0).says(&["accounts: 2 groups marked as synced"]);
    // With two, the advice is the command that was typed; one that is broken counts, for it may be meant.
    place.mapping("usage", "source = 3");
    for (typed, advice) in [
        (&["plan", "--group", "a"][..], "`groupcast plan SYNC --group KEY`"),
        (&["run", "--group", "a"], "`groupcast run SYNC --group KEY`"),
        (&["group", "a"], "`groupcast group SYNC KEY`"),
        (&["verify"], "`groupcast verify SYNC`"),
        (&["ledger", "export"], "`groupcast ledger export SYNC`"),
        (&["ledger", "adopt"], "`groupcast ledger adopt SYNC`"),
        (&["ledger", "reset", "--yes"], "`groupcast ledger reset SYNC`"),
    ] {
        place.run(typed).exits(2).says(&["one sync, and there are 2", advice, "the syncs are `accounts` and `usage`"]);
    }
}
