//! A throw-away PostgreSQL: started from the installed server in a temporary folder, gone when the test process is.
//!
//! Statics are never dropped and a killed process drops nothing, so the server is stopped by a watchdog: a shell that
//! waits for the end of a pipe whose other end this process holds. Everything listens on loopback only. A missing server
//! fails the tests; it never skips them.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, mpsc};
use std::time::Duration;

use groupcast::source::postgres::{Postgres, PostgresSettings};
use serde_json::{Value, json};

const MISSING: &str = "these tests need PostgreSQL's server programs (initdb, postgres): install them \
    (Debian, Ubuntu: `apt-get install postgresql postgresql-contrib`; macOS: `brew install postgresql`), \
    or put their folder on PATH";

/// The password of `scram_user`.
pub(crate) const SCRAM_PASSWORD: &str = "correct-horse-battery";
/// Makes the one user that needs a password, unless another test did: users belong to the whole server.
pub(crate) const SCRAM_USER: &str = "DO $$ BEGIN CREATE ROLE scram_user LOGIN PASSWORD 'correct-horse-battery';
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$";

/// A server of its own.
pub(crate) struct Cluster {
    folder: PathBuf,
    port: u16,
    server: Mutex<Child>,
    watchdog: Mutex<Child>,
    log: Arc<Mutex<String>>,
    databases: AtomicU32,
}

/// The server that tests share; each creates its own database in it.
pub(crate) fn shared() -> &'static Cluster {
    static SHARED: LazyLock<Cluster> = LazyLock::new(Cluster::start);
    &SHARED
}

/// The folder with the newest installed server.
fn programs() -> PathBuf {
    let asked = Command::new("pg_config").arg("--bindir").output().ok();
    let asked = asked.map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    let mut packaged: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    packaged.sort_unstable_by(|one, other| other.cmp(one));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let candidates = asked.into_iter().chain(packaged.into_iter().map(|(_, folder)| folder)).chain(on_path);
    candidates
        .into_iter()
        .find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
        .unwrap_or_else(|| panic!("{MISSING}"))
}

/// `initdb` and `postgres` refuse to run as root; then they run as one of these users, whichever exists.
fn unprivileged() -> Option<(u32, u32)> {
    let id = |arguments: &[&str]| -> Option<u32> {
        let output = Command::new("id").args(arguments).output().ok().filter(|output| output.status.success())?;
        String::from_utf8_lossy(&output.stdout).trim().parse().ok()
    };
    if id(&["-u"]) != Some(0) {
        return None;
    }
    let users = ["postgres", "nobody"].into_iter().find_map(|user| Some((id(&["-u", user])?, id(&["-g", user])?)));
    Some(users.expect("root cannot run PostgreSQL, and there is neither a user `postgres` nor `nobody`"))
}

fn give(path: &Path, user: Option<(u32, u32)>, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    if let Some((user, group)) = user {
        std::os::unix::fs::chown(path, Some(user), Some(group)).unwrap();
    }
}

fn command(program: PathBuf, user: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C").env("LANG", "C").env_remove("PGDATA").stdin(Stdio::null());
    if let Some((user, group)) = user {
        command.uid(user).gid(group);
    }
    command
}

