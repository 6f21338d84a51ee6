//! What does the service manager hear from us? systemd's notifications: ready, reloading, stopping, a status text, and
//! keep-alives for its watchdog. Where nobody listens (no `NOTIFY_SOCKET`), nothing happens.
//!
//! The datagrams are sent here rather than by the `sd-notify` crate, which reads the environment at every call (it can only
//! be tested by changing it, which is unsafe) and does not know abstract sockets (`@…`), which containers use. The crate
//! writes the messages and reads the monotonic clock.
//!
//! # As process 1 of a container
//!
//! We start no child processes, so no orphan becomes ours to reap, and no init (`tini`, `--init`) is needed. One thing is
//! different: the kernel gives process 1 no default actions for signals. SIGTERM and SIGINT reach it only if a handler is
//! installed; without one, `docker stop` waits ten seconds and kills. So the daemon must listen to SIGTERM, SIGINT and
//! SIGHUP explicitly, before it does anything that takes time, and reset none of them.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::io::Clock;
use crate::service::views::words::one_line;

/// Longest we wait for a service manager that does not read.
const WRITE_MAX: Duration = Duration::from_secs(1);
/// Longest status text, in bytes: one line of `systemctl status`.
const STATUS_BYTES_MAX: usize = 512;

/// Tells the service manager.
#[derive(Debug, Clone, Default)]
pub struct Notifier {
    socket: Option<OsString>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// What the environment says: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`. The variables stay as they are: we start
    /// no child that could inherit them.
    pub fn from_env() -> Notifier {
        let socket = std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty());
        Notifier::new(socket, sd_notify::watchdog_enabled())
    }

    /// Tells a socket (a path, or `@name` for an abstract one); `watchdog` is how long it tolerates silence.
    pub fn new(socket: Option<OsString>, watchdog: Option<Duration>) -> Notifier {
        Notifier { socket, watchdog: watchdog.filter(|watchdog| !watchdog.is_zero()) }
    }

    /// Whether anybody listens.
    pub fn is_heard(&self) -> bool {
        self.socket.is_some()
    }

    /// The daemon is up: at start, and again after [`Notifier::reloading`].
    pub fn ready(&self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(&shown(status))]);
    }

    /// The config is being read again. [`Notifier::ready`] must follow, also when it could not be taken over.
    pub fn reloading(&self) {
        // systemd matches the time with that of its own request (`Type=notify-reload`), and needs it in the same message.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!("failed to read the monotonic clock for a reload: {error}"),
        }
    }

    /// The daemon is stopping and will take at most `within`: systemd waits so much longer than its own limit.
    pub fn stopping(&self, status: &str, within: Duration) {
        let usec = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
        let status = shown(status);
        self.tell(&[NotifyState::Stopping, NotifyState::Status(&status), NotifyState::ExtendTimeoutUsec(usec)]);
    }

    /// What it is doing, for `systemctl status`.
    pub fn status(&self, status: &str) {
        self.tell(&[NotifyState::Status(&shown(status))]);
    }

    /// Sends keep-alives at half of the watchdog's time, for ever, as long as `alive` says so: it must ask whoever does the
    /// work, since a keep-alive from a task that merely still runs proves nothing. Without a watchdog it never wakes.
    pub async fn keep_alive(&self, clock: &dyn Clock, alive: impl Fn() -> bool + Send + Sync) {
        let Some(watchdog) = self.watchdog.filter(|_| self.is_heard()) else {
            return std::future::pending().await;
        };
        loop {
            if alive() {
                self.tell(&[NotifyState::Watchdog]);
            }
            clock.sleep(watchdog / 2).await;
        }
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        let Some(socket) = &self.socket else { return };
        let message: String = states.iter().map(|state| format!("{state}\n")).collect();
        if let Err(error) = send(socket, message.as_bytes()) {
            tracing::warn!("failed to notify the service manager: {error}; check NotifyAccess= of the unit");
        }
    }
}

/// One line, for the message's lines are assignments and a text must not become one; and not too long.
fn shown(status: &str) -> String {
    let mut status = one_line(status).into_owned();
    let end = (0..=STATUS_BYTES_MAX.min(status.len())).rev().find(|at| status.is_char_boundary(*at)).unwrap_or(0);
    status.truncate(end);
    status
}

