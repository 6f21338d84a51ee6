//! Who makes room when all places for connections are taken? Whoever has kept one waiting for the longest: a connection that
//! idles, sends its request slowly or does not take its answer costs nothing but its place. Everybody gets a moment to send
//! a request, and one whose answer is being made is never cut off. So a health check is answered within a second however
//! many slow clients there are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};

use crate::io::Clock;

/// The places for connections.
pub(super) struct Seats {
    most: usize,
    /// How long a connection may keep its place waiting before it makes room.
    moment: Duration,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// A place was left, or its owner waits.
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    taken: BTreeMap<u64, Taken>,
    next: u64,
}

/// A place that is taken.
#[derive(Debug)]
struct Taken {
    /// Since when the connection waits for its client. None while an answer is being made.
    waits: Option<Duration>,
    leave: oneshot::Sender<()>,
}

/// A connection's place, free again when it is dropped.
pub(super) struct Seat(Handle);

/// Says of a place what its connection is doing.
#[derive(Clone)]
pub(super) struct Handle {
    seats: Arc<Seats>,
    id: u64,
}

impl State {
    /// Who has been waiting for its client for the longest, and since when.
    fn longest(&self) -> Option<(Duration, u64)> {
        self.taken.iter().filter_map(|(id, taken)| Some((taken.waits?, *id))).min()
    }
}

impl Seats {
    /// So many places, each of which may be kept waiting for a moment.
    pub(super) fn new(most: usize, moment: Duration, clock: Arc<dyn Clock>) -> Arc<Seats> {
        Arc::new(Seats { most: most.max(1), moment, clock, state: Mutex::default(), freed: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// How long the longest waiting connection still has; none when nobody waits.
    fn left(&self, state: &State) -> Option<Duration> {
        let (since, _) = state.longest()?;
        Some((since + self.moment).saturating_sub(self.clock.elapsed()))
    }

    /// Resolves once there is a place, or somebody who makes room.
    pub(super) async fn room(&self) {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            let left = {
                let state = self.state();
                if state.taken.len() < self.most {
                    return;
                }
                self.left(&state)
            };
            match left {
                Some(Duration::ZERO) => return,
                Some(left) => {
                    tokio::select! {
                        () = freed => {}
                        () = self.clock.sleep(left) => {}
                    }
                }
                None => freed.await,
            }
        }
    }

    /// Takes a place, and with it the word that it is to be left. Whoever waited longest makes room if it must be.
    pub(super) fn take(self: &Arc<Self>) -> (Seat, oneshot::Receiver<()>) {
        let now = self.clock.elapsed();
        let mut state = self.state();
        if state.taken.len() >= self.most
            && self.left(&state) == Some(Duration::ZERO)
            && let Some((_, longest)) = state.longest()
            && let Some(evicted) = state.taken.remove(&longest)
        {
            // One that ended meanwhile has left already.
            let _ = evicted.leave.send(());
        }
        state.next += 1;
        let id = state.next;
        let (leave, left) = oneshot::channel();
        state.taken.insert(id, Taken { waits: Some(now), leave });
        (Seat(Handle { seats: Arc::clone(self), id }), left)
    }
}

impl Seat {
    /// For those who know what the connection is doing.
    pub(super) fn handle(&self) -> Handle {
        self.0.clone()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.seats.state().taken.remove(&self.0.id);
        self.0.seats.freed.notify_one();
    }
}

impl Handle {
    /// An answer is being made.
    pub(super) fn works(&self) {
        if let Some(taken) = self.seats.state().taken.get_mut(&self.id) {
            taken.waits = None;
        }
    }

    /// The client's turn: to send a request or the rest of it, to take an answer, or to go.
    pub(super) fn waits(&self) {
        let now = self.seats.clock.elapsed();
        if let Some(taken) = self.seats.state().taken.get_mut(&self.id) {
            taken.waits = Some(now);
        }
        self.seats.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use async_trait::async_trait;
    use chrono::{DateTime, Utc};
    use futures_util::FutureExt;

    use super::*;

    /// Moves by a millisecond each time it is read.
    #[derive(Default)]
    struct Ticking(AtomicU64);

    #[async_trait]
    impl Clock for Ticking {
        fn now(&self) -> DateTime<Utc> {
            DateTime::UNIX_EPOCH
        }

        fn elapsed(&self) -> Duration {
            Duration::from_millis(self.0.fetch_add(1, Ordering::SeqCst))
        }

        async fn sleep(&self, duration: Duration) {
            self.0.fetch_add(duration.as_millis() as u64, Ordering::SeqCst);
        }
    }

    fn seats(most: usize, moment: Duration) -> Arc<Seats> {
        Seats::new(most, moment, Arc::<Ticking>::default())
    }

    fn is_sent_away(left: &mut oneshot::Receiver<()>) -> bool {
        left.try_recv().is_ok()
    }

    #[test]
    fn the_longest_waiting_makes_room_and_nobody_who_is_being_answered() {
        let seats = seats(3, Duration::ZERO);
        let (first, mut first_left) = seats.take();
        let (second, mut second_left) = seats.take();
        let (third, mut third_left) = seats.take();
        first.handle().works();
        assert!(seats.room().now_or_never().is_some());
        let (_fourth, mut fourth_left) = seats.take();
        assert!(is_sent_away(&mut second_left));
        assert!(!is_sent_away(&mut first_left) && !is_sent_away(&mut third_left));
        // One whose answer is made waits from then on, behind those who waited before.
        first.handle().waits();
        let (fifth, mut fifth_left) = seats.take();
        assert!(is_sent_away(&mut third_left) && !is_sent_away(&mut first_left));
        // When all are being answered there is no room, until one of them is done.
        first.handle().works();
        fifth.handle().works();
        let (sixth, _) = seats.take();
        assert!(is_sent_away(&mut fourth_left));
        sixth.handle().works();
        let mut room = Box::pin(seats.room());
        assert!(room.as_mut().now_or_never().is_none());
        fifth.handle().waits();
        assert!(room.now_or_never().is_some());
        drop(seats.take());
        assert!(is_sent_away(&mut fifth_left));
        // Whoever was sent away says nothing any more.
        second.handle().waits();
        drop((second, third, fifth));
        assert_eq!(seats.state().taken.len(), 2);
    }

    #[test]
    fn a_place_that_is_left_is_room() {
        let seats = seats(1, Duration::ZERO);
        let (only, _left) = seats.take();
        only.handle().works();
        let mut room = Box::pin(seats.room());
        assert!(room.as_mut().now_or_never().is_none());
        drop(only);
        assert!(room.now_or_never().is_some());
    }

    #[test]
    fn everybody_gets_a_moment_to_send_a_request() {
        let seats = seats(2, Duration::from_secs(1));
        let (_first, mut first_left) = seats.take();
        let (_second, _second_left) = seats.take();
        // The clock moves to the end of the first one's moment while somebody waits for room.
        assert!(seats.clock.elapsed() < Duration::from_secs(1));
        assert!(!is_sent_away(&mut first_left));
        seats.room().now_or_never().expect("the sleep of this clock takes no time");
        assert!(seats.clock.elapsed() >= Duration::from_secs(1));
        drop(seats.take());
        assert!(is_sent_away(&mut first_left));
    }
}
