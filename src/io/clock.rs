//! The clock: wall time, elapsed time and sleep, as an argument, so that a test or a simulation can hold time still.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

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

/// The wall time of a system time. Before 1970, where chrono would panic, it is 1970.
fn wall(time: std::time::SystemTime) -> DateTime<Utc> {
    if time < std::time::UNIX_EPOCH { DateTime::UNIX_EPOCH } else { time.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_before_1970_is_1970() {
        let epoch = std::time::UNIX_EPOCH;
        assert_eq!(wall(epoch - Duration::from_secs(86_400 * 365)), DateTime::UNIX_EPOCH);
        assert_eq!(wall(epoch + Duration::from_millis(1_500)).timestamp_millis(), 1_500);
    }
}
