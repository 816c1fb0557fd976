//! What is idle, and the socket that notices a peer who does not read.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::impatient::Impatient;

/// What happens on a connection, for the question whether it is idle.
#[derive(Debug)]
pub(super) struct Activity {
    opened: Instant,
    /// Milliseconds after `opened`.
    last: AtomicU64,
    open: AtomicUsize,
    /// Writes of fewer bytes do not count.
    least_write: AtomicUsize,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Activity {
            opened: Instant::now(),
            last: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            least_write: AtomicUsize::new(SMALL_WRITE),
        })
    }

    /// From now on every write counts, and this moment too: HTTP/1 writes nothing but answers.
    pub(super) fn count_every_write(&self) {
        self.least_write.store(0, Ordering::Relaxed);
        self.touch();
    }

    fn wrote(&self, bytes: usize) {
        if bytes >= self.least_write.load(Ordering::Relaxed) {
            self.touch();
        }
    }

    fn touch(&self) {
        let millis = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(millis, Ordering::Relaxed);
    }

    /// When something of substance was last written, or a request last ended.
    pub(super) fn last(&self) -> Instant {
        self.opened + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }

    /// A request is in flight until the guard is dropped.
    pub(super) fn request(self: &Arc<Self>) -> InFlight {
        self.open.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Waits until nothing was in flight and nothing was written for `limit`.
    pub(super) async fn idle(&self, limit: Duration) {
        loop {
            let now = Instant::now();
            let at = if self.open.load(Ordering::Relaxed) > 0 {
                now + limit
            } else {
                self.last() + limit
            };
            if at <= now {
                return;
            }
            tokio::time::sleep_until(at).await;
        }
    }
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Activity>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.touch();
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Writes below this many bytes (acknowledgements of pings and settings) do not count as activity of HTTP/2.
const SMALL_WRITE: usize = 256;

/// A socket whose writes fail when the peer takes nothing for a while, and count as activity. It holds the connection's permit,
/// so that a tunnel keeps counting as a connection.
pub(super) struct Socket<S> {
    io: Impatient<S>,
    activity: Arc<Activity>,
    _permit: OwnedSemaphorePermit,
}

impl<S> Socket<S> {
    pub(super) fn new(
        io: S,
        patience: Duration,
        activity: Arc<Activity>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Socket {
            io: Impatient::new(io, patience),
            activity,
            _permit: permit,
        }
    }

    fn wrote(&self, done: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(written)) = done {
            self.activity.wrote(written);
        }
        done
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.wrote(done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.io).poll_write_vectored(cx, pieces);
        self.wrote(done)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
