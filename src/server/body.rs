//! The bodies between hyper and the handler: a request body that obeys `body_bytes` and `body_idle_timeout`, and an
//! answer's body that knows whether the peer takes it.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::guard::Flight;
use super::unread::{Slot, Unread, lock};
use crate::body::{Body, BodyError};
use crate::deadline::Deadline;

/// Why a request body ended early; the error that the handler's [`Body`] yields.
#[derive(Debug, thiserror::Error)]
pub enum RequestBodyError {
    /// Larger than `body_bytes`.
    #[error("the request body is larger than this server accepts")]
    TooLarge,
    /// Nothing came for `body_idle_timeout`.
    #[error("the request body stalled")]
    Stalled,
    /// The connection or its framing broke; without a cause, the client reset its stream with `NO_ERROR`, or the rest was not
    /// waited for, because the answer had long been given.
    #[error("the request body broke off")]
    Broken(#[source] Option<hyper::Error>),
}

impl RequestBodyError {
    /// What to answer, when there is still something to answer.
    pub fn status(&self) -> StatusCode {
        match self {
            RequestBodyError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            RequestBodyError::Stalled => StatusCode::REQUEST_TIMEOUT,
            RequestBodyError::Broken(_) => StatusCode::BAD_REQUEST,
        }
    }
}

/// Whether a request body was read to its end.
#[derive(Clone, Debug, Default)]
pub(super) struct Completion(Option<Arc<AtomicBool>>);

impl Completion {
    pub(super) fn is_complete(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|complete| complete.load(Ordering::Relaxed))
    }
}

/// Wraps a request body for the handler. What it does not read is left to the `stream` it came on, if it has one of its own.
pub(super) fn request_body(
    body: Incoming,
    limit: Option<u64>,
    idle: Duration,
    stream: Option<&Arc<Handed>>,
) -> (Body, Completion) {
    if body.is_end_stream() {
        return (Body::empty(), Completion(None));
    }
    let complete = Arc::new(AtomicBool::new(false));
    let body = Arc::new(Mutex::new(Some(body)));
    if let Some(stream) = stream {
        stream.unread.begin(&body);
    }
    let body = RequestBody {
        body,
        stream: stream.cloned(),
        left: limit,
        idle,
        silent_since: None,
        deadline: Deadline::default(),
        complete: Arc::clone(&complete),
    };
    (Body::stream(body), Completion(Some(complete)))
}

struct RequestBody {
    /// There until it is left to the stream, or the stream takes it away.
    body: Slot,
    stream: Option<Arc<Handed>>,
    left: Option<u64>,
    idle: Duration,
    silent_since: Option<Instant>,
    deadline: Deadline,
    complete: Arc<AtomicBool>,
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let this = &mut *self;
        let mut body = lock(&this.body);
        let Some(body) = body.as_mut() else {
            return Poll::Ready(Some(Err(RequestBodyError::Broken(None))));
        };
        let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) else {
            let since = *this.silent_since.get_or_insert_with(Instant::now);
            ready!(this.deadline.poll_at(since + this.idle, cx));
            return Poll::Ready(Some(Err(RequestBodyError::Stalled)));
        };
        this.silent_since = None;
        if let Some(stream) = &this.stream {
            stream.unread.moved();
        }
        let frame = match frame {
            // hyper takes a reset with `NO_ERROR` for the end; only a server says by it that it has enough (RFC 9113 section 8.1).
            None if this.stream.is_some() && !body.is_end_stream() => {
                return Poll::Ready(Some(Err(RequestBodyError::Broken(None))));
            }
            None => {
                this.complete.store(true, Ordering::Relaxed);
                return Poll::Ready(None);
            }
            Some(Err(error)) => {
                return Poll::Ready(Some(Err(RequestBodyError::Broken(Some(error)))));
            }
            Some(Ok(frame)) => frame,
        };
        if let (Some(left), Some(data)) = (&mut this.left, frame.data_ref()) {
            match left.checked_sub(data.len() as u64) {
                Some(rest) => *left = rest,
                None => return Poll::Ready(Some(Err(RequestBodyError::TooLarge))),
            }
        }
        if body.is_end_stream() {
            this.complete.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.body)
            .as_ref()
            .is_some_and(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.body)
            .as_ref()
            .map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(stream) = &self.stream {
            let rest = lock(&self.body).take();
            stream.unread.leave(rest);
        }
    }
}

/// One HTTP/2 stream: since when a frame of its answer waits for the peer to make room, and what nobody reads of its request.
#[derive(Debug, Default)]
pub(super) struct Handed {
    since: Mutex<Option<Instant>>,
    pub(super) unread: Unread,
}

impl Handed {
    fn set(&self, since: Option<Instant>) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Ends when the peer has not made room for `limit`.
    pub(super) async fn stalled(&self, limit: Duration) {
        let mut deadline = Deadline::default();
        std::future::poll_fn(|cx| {
            let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner);
            match since {
                None => Poll::Pending,
                Some(since) => deadline.poll_at(since + limit, cx),
            }
        })
        .await;
    }
}

/// Largest frame handed to HTTP/2 at once: progress is seen between frames.
const STEP: usize = 16 << 10;

/// What the answer's body keeps alive or informed while it is sent.
pub(super) enum Sending {
    /// HTTP/1: the request is in flight until the body is gone.
    Http1 { _flight: Flight },
    /// HTTP/2: frames are handed over in steps, and it is noted when one waits.
    Http2(Arc<Handed>),
    /// Nobody is interested.
    Unwatched,
}

/// The body of an answer on its way out.
pub(super) struct ResponseBody {
    body: Body,
    sending: Sending,
    rest: Option<Bytes>,
}

impl ResponseBody {
    pub(super) fn new(body: Body, sending: Sending) -> Self {
        ResponseBody {
            body,
            sending,
            rest: None,
        }
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Sending::Http2(handed) = &this.sending else {
            return Pin::new(&mut this.body).poll_frame(cx);
        };
        handed.set(None);
        let frame = match this.rest.take() {
            Some(rest) => Some(Ok(Frame::data(rest))),
            None => ready!(Pin::new(&mut this.body).poll_frame(cx)),
        };
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                handed.set(Some(Instant::now()));
                Some(Ok(match frame.into_data() {
                    Ok(mut data) if data.len() > STEP => {
                        let step = data.split_to(STEP);
                        this.rest = Some(data);
                        Frame::data(step)
                    }
                    Ok(data) => Frame::data(data),
                    Err(other) => other,
                }))
            }
            other => other,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.as_ref().map_or(0, |rest| rest.len() as u64);
        let mut hint = self.body.size_hint();
        if rest > 0 {
            if let Some(upper) = hint.upper() {
                hint.set_upper(upper + rest);
            }
            hint.set_lower(hint.lower() + rest);
        }
        hint
    }
}
