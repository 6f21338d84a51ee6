//! The end of the server, for responses that have none of their own.

use tokio::sync::watch;

/// An extension of every request: when the server ends. A response that goes on until then must end itself, or it holds up
/// the shutdown for [`HttpLimits::grace`](super::HttpLimits::grace).
#[derive(Debug, Clone)]
pub struct ServerClosing(watch::Receiver<bool>);

impl ServerClosing {
    pub(super) fn new(stop: watch::Receiver<bool>) -> ServerClosing {
        ServerClosing(stop)
    }

    /// Resolves when the server ends.
    pub async fn closed(mut self) {
        // An error means that the sender is gone, which ends the server too.
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}
