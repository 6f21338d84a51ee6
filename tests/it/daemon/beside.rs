//! Whom do commands ask? The daemon that has this ledger open, over the socket beside it, and nobody else: not whoever
//! listens at an address that was left behind, and not the daemon of another project.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::process::Command;

use serde_json::Value;

use super::{edit, place, scheduled, slow};
use crate::support::cli::{Output, Place, Receiver, start, until};
use crate::support::daemon::{Daemon, address};

const TOKEN: &str = "a-token-of-the-daemon-0123456789";
const LEDGER: &str = "state/ledger.duckdb";
const SOCKET: &str = "state/ledger.duckdb.sock";
/// Every command that asks a daemon.
const ASKING: [&[&str]; 7] =
    [&["run"], &["plan"], &["status"], &["runs"], &["schedule"], &["group", "accounts", "k1"], &["rejected"]];

/// Holds the ledger's lock, as a process does that is no daemon.
fn held(place: &Place) -> duckdb::Connection {
    duckdb::Connection::open(place.path(LEDGER)).unwrap()
}

/// A project with a token, and what its daemon leaves behind when it is killed.
fn left_behind(receiver: &Receiver) -> (Place, String) {
    let mut place = place(receiver, 3);
    place.set("GROUPCAST__DAEMON__TOKEN", TOKEN);
    place.mapping("accounts", &scheduled(""));
    let daemon = Daemon::start_with(&place, Some(TOKEN));
    let url = daemon.url.clone();
    daemon.kill();
    assert_eq!(address(&place).as_ref(), Some(&url), "the file is left behind");
    (place, url)
}

#[test]
fn whoever_listens_at_an_address_that_was_left_behind_hears_nothing() {
    let receiver = Receiver::start();
    let (place, url) = left_behind(&receiver);
    // GIVEN a stranger at the daemon's port
    let stranger = TcpListener::bind(url.trim_start_matches("http://")).unwrap();
    stranger.set_nonblocking(true).unwrap();
    // THEN commands do their work themselves
    place.run(&["run"]).exits(0).says(&["3 delivered"]);
    for command in ASKING {
        let output = place.run(command).exits(0);
        assert!(!output.all().contains(&url), "{command:?}: {}", output.all());
    }
    // AND while a process that is no daemon has the ledger open, they say that and name nobody else
    let lock = held(&place);
    for command in ASKING {
        let output = place.run(command).exits(1).says(&["another process has this file open"]);
        assert!(!output.all().contains(&url), "{command:?}: {}", output.all());
    }
    drop(lock);
    assert_eq!(stranger.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "nobody connected");
}

#[test]
fn a_project_never_runs_another_one() {
    let (ours, theirs) = (Receiver::start(), Receiver::start());
    // GIVEN another project's daemon
    let other = place(&theirs, 300);
    other.mapping("accounts", &scheduled(""));
    let daemon = Daemon::start(&other);
    // WHEN its address and its socket are beside our ledger
    let (place, _) = left_behind(&ours);
    std::fs::copy(other.path("state/ledger.duckdb.daemon"), place.path("state/ledger.duckdb.daemon")).unwrap();
    std::fs::remove_file(place.path(SOCKET)).unwrap();
    let links: [&dyn Fn(); 2] = [&|| symlink(other.path(SOCKET), place.path(SOCKET)).unwrap(), &|| {
        std::fs::hard_link(other.path(SOCKET), place.path(SOCKET)).unwrap()
    }];
    for link in links {
        link();
        let lock = held(&place);
        for command in ASKING {
            place.run(command).exits(1).says(&["another process has this file open"]);
        }
        drop(lock);
        std::fs::remove_file(place.path(SOCKET)).unwrap();
    }
    // THEN ours is run here, and theirs not at all
    place.run(&["run"]).exits(0).says(&["3 rows", "3 delivered"]);
    assert_eq!((ours.vendor.groups().len(), theirs.requests()), (3, 0));
    // AND a folder that names their ledger as its own is told whose it is
    let mut third = super::place(&ours, 1);
    third.mapping("accounts", &scheduled(""));
    third.set("GROUPCAST__STATE__PATH", other.path(LEDGER).to_str().unwrap());
    let folder = other.path("").canonicalize().unwrap();
    for command in ASKING {
        third.run(command).exits(1).says(&["runs another project with this ledger", folder.to_str().unwrap()]);
    }
    assert_eq!(daemon.get("/api/v1/runs").is(200), Value::Array(Vec::new()));
    assert_eq!(theirs.requests(), 0);
    daemon.stop().exits(0);
}

