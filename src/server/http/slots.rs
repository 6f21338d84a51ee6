//! Connection slots: which connection is closed when all slots are taken and another client connects.
//!
//! The one that has been idle for the longest: waiting for its client to send a request or to read a response, it costs
//! nothing but its slot. Every connection gets a little time to send a request, and one whose request is being handled is
//! never closed. So a health check takes less than a second however many slow clients there are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::io::Clock;

/// The slots for connections.
pub(super) struct ConnectionSlots {
    most: usize,
    /// How long a connection may be idle before it can be closed for another one.
    idle_min: Duration,
    clock: Arc<dyn Clock>,
    table: Mutex<SlotTable>,
    /// A slot was freed, or its connection became idle.
    freed: Notify,
}

#[derive(Debug, Default)]
struct SlotTable {
    taken: BTreeMap<u64, TakenSlot>,
    next: u64,
}

#[derive(Debug)]
struct TakenSlot {
    /// Since when the connection waits for its client. None while a request is being handled.
    idle_since: Option<Duration>,
    close: oneshot::Sender<()>,
}

/// A connection's slot, freed when it is dropped.
pub(super) struct ConnectionSlot(SlotHandle);

/// Records what a slot's connection is doing.
#[derive(Clone)]
pub(super) struct SlotHandle {
    slots: Arc<ConnectionSlots>,
    id: u64,
}

impl SlotTable {
    /// The connection that has been idle for the longest, and since when.
    fn longest_idle(&self) -> Option<(Duration, u64)> {
        self.taken.iter().filter_map(|(id, slot)| Some((slot.idle_since?, *id))).min()
    }
}

impl ConnectionSlots {
    pub(super) fn new(most: usize, idle_min: Duration, clock: Arc<dyn Clock>) -> Arc<ConnectionSlots> {
        let (table, freed) = (Mutex::default(), Notify::new());
        Arc::new(ConnectionSlots { most: most.max(1), idle_min, clock, table, freed })
    }

    /// How long it takes until the longest idle connection can be closed; none when no connection is idle.
    fn until_closable(&self, table: &SlotTable) -> Option<Duration> {
        let (since, _) = table.longest_idle()?;
        Some((since + self.idle_min).saturating_sub(self.clock.elapsed()))
    }

    /// Resolves once there is a slot, or a connection that can be closed for one.
    pub(super) async fn available(&self) {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            let wait = {
                let table = self.table.lock();
                if table.taken.len() < self.most {
                    return;
                }
                self.until_closable(&table)
            };
            match wait {
                Some(Duration::ZERO) => return,
                Some(wait) => {
                    tokio::select! {
                        () = freed => {}
                        () = self.clock.sleep(wait) => {}
                    }
                }
                None => freed.await,
            }
        }
    }

    /// Takes a slot, with the signal that its connection is to close. Closes the longest idle connection where necessary.
    pub(super) fn take(self: &Arc<Self>) -> (ConnectionSlot, oneshot::Receiver<()>) {
        let now = self.clock.elapsed();
        let mut table = self.table.lock();
        if table.taken.len() >= self.most
            && self.until_closable(&table) == Some(Duration::ZERO)
            && let Some((_, longest)) = table.longest_idle()
            && let Some(evicted) = table.taken.remove(&longest)
        {
            // A connection that ended meanwhile does not listen any more.
            let _ = evicted.close.send(());
        }
        table.next += 1;
        let id = table.next;
        let (close, closed) = oneshot::channel();
        table.taken.insert(id, TakenSlot { idle_since: Some(now), close });
        (ConnectionSlot(SlotHandle { slots: Arc::clone(self), id }), closed)
    }
}

impl ConnectionSlot {
    pub(super) fn handle(&self) -> SlotHandle {
        self.0.clone()
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.0.slots.table.lock().taken.remove(&self.0.id);
        self.0.slots.freed.notify_one();
    }
}

impl SlotHandle {
    /// A request is being handled.
    pub(super) fn busy(&self) {
        if let Some(slot) = self.slots.table.lock().taken.get_mut(&self.id) {
            slot.idle_since = None;
        }
    }

    /// The client's turn: to send a request or the rest of it, to read a response, or to close.
    pub(super) fn idle(&self) {
        let now = self.slots.clock.elapsed();
        if let Some(slot) = self.slots.table.lock().taken.get_mut(&self.id) {
            slot.idle_since = Some(now);
        }
        self.slots.freed.notify_one();
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

    fn slots(most: usize, idle_min: Duration) -> Arc<ConnectionSlots> {
        ConnectionSlots::new(most, idle_min, Arc::<Ticking>::default())
    }

    fn is_closed(closed: &mut oneshot::Receiver<()>) -> bool {
        closed.try_recv().is_ok()
    }

    #[test]
    fn the_longest_idle_connection_is_closed_and_never_a_busy_one() {
        let slots = slots(3, Duration::ZERO);
        let (first, mut first_closed) = slots.take();
        let (second, mut second_closed) = slots.take();
        let (third, mut third_closed) = slots.take();
        first.handle().busy();
        assert!(slots.available().now_or_never().is_some());
        let (_fourth, mut fourth_closed) = slots.take();
        assert!(is_closed(&mut second_closed));
        assert!(!is_closed(&mut first_closed) && !is_closed(&mut third_closed));
        // One whose request was handled is idle from then on, behind those that were idle before.
        first.handle().idle();
        let (fifth, mut fifth_closed) = slots.take();
        assert!(is_closed(&mut third_closed) && !is_closed(&mut first_closed));
        // While all are busy there is no slot.
        first.handle().busy();
        fifth.handle().busy();
        let (sixth, _) = slots.take();
        assert!(is_closed(&mut fourth_closed));
        sixth.handle().busy();
        let mut available = Box::pin(slots.available());
        assert!(available.as_mut().now_or_never().is_none());
        fifth.handle().idle();
        assert!(available.now_or_never().is_some());
        drop(slots.take());
        assert!(is_closed(&mut fifth_closed));
        // A closed connection changes nothing any more.
        second.handle().idle();
        drop((second, third, fifth));
        assert_eq!(slots.table.lock().taken.len(), 2);
    }

    #[test]
    fn a_freed_slot_is_available() {
        let slots = slots(1, Duration::ZERO);
        let (only, _closed) = slots.take();
        only.handle().busy();
        let mut available = Box::pin(slots.available());
        assert!(available.as_mut().now_or_never().is_none());
        drop(only);
        assert!(available.now_or_never().is_some());
    }

    #[test]
    fn every_connection_gets_time_to_send_a_request() {
        let slots = slots(2, Duration::from_secs(1));
        let (_first, mut first_closed) = slots.take();
        let (_second, _second_closed) = slots.take();
        // The clock moves to the end of the first one's time while another client waits.
        assert!(slots.clock.elapsed() < Duration::from_secs(1));
        assert!(!is_closed(&mut first_closed));
        slots.available().now_or_never().expect("the sleep of this clock takes no time");
        assert!(slots.clock.elapsed() >= Duration::from_secs(1));
        drop(slots.take());
        assert!(is_closed(&mut first_closed));
    }
}
