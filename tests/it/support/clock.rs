//! A clock whose sleepers wake in the right order without anybody waiting.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use groupcast::io::Clock;
use parking_lot::{Mutex, MutexGuard};

/// Turns that the earliest sleeper leaves to everything else before it takes the clock forward. Tasks that can go on without
/// time passing need a few turns; in-memory ones one or two, those with sockets do not care.
const TURNS: u32 = 40;

/// Simulated time. Use it on a current-thread runtime.
#[derive(Default)]
pub(crate) struct SimulatedClock(Mutex<State>);

#[derive(Default)]
struct State {
    now: Duration,
    next_id: u64,
    /// When each sleeper wakes.
    sleepers: BTreeMap<u64, Duration>,
}

impl SimulatedClock {
    fn locked(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

/// Takes a sleeper off the list, also when its sleep is cancelled.
struct Asleep<'a>(&'a SimulatedClock, u64);

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        self.0.locked().sleepers.remove(&self.1);
    }
}

#[async_trait]
impl Clock for SimulatedClock {
    fn now(&self) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + self.locked().now
    }

    fn elapsed(&self) -> Duration {
        self.locked().now
    }

    async fn sleep(&self, duration: Duration) {
        let (asleep, wakes_at) = {
            let mut state = self.locked();
            let id = state.next_id;
            state.next_id += 1;
            let wakes_at = state.now + duration;
            state.sleepers.insert(id, wakes_at);
            (Asleep(self, id), wakes_at)
        };
        let mut turns = 0;
        loop {
            {
                let mut state = self.locked();
                let earliest = state.sleepers.iter().min_by_key(|(id, at)| (**at, **id)).map(|(id, _)| *id);
                if earliest == Some(asleep.1) {
                    turns += 1;
                    if turns > TURNS {
                        state.now = state.now.max(wakes_at);
                    }
                } else {
                    turns = 0;
                }
                if state.now >= wakes_at {
                    return;
                }
            }
            tokio::task::yield_now().await;
        }
    }
}