#[test]
fn commands_need_no_token_and_the_socket_is_private() {
    let receiver = Receiver::start();
    let mut place = place(&receiver, 3);
    place.set("GROUPCAST__DAEMON__TOKEN", TOKEN);
    place.mapping("accounts", &scheduled(""));
    let daemon = Daemon::start_with(&place, Some(TOKEN));
    let socket = std::fs::symlink_metadata(place.path(SOCKET)).unwrap();
    assert!(socket.file_type().is_socket());
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    // The daemon's own is asked for over the network, another one is none of its business here.
    for token in [Some("another-token-0123456789abcdef"), None] {
        match token {
            Some(token) => place.set("GROUPCAST__DAEMON__TOKEN", token),
            None => place.unset("GROUPCAST__DAEMON__TOKEN"),
        }
        place.run(&["run"]).exits(0).says(&[&daemon.url]);
        place.run(&["status"]).exits(0).says(&[&daemon.url]);
    }
    assert_eq!(receiver.vendor.groups().len(), 3);
    daemon.stop().exits(0);
    assert!(!place.path(SOCKET).exists(), "it goes with the daemon");
}

#[test]
fn a_daemon_without_its_socket_is_named() {
    let receiver = Receiver::start();
    let place = place(&receiver, 3);
    place.mapping("accounts", &scheduled(""));
    // GIVEN something in the socket's place
    std::fs::create_dir_all(place.path(SOCKET)).unwrap();
    let daemon = Daemon::start(&place);
    let pid = format!("process {}", daemon.pid());
    for command in ASKING {
        place.run(command).exits(1).says(&["cannot be reached over the socket", &daemon.url, &pid, "console"]);
    }
    assert!(place.path(SOCKET).is_dir(), "it is kept");
    daemon.stop().exits(0).says(&["commands cannot reach this daemon", "no socket"]);
}

#[test]
fn a_folder_too_deep_for_a_socket_works_all_the_same() {
    let receiver = Receiver::start();
    let place = place(&receiver, 3);
    place.mapping("accounts", &scheduled(""));
    let deep = place.path(&format!("{}/{}", "d".repeat(100), "e".repeat(100)));
    std::fs::create_dir_all(&deep).unwrap();
    symlink(&deep, place.path("state")).unwrap();
    for _ in 0..2 {
        let daemon = Daemon::start(&place);
        place.run(&["status"]).exits(0).says(&[&daemon.url]);
        // What it leaves behind is replaced by the next.
        daemon.kill();
        assert!(deep.join("ledger.duckdb.sock").exists());
        place.run(&["status"]).exits(0);
    }
    let daemon = Daemon::start(&place);
    place.run(&["run"]).exits(0).says(&["3 delivered", &daemon.url]);
    daemon.stop().exits(0);
}

#[test]
fn a_second_daemon_is_told_which_one_runs() {
    let receiver = Receiver::start();
    let place = place(&receiver, 1);
    place.mapping("accounts", &scheduled(""));
    let daemon = Daemon::start(&place);
    // At the same address, as the same config gives it.
    let listen = daemon.url.trim_start_matches("http://").to_owned();
    let second = place.run(&["daemon", "--listen", &listen]).exits(1);
    let pid = format!("process {}", daemon.pid());
    second.says(&["a daemon already runs with this ledger", &daemon.url, &pid, "stop it first"]);
    // Another project's is told that the port is taken.
    let other = super::place(&receiver, 1);
    other.mapping("accounts", &scheduled(""));
    other.run(&["daemon", "--listen", &listen]).exits(2).says(&["failed to listen", "in use"]);
    daemon.stop().exits(0);
}

/// The program without the right to go where the file's mode does not let it, which root has.
fn unprivileged(place: &Place, arguments: &[&str]) -> Output {
    let user = Command::new("id").arg("-u").output().unwrap();
    if user.stdout != b"0\n" {
        return place.run(arguments);
    }
    let mut command = Command::new("setpriv");
    place.prepare(&mut command);
    command.args(["--bounding-set", "-dac_override,-dac_read_search", "--", env!("CARGO_BIN_EXE_groupcast")]);
    command.args(arguments);
    start(command).wait()
}

