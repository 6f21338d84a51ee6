//! Does a folder become what a newcomer means it to be: variables from `.env`, and one settings file per target?

use std::os::unix::fs::PermissionsExt;

use crate::support::cli::{KEY, Place, Receiver, mapping, settings, until};
use crate::support::daemon::Daemon;

const ROWS: &str = "CREATE TABLE accounts (id text, plan text); INSERT INTO accounts VALUES ('a1', 'free'), ('a2', 'pro')";

/// Two accounts for a receiver whose key is in `.env` alone.
fn place(receiver: &Receiver) -> Place {
    let mut place = Place::with(receiver);
    place.unset("AMPLITUDE_API_KEY");
    place.mapping("accounts", &mapping("plan = \"plan\"\n", "[guards]\nchanged_max = 1.0\n"));
    place.warehouse(ROWS);
    dotenv(&place, ".env", &format!("AMPLITUDE_API_KEY='{KEY}'\n"));
    place
}

fn dotenv(place: &Place, name: &str, text: &str) {
    place.write(name, text);
    std::fs::set_permissions(place.path(name), std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn secrets_come_from_the_env_file_and_are_never_shown() {
    let receiver = Receiver::start();
    let mut place = place(&receiver);
    let run = place.run(&["run"]).exits(0).says(&["2 delivered"]);
    let plan = place.run(&["plan", "--requests", "--json"]).exits(0);
    // What the process has wins.
    place.set("AMPLITUDE_API_KEY", "an0ther-k3y-77c1");
    let refused = place.run(&["run", "--full"]).exits(1).says(&["authentication failed"]);
    place.unset("AMPLITUDE_API_KEY");
    dotenv(&place, ".env", &format!("AMPLITUDE_API_KEY = {KEY}\n{KEY}\n"));
    let broken = place.run(&["check"]).exits(2).says(&[".env:2:1", "this line is not `NAME=value`"]);
    let json = place.run(&["check", "--json"]).exits(2);
    assert_eq!(json.json()["problems"][0]["line"], 2, "{}", json.stdout);
    for output in [&run, &plan, &refused, &broken, &json] {
        assert!(!output.all().contains(KEY), "{}", output.all());
    }
    dotenv(&place, ".env", "AMPLITUDE_API_KEYS=x\n");
    place.run(&["check"]).exits(2).says(&["`AMPLITUDE_API_KEY`, which is not set", "did you mean `AMPLITUDE_API_KEYS`?"]);
}

#[test]
fn a_daemon_notices_a_changed_env_file() {
    let receiver = Receiver::start();
    let place = place(&receiver);
    let daemon = Daemon::start(&place);
    place.run(&["run"]).exits(0).says(&["2 delivered"]);
    let read_at = || daemon.get("/api/v1/about").is(200)["config_read_at"].clone();
    let before = read_at();
    dotenv(&place, ".env", "AMPLITUDE_API_KEY='an0ther-k3y-77c1'\n");
    until("the daemon reloads", || (read_at() != before).then_some(()));
    place.run(&["run", "--full"]).exits(1).says(&["authentication failed"]);
    daemon.stop().exits(0);
}

#[test]
fn a_target_has_settings_variables_and_a_ledger_of_its_own() {
    let (receiver, other) = (Receiver::start(), Receiver::start());
    let mut place = place(&receiver);
    place.write("groupcast.prod.toml", &settings(&other.url, ""));
    dotenv(&place, ".env", "AMPLITUDE_API_KEY=wrong-k3y-6625\n");
    dotenv(&place, ".env.prod", &format!("AMPLITUDE_API_KEY={KEY}\n"));
    let run = place.run(&["run", "--target", "prod"]).exits(0).says(&["2 delivered", "target: prod (groupcast.prod.toml)"]);
    assert!(!run.stdout.contains("target:"), "{}", run.stdout);
    assert_eq!((receiver.requests(), other.requests() > 0), (0, true));
    assert!(place.path("state/ledger.prod.duckdb").exists() && !place.path("state/ledger.duckdb").exists());
    // Without the target everything is still to be sent, with another key.
    place.run(&["plan"]).exits(0).says(&["2 to add"]);
    place.run(&["run"]).exits(1).says(&["authentication failed"]);
    place.set("GROUPCAST_TARGET", "prod");
    place.run(&["plan"]).exits(0).says(&["target: prod", "2 unchanged"]);
    assert_eq!(place.run(&["status", "--json"]).exits(0).json()["target"], "prod");
    place.unset("GROUPCAST_TARGET");
    place.run(&["status", "--target", "prodd"]).exits(2).says(&["groupcast.prodd.toml", "did you mean `--target prod`?"]);
    place.run(&["status", "--target", "a/b"]).exits(2).says(&["letters, digits"]);
    // Mistakes are at the line of the target's own file.
    place.write("groupcast.bad.toml", "[destinations.amplitude]\ntype = \"amplitud\"\n");
    place.run(&["check", "--target", "bad"]).exits(2).says(&["groupcast.bad.toml:2:", "did you mean `amplitude`?"]);
    let copied = format!("[state]\npath = \"state/ledger.duckdb\"\n{}", settings(&other.url, ""));
    place.write("groupcast.copied.toml", &copied);
    dotenv(&place, ".env.copied", &format!("AMPLITUDE_API_KEY={KEY}\n"));
    let shared = ["`state.path` is the ledger of groupcast.toml", "state/ledger.copied.duckdb"];
    place.run(&["run", "--target", "copied"]).exits(2).says(&shared);
    std::fs::remove_file(place.path("groupcast.toml")).unwrap();
    place.run(&["status"]).exits(2).says(&["choose a target with `--target`", "`prod`"]);
}

#[test]
fn a_daemon_is_one_target_s() {
    let (receiver, other) = (Receiver::start(), Receiver::start());
    let place = place(&receiver);
    place.write("groupcast.prod.toml", &settings(&other.url, ""));
    let ready = place.path("state/ledger.prod.duckdb.daemon");
    let daemon = place.start(&["daemon", "--target", "prod", "--listen", "127.0.0.1:0"]);
    until("the daemon writes its address", || ready.exists().then_some(()));
    place.run(&["run", "--target", "prod"]).exits(0).says(&["2 delivered", "daemon"]);
    let about = place.run(&["status", "--target", "prod"]).exits(0).says(&["target: prod", "source: the daemon"]);
    assert!(about.stdout.contains("accounts"), "{}", about.all());
    // The other target is not its business.
    let own = place.run(&["run"]).exits(0).says(&["2 delivered"]);
    assert!(!own.all().contains("daemon"), "{}", own.all());
    // Its settings are, as they change.
    place.write("groupcast.prod.toml", &settings(&other.url, "timeout = \"nonsense\"\n"));
    until("the daemon reads its changed file", || daemon.stderr().contains("groupcast.prod.toml").then_some(()));
    daemon.signal("TERM");
    daemon.wait().exits(0).says(&["target: prod"]);
}
