//! The listener: an accept loop that no client can hold up, which turns connections into requests. hyper without axum's own
//! server, because that one limits neither slow heads nor the number of connections.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::auth::PeerAddress;
use super::closing::ServerClosing;
use super::limits::HttpLimits;
use super::slots::{ConnectionSlot, ConnectionSlots};
use super::{ServerSettings, address, local_router, router};
use crate::error::{Error, Kind, Result};
use crate::io::Clock;
use crate::service::api::Service;
use crate::service::wire::Hello;

/// How long to wait before accepting again after a failure: the system is out of files or memory, and retrying at full speed
/// would make it worse.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Serves until `stop` turns true or its sender is gone; then accepts nothing more, lets requests in flight finish within
/// [`HttpLimits::grace`], and returns. Fails only before the first connection: for an address that others can reach
/// without a token, or a weak token.
pub async fn serve(
    listener: TcpListener,
    service: Arc<dyn Service>,
    settings: &ServerSettings,
    clock: Arc<dyn Clock>,
    stop: watch::Receiver<bool>,
) -> Result<()> {
    let address = listener.local_addr().map_err(|error| {
        let what = "failed to read the address the API listens on";
        Error::new(Kind::Config, what).advise("check `listen` under `[daemon]`").because(error)
    })?;
    address::check_reach(address, settings.token.as_ref())?;
    let router = router(service, settings, Arc::clone(&clock))?;
    serve_all(listener, router, settings.limits, clock, stop).await;
    Ok(())
}

/// Serves the socket beside the ledger, as [`serve`] does; its clients need no token.
pub async fn serve_local(
    listener: UnixListener,
    service: Arc<dyn Service>,
    hello: Hello,
    limits: HttpLimits,
    clock: Arc<dyn Clock>,
    stop: watch::Receiver<bool>,
) -> Result<()> {
    let router = local_router(service, hello, limits, Arc::clone(&clock))?;
    serve_all(listener, router, limits, clock, stop).await;
    Ok(())
}

/// Where connections come from.
trait ClientListener: Send + Sync {
    type Stream: ClientStream;

    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Option<PeerAddress>)>> + Send;
}

/// The stream of a connection.
trait ClientStream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Responses are written in one piece: waiting for more to fill the packet only delays them.
    fn prepare(&self) {}
}

impl ClientStream for TcpStream {
    fn prepare(&self) {
        let _ = self.set_nodelay(true);
    }
}

impl ClientStream for UnixStream {}

impl ClientListener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Option<PeerAddress>)> {
        let (stream, peer) = TcpListener::accept(self).await?;
        Ok((stream, Some(PeerAddress(peer.ip()))))
    }
}

impl ClientListener for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, Option<PeerAddress>)> {
        let (stream, _) = UnixListener::accept(self).await?;
        Ok((stream, None))
    }
}

async fn serve_all<L: ClientListener>(
    listener: L,
    router: Router,
    limits: HttpLimits,
    clock: Arc<dyn Clock>,
    mut stop: watch::Receiver<bool>,
) {
    let slots = ConnectionSlots::new(limits.connections, limits.idle_min, Arc::clone(&clock));
    let mut connections = JoinSet::new();
    let stopping = stop.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &slots) => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let served = connection(stream, peer, router.clone(), limits, stopping.clone(), slots.take());
                connections.spawn(served);
            }
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection; retrying");
                clock.sleep(ACCEPT_RETRY).await;
            }
        }
    }
    drop(listener);
    let finished = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.grace, finished).await.is_err() {
        tracing::warn!(connections = connections.len(), "requests did not finish in time and were aborted");
        connections.shutdown().await;
    }
}

/// Resolves once the daemon shuts down.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which stops the server too.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// A connection, once there is a slot for it. Dropped at any time it loses none.
async fn accept<L: ClientListener>(
    listener: &L,
    slots: &ConnectionSlots,
) -> io::Result<(L::Stream, Option<PeerAddress>)> {
    slots.available().await;
    listener.accept().await
}

async fn connection<S: ClientStream>(
    stream: S,
    peer: Option<PeerAddress>,
    router: Router,
    limits: HttpLimits,
    mut stop: watch::Receiver<bool>,
    (slot, closed): (ConnectionSlot, oneshot::Receiver<()>),
) {
    stream.prepare();
    let router = TowerToHyperService::new(router);
    let handle = slot.handle();
    let closing = ServerClosing::new(stop.clone());
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        peer.map(|peer| request.extensions_mut().insert(peer));
        request.extensions_mut().insert(handle.clone());
        request.extensions_mut().insert(closing.clone());
        let (handle, response) = (handle.clone(), router.call(request));
        async move {
            handle.busy();
            let response = response.await;
            handle.idle();
            response
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Also closes a connection that idles between two requests.
        .header_read_timeout(limits.head)
        .max_buf_size(limits.head_bytes)
        .max_headers(limits.head_fields)
        .serve_connection(TokioIo::new(WriteTimeout::new(stream, limits.write)), service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        // An error means that the slot is not needed.
        Ok(()) = closed => {
            tracing::debug!(?peer, "an idle connection was closed for another client");
            return;
        }
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        let peer: Option<IpAddr> = peer.map(|peer| peer.0);
        tracing::debug!(?peer, %error, "a connection failed");
    }
}

/// A stream whose writes fail once the client has read nothing for so long: it would keep its slot, and the response in
/// memory, forever.
struct WriteTimeout<S> {
    stream: S,
    limit: Duration,
    stalled: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<S> WriteTimeout<S> {
    fn new(stream: S, limit: Duration) -> WriteTimeout<S> {
        WriteTimeout { stream, limit, stalled: None }
    }

    fn timed<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let limit = self.limit;
        let stalled = self.stalled.get_or_insert_with(|| {
            Box::pin(async move {
                let _ = tokio::time::timeout(limit, std::future::pending::<()>()).await;
            })
        });
        stalled.as_mut().poll(context).map(|()| Err(io::Error::from(io::ErrorKind::TimedOut)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteTimeout<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteTimeout<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.timed(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.timed(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.timed(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
