//! How do connections become requests? An accept loop that no client can hold up: hyper without axum's own server, because
//! that one limits neither slow heads nor the number of connections.

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

use super::auth::Peer;
use super::limits::Limits;
use super::seats::{Seat, Seats};
use super::{Hello, Settings, listen, local_router, router};
use crate::error::{Error, Kind, Result};
use crate::io::Clock;
use crate::service::api::Service;

/// How long to wait before accepting again when the system refuses: it is out of files or memory, and asking at full speed
/// would make it worse.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Serves until `stop` turns true or its sender is gone; then accepts nothing more, lets requests in flight finish within
/// [`Limits::grace`], and returns. Fails only before the first connection: for an address others can reach without a token,
/// or a weak token.
pub async fn serve(
    listener: TcpListener,
    service: Arc<dyn Service>,
    settings: &Settings,
    clock: Arc<dyn Clock>,
    stop: watch::Receiver<bool>,
) -> Result<()> {
    let address = listener.local_addr().map_err(|error| {
        let what = "failed to learn the address the API listens on";
        Error::new(Kind::Config, what).advise("look at `listen` under `[daemon]`").because(error)
    })?;
    listen::check_reach(address, settings.token.as_ref())?;
    let router = router(service, settings, Arc::clone(&clock))?;
    serve_all(listener, router, settings.limits, clock, stop).await;
    Ok(())
}

/// Serves whoever may connect to the socket beside the ledger, as [`serve`] does: they need no token.
pub async fn serve_local(
    listener: UnixListener,
    service: Arc<dyn Service>,
    hello: Hello,
    limits: Limits,
    clock: Arc<dyn Clock>,
    stop: watch::Receiver<bool>,
) -> Result<()> {
    let router = local_router(service, hello, limits, Arc::clone(&clock))?;
    serve_all(listener, router, limits, clock, stop).await;
    Ok(())
}

/// Where connections come from.
trait Listener: Send + Sync {
    type Stream: Connection;

    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Option<Peer>)>> + Send;
}

/// What requests travel over.
trait Connection: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Answers are written in one piece: waiting for more to put into the packet only delays them.
    fn prepare(&self) {}
}

impl Connection for TcpStream {
    fn prepare(&self) {
        let _ = self.set_nodelay(true);
    }
}

impl Connection for UnixStream {}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Option<Peer>)> {
        let (stream, peer) = TcpListener::accept(self).await?;
        Ok((stream, Some(Peer(peer.ip()))))
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, Option<Peer>)> {
        let (stream, _) = UnixListener::accept(self).await?;
        Ok((stream, None))
    }
}

async fn serve_all<L: Listener>(
    listener: L,
    router: Router,
    limits: Limits,
    clock: Arc<dyn Clock>,
    mut stop: watch::Receiver<bool>,
) {
    let seats = Seats::new(limits.connections, limits.moment, Arc::clone(&clock));
    let mut connections = JoinSet::new();
    let stopping = stop.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            () = told(&mut stop) => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &seats) => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let served = connection(stream, peer, router.clone(), limits, stopping.clone(), seats.take());
                connections.spawn(served);
            }
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection; trying again");
                clock.sleep(ACCEPT_AGAIN).await;
            }
        }
    }
    drop(listener);
    let finished = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.grace, finished).await.is_err() {
        tracing::warn!(connections = connections.len(), "requests did not finish in time and were cut off");
        connections.shutdown().await;
    }
}

/// Resolves once the daemon stops.
async fn told(stop: &mut watch::Receiver<bool>) {
    // An error means that nobody is left to say so.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// A connection, once there is room for one. Dropped at any moment it loses none.
async fn accept<L: Listener>(listener: &L, seats: &Seats) -> io::Result<(L::Stream, Option<Peer>)> {
    seats.room().await;
    listener.accept().await
}

async fn connection<S: Connection>(
    stream: S,
    peer: Option<Peer>,
    router: Router,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
    (seat, left): (Seat, oneshot::Receiver<()>),
) {
    stream.prepare();
    let router = TowerToHyperService::new(router);
    let place = seat.handle();
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        peer.map(|peer| request.extensions_mut().insert(peer));
        request.extensions_mut().insert(place.clone());
        let (place, answer) = (place.clone(), router.call(request));
        async move {
            place.works();
            let answer = answer.await;
            place.waits();
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Also closes a connection that idles between two requests.
        .header_read_timeout(limits.head)
        .max_buf_size(limits.head_bytes)
        .max_headers(limits.head_fields)
        .serve_connection(TokioIo::new(Taken::new(stream, limits.take)), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        // An error means that nobody needs the place.
        Ok(()) = left => {
            tracing::debug!(?peer, "a connection that kept its place waiting made room");
            return;
        }
        () = told(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        let peer: Option<IpAddr> = peer.map(|peer| peer.0);
        tracing::debug!(?peer, %error, "a connection broke off");
    }
}

/// A connection whose writes fail once the client has taken nothing for so long: it would hold its place, and the answer
/// in memory, forever.
struct Taken<S> {
    stream: S,
    limit: Duration,
    stalled: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<S> Taken<S> {
    fn new(stream: S, limit: Duration) -> Taken<S> {
        Taken { stream, limit, stalled: None }
    }

    fn watched<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
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

impl<S: AsyncRead + Unpin> AsyncRead for Taken<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Taken<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watched(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.watched(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.watched(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
