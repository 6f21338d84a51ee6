//! Who makes room when all places for connections are taken? Whoever has kept one waiting for the longest: a connection that
//! idles, sends its request slowly or does not take its answer costs nothing but its place. A request whose answer is being
//! made is never cut off. So a health check is answered however many slow clients there are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

/// The places for connections.
#[derive(Debug)]
pub(super) struct Seats {
    most: usize,
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
    /// The connection's turn of waiting for its client: earlier is longer. None while an answer is being made.
    waits: Option<u64>,
    leave: oneshot::Sender<()>,
}

/// A connection's place, free again when it is dropped.
#[derive(Debug)]
pub(super) struct Seat(Handle);

/// Says of a place what its connection is doing.
#[derive(Debug, Clone)]
pub(super) struct Handle {
    seats: Arc<Seats>,
    id: u64,
}

impl State {
    fn turn(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Who has been waiting for its client for the longest.
    fn longest(&self) -> Option<u64> {
        let waiting = self.taken.iter().filter_map(|(id, taken)| Some((taken.waits?, *id)));
        waiting.min().map(|(_, id)| id)
    }
}

impl Seats {
    /// So many places.
    pub(super) fn new(most: usize) -> Arc<Seats> {
        Arc::new(Seats { most: most.max(1), state: Mutex::default(), freed: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves once there is a place, or somebody who can make room.
    pub(super) async fn room(&self) {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            {
                let state = self.state();
                if state.taken.len() < self.most || state.longest().is_some() {
                    return;
                }
            }
            freed.await;
        }
    }

    /// Takes a place, and with it the word that it is to be left. Whoever waited longest makes room if it must be.
    pub(super) fn take(self: &Arc<Self>) -> (Seat, oneshot::Receiver<()>) {
        let mut state = self.state();
        if state.taken.len() >= self.most
            && let Some(longest) = state.longest()
            && let Some(evicted) = state.taken.remove(&longest)
        {
            // One that ended meanwhile has left already.
            let _ = evicted.leave.send(());
        }
        let id = state.turn();
        let (leave, left) = oneshot::channel();
        state.taken.insert(id, Taken { waits: Some(id), leave });
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
        let mut state = self.seats.state();
        let turn = state.turn();
        if let Some(taken) = state.taken.get_mut(&self.id) {
            taken.waits = Some(turn);
            drop(state);
            self.seats.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn is_sent_away(left: &mut oneshot::Receiver<()>) -> bool {
        left.try_recv().is_ok()
    }

    #[test]
    fn the_longest_waiting_makes_room_and_nobody_who_is_being_answered() {
        let seats = Seats::new(3);
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
        let seats = Seats::new(1);
        let (only, _left) = seats.take();
        only.handle().works();
        let mut room = Box::pin(seats.room());
        assert!(room.as_mut().now_or_never().is_none());
        drop(only);
        assert!(room.now_or_never().is_some());
    }
}
