//! Notifications of the service manager (systemd): ready, reloading, stopping, a status text, and keep-alives for its
//! watchdog. Without a `NOTIFY_SOCKET` nothing is sent.
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
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::io::Clock;
use crate::service::views::words::one_line;

/// Longest wait for a service manager that does not read.
const WRITE_MAX: Duration = Duration::from_secs(1);
/// Longest status text, in bytes: one line of `systemctl status`.
const STATUS_BYTES_MAX: usize = 512;

/// The service manager, as far as it wants to be notified.
#[derive(Debug, Clone, Default)]
pub struct ServiceManager {
    socket: Option<OsString>,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// The one that the environment names: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`. The variables stay: no
    /// child is started that could inherit them.
    pub fn from_env() -> ServiceManager {
        let socket = std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty());
        ServiceManager::new(socket, sd_notify::watchdog_enabled())
    }

    /// The one at a socket (a path, or `@name` for an abstract one); `watchdog` is how long it tolerates silence.
    pub fn new(socket: Option<OsString>, watchdog: Option<Duration>) -> ServiceManager {
        ServiceManager { socket, watchdog: watchdog.filter(|watchdog| !watchdog.is_zero()) }
    }

    /// Whether it wants to be notified.
    pub fn is_present(&self) -> bool {
        self.socket.is_some()
    }

    /// The daemon is up: at start, and again after [`ServiceManager::reloading`].
    pub fn ready(&self, status: &str) {
        self.notify(&[NotifyState::Ready, NotifyState::Status(&shown(status))]);
    }

    /// The config is being read again. [`ServiceManager::ready`] must follow, also when that failed.
    pub fn reloading(&self) {
        // systemd matches the time with that of its own request (`Type=notify-reload`), and needs it in the same message.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.notify(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!("failed to read the monotonic clock for a reload: {error}"),
        }
    }

    /// The daemon is stopping and will take at most `within`: systemd waits so much longer than its own limit.
    pub fn stopping(&self, status: &str, within: Duration) {
        let usec = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
        let status = shown(status);
        self.notify(&[NotifyState::Stopping, NotifyState::Status(&status), NotifyState::ExtendTimeoutUsec(usec)]);
    }

    /// What it is doing, for `systemctl status`.
    pub fn status(&self, status: &str) {
        self.notify(&[NotifyState::Status(&shown(status))]);
    }

    /// Sends keep-alives at half of the watchdog's time, for ever, while `alive` is true: it must check the task that
    /// does the work, since a keep-alive from another one proves nothing. Without a watchdog it never wakes.
    pub async fn keep_alive(&self, clock: &dyn Clock, alive: impl Fn() -> bool + Send + Sync) {
        let Some(watchdog) = self.watchdog.filter(|_| self.is_present()) else {
            return std::future::pending().await;
        };
        loop {
            if alive() {
                self.notify(&[NotifyState::Watchdog]);
            }
            clock.sleep(watchdog / 2).await;
        }
    }

    fn notify(&self, states: &[NotifyState<'_>]) {
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

/// The address of this name outside the file system, which only Linux has.
fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    return <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name);
    #[cfg(not(target_os = "linux"))]
    Err(io::Error::new(io::ErrorKind::Unsupported, format!("no abstract names here: {}", name.escape_ascii())))
}

fn send(socket: &OsStr, message: &[u8]) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => abstract_address(name)?,
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

    fn received(listener: &UnixDatagram) -> String {
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
        let address = abstract_address(name.as_bytes()).unwrap();
        [
            (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
            (UnixDatagram::bind_addr(&address).unwrap(), format!("@{name}").into()),
        ]
    }

    #[test]
    fn every_state_is_notified() {
        let folder = tempfile::tempdir().unwrap();
        for (listener, socket) in listeners(folder.path()) {
            let manager = ServiceManager::new(Some(socket), None);
            assert!(manager.is_present());
            manager.ready("3 syncs");
            assert_eq!(received(&listener), "READY=1\nSTATUS=3 syncs\n");
            manager.status("evil\nREADY=0 \u{1b}[2J");
            assert_eq!(received(&listener), "STATUS=evil\\nREADY=0 \\u{1b}[2J\n");
            manager.status(&"ä".repeat(400));
            assert_eq!(received(&listener), format!("STATUS={}\n", "ä".repeat(256)));
            manager.reloading();
            let reloading = received(&listener);
            let usec = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().trim_end();
            assert!(usec.parse::<u64>().unwrap() > 0, "{reloading}");
            manager.stopping("2 runs finish", Duration::from_secs(30));
            assert_eq!(received(&listener), "STOPPING=1\nSTATUS=2 runs finish\nEXTEND_TIMEOUT_USEC=30000000\n");
            assert!(silent(&listener));
        }
    }

    #[test]
    fn without_a_socket_or_a_listener_nothing_happens() {
        let manager = ServiceManager::new(None, None);
        assert!(!manager.is_present());
        manager.ready("up");
        manager.reloading();
        for nowhere in ["/nowhere/at/all", "@groupcast-no-listener", "vsock:2:1234", ""] {
            ServiceManager::new(Some(nowhere.into()), None).ready("up");
            assert!(send(nowhere.as_ref(), b"READY=1\n").is_err(), "{nowhere}");
        }
    }

    #[tokio::test]
    async fn the_watchdog_is_fed_while_the_loop_works() {
        let folder = tempfile::tempdir().unwrap();
        let [(listener, socket), _] = listeners(folder.path());
        let manager = ServiceManager::new(Some(socket), Some(Duration::from_millis(20)));
        let checks = AtomicUsize::new(0);
        // Alive twice, then stuck.
        let alive = || checks.fetch_add(1, Ordering::SeqCst) < 2;
        let clock = SystemClock::start();
        let until_stuck = async {
            while checks.load(Ordering::SeqCst) < 4 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = manager.keep_alive(&clock, alive) => unreachable!("keeps on for ever"),
            () = until_stuck => {}
        }
        assert!(clock.elapsed() >= Duration::from_millis(30), "at half of the time");
        assert_eq!([received(&listener), received(&listener)], ["WATCHDOG=1\n", "WATCHDOG=1\n"]);
        assert!(silent(&listener), "a stuck daemon is not kept alive");
    }

    #[tokio::test]
    async fn without_a_watchdog_nothing_is_sent() {
        let clock = SystemClock::start();
        for manager in
            [ServiceManager::new(None, Some(Duration::from_micros(2))), ServiceManager::new(Some("/x".into()), None)]
        {
            let fed = tokio::time::timeout(Duration::from_millis(20), manager.keep_alive(&clock, || unreachable!()));
            fed.await.unwrap_err();
        }
    }
}