fn send(socket: &OsStr, message: &[u8]) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(socket)?,
        _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "NOTIFY_SOCKET is neither a path nor abstract")),
    };
    let from = UnixDatagram::unbound()?;
    from.set_write_timeout(Some(WRITE_MAX))?;
    from.send_to_addr(message, &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::SystemClock;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn heard(listener: &UnixDatagram) -> String {
        let mut buffer = [0; 4_096];
        listener.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let length = listener.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    fn silent(listener: &UnixDatagram) -> bool {
        listener.set_nonblocking(true).unwrap();
        let silent = listener.recv(&mut [0; 16]).is_err();
        listener.set_nonblocking(false).unwrap();
        silent
    }

    /// A listener at a path, one at an abstract name, and the sockets as the variable names them.
    fn listeners(folder: &std::path::Path) -> [(UnixDatagram, OsString); 2] {
        let path = folder.join("notify");
        let name = format!("groupcast-test-{}-{}", std::process::id(), folder.display());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        [
            (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
            (UnixDatagram::bind_addr(&address).unwrap(), format!("@{name}").into()),
        ]
    }

    #[test]
    fn the_manager_hears_every_state() {
        let folder = tempfile::tempdir().unwrap();
        for (listener, socket) in listeners(folder.path()) {
            let notifier = Notifier::new(Some(socket), None);
            assert!(notifier.is_heard());
            notifier.ready("3 syncs");
            assert_eq!(heard(&listener), "READY=1\nSTATUS=3 syncs\n");
            notifier.status("evil\nREADY=0 \u{1b}[2J");
            assert_eq!(heard(&listener), "STATUS=evil\\nREADY=0 \\u{1b}[2J\n");
            notifier.status(&"ä".repeat(400));
            assert_eq!(heard(&listener), format!("STATUS={}\n", "ä".repeat(256)));
            notifier.reloading();
            let reloading = heard(&listener);
            let usec = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().trim_end();
            assert!(usec.parse::<u64>().unwrap() > 0, "{reloading}");
            notifier.stopping("2 runs finish", Duration::from_secs(30));
            assert_eq!(heard(&listener), "STOPPING=1\nSTATUS=2 runs finish\nEXTEND_TIMEOUT_USEC=30000000\n");
            assert!(silent(&listener));
        }
    }

    #[test]
    fn without_a_socket_or_a_listener_nothing_happens() {
        let notifier = Notifier::new(None, None);
        assert!(!notifier.is_heard());
        notifier.ready("up");
        notifier.reloading();
        for nowhere in ["/nowhere/at/all", "@groupcast-nobody-listens", "vsock:2:1234", ""] {
            Notifier::new(Some(nowhere.into()), None).ready("up");
            assert!(send(nowhere.as_ref(), b"READY=1\n").is_err(), "{nowhere}");
        }
    }

    #[tokio::test]
    async fn the_watchdog_is_fed_while_the_work_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let [(listener, socket), _] = listeners(folder.path());
        let notifier = Notifier::new(Some(socket), Some(Duration::from_millis(20)));
        let asked = AtomicUsize::new(0);
        // Alive twice, then stuck.
        let alive = || asked.fetch_add(1, Ordering::SeqCst) < 2;
        let clock = SystemClock::start();
        let until_stuck = async {
            while asked.load(Ordering::SeqCst) < 4 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = notifier.keep_alive(&clock, alive) => unreachable!("keeps on for ever"),
            () = until_stuck => {}
        }
        assert!(clock.elapsed() >= Duration::from_millis(30), "at half of the time");
        assert_eq!([heard(&listener), heard(&listener)], ["WATCHDOG=1\n", "WATCHDOG=1\n"]);
        assert!(silent(&listener), "a stuck daemon is not kept alive");
    }

    #[tokio::test]
    async fn without_a_watchdog_nobody_wakes() {
        let clock = SystemClock::start();
        for notifier in [Notifier::new(None, Some(Duration::from_micros(2))), Notifier::new(Some("/x".into()), None)] {
            let fed = tokio::time::timeout(Duration::from_millis(20), notifier.keep_alive(&clock, || unreachable!()));
            fed.await.unwrap_err();
        }
    }
}
