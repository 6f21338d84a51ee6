//! What does a person read after a mistake or a mishap? The place, the cause and the next step, with the right exit
//! code; nothing is sent, nothing known is lost, and no secret is shown.

use std::process::Command;
use std::sync::Arc;

use groupcast::io::{Clock, SystemClock};
use serde_json::json;
use tokio::sync::Notify;

use crate::support::amplitude::Fault;
use crate::support::cli::{KEY, Output, Place, Receiver, changes_sent, files, mapping, settings, start, until};
use crate::support::postgres::{SCRAM_PASSWORD, SCRAM_USER, shared};

const PASSWORD: &str = SCRAM_PASSWORD;
const TRAITS: &str = "name = \"name\"\nseats = \"seats\"";

/// Five accounts, delivered.
fn delivered(receiver: &Receiver) -> Place {
    let place = Place::with(receiver);
    place.warehouse(
        "CREATE TABLE accounts AS SELECT 'k' || i AS id, 'Secret name ' || i AS name, i AS seats, i % 2 = 0 AS active, \
         i * 1.5 AS arr, '2024-01-01'::DATE AS since, '\\xAA'::BLOB AS bytes FROM range(5) r(i)",
    );
    place.mapping("accounts", &mapping(TRAITS, ""));
    place.run(&["run"]).exits(0).says(&["5 delivered"]);
    place
}

/// Checks a failure: exit code, words, a next step, and that no secret and no trait's value is shown.
#[track_caller]
fn fails(output: Output, code: i32, says: &[&str]) -> Output {
    let output = output.exits(code).says(says);
    // In a file, the place that is pointed at is the next step.
    let next = ["help", "\"advice\"", "--> "].iter().any(|word| output.all().contains(word));
    assert!(next, "no next step\n{}", output.all());
    no_secret(output.all().as_bytes(), &output.all());
    for value in ["Secret name", "panicked", "INTERNAL"] {
        assert!(!output.all().contains(value), "`{value}` in\n{}", output.all());
    }
    output
}

#[track_caller]
fn no_secret(bytes: &[u8], what: &str) {
    for secret in [KEY, PASSWORD] {
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "a secret in {what}");
    }
}

/// Checks that the ledger's files hold no secret.
#[track_caller]
fn ledger_without_secrets(place: &Place) {
    let ledger = place.ledger_bytes();
    assert!(!ledger.is_empty());
    for (path, bytes) in ledger {
        no_secret(&bytes, &path.display().to_string());
    }
}

/// The last change of the warehouse arrives, and nothing else is said.
#[track_caller]
fn works_again(receiver: &Receiver, place: &Place) {
    place.write("groupcast.toml", &settings(&receiver.url, ""));
    place.mapping("accounts", &mapping(TRAITS, ""));
    let seen = receiver.requests();
    place.warehouse("UPDATE accounts SET seats = seats + 1000 WHERE id = 'k3'");
    place.run(&["run"]).exits(0).says(&["4 unchanged, 1 delivered"]);
    let sent = changes_sent(&receiver.since(seen));
    assert_eq!(sent.len(), 1, "{sent:?}");
    ledger_without_secrets(place);
}

/// The synced state, as a list.
fn exported(place: &Place) -> String {
    place.run(&["ledger", "export", "accounts"]).exits(0).stdout
}

