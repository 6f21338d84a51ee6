//! The places in which plans are made: as many as runs go on at a time, beside the runs. A few more plans wait their turn, and
//! further ones are refused. A client that disconnects while waiting leaves the queue.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

/// Plans that wait for a place. With a plan a minute the last of them waits for minutes, which is as long as a caller does.
pub(super) const WAITING_MAX: usize = 16;

/// The places in which plans are made.
#[derive(Debug)]
pub(super) struct Plans {
    state: Mutex<State>,
    /// The queue moved on.
    moved: Notify,
}

#[derive(Debug)]
struct State {
    places: usize,
    taken: usize,
    /// Tickets, the next one first.
    waiting: VecDeque<u64>,
    next_ticket: u64,
}

/// Too many wait already.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// A place in the queue, then one to make a plan in; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    plans: Arc<Plans>,
    /// None once the place is taken.
    ticket: Option<u64>,
}

impl Plans {
    /// So many places.
    pub(super) fn new(places: usize) -> Arc<Plans> {
        let state = State { places: places.max(1), taken: 0, waiting: VecDeque::new(), next_ticket: 0 };
        Arc::new(Plans { state: Mutex::new(state), moved: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Sets how many places there are. Plans under way in more of them go on.
    pub(super) fn set_places(&self, places: usize) {
        self.state().places = places.max(1);
        self.moved.notify_waiters();
    }

    /// Waits for a place, in the order of coming.
    pub(super) async fn place(self: &Arc<Self>) -> Result<Place, Full> {
        let (ticket, mut place) = {
            let mut state = self.state();
            if state.waiting.len() >= WAITING_MAX {
                return Err(Full);
            }
            let ticket = state.next_ticket;
            state.next_ticket += 1;
            state.waiting.push_back(ticket);
            (ticket, Place { plans: Arc::clone(self), ticket: Some(ticket) })
        };
        loop {
            // Before the look: what moves between the look and the waiting counts.
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            {
                let mut state = self.state();
                if state.taken < state.places && state.waiting.front() == Some(&ticket) {
                    state.waiting.pop_front();
                    state.taken += 1;
                    place.ticket = None;
                    break;
                }
            }
            moved.await;
        }
        // The next one may find a place too.
        self.moved.notify_waiters();
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        {
            let mut state = self.plans.state();
            match self.ticket {
                Some(ticket) => state.waiting.retain(|waiting| *waiting != ticket),
                None => state.taken -= 1,
            }
        }
        self.plans.moved.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn so_many_at_a_time_a_few_wait_in_order_and_the_rest_is_turned_away() {
        let plans = Plans::new(2);
        let mut made = vec![plans.place().await.unwrap(), plans.place().await.unwrap()];
        let mut waiting: Vec<_> = (0..WAITING_MAX).map(|_| Box::pin(plans.place())).collect();
        assert!(waiting.iter_mut().all(|place| place.as_mut().now_or_never().is_none()));
        assert_eq!(plans.place().now_or_never().unwrap().unwrap_err(), Full);
        // One goes away: there is room to wait again, and nobody lost their turn.
        drop(waiting.remove(0));
        let mut last = Box::pin(plans.place());
        assert!(last.as_mut().now_or_never().is_none());
        made.pop();
        assert!(last.as_mut().now_or_never().is_none(), "not before those who came first");
        made.push(waiting.remove(0).now_or_never().expect("the first of those who wait").unwrap());
        assert!(waiting.iter_mut().all(|place| place.as_mut().now_or_never().is_none()));
        // More places let more of them in, one after the other.
        plans.set_places(4);
        for _ in 0..2 {
            made.push(waiting.remove(0).now_or_never().unwrap().unwrap());
        }
        assert!(waiting[0].as_mut().now_or_never().is_none());
        drop((waiting, last, made));
        let state = plans.state();
        assert_eq!((state.taken, state.waiting.len()), (0, 0));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn whoever_waits_comes_in_and_never_too_many() {
        let (plans, inside) = (Plans::new(3), Arc::new(AtomicUsize::new(0)));
        let tasks = (0..3 + WAITING_MAX).map(|_| {
            let (plans, inside) = (Arc::clone(&plans), Arc::clone(&inside));
            tokio::spawn(async move {
                let _place = loop {
                    // The queue is full for a moment while the first come in.
                    match plans.place().await {
                        Ok(place) => break place,
                        Err(Full) => tokio::task::yield_now().await,
                    }
                };
                assert!(inside.fetch_add(1, Ordering::SeqCst) < 3);
                tokio::task::yield_now().await;
                inside.fetch_sub(1, Ordering::SeqCst);
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    }
}
