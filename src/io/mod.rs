//! The only door to the outside: the clock, random numbers and HTTP. Everything else takes them as arguments, so that
//! tests and simulations can hold time still, replay a seed and script a destination.
//!
//! `clippy.toml` bans `Utc::now`, `Instant::now` and `tokio::time::sleep` everywhere but here.

pub mod files;
pub mod process;

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use crate::destination::{NoReply, Reply, Request};

/// Reads the wall clock and sleeps.
#[async_trait]
pub trait Clock: Send + Sync {
    /// The wall time.
    fn now(&self) -> DateTime<Utc>;
    /// Time since an arbitrary fixed point; never goes backwards.
    fn elapsed(&self) -> Duration;
    /// Resolves once `duration` has passed on this clock.
    async fn sleep(&self, duration: Duration);
}

/// The machine's clock.
pub struct SystemClock {
    started: std::time::Instant,
}

impl SystemClock {
    /// A clock that starts now.
    #[expect(clippy::disallowed_methods, reason = "`io` is the one place that reads the clock")]
    pub fn start() -> SystemClock {
        SystemClock { started: std::time::Instant::now() }
    }
}

#[async_trait]
impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "`io` is the one place that reads the clock")]
    fn now(&self) -> DateTime<Utc> {
        wall(std::time::SystemTime::now())
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "`io` is the one place that sleeps")]
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// The wall time of a system time. Before 1970, where chrono would panic, it stands still.
fn wall(time: std::time::SystemTime) -> DateTime<Utc> {
    if time < std::time::UNIX_EPOCH { DateTime::UNIX_EPOCH } else { time.into() }
}

/// Draws random numbers: jitter and run ids, nothing secret.
pub struct Random(Mutex<fastrand::Rng>);

impl Random {
    /// Seeded from the operating system.
    #[expect(clippy::disallowed_methods, reason = "`io` is the one place that draws random numbers")]
    pub fn from_entropy() -> Random {
        Random(Mutex::new(fastrand::Rng::new()))
    }

    /// The same numbers for the same seed.
    pub fn seeded(seed: u64) -> Random {
        Random(Mutex::new(fastrand::Rng::with_seed(seed)))
    }

    /// A number from 0 to `bound`, both included.
    pub fn up_to(&self, bound: u64) -> u64 {
        self.0.lock().u64(0..=bound)
    }
}

/// Bytes nobody can guess, for keys: from the system's generator, never from [`Random`]. Asked by a system call, for a
/// confined process may have no /dev.
pub fn secret_bytes<const COUNT: usize>() -> std::io::Result<[u8; COUNT]> {
    let mut bytes = [0; COUNT];
    let generator = rustls::crypto::ring::default_provider().secure_random;
    let filled = generator.fill(&mut bytes);
    filled.map_err(|_| std::io::Error::other("the system gives no random numbers")).map(|()| bytes)
}

/// Sends one HTTP request and returns whatever came back. A non-2xx answer is a reply, not an error. Redirects are
/// replies too: they are never followed, because that would hand credentials to another host.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends `request`; gives up after `deadline`.
    ///
    /// `Err` with [`Applied::No`](crate::destination::Applied::No) only when the request certainly did not reach the destination.
    async fn send(&self, request: &Request, deadline: Duration) -> Result<Reply, NoReply>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_before_1970_stands_still() {
        let epoch = std::time::UNIX_EPOCH;
        assert_eq!(wall(epoch - Duration::from_secs(86_400 * 365)), DateTime::UNIX_EPOCH);
        assert_eq!(wall(epoch + Duration::from_millis(1_500)).timestamp_millis(), 1_500);
    }
}
