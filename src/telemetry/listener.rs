//! The HTTP server's connections: so many at once, and each for a short time.
//!
//! Whoever opens many and says nothing must not use up the process's files, which replication needs, nor keep
//! others from asking. So the newest is always let in, and beyond the limit the oldest goes.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Most connections at once: some scrapers, health checks and people.
pub(super) const CONNECTIONS_MAX: usize = 64;
/// When to close a connection: every answer comes from memory, and who wants more connects again.
const LASTS: Duration = Duration::from_secs(15);

/// A listener that keeps few connections.
#[derive(Debug)]
pub(super) struct Bounded {
    inner: TcpListener,
    /// What closes each connection, the oldest first.
    open: VecDeque<CancellationToken>,
}

impl Bounded {
    pub(super) fn new(inner: TcpListener) -> Self {
        Self { inner, open: VecDeque::new() }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.inner).await;
        let closed = CancellationToken::new();
        self.open.retain(|own| !own.is_cancelled());
        if self.open.len() >= CONNECTIONS_MAX
            && let Some(oldest) = self.open.pop_front()
        {
            oldest.cancel();
        }
        self.open.push_back(closed.clone());
        let ends = closed.clone();
        let over: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
            // Either way it is over.
            tokio::time::timeout(LASTS, ends.cancelled()).await.ok();
        });
        (Connection { stream, over: Some(over), closed }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// One connection, which ends when its time is over.
pub(super) struct Connection {
    stream: TcpStream,
    /// Until the connection is over; `None` from then on.
    over: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    closed: CancellationToken,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

impl Connection {
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if let Some(over) = &mut self.over {
            if over.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            self.over = None;
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, buffer) {
            return Poll::Ready(read);
        }
        self.check(cx)?;
        Poll::Pending
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = Pin::new(&mut self.stream).poll_write(cx, bytes) {
            return Poll::Ready(written);
        }
        self.check(cx)?;
        Poll::Pending
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
