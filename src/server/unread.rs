//! The rest of a request body over HTTP/2 that was refused before it had come: read on for a moment, and dropped.
//!
//! A stream that is let go while its client still sends is reset (RFC 9113 section 8.1, `NO_ERROR`), and clients exist that
//! then throw the answer away: a refusal would look like a broken connection. Reading on keeps the windows open, for this
//! stream and for its neighbours. Bounded in bytes and in time, and nothing is kept. Whoever still holds the body then without
//! reading it, because an app has answered and takes no more, does not keep the stream either.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use http::StatusCode;
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::deadline::Deadline;

/// Less than HTTP/1 reads on at the end of a connection, because a connection has many streams. What `body_bytes` allows does
/// not matter: that too much came is what the answer may have to tell.
const MOST_BYTES: u64 = 1 << 20;
/// After the end of the answer.
const LINGER: Duration = Duration::from_secs(2);

/// A body while somebody reads it; empty when it was taken away.
pub(super) type Slot = Arc<Mutex<Option<Incoming>>>;

/// The body in its place.
pub(super) fn lock(slot: &Slot) -> MutexGuard<'_, Option<Incoming>> {
    // Nothing can panic while it is held.
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What became of the request body of one stream.
#[derive(Default)]
enum State {
    /// There is none, or it was read to its end, or it is none any more.
    #[default]
    Nothing,
    /// Somebody reads it.
    Read(Slot),
    /// Nobody reads it any more.
    Left(Incoming),
}

/// Where a request body is left by whoever does not want the rest of it.
#[derive(Default)]
pub(super) struct Unread {
    state: Mutex<State>,
    told: AtomicWaker,
    /// How many frames its reader has taken.
    moved: AtomicU64,
    /// The answer is a refusal, which clients stop sending for.
    refused: AtomicBool,
}

impl std::fmt::Debug for Unread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Unread")
    }
}

impl Unread {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing can panic while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A body is handed out.
    pub(super) fn begin(&self, body: &Slot) {
        *self.state() = State::Read(Arc::clone(body));
    }

    /// The answer is known. Clients stop for a refusal only: one that has its success and may go on sends all it has, and curl
    /// 7.88 hangs when it is then stopped late.
    pub(super) fn answered(&self, status: StatusCode) {
        let refused = status.is_client_error() || status.is_server_error();
        self.refused.store(refused, Ordering::Relaxed);
    }

    /// Its reader took a frame.
    pub(super) fn moved(&self) {
        self.moved.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes it away from whoever reads it.
    fn take_away(&self) {
        if let State::Read(body) = std::mem::take(&mut *self.state()) {
            let body = lock(&body).take();
            drop(body);
        }
    }

    /// Its reader is done: with a body that is not at its end, the rest is read here.
    pub(super) fn leave(&self, rest: Option<Incoming>) {
        *self.state() = match rest {
            Some(body) if !body.is_end_stream() => State::Left(body),
            _ => State::Nothing,
        };
        self.told.wake();
    }
}

/// Reads what was left.
pub(super) struct Rest<'a> {
    unread: &'a Unread,
    body: Option<Incoming>,
    left: u64,
}

impl<'a> Rest<'a> {
    pub(super) fn of(unread: &'a Unread) -> Self {
        Rest {
            unread,
            body: None,
            left: MOST_BYTES,
        }
    }

    /// Reads as long as the answer is under way: never ends, so that something else does.
    pub(super) async fn read(&mut self) {
        std::future::poll_fn(|cx| {
            let _ = self.poll(cx);
            Poll::Pending
        })
        .await
    }

    /// Reads on after the answer, until the body ends or it is enough. Somebody else who reads may go on, but not stand still
    /// for longer than `patience`; that is seen within twice that time.
    pub(super) async fn read_on(mut self, patience: Duration) {
        let mut deadline = Deadline::default();
        let mut until = None;
        std::future::poll_fn(|cx| {
            if self.poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let (reader, patience) = match self.body {
                Some(_) if !self.unread.refused.load(Ordering::Relaxed) => return Poll::Ready(()),
                Some(_) => (None, LINGER.min(patience)),
                None => (Some(self.unread.moved.load(Ordering::Relaxed)), patience),
            };
            let at = match until {
                Some((before, at)) if before == reader => at,
                _ => Instant::now() + patience,
            };
            until = Some((reader, at));
            deadline.poll_at(at, cx)
        })
        .await;
        self.unread.take_away();
    }

    /// Ready when there is nothing to read, or nothing more.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(body) = &mut self.body else {
            return self.poll_left(cx);
        };
        loop {
            if let Some(Ok(frame)) = ready!(Pin::new(&mut *body).poll_frame(cx)) {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.left = self.left.saturating_sub(bytes);
                if self.left > 0 {
                    continue;
                }
            }
            self.body = None;
            return Poll::Ready(());
        }
    }

    /// Takes the body when it is there; a future is polled by the task that hands bodies out, so `Nothing` needs no waker.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.unread.state();
        match std::mem::take(&mut *state) {
            State::Nothing => Poll::Ready(()),
            reading @ State::Read(_) => {
                *state = reading;
                self.unread.told.register(cx.waker());
                Poll::Pending
            }
            State::Left(body) => {
                drop(state);
                self.body = Some(body);
                self.poll(cx)
            }
        }
    }
}
