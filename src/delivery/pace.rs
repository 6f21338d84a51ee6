//! The pace of attempts: a token bucket and a backoff of our own, pure: time is passed in, nothing sleeps here. Ours, since
//! no crate has a clock that can be simulated, a burst per lane and a pause that voids tokens already taken.

use std::time::Duration;

use crate::destination::Pace;

/// Shortest upper end of a backoff; it doubles with every attempt.
const BACKOFF_BASE_MS: u64 = 500;
/// Longest a backoff gets.
const BACKOFF_MAX_MS: u64 = 60_000;
/// Longest a destination can make us wait with `Retry-After`. A run that would wait an hour is better ended: the
/// next one sends what is pending.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);

/// Spaces attempts evenly, in whole nanoseconds: with `n` per second, no second holds more than `n` and one.
///
/// It keeps the earliest time of the next attempt, and hands out times by moving it (the "generic cell rate algorithm"
/// with no burst, unless the vendor documents one: bursts are what vendors throttle).
#[derive(Debug, Clone)]
pub struct Bucket {
    interval_ns: u64,
    /// How far ahead of its even spacing an attempt may start.
    ahead_ns: u64,
    next_ns: u64,
    held_until_ns: u64,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Bucket {
    /// At most `per_second` attempts a second; no limit when absent, zero, negative or not a number.
    pub fn new(per_second: Option<f64>) -> Bucket {
        let interval = per_second.filter(|rate| *rate > 0.0).map_or(0.0, |rate| 1e9 / rate);
        // A float beyond the integer's range saturates, so a rate of almost nothing waits almost for ever.
        Bucket { interval_ns: interval.ceil() as u64, ahead_ns: 0, next_ns: 0, held_until_ns: 0 }
    }

    /// What a vendor allows: after a rest `burst` attempts at once, then `per_second`. No span of `t` seconds holds more
    /// than `burst + t × per_second` and one.
    pub fn paced(pace: Pace) -> Bucket {
        let even = Bucket::new(Some(pace.per_second));
        let ahead_ns = even.interval_ns.saturating_mul(u64::from(pace.burst.saturating_sub(1)));
        Bucket { ahead_ns, ..even }
    }

    /// Takes a token; the attempt may start after the returned wait.
    pub fn take(&mut self, now: Duration) -> Duration {
        let now = nanos(now);
        let at = self.next_ns.saturating_sub(self.ahead_ns).max(now).max(self.held_until_ns);
        self.next_ns = self.next_ns.max(at).saturating_add(self.interval_ns);
        Duration::from_nanos(at - now)
    }

    /// No attempt starts before `until`: the destination asked everyone to wait. Tokens taken before and not yet used are
    /// void (see [`Bucket::is_held`]).
    pub fn hold_until(&mut self, until: Duration) {
        self.held_until_ns = self.held_until_ns.max(nanos(until));
    }

    /// Whether a token that was due by `now` must be taken again, because the destination asked for a pause meanwhile.
    pub fn is_held(&self, now: Duration) -> bool {
        nanos(now) < self.held_until_ns
    }
}

/// The longest wait before attempt number `attempt` + 1 (the first attempt is 1), in milliseconds: 500, 1,000, … 60,000.
/// The wait itself is drawn evenly from zero to this ("full jitter"): many batches that failed together do not return together.
pub fn backoff_max_ms(attempt: u32) -> u64 {
    // 2^7 × 500 is already beyond the cap, so a larger exponent changes nothing.
    (BACKOFF_BASE_MS << attempt.saturating_sub(1).min(7)).min(BACKOFF_MAX_MS)
}

/// How long to wait before the next attempt: what the vendor asks for, up to ten minutes, plus at most half a second so
/// that waiting batches spread; otherwise our own backoff. `draw` gives a number from zero to its argument.
pub fn wait(attempt: u32, after: Option<Duration>, draw: impl FnOnce(u64) -> u64) -> Duration {
    match after {
        Some(after) => after.min(RETRY_AFTER_MAX) + Duration::from_millis(draw(BACKOFF_BASE_MS)),
        None => Duration::from_millis(draw(backoff_max_ms(attempt))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn backoff_doubles_to_a_minute() {
        let waits: Vec<u64> = (1..=10).map(backoff_max_ms).collect();
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]);
        assert_eq!(backoff_max_ms(u32::MAX), 60_000);
        assert_eq!(wait(3, None, |max| max), Duration::from_secs(2));
        assert_eq!(wait(3, None, |_| 0), Duration::ZERO);
    }

    #[test]
    fn retry_after_wins_up_to_ten_minutes() {
        let seconds = Duration::from_secs;
        assert_eq!(wait(8, Some(seconds(15)), |_| 0), seconds(15), "shorter than our own");
        assert_eq!(wait(1, Some(seconds(86_400)), |_| 0), seconds(600));
        assert_eq!(wait(1, Some(seconds(15)), |max| max), Duration::from_millis(15_500));
    }

    #[test]
    fn tokens_are_evenly_spaced() {
        let mut bucket = Bucket::new(Some(4.0));
        let waits: Vec<u128> = (0..4).map(|_| bucket.take(Duration::from_secs(10)).as_millis()).collect();
        assert_eq!(waits, [0, 250, 500, 750]);
        assert_eq!(bucket.take(Duration::from_secs(60)), Duration::ZERO, "unused time is not saved up …");
        assert_eq!(bucket.take(Duration::from_secs(60)), Duration::from_millis(250), "… into a burst");
    }

    #[test]
    fn without_a_rate_only_a_pause_makes_wait() {
        for rate in [None, Some(0.0), Some(-1.0), Some(f64::NAN), Some(f64::INFINITY)] {
            let mut bucket = Bucket::new(rate);
            assert_eq!(bucket.take(Duration::ZERO), Duration::ZERO);
            assert_eq!(bucket.take(Duration::ZERO), Duration::ZERO);
            bucket.hold_until(Duration::from_secs(15));
            assert!(bucket.is_held(Duration::from_secs(14)) && !bucket.is_held(Duration::from_secs(15)));
            assert_eq!(bucket.take(Duration::from_secs(5)), Duration::from_secs(10));
        }
        assert!(Bucket::new(Some(1e-300)).take(Duration::ZERO).is_zero(), "no overflow");
    }

    #[test]
    fn a_pace_allows_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::paced(Pace { lane: 1, per_second: 2.0, burst: 3 });
        let mut take = |seconds| bucket.take(Duration::from_secs(seconds)).as_millis();
        assert_eq!([take(10), take(10), take(10), take(10), take(10)], [0, 0, 0, 500, 1_000]);
        assert_eq!([take(60), take(60), take(60), take(60)], [0, 0, 0, 500], "a rest earns no more than the burst");
    }

    proptest! {
        #[test]
        fn no_second_holds_more_than_the_rate_and_one(
            rate in 0.1_f64..500.0,
            arrivals in prop::collection::vec(0_u64..400_000_000, 1..200),
            pause in prop::option::of((0_usize..200, 0_u64..5_000_000_000)),
        ) {
            let mut bucket = Bucket::new(Some(rate));
            let mut now = Duration::ZERO;
            let mut starts = Vec::new();
            for (at, gap_ns) in arrivals.iter().enumerate() {
                now += Duration::from_nanos(*gap_ns);
                let mut held = Duration::ZERO;
                if let Some((when, length)) = pause && when == at {
                    held = now + Duration::from_nanos(length);
                    bucket.hold_until(held);
                }
                let start = now + bucket.take(now);
                prop_assert!(start >= held);
                starts.push(start);
            }
            prop_assert!(starts.is_sorted());
            for (at, start) in starts.iter().enumerate() {
                let within = starts[at..].iter().take_while(|other| **other < *start + Duration::from_secs(1)).count();
                prop_assert!(within as f64 <= rate.ceil() + 1.0, "{within} attempts in a second at {rate}");
            }
        }
    }
}