#[test]
fn a_ledger_that_may_not_be_looked_at_is_no_empty_one() {
    let receiver = Receiver::start();
    let place = place(&receiver, 3);
    place.mapping("accounts", &scheduled(""));
    place.run(&["run"]).exits(0);
    let mode = |mode| std::fs::set_permissions(place.path("state"), std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o000);
    let commands = ASKING.iter().copied().chain([&["ledger", "export", "accounts"][..]]);
    let outputs: Vec<_> = commands.map(|command| (command, unprivileged(&place, command))).collect();
    mode(0o700);
    for (command, output) in outputs {
        assert!(!output.all().contains("never"), "{command:?}: {}", output.all());
        output.exits(1).says(&["ledger", "ermission denied", "user"]);
    }
    edit(&place, "UPDATE accounts SET rev = 1 WHERE id = 'k1'");
    unprivileged(&place, &["run"]).exits(0).says(&["1 delivered"]);
}

#[test]
fn a_backup_is_the_same_with_and_without_a_daemon() {
    let receiver = Receiver::start();
    let mut place = place(&receiver, 30);
    place.set("GROUPCAST__DAEMON__TOKEN", TOKEN);
    place.mapping("accounts", &scheduled(""));
    place.run(&["run"]).exits(0).says(&["30 delivered"]);
    let groups = |file: &str| {
        let copied = duckdb::Connection::open(place.path(file)).unwrap();
        let count = |sql: &str| copied.query_row(sql, [], |row| row.get::<_, u64>(0)).unwrap();
        (count("SELECT count(*) FROM synced"), count("SELECT generation FROM identity"))
    };
    let backup = |file: &str| place.run(&["ledger", "backup", file]);
    let alone = backup("alone.duckdb").exits(0).stdout.clone();
    let alone_json = place.run(&["ledger", "backup", "alone-2.duckdb", "--json"]).exits(0).stdout.clone();
    let refused: Vec<_> = ["alone.duckdb", "nowhere/copy.duckdb", "state/ledger.duckdb.wal", "state/ledger.duckdb"]
        .into_iter()
        .map(|file| (file, backup(file).code))
        .collect();
    assert!(refused.iter().all(|(_, code)| *code != Some(0)), "{refused:?}");
    // WHEN a daemon has the ledger open THEN it makes the copy, in the same words, where the command stands
    let daemon = Daemon::start_with(&place, Some(TOKEN));
    assert_eq!(backup("beside.duckdb").exits(0).stdout, alone.replace("alone", "beside"));
    let beside_json = place.run(&["ledger", "backup", "beside-2.duckdb", "--json"]).exits(0).stdout.clone();
    assert_eq!(beside_json, alone_json.replace("alone", "beside"));
    assert_eq!(groups("beside.duckdb"), groups("alone.duckdb"));
    assert_eq!(std::fs::metadata(place.path("beside.duckdb")).unwrap().permissions().mode() & 0o777, 0o600);
    // AND what cannot be written fails alike, leaves nothing, and the daemon goes on
    for (file, code) in refused {
        let output = backup(file);
        assert_eq!(output.code, code, "{file}: {}", output.all());
    }
    backup("alone.duckdb").says(&["this file exists already", "name a new file"]);
    backup("nowhere/copy.duckdb").says(&["failed to write the copy", "folder that exists"]);
    backup("state/ledger.duckdb.wal").says(&["something of its own"]);
    edit(&place, "UPDATE accounts SET rev = 7 WHERE id = 'k1'");
    let parts = std::fs::read_dir(place.path(".")).unwrap().flatten();
    assert!(!parts.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().contains(".part")));
    place.run(&["run"]).exits(0).says(&["1 delivered"]);
    assert_eq!(daemon.get("/readyz").status, 200);
}

#[test]
fn a_backup_made_while_a_run_sends_is_whole_and_knows_how_new_it_is() {
    let receiver = Receiver::start();
    let place = place(&receiver, 300);
    place.mapping("accounts", &scheduled(""));
    slow(&receiver, 1_500);
    let daemon = Daemon::start(&place);
    let run = daemon.trigger("accounts", &serde_json::json!({}));
    until("a request", || (receiver.requests() > 0).then_some(()));
    // The groups are marked, and no answer has come.
    place.run(&["ledger", "backup", "copy.duckdb"]).exits(0);
    daemon.ended(&run);
    assert_eq!(receiver.vendor.groups().len(), 300);
    daemon.stop().exits(0);
    // WHEN the copy is put in the ledger's place THEN it is known to be older, and everything is sent again
    std::fs::copy(place.path("copy.duckdb"), place.path(LEDGER)).unwrap();
    drop(std::fs::remove_file(place.path("state/ledger.duckdb.wal")));
    place.run(&["run"]).exits(0).says(&["this ledger is older", "300 delivered"]);
}