impl Cluster {
    /// Starts a server: superuser `root_user` without a password; `scram_user` needs one; `tls_only`, `plain_only` and `stranger` are let in as named, `certified` with a certificate;
    /// TLS with a certificate for `localhost` signed by [`Cluster::ca_file`].
    pub(crate) fn start() -> Cluster {
        let (programs, user) = (programs(), unprivileged());
        // Kept by the watchdog's `rm`, so that it also goes when this process is killed. Short, because a socket's path
        // may have about 100 bytes.
        let folder = tempfile::Builder::new().prefix("groupcast-pg-").tempdir().unwrap().keep();
        give(&folder, user, 0o755);
        let data = folder.join("data");
        let made = command(programs.join("initdb"), user)
            .args(["--no-sync", "--encoding=UTF8", "--locale=C", "--auth=trust", "--username=root_user", "-D"])
            .arg(&data)
            .current_dir(&folder)
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr));
        let rules = "local all all trust\n\
            host all scram_user 127.0.0.1/32 scram-sha-256\n\
            hostssl all certified 127.0.0.1/32 trust clientcert=verify-full\n\
            host all certified 127.0.0.1/32 reject\n\
            hostssl all tls_only 127.0.0.1/32 trust\n\
            host all tls_only 127.0.0.1/32 reject\n\
            hostnossl all plain_only 127.0.0.1/32 trust\n\
            host all plain_only 127.0.0.1/32 reject\n\
            host all stranger 127.0.0.1/32 reject\n\
            host all all 127.0.0.1/32 trust\n";
        std::fs::write(data.join("pg_hba.conf"), rules).unwrap();
        make_certificates(&folder, user);
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "watchdog"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let server = launch(&folder, port, &log);
        let (server, watchdog) = (Mutex::new(server), Mutex::new(watchdog));
        Cluster { folder, port, server, watchdog, log, databases: AtomicU32::new(0) }
    }

    /// Has a program run as the server does, with a folder of its own: as another user than root.
    pub(crate) fn as_server(&self, folder: &Path, command: &mut Command) {
        let user = unprivileged();
        give(folder, user, 0o755);
        if let Some((user, group)) = user {
            command.uid(user).gid(group);
        }
    }

    /// The port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The folder with the Unix socket.
    pub(crate) fn socket_folder(&self) -> &Path {
        &self.folder
    }

    /// The authority that signed the server's certificate.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// A certificate for the user `certified`, who needs one, and its key.
    pub(crate) fn client_certificate(&self) -> (PathBuf, PathBuf) {
        (self.folder.join("client.crt"), self.folder.join("client.key"))
    }

    /// An authority that signed nothing.
    pub(crate) fn other_ca_file(&self) -> PathBuf {
        self.folder.join("other-ca.crt")
    }

    /// What the server wrote to its log.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Stops the server at once, as a crash does, and waits until it is gone.
    pub(crate) fn stop(&self) {
        drop(self.watchdog.lock().unwrap().stdin.take());
        let _ = self.server.lock().unwrap().wait();
        let _ = self.watchdog.lock().unwrap().wait();
    }

    /// Has the server crash and start again.
    pub(crate) fn restart(&self) {
        self.restart_by("-QUIT");
    }

    /// Has the server end its sessions, stop and start again, as an administrator does.
    pub(crate) fn restart_in_order(&self) {
        self.restart_by("-INT");
    }

    fn restart_by(&self, signal: &str) {
        let mut server = self.server.lock().unwrap();
        let stopped = Command::new("kill").args([signal, &server.id().to_string()]).status().unwrap();
        assert!(stopped.success());
        server.wait().unwrap();
        *server = launch(&self.folder, self.port, &self.log);
    }

    /// A fresh, empty database.
    pub(crate) async fn create_database(&'static self) -> Database {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let client = self.client("postgres").await;
        client.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        Database { cluster: self, client: self.client(&name).await, name }
    }

    /// A superuser's session, through the Unix socket.
    pub(crate) async fn client(&self, database: &str) -> tokio_postgres::Client {
        let (client, connection) = tokio_postgres::Config::new()
            .host_path(&self.folder)
            .port(self.port)
            .user("root_user")
            .dbname(database)
            .connect(tokio_postgres::NoTls)
            .await
            .unwrap_or_else(|error| panic!("{error:?}\n{}", self.log()));
        tokio::spawn(connection);
        client
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts the server of a folder, and waits until it is ready.
fn launch(folder: &Path, port: u16, log: &Arc<Mutex<String>>) -> Child {
    let (programs, user, data) = (programs(), unprivileged(), folder.join("data"));
    let setting = |name: &str, value: &str| [OsString::from("-c"), format!("{name}={value}").into()];
    let mut server = command(programs.join("postgres"), user)
        .arg("-D")
        .arg(&data)
        .args(setting("listen_addresses", "127.0.0.1"))
        .args(setting("port", &port.to_string()))
        .args(setting("unix_socket_directories", &folder.display().to_string()))
        .args(setting("fsync", "off"))
        .args(setting("full_page_writes", "off"))
        .args(setting("synchronous_commit", "off"))
        .args(setting("max_connections", "60"))
        .args(setting("ssl", "on"))
        .args(setting("ssl_cert_file", &folder.join("server.crt").display().to_string()))
        .args(setting("ssl_ca_file", &folder.join("ca.crt").display().to_string()))
        .args(setting("ssl_key_file", &folder.join("server.key").display().to_string()))
        // Tests prove that a session's settings do not matter.
        .args(setting("timezone", "America/New_York"))
        .args(setting("datestyle", "German"))
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let (ready, is_ready) = mpsc::channel();
    let (lines, kept) = (BufReader::new(server.stderr.take().unwrap()).lines(), Arc::clone(log));
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if line.contains("database system is ready to accept connections") {
                let _ = ready.send(());
            }
            let mut kept = kept.lock().unwrap();
            kept.push_str(&line);
            kept.push('\n');
        }
    });
    if is_ready.recv_timeout(Duration::from_secs(60)).is_err() {
        let _ = server.kill();
        panic!("PostgreSQL did not start: {}", log.lock().unwrap());
    }
    server
}

