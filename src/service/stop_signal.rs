//! The signal that stops a run of this process: from a person at the terminal, or from another process by way of the lease.

use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::api::RunMonitor;
use super::peers::CancelRequest;
use super::tracker::Tracker;
use crate::delivery::Signal;
use crate::ledger::shared::Claim;

/// Follows a person's signals and other processes' requests until it is dropped.
pub(super) struct StopSignal {
    /// What the run obeys.
    pub(super) signal: watch::Receiver<Signal>,
    /// What other processes requested so far.
    requested: watch::Receiver<Signal>,
    follower: JoinHandle<()>,
}

impl StopSignal {
    /// Of a run with this lease, if other processes use the ledger, and this tracker.
    pub(super) fn follow(own: watch::Receiver<Signal>, claim: Option<&Claim>, tracker: &Arc<Tracker>) -> StopSignal {
        let (stop, signal) = watch::channel(*own.borrow());
        let (request, requested) = watch::channel(Signal::Go);
        let requests = match claim {
            Some(claim) => claim.requests(),
            None => watch::channel(None).1,
        };
        // A task of its own: the run may be busy when it is to stop.
        let follower = tokio::spawn(pass_on(own, requests, Arc::clone(tracker), stop, request));
        StopSignal { signal, requested, follower }
    }

    /// Waits for the run, and lets its monitor know when another process cancels it.
    pub(super) async fn during<T>(&self, run: impl Future<Output = T>, monitor: &dyn RunMonitor) -> T {
        tokio::select! {
            done = run => done,
            never = notify(self.requested.clone(), monitor) => match never {},
        }
    }
}

impl Drop for StopSignal {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

/// Resolves when there is a new value; never, once there can be none.
async fn changed<T>(of: &mut watch::Receiver<T>) {
    if of.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn notify(mut requested: watch::Receiver<Signal>, monitor: &dyn RunMonitor) -> Infallible {
    loop {
        changed(&mut requested).await;
        monitor.cancelled_elsewhere(*requested.borrow_and_update() == Signal::Abandon);
    }
}

async fn pass_on(
    mut own: watch::Receiver<Signal>,
    mut requests: watch::Receiver<Option<String>>,
    tracker: Arc<Tracker>,
    stop: watch::Sender<Signal>,
    request: watch::Sender<Signal>,
) {
    loop {
        let level = tokio::select! {
            () = changed(&mut own) => *own.borrow_and_update(),
            () = changed(&mut requests) => {
                let level = requests.borrow_and_update().as_deref().map_or(Signal::Go, |text| wanted(text, tracker.run()));
                request.send_if_modified(|known| raise(known, level));
                level
            }
        };
        if level >= Signal::Stop {
            tracker.stopping();
        }
        stop.send_if_modified(|known| raise(known, level));
    }
}

/// What a request of another process is to this run.
fn wanted(request: &str, run: &str) -> Signal {
    match serde_json::from_str::<CancelRequest>(request) {
        Ok(CancelRequest { cancel, times }) if cancel == run => {
            if times > 1 {
                Signal::Abandon
            } else {
                Signal::Stop
            }
        }
        _ => Signal::Go,
    }
}

fn raise(known: &mut Signal, level: Signal) -> bool {
    let is_higher = level > *known;
    if is_higher {
        *known = level;
    }
    is_higher
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_concerns_the_run_that_it_names() {
        assert_eq!(wanted(r#"{"cancel":"r1","times":1}"#, "r1"), Signal::Stop);
        assert_eq!(wanted(r#"{"cancel":"r1","times":2}"#, "r1"), Signal::Abandon);
        assert_eq!(wanted(r#"{"cancel":"r0","times":2}"#, "r1"), Signal::Go);
        assert_eq!(wanted("drain", "r1"), Signal::Go);
    }

    #[tokio::test]
    async fn the_higher_of_both_signals_counts_and_a_closed_one_ends_nothing() {
        let (person, own) = watch::channel(Signal::Go);
        let (requests, requested) = watch::channel(None);
        let (stop, mut signal) = watch::channel(Signal::Go);
        let (request, noted) = watch::channel(Signal::Go);
        let tracker = Arc::new(Tracker::new("r1", chrono::DateTime::UNIX_EPOCH, "command line"));
        let follower = tokio::spawn(pass_on(own, requested, Arc::clone(&tracker), stop, request));
        requests.send_replace(Some(r#"{"cancel":"r0","times":9}"#.to_owned()));
        requests.send_replace(Some(r#"{"cancel":"r1","times":1}"#.to_owned()));
        signal.wait_for(|signal| *signal == Signal::Stop).await.unwrap();
        assert_eq!((*noted.borrow(), tracker.progress().phase.as_str()), (Signal::Stop, "stopping"));
        drop(requests);
        person.send_replace(Signal::Stop);
        person.send_replace(Signal::Abandon);
        signal.wait_for(|signal| *signal == Signal::Abandon).await.unwrap();
        assert_eq!(*noted.borrow(), Signal::Stop, "what a person wants is not another process's request");
        follower.abort();
    }
}
