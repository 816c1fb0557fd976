//! A stream whose writes fail when its peer takes nothing for a while: otherwise one who never reads would keep whatever is
//! behind a connection for as long as it likes. A leaf; must not know what is written, or to whom.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::deadline::Deadline;

/// The stream. A write of one piece, the usual case, goes by the system call that costs less than a vectored one.
#[derive(Debug)]
pub(crate) struct Impatient<S> {
    io: S,
    patience: Duration,
    gives_up: Option<Instant>,
    deadline: Deadline,
}

impl<S> Impatient<S> {
    /// A peer may take nothing for so long.
    pub(crate) fn new(io: S, patience: Duration) -> Self {
        Impatient {
            io,
            patience,
            gives_up: None,
            deadline: Deadline::default(),
        }
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.gives_up = None;
            return done;
        }
        let at = *self
            .gives_up
            .get_or_insert_with(|| Instant::now() + self.patience);
        ready!(self.deadline.poll_at(at, cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the peer does not read",
        )))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.watch(cx, done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = match pieces {
            [piece] => Pin::new(&mut self.io).poll_write(cx, piece),
            _ => Pin::new(&mut self.io).poll_write_vectored(cx, pieces),
        };
        self.watch(cx, done)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.io).poll_flush(cx);
        self.watch(cx, done)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn who_takes_nothing_is_given_up_and_who_takes_a_little_begins_anew() {
        let (ours, mut theirs) = tokio::io::duplex(4);
        let mut stream = Impatient::new(ours, Duration::from_millis(20));
        stream.write_all(b"fits").await.unwrap();
        let first = futures_util::poll!(std::pin::pin!(stream.write(b"!")));
        assert!(first.is_pending() && stream.gives_up.is_some());
        theirs.read_exact(&mut [0]).await.unwrap();
        assert_eq!(stream.write(b"!?").await.unwrap(), 1);
        assert!(stream.gives_up.is_none());
        let error = stream.write_all(b"?").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(theirs);
    }
}