/// Waits for the end of its input, stops the server of its folder ($1) at once and removes the folder. Its only limit is for a
/// system whose first process leaves dead processes lying about.
const WATCHDOG: &str = r#"
trap '' INT TERM HUP
cat >/dev/null
server=$(head -n 1 "$1/data/postmaster.pid")
kill -QUIT "$server" 2>/dev/null
tries=0
while [ -e "$1/data/postmaster.pid" ] && kill -0 "$server" 2>/dev/null && [ "$tries" -lt 100 ]; do
    sleep 0.05
    tries=$((tries + 1))
done
kill -KILL "$server" 2>/dev/null
rm -rf "$1"
"#;

/// An authority, a certificate for `localhost` that it signed, and another authority.
fn make_certificates(folder: &Path, user: Option<(u32, u32)>) {
    let authority = |name: &str| {
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        (certificate.pem(), rcgen::Issuer::new(parameters, key))
    };
    let (ca, issuer) = authority("Groupcast tests");
    let (other, _) = authority("Nobody in particular");
    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = parameters.signed_by(&key, &issuer).unwrap().pem();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "certified");
    let client_key = rcgen::KeyPair::generate().unwrap();
    let client = parameters.signed_by(&client_key, &issuer).unwrap().pem();
    for (name, text, mode) in [
        ("ca.crt", ca, 0o644),
        ("other-ca.crt", other, 0o644),
        ("server.crt", certificate, 0o644),
        ("server.key", key.serialize_pem(), 0o600),
        ("client.crt", client, 0o644),
        ("client.key", client_key.serialize_pem(), 0o600),
    ] {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        give(&path, user, mode);
    }
}

/// One test's database.
pub(crate) struct Database {
    cluster: &'static Cluster,
    client: tokio_postgres::Client,
    name: String,
}

impl Database {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A superuser's session in it.
    pub(crate) fn client(&self) -> &tokio_postgres::Client {
        &self.client
    }

    /// Runs statements as superuser.
    pub(crate) async fn execute(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{error:?}\n{sql}"));
    }

    /// PostgresSettings of a source that reads it as this user, over TCP; `more` overrides.
    pub(crate) fn settings_as(&self, user: &str, more: Value) -> PostgresSettings {
        let url = format!("postgres://{user}@127.0.0.1:{}/{}", self.cluster.port, self.name);
        let mut settings = json!({ "url": url });
        for (name, value) in more.as_object().expect("settings are an object") {
            settings[name] = value.clone();
        }
        serde_json::from_value(settings).unwrap()
    }

    /// PostgresSettings of a source that reads it as superuser.
    pub(crate) fn settings(&self, more: Value) -> PostgresSettings {
        self.settings_as("root_user", more)
    }

    /// A source that reads it as superuser.
    pub(crate) async fn source(&self, more: Value) -> Postgres {
        Postgres::connect(&self.settings(more), "warehouse").await.unwrap()
    }
}