#[test]
fn mistakes_in_files_are_shown_at_their_place() {
    let receiver = Receiver::start();
    let mut place = delivered(&receiver);
    let good = mapping(TRAITS, "");
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replace(from, to)
    };
    let traits = |line: &str| mapping(line, "");
    let ledger = exported(&place);
    let seen = receiver.requests();
    // the mapping, what is said
    let mappings: [(String, &[&str]); 27] = [
        (with("[model]", "[model"), &["mappings/accounts.toml:4:"]),
        (with("source = ", "source = = "), &["mappings/accounts.toml:1:"]),
        (with("name = \"name\"", "name = \"name"), &["mappings/accounts.toml:12:"]),
        (mapping(TRAITS, "[polcy]\non_null = \"skip\""), &["mappings/accounts.toml:14:2", "polcy", "policy"]),
        (mapping(TRAITS, "[policy]\non_nul = \"skip\""), &["mappings/accounts.toml:15:1", "did you mean `on_null`"]),
        (
            mapping(TRAITS, "[policy]\non_null = \"drop\""),
            &["mappings/accounts.toml:15:11", "`unset`, `null` or `skip`"],
        ),
        (mapping(TRAITS, "[guards]\nchanged_max = 30"), &["mappings/accounts.toml:15:15", "30%"]),
        (
            with("\"warehouse\"", "\"warehose\""),
            &["mappings/accounts.toml:1:10", "source `warehose` not found", "did you mean `warehouse`"],
        ),
        (
            with("\"amplitude\"", "\"mixpanel\""),
            &["mappings/accounts.toml:2:15", "destination `mixpanel` not found", "`amplitude`"],
        ),
        (with("table = \"accounts\"", ""), &["mappings/accounts.toml:4:", "no `table`, `sql`, `file` or `dbt`"]),
        (with("table = \"accounts\"", "sql = \"\""), &["mappings/accounts.toml:5:7"]),
        (with("table = \"accounts\"", "sql = \"SELECT 1; DROP TABLE accounts\""), &["mappings/accounts.toml:5:7"]),
        (with("table = \"accounts\"", "file = \"none.sql\""), &["mappings/accounts.toml:5:8", "no such file"]),
        (with("table = \"accounts\"", "table = \"acounts\""), &["mappings/accounts.toml:5:9", "acounts", "accounts"]),
        (with("table = \"accounts\"", "sql = \"SELEC 1\""), &["mappings/accounts.toml:5:7", "Parser Error"]),
        (
            with("table = \"accounts\"", "table = \"accounts\"\nwhere = \"nope > 1\""),
            &["mappings/accounts.toml:6:9", "nope", "1 error"],
        ),
        (
            with("key = \"id\"", "key = \"idd\""),
            &["mappings/accounts.toml:9:7", "the model has no column `idd`", "`id`"],
        ),
        (with("key = \"id\"", "key = \"active\""), &["mappings/accounts.toml:9:7", "cannot be a group's key"]),
        (
            traits("name = \"nme\"\nseats = \"places\""),
            &[
                "mappings/accounts.toml:12:8",
                "did you mean `name`",
                "mappings/accounts.toml:13:9",
                "`places`",
                "2 errors",
            ],
        ),
        (traits("arr = \"arr\""), &["mappings/accounts.toml:12:7", "add `as = \"number\"`"]),
        (
            traits("active = { column = \"active\", as = \"date\" }"),
            &["mappings/accounts.toml:12:", "cannot become `date`", "`boolean`"],
        ),
        (traits("x = { sql = \"nope + 1\" }"), &["mappings/accounts.toml:12:13", "nope", "1 error"]),
        (
            traits("a = { sql = \"nope + 1\" }\nb = { sql = \"seats + 1\" }\nc = { sql = \"nil(seats)\" }"),
            &["mappings/accounts.toml:12:13", "nope", "mappings/accounts.toml:14:13", "nil", "2 errors"],
        ),
        (traits("a = \"places\"\nb = \"places\""), &["mappings/accounts.toml:12:5", "`places`", "1 error"]),
        (
            traits("x = { col = \"seats\", type = \"number\" }"),
            &[
                "mappings/accounts.toml:12:7",
                "did you mean `column`?",
                "mappings/accounts.toml:12:22",
                "did you mean `as`?",
            ],
        ),
        (traits("x = { column = \"name\", op = \"remove\" }"), &["mappings/accounts.toml:12:", "not supported"]),
        (traits("name = \"name\"\nname = \"seats\""), &["mappings/accounts.toml:13:"]),
    ];
    for (text, says) in mappings {
        place.mapping("accounts", &text);
        fails(place.run(&["run"]), 2, says);
    }
    let init = place.run(&["init", "--source", "warehouse", "--table", "acounts", "--name", "third"]);
    let init = fails(init, 1, &["source warehouse: ", "acounts"]);
    assert!(!init.all().contains("source warehouse: source warehouse"), "{}", init.all());
    place.mapping("accounts", &good);
    place.mapping("second", &good);
    fails(
        place.run(&["run", "second"]),
        2,
        &["trait `name` of `company` at `amplitude` is also written by mappings/accounts.toml:12"],
    );
    std::fs::remove_file(place.path("mappings/second.toml")).unwrap();
    // groupcast.toml
    let sound = settings(&receiver.url, "");
    for (from, to, says) in [
        ("[sources.warehouse]", "[sources.warehouse", &["groupcast.toml:1:"][..]),
        ("path =", "pth =", &["groupcast.toml:3:1", "did you mean `path`"]),
        ("type = \"duckdb\"", "type = \"duckdbs\"", &["groupcast.toml:2:8", "duckdb"]),
        ("type = \"duckdb\"", "", &["groupcast.toml:1:", "type"]),
        ("base_url = \"http://", "base_url = \"ftp://", &["groupcast.toml:8:", "https://"]),
        ("base_url", "concurrency = 0\nbase_url", &["groupcast.toml:8:15", "1"]),
        ("${AMPLITUDE_API_KEY}", "${AMPLITUDE_KEY}", &["groupcast.toml:7:", "AMPLITUDE_KEY"]),
        ("${AMPLITUDE_API_KEY}", KEY, &["groupcast.toml:7:"]),
        ("${AMPLITUDE_API_KEY}", "${file:nowhere.txt}", &["groupcast.toml:7:", "nowhere.txt"]),
        ("[sources.warehouse]", "[state]\nmemory = \"lots\"\n[sources.warehouse]", &["groupcast.toml:2:10"]),
    ] {
        place.write("groupcast.toml", &sound.replace(from, to));
        fails(place.run(&["run"]), 2, says);
    }
    place.write("groupcast.toml", &sound);
    for (name, value, says) in [
        ("GROUPCAST__STATE__MEMRY", "1GB", "GROUPCAST__STATE__MEMRY"),
        ("GROUPCAST__STATE__THREADS", "many", "GROUPCAST__STATE__THREADS"),
        ("GROUPCAST__DESTINATIONS__AMPLITUDE__REGION", "mars", "GROUPCAST__DESTINATIONS__AMPLITUDE__REGION"),
        ("AMPLITUDE_API_KEY", " ", "AMPLITUDE_API_KEY"),
    ] {
        place.set(name, value);
        fails(place.run(&["run"]), 2, &[says]);
        place.unset(name);
    }
    fails(place.run(&["run"]), 2, &["AMPLITUDE_API_KEY", "groupcast.toml:7:"]);
    place.set("AMPLITUDE_API_KEY", KEY);
    fails(
        place.run(&["-C", "nowhere", "run"]),
        2,
        &["nowhere/groupcast.toml", "no such file", "groupcast init", "--folder"],
    );
    // THEN nothing was sent, and the synced state is what it was
    assert_eq!((receiver.requests(), exported(&place)), (seen, ledger));
    works_again(&receiver, &place);
}

