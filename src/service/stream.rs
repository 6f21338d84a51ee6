//! Results that arrive item by item: plans, exports, verifications of any size.

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use super::error::ServiceResult;
use crate::delivery::Signal;
use crate::error::{Error, Kind, Result};

/// Items that wait for their reader: a few pages' worth would only take memory.
const BUFFERED_ITEMS: usize = 256;

/// Items as they are found, and the result after the last one. Dropped, it stops what produces them.
pub struct ResultStream<Item, End> {
    /// The items.
    pub items: mpsc::Receiver<Item>,
    /// The result, once there are no more items.
    pub end: BoxFuture<'static, ServiceResult<End>>,
}

/// Stops the producer of a stream that is no longer read.
struct StopOnDrop(watch::Sender<Signal>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.send_replace(Signal::Stop);
    }
}

impl<Item: Send + 'static, End: Send + 'static> ResultStream<Item, End> {
    /// Runs `produce` as a task of its own on `work`: it ends by itself, and in good order, when the stream is dropped.
    /// `what` completes "failed to …".
    pub fn spawn<Producing>(
        work: &Handle,
        what: &'static str,
        produce: impl FnOnce(mpsc::Sender<Item>, watch::Receiver<Signal>) -> Producing,
    ) -> ResultStream<Item, End>
    where
        Producing: Future<Output = ServiceResult<End>> + Send + 'static,
    {
        let (sender, signal) = watch::channel(Signal::Go);
        let stop = StopOnDrop(sender);
        let (found, items) = mpsc::channel(BUFFERED_ITEMS);
        let produced = work.spawn(produce(found, signal));
        let end = async move {
            let _stop = stop;
            let failed = |panic| Err(Error::new(Kind::Bug, format!("failed to {what}")).because(panic).into());
            produced.await.unwrap_or_else(failed)
        };
        ResultStream { items, end: Box::pin(end) }
    }

    /// A stream that is complete already.
    pub fn complete(all: Vec<Item>, end: End) -> ResultStream<Item, End> {
        let (sender, items) = mpsc::channel(all.len().max(1));
        // The channel has room for each.
        all.into_iter().for_each(|item| drop(sender.try_send(item)));
        ResultStream { items, end: Box::pin(std::future::ready(Ok(end))) }
    }

    /// Hands every item to `each`, and returns the result.
    pub async fn for_each(self, mut each: impl FnMut(Item) -> Result<()>) -> ServiceResult<End> {
        let ResultStream { mut items, end } = self;
        while let Some(item) = items.recv().await {
            each(item)?;
        }
        end.await
    }
}

/// Sends items to the reader of a stream. A slow reader holds up this thread and nothing else.
pub fn send<Item>(items: &mpsc::Sender<Item>, found: impl IntoIterator<Item = Item>) -> Result<()> {
    let all = tokio::task::block_in_place(|| found.into_iter().all(|item| items.blocking_send(item).is_ok()));
    let gone = || Error::new(Kind::Interrupted, "the reader of the results is gone");
    if all { Ok(()) } else { Err(gone()) }
}
