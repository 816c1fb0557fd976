//! How a connection ends: close_notify, then reading on for a moment when the peer may still be sending. Closing a socket
//! with unread bytes would reset it, and the peer would lose the answer. Bounded in bytes and time.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::READ;
use crate::deadline::Deadline;

const LINGER_BYTES: usize = 4 << 20;
const LINGER: Duration = Duration::from_secs(2);

/// How far the end of one connection has come.
#[derive(Debug, Default)]
pub(super) struct Farewell {
    shut: bool,
    lingered: usize,
    until: Option<Instant>,
    deadline: Deadline,
}

impl Farewell {
    /// Ready when the connection may be closed; errors of a peer that is gone do not matter any more.
    pub(super) fn poll<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        io: &mut S,
        linger: bool,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.shut {
            ready!(Pin::new(&mut *io).poll_shutdown(cx))?;
            self.shut = true;
        }
        if !linger {
            return Poll::Ready(Ok(()));
        }
        let until = *self.until.get_or_insert_with(|| Instant::now() + LINGER);
        while self.lingered < LINGER_BYTES {
            let mut room = [std::mem::MaybeUninit::uninit(); READ];
            let mut rest = ReadBuf::uninit(&mut room);
            match Pin::new(&mut *io).poll_read(cx, &mut rest) {
                Poll::Ready(Ok(())) if !rest.filled().is_empty() => {
                    self.lingered += rest.filled().len();
                }
                Poll::Ready(_) => break,
                Poll::Pending => {
                    ready!(self.deadline.poll_at(until, cx));
                    break;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}