#[test]
fn rows_that_cannot_be_sent_are_rejected_one_by_one() {
    let receiver = Receiver::start();
    let place = delivered(&receiver);
    place.warehouse("INSERT INTO accounts (id, name, seats) VALUES (repeat('k', 1025), 'n', 1), (repeat('é', 1024), 'n', 1), ('word', 'n', 1)");
    place.mapping(
        "accounts",
        &mapping(&format!("{TRAITS}\nn = {{ sql = \"CASE WHEN id = 'word' THEN 'many' END\", as = \"number\" }}"), ""),
    );
    let plan = place.run(&["plan"]).exits(0).says(&[
        "! word",
        "trait `n`: cannot convert text \"many\" to number",
        "! kkk",
        "1,024 characters",
    ]);
    plan.says(&["1 to add, 0 to change", "2 rejected"]);
    place.run(&["run"]).exits(3).says(&["1 delivered", "2 rejected"]);
    place.run(&["rejected"]).exits(0).says(&["word", "trait `n`", "the group's key has more than 1,024 characters"]);
    place.warehouse("DELETE FROM accounts WHERE length(id) > 1000 OR id = 'word'");
    works_again(&receiver, &place);
}

#[test]
fn a_source_that_cannot_be_read() {
    let receiver = Receiver::start();
    let place = delivered(&receiver);
    let seen = receiver.requests();
    // locked by a writer
    let writer = duckdb::Connection::open(place.path("warehouse.duckdb")).unwrap();
    for command in [&["plan"][..], &["run"]] {
        fails(place.run(command), 1, &["warehouse.duckdb", "open for writing", "run again"]);
    }
    fails(place.run(&["check", "--connect"]), 2, &["warehouse.duckdb", "open for writing"]);
    drop(writer);
    // missing, a folder, no database, an expression that fails on a row
    let away = |to: &str| std::fs::rename(place.path("warehouse.duckdb"), place.path(to)).unwrap();
    away("kept");
    fails(place.run(&["run"]), 2, &["warehouse.duckdb", "does not exist", "`path`"]);
    assert!(!place.path("warehouse.duckdb").exists(), "a missing file is not made");
    std::fs::create_dir(place.path("warehouse.duckdb")).unwrap();
    fails(place.run(&["run"]), 2, &["warehouse.duckdb"]);
    std::fs::remove_dir(place.path("warehouse.duckdb")).unwrap();
    place.write("warehouse.duckdb", &"not a database\n".repeat(2_000));
    fails(place.run(&["run"]), 2, &["warehouse.duckdb", "not a readable DuckDB database"]);
    std::fs::rename(place.path("kept"), place.path("warehouse.duckdb")).unwrap();
    place.mapping("accounts", &mapping("n = { sql = \"name::INTEGER\" }", ""));
    fails(place.run(&["run"]), 1, &["Conversion Error", "TRY_CAST", "source warehouse"]);
    assert_eq!(receiver.requests(), seen);
    works_again(&receiver, &place);
    // Groupcast's own state is no source.
    place.write(
        "groupcast.toml",
        &settings(&receiver.url, "").replace("warehouse.duckdb", "mappings/../state/ledger.duckdb"),
    );
    fails(place.run(&["run"]), 2, &["source warehouse", "ledger.duckdb", "Groupcast's own ledger", "state.path"]);
    works_again(&receiver, &place);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lets_nobody_in() {
    let receiver = Receiver::start();
    let mut place = delivered(&receiver);
    let database = shared().create_database().await;
    database.execute(&format!("{SCRAM_USER}; CREATE TABLE accounts (id TEXT, name TEXT, seats INTEGER)")).await;
    let (port, name) = (shared().port(), database.name());
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let other_ca = shared().other_ca_file();
    let ca = format!("sslmode = \"verify-full\"\nca_file = \"{}\"", other_ca.display());
    let seen = receiver.requests();
    for (url, more, code, says) in [
        (
            format!("postgres://root_user@127.0.0.1:{closed}/{name}"),
            "",
            1,
            &["nothing listens", "start the server"][..],
        ),
        (
            format!("postgres://scram_user@127.0.0.1:{port}/{name}"),
            "password = \"${PG_PASSWORD}\"",
            1,
            &["28P01", "password of user `scram_user`"],
        ),
        ("${PG_URL}".to_owned(), "", 1, &["28P01", "scram_user"]),
        (format!("postgres://root_user@localhost:{port}/{name}"), ca.as_str(), 1, &["authority", "ca_file"]),
        (
            format!("postgres://root_user@localhost:{port}/{name}"),
            "sslmode = \"verify-full\"",
            1,
            &["authority", "ca_file"],
        ),
        (format!("postgres://root_user@127.0.0.1:{port}/nowhere"), "", 1, &["nowhere", "3D000"]),
        (format!("postgres://scram_user:{PASSWORD}@127.0.0.1:{port}/{name}"), "", 2, &["groupcast.toml:3:"]),
        (
            format!("postgres://scram_user@127.0.0.1:{port}/{name}"),
            "password = \"${GOOD_PASSWORD}\"",
            2,
            &["42501", "GRANT SELECT"],
        ),
    ] {
        place.set("PG_PASSWORD", &format!("{PASSWORD}!"));
        place.set("GOOD_PASSWORD", PASSWORD);
        place.set("PG_URL", &format!("postgres://scram_user:{PASSWORD}x@127.0.0.1:{port}/{name}"));
        let text = settings(&receiver.url, "");
        let (_, rest) = text.split_once("\n\n").unwrap();
        place.write(
            "groupcast.toml",
            &format!("[sources.warehouse]\ntype = \"postgres\"\nurl = \"{url}\"\n{more}\n\n{rest}"),
        );
        fails(place.run(&["run"]), code, says);
        fails(place.run(&["check", "--connect"]), 2, &says[..1]);
        fails(place.run(&["plan", "--json"]), code, &[]);
    }
    assert_eq!(receiver.requests(), seen);
    works_again(&receiver, &place);
}

#[test]
fn a_destination_that_is_down_or_refuses_us() {
    let receiver = Receiver::start();
    let mut place = delivered(&receiver);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    place.warehouse("UPDATE accounts SET seats = seats + 10");
    let seen = receiver.requests();
    // down: certainly not sent
    place.write("groupcast.toml", &settings(&format!("http://{closed}"), "attempts_max = 1\nretry_for = \"0s\"\n"));
    let down = fails(place.run(&["run"]), 1, &["5 pending", "failed to connect", "refused"]);
    assert!(!down.all().contains("5 unconfirmed"), "{}", down.all());
    place.run(&["status", "--json"]).exits(0).says(&["\"unconfirmed\":0"]);
    // a wrong key: everything stops, nothing is rejected
    place.write("groupcast.toml", &settings(&receiver.url, ""));
    place.set("AMPLITUDE_API_KEY", PASSWORD);
    fails(place.run(&["run"]), 1, &["5 pending", "Invalid API key", "check the key and the region"]);
    assert_eq!(receiver.requests(), seen + 1, "one request is enough to know");
    place.run(&["rejected"]).exits(0).says(&["no rejected groups"]);
    fails(place.run(&["run", "--json"]), 1, &[]);
    // a wrong address
    place.set("AMPLITUDE_API_KEY", KEY);
    place.write("groupcast.toml", &settings(&format!("{}/elsewhere", receiver.url), ""));
    fails(place.run(&["run"]), 1, &["404", "base_url"]);
    ledger_without_secrets(&place);
    // THEN the way is open, and everything is said once
    place.write("groupcast.toml", &settings(&receiver.url, ""));
    let seen = receiver.requests();
    place.run(&["run"]).exits(0).says(&["5 delivered"]);
    assert_eq!(
        changes_sent(&receiver.since(seen))[0].1,
        json!({"$set": {"seats": 10}}),
        "only what changed: nothing was unconfirmed"
    );
    works_again(&receiver, &place);
}

#[test]
fn two_processes_on_one_ledger() {
    // GIVEN a run under way
    let receiver = Receiver::start();
    let place = delivered(&receiver);
    place.warehouse("UPDATE accounts SET seats = 77 WHERE id = 'k1'");
    let answer = Arc::new(Notify::new());
    receiver.vendor.script([Fault::Hold(Arc::clone(&answer))]);
    let arrived = || receiver.vendor.counts.requests.load(std::sync::atomic::Ordering::SeqCst);
    let (seen, first) = (arrived(), place.start(&["run"]));
    until("the first run sends", || (arrived() > seen).then_some(()));
    // WHEN others come THEN they say which file is in use, and what to do
    for command in [&["run"][..], &["ledger", "adopt", "accounts"], &["ledger", "reset", "accounts", "--yes"]] {
        let refused = fails(
            place.run(command),
            1,
            &[
                "`groupcast run` (process ",
                "is using the ledger",
                "wait until it has ended (`--lock-timeout 10m` does), or stop it",
            ],
        );
        assert!(!refused.all().contains("delivered"), "{}", refused.all());
    }
    place.run(&["status"]).exits(0).says(&["accounts"]);
    fails(place.run(&["plan"]), 1, &["of accounts is in progress", "try again when it has ended"]);
    let as_json = place.run(&["run", "--json"]).exits(1).json();
    assert_eq!(as_json["runs"][0]["error"]["kind"], json!("ledger_busy"), "{as_json}");
    assert_eq!(arrived(), seen + 1);
    // AND the first is not disturbed
    answer.notify_one();
    first.wait().exits(0).says(&["1 delivered"]);
    works_again(&receiver, &place);
}

#[test]
fn a_ledger_that_cannot_be_made() {
    let receiver = Receiver::start();
    let mut place = delivered(&receiver);
    let seen = receiver.requests();
    for path in ["warehouse.duckdb/state/ledger.duckdb", "/proc/groupcast/ledger.duckdb", "mappings", "/dev/full"] {
        place.set("GROUPCAST__STATE__PATH", path);
        let shown = path.rsplit_once('/').map_or(path, |(folder, _)| folder);
        fails(place.run(&["run"]), 1, &["ledger", shown]);
    }
    // Somebody's database is not turned into a ledger, and text is not one.
    place.set("GROUPCAST__STATE__PATH", "warehouse.duckdb");
    fails(place.run(&["run"]), 2, &["warehouse.duckdb", "Groupcast's own ledger", "state.path"]);
    std::fs::copy(place.path("warehouse.duckdb"), place.path("another.duckdb")).unwrap();
    place.set("GROUPCAST__STATE__PATH", "another.duckdb");
    fails(place.run(&["run"]), 1, &["another.duckdb", "not a ledger", "state.path"]);
    place.set("GROUPCAST__STATE__PATH", "groupcast.toml");
    fails(place.run(&["run"]), 1, &["groupcast.toml", "not a readable DuckDB database"]);
    place.unset("GROUPCAST__STATE__PATH");
    assert_eq!(receiver.requests(), seen);
    works_again(&receiver, &place);
}

#[test]
fn a_damaged_or_newer_ledger() {
    let receiver = Receiver::start();
    let place = delivered(&receiver);
    let path = place.path("state/ledger.duckdb");
    let whole = std::fs::read(&path).unwrap();
    let seen = receiver.requests();
    // Bytes are flipped in the headers, and in every block.
    let blocks = (3 * 4096..whole.len()).step_by(262_144).flat_map(|block| [block + 3, block + 40, block + 1_500]);
    let positions: Vec<usize> =
        [0, 9, 20, 4_096 + 2, 8_192 + 2].into_iter().chain(blocks).filter(|at| *at < whole.len()).collect();
    let mut noticed = 0;
    for at in &positions {
        let mut damaged = whole.clone();
        damaged[*at] ^= 0xff;
        damaged[*at + 1] ^= 0xff;
        std::fs::write(&path, &damaged).unwrap();
        let output = place.run(&["run"]);
        // A block that nothing is read from may be damaged unnoticed; everything else is named.
        if output.code != Some(0) {
            noticed += 1;
            fails(output, 1, &["ledger.duckdb", "backup"]);
        }
        let asked = place.run(&["status"]);
        assert!(matches!(asked.code, Some(0 | 1)), "byte {at}: {}", asked.all());
    }
    assert!(noticed >= 5, "{noticed} of {}", positions.len());
    for length in [0, 100, 4_096, 12_288, whole.len() / 2, whole.len() - 262_144] {
        std::fs::write(&path, &whole[..length]).unwrap();
        fails(place.run(&["run"]), 1, &["ledger.duckdb", "backup"]);
    }
    assert_eq!(receiver.requests(), seen);
    std::fs::write(&path, &whole).unwrap();
    let _ = std::fs::remove_file(place.path("state/ledger.duckdb.wal"));
    works_again(&receiver, &place);
    // newer
    let connection = duckdb::Connection::open(&path).unwrap();
    connection.execute_batch("UPDATE meta SET version = version + 1").unwrap();
    connection.close().map_err(|(_, error)| error).unwrap();
    let newer = place.ledger_bytes();
    for command in ["run", "plan", "status"] {
        fails(place.run(&[command]), 1, &["ledger.duckdb", "version 7", "newer Groupcast", ".v6-backup"]);
    }
    assert_eq!(place.ledger_bytes(), newer, "nothing was changed");
    let connection = duckdb::Connection::open(&path).unwrap();
    connection.execute_batch("UPDATE meta SET version = version - 1").unwrap();
    connection.close().map_err(|(_, error)| error).unwrap();
    works_again(&receiver, &place);
}

/// Accounts whose documents are larger than a small disk.
fn heavy(place: &Place) {
    place.warehouse(
        "DROP TABLE accounts; CREATE TABLE accounts AS SELECT 'k' || i AS id, 'n' || i AS name, i AS seats, \
         (SELECT string_agg(hash(i * 1000 + j)::VARCHAR, '') FROM range(50) s(j)) AS note FROM range(6000) r(i)",
    );
    place.mapping("accounts", &mapping(&format!("{TRAITS}\nnote = \"note\""), "[guards]\nchanged_max = 1"));
}

/// After the disk had room again: what the destination holds is what the warehouse says.
#[track_caller]
fn nothing_was_lost(receiver: &Receiver, place: &Place) {
    place.run(&["run"]).exits(0);
    let held = receiver.vendor.groups();
    assert_eq!(held.len(), 6_000);
    assert!(
        held.iter().all(|((_, key), traits)| traits["seats"] == json!(key[1..].parse::<u64>().unwrap())
            && traits.contains_key("note"))
    );
    let seen = receiver.requests();
    place.run(&["run"]).exits(0).says(&["6,000 unchanged; nothing sent"]);
    assert_eq!(receiver.requests(), seen);
    ledger_without_secrets(place);
}

#[test]
fn a_file_that_may_not_grow() {
    let receiver = Receiver::start();
    let place = delivered(&receiver);
    heavy(&place);
    let blocks = files(&place.path("state")).values().map(Vec::len).max().unwrap() / 512;
    for more in [200, 2_000] {
        let mut limited = Command::new("sh");
        place.prepare(&mut limited);
        let script = format!("ulimit -f {}; exec \"$0\" run", blocks + more);
        limited.args(["-c", &script, env!("CARGO_BIN_EXE_groupcast")]);
        fails(start(limited).wait(), 1, &["ledger", "nothing was lost"]);
    }
    nothing_was_lost(&receiver, &place);
}

#[test]
fn a_disk_that_is_full() {
    let receiver = Receiver::start();
    let place = delivered(&receiver);
    heavy(&place);
    // A small disk of its own, gone with the commands; where mounting is not permitted, `a_file_that_may_not_grow`
    // has to do.
    let script = "mount -t tmpfs -o size=4m tmpfs full && cp state/* full/ && touch mounted || exit 77
        \"$0\" run; echo \"exit $?\"
        mount -o remount,size=400m full
        \"$0\" plan --show 0; echo \"exit $?\"
        \"$0\" run; echo \"exit $?\"; cp full/* state/";
    std::fs::create_dir(place.path("full")).unwrap();
    let mut full = Command::new("unshare");
    place.prepare(&mut full);
    full.env("GROUPCAST__STATE__PATH", "full/ledger.duckdb").args([
        "--mount",
        "sh",
        "-c",
        script,
        env!("CARGO_BIN_EXE_groupcast"),
    ]);
    let clock = SystemClock::start();
    let output = start(full).wait();
    if !place.path("mounted").exists() {
        println!("no disk can be mounted here: {}", output.all());
        return;
    }
    println!("{:?}", clock.elapsed());
    let codes: Vec<&str> = output.stdout.lines().filter(|line| line.starts_with("exit ")).collect();
    assert_eq!(codes, ["exit 1", "exit 0", "exit 0"], "{}", output.all());
    let output = output.says(&["full/ledger.duckdb", "free space", "nothing was lost"]);
    no_secret(output.all().as_bytes(), &output.all());
    nothing_was_lost(&receiver, &place);
}
