//! How often may somebody show a wrong token? Ten times a minute per address; then nobody there is listened to, not even
//! with the right one, or guessing would go on at full speed. Sessions of browsers are not concerned.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use parking_lot::Mutex;

/// Wrong tokens within [`WINDOW`] before an address is not listened to. People mistype a few times.
const WRONG_MAX: usize = 10;

/// How long a wrong token is remembered.
const WINDOW: Duration = Duration::from_secs(60);

/// Addresses remembered. 256 × 10 moments of 16 bytes are 40 KiB; when it is full, every further address is treated as if
/// it had shown ten, so that many machines together do not get further either.
const ADDRESSES_MAX: usize = 256;

/// Remembers wrong tokens for a minute.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<BTreeMap<IpAddr, VecDeque<Duration>>>);

impl Throttle {
    /// How long nobody at this address is listened to; none if they are. `now` as [`Clock::elapsed`](crate::io::Clock).
    pub(super) fn closed_for(&self, peer: IpAddr, now: Duration) -> Option<Duration> {
        let mut wrong = self.0.lock();
        forget(&mut wrong, now);
        let until = match wrong.get(&network(peer)) {
            Some(times) if times.len() >= WRONG_MAX => times.front().copied(),
            None if wrong.len() >= ADDRESSES_MAX => wrong.values().filter_map(|times| times.back().copied()).min(),
            _ => None,
        }?;
        Some((until + WINDOW).saturating_sub(now))
    }

    /// Notes a wrong token. Whether the address has just been closed.
    pub(super) fn wrong(&self, peer: IpAddr, now: Duration) -> bool {
        let mut wrong = self.0.lock();
        forget(&mut wrong, now);
        let peer = network(peer);
        if wrong.len() >= ADDRESSES_MAX && !wrong.contains_key(&peer) {
            return false;
        }
        let times = wrong.entry(peer).or_default();
        if times.len() >= WRONG_MAX {
            return false;
        }
        times.push_back(now);
        times.len() == WRONG_MAX
    }
}

fn forget(wrong: &mut BTreeMap<IpAddr, VecDeque<Duration>>, now: Duration) {
    wrong.retain(|_, times| {
        while times.front().is_some_and(|time| *time + WINDOW <= now) {
            times.pop_front();
        }
        !times.is_empty()
    });
}

/// Whoever has one IPv6 address has its 2^64 neighbours as well.
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
    fn the_tenth_wrong_token_closes_an_address_until_the_first_is_a_minute_old() {
        let throttle = Throttle::default();
        for second in 0..9 {
            assert!(!throttle.wrong(v4(1), at(second)));
            assert_eq!(throttle.closed_for(v4(1), at(second)), None);
        }
        assert!(throttle.wrong(v4(1), at(9)), "this one closes it");
        assert!(!throttle.wrong(v4(1), at(10)), "no more are kept");
        assert_eq!(throttle.closed_for(v4(1), at(10)), Some(at(50)));
        assert_eq!(throttle.closed_for(v4(2), at(10)), None, "others are not concerned");
        assert_eq!(throttle.closed_for(v4(1), at(59)), Some(at(1)));
        assert_eq!(throttle.closed_for(v4(1), at(60)), None);
        assert!(throttle.wrong(v4(1), at(60)), "one more within the minute closes it again");
    }

    #[test]
    fn memory_is_bounded_and_a_full_one_closes_everybody_else_out() {
        let throttle = Throttle::default();
        for number in 0..10_000 {
            throttle.wrong(v4(number), at(1));
        }
        assert_eq!(throttle.0.lock().len(), ADDRESSES_MAX);
        assert_eq!(throttle.closed_for(v4(5_000), at(2)), Some(at(59)));
        assert_eq!(throttle.closed_for(v4(0), at(2)), None, "known ones have tries left");
        assert_eq!(throttle.closed_for(v4(5_000), at(61)), None);
        assert!(throttle.0.lock().is_empty());
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let throttle = Throttle::default();
        for number in 0..10_u128 {
            throttle.wrong(IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8 << 96) + number)), at(1));
        }
        assert!(throttle.closed_for("2001:db8::ffff".parse().unwrap(), at(2)).is_some());
        assert!(throttle.closed_for("2001:db8:0:1::1".parse().unwrap(), at(2)).is_none());
        for _ in 0..10 {
            throttle.wrong(v4(7), at(1));
        }
        assert!(throttle.closed_for("::ffff:0.0.0.7".parse().unwrap(), at(2)).is_some());
    }
}
