//! PgBouncer before the shared PostgreSQL server. A missing one fails the tests; it never skips them.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use super::cli::until;
use super::postgres::{Database, shared};

/// PgBouncer before the shared server, on a port of its own, gone with its owner.
pub(crate) struct Pooler {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Pooler {
    /// `mode` is its pool mode, `more` further lines of its settings.
    pub(crate) fn start(mode: &str, more: &str) -> Pooler {
        let folder = tempfile::Builder::new().prefix("groupcast-pooler-").tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\npool_mode = {mode}\ndefault_pool_size = 1\nauth_type = any\n{more}\n",
            shared().port()
        );
        let file = folder.path().join("pgbouncer.ini");
        std::fs::write(&file, settings.replace("auth_type = any", "auth_type = trust\nauth_file = users.txt")).unwrap();
        std::fs::write(folder.path().join("users.txt"), "\"root_user\" \"\"\n").unwrap();
        let program = ["/usr/sbin/pgbouncer", "/usr/local/bin/pgbouncer", "/opt/homebrew/bin/pgbouncer"]
            .into_iter()
            .find(|path| std::path::Path::new(path).exists())
            .unwrap_or("pgbouncer");
        let mut command = Command::new(program);
        // It refuses to run as root.
        shared().as_server(folder.path(), &mut command);
        let process = command
            .arg("-q")
            .arg(&file)
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect(
                "these tests need pgbouncer (Debian: `apt-get install pgbouncer`; macOS: `brew install pgbouncer`)",
            );
        let pooler = Pooler { process, port, _folder: folder };
        until("the pooler listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        pooler
    }

    /// A database through it.
    pub(crate) fn url(&self, database: &Database) -> String {
        format!("postgres://root_user@127.0.0.1:{}/{}", self.port, database.name())
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
