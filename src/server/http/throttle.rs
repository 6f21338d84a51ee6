//! The throttle of failed logins: after ten wrong tokens within a minute, an address gets 429.
//!
//! It applies to wrong tokens only, because all callers behind a reverse proxy share the proxy's address: one client with
//! an old token must not lock out the others. What keeps the token from being guessed is its length (`address::check_token`);
//! the throttle makes a misconfigured client slow down and keeps the log readable.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use parking_lot::Mutex;

/// Wrong tokens within [`WINDOW`] before an address gets 429. People mistype a few times.
const FAILURES_MAX: usize = 10;

/// How long a wrong token counts.
const WINDOW: Duration = Duration::from_secs(60);

/// Addresses with failures at a time. 256 × 10 times of 16 bytes are 40 KiB; beyond that, the address whose last failure is
/// the oldest is forgotten.
const ADDRESSES_MAX: usize = 256;

/// The failed logins of the last minute, by address.
#[derive(Debug, Default)]
pub(super) struct LoginThrottle(Mutex<BTreeMap<IpAddr, VecDeque<Duration>>>);

/// How a failed login is handled.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FailedLogin {
    /// The token is wrong.
    Wrong,
    /// The token is wrong, and this is the last one before the address gets 429.
    Last,
    /// Too many tokens were wrong: for how long none counts any more.
    Wait(Duration),
}

impl LoginThrottle {
    /// Records a wrong token. `now` as [`Clock::elapsed`](crate::io::Clock).
    pub(super) fn fail(&self, peer: IpAddr, now: Duration) -> FailedLogin {
        let mut failures = self.0.lock();
        failures.retain(|_, times| {
            while times.front().is_some_and(|time| *time + WINDOW <= now) {
                times.pop_front();
            }
            !times.is_empty()
        });
        let peer = network(peer);
        if failures.len() >= ADDRESSES_MAX
            && !failures.contains_key(&peer)
            && let Some(oldest) = failures.iter().min_by_key(|(_, times)| times.back()).map(|(peer, _)| *peer)
        {
            failures.remove(&oldest);
        }
        let times = failures.entry(peer).or_default();
        match times.front() {
            Some(first) if times.len() >= FAILURES_MAX => FailedLogin::Wait((*first + WINDOW).saturating_sub(now)),
            _ => {
                times.push_back(now);
                if times.len() == FAILURES_MAX { FailedLogin::Last } else { FailedLogin::Wrong }
            }
        }
    }
}

/// A network of IPv6 counts as one address: its owner has 2^64 of them.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn v4(number: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(number))
    }

    #[test]
    fn after_ten_wrong_tokens_an_address_waits_until_the_first_is_a_minute_old() {
        let throttle = LoginThrottle::default();
        for second in 0..9 {
            assert_eq!(throttle.fail(v4(1), at(second)), FailedLogin::Wrong);
        }
        assert_eq!(throttle.fail(v4(1), at(9)), FailedLogin::Last);
        assert_eq!(throttle.fail(v4(1), at(10)), FailedLogin::Wait(at(50)));
        assert_eq!(throttle.fail(v4(2), at(10)), FailedLogin::Wrong, "another address is not affected");
        assert_eq!(throttle.fail(v4(1), at(59)), FailedLogin::Wait(at(1)));
        assert_eq!(throttle.fail(v4(1), at(60)), FailedLogin::Last, "one more within the minute");
        assert_eq!(throttle.fail(v4(1), at(60)), FailedLogin::Wait(at(1)));
    }

    #[test]
    fn memory_is_bounded() {
        let throttle = LoginThrottle::default();
        for number in 0..10_000 {
            assert_eq!(throttle.fail(v4(number), at(1)), FailedLogin::Wrong);
        }
        assert_eq!(throttle.0.lock().len(), ADDRESSES_MAX);
        throttle.fail(v4(1), at(61));
        assert_eq!(throttle.0.lock().len(), 1);
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let throttle = LoginThrottle::default();
        for number in 0..10_u128 {
            throttle.fail(IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8 << 96) + number)), at(1));
            throttle.fail(v4(7), at(1));
        }
        for (peer, waits) in [("2001:db8::ffff", true), ("2001:db8:0:1::1", false), ("::ffff:0.0.0.7", true)] {
            let failed = throttle.fail(peer.parse().unwrap(), at(2));
            assert_eq!(matches!(failed, FailedLogin::Wait(_)), waits, "{peer}");
        }
    }
}
