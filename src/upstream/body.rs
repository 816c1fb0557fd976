//! Bodies on their way through: what is watched while they stream. Must not buffer; one frame in, one frame out.
//!
//! [`RequestBody`] remembers whose fault a failure was and how long nothing moved; [`ResponseBody`] ends a silent answer
//! and gives the connection back to its pool when the answer is complete.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::body::{Body, BodyError};
use crate::deadline::Deadline;
use crate::headers::{cookie, hop_by_hop};
use crate::upstream::Plan;
use crate::upstream::pool::Lease;

/// What is known about a request body while it is sent.
#[derive(Debug)]
pub(super) struct Progress {
    /// Why the client's side failed, until somebody takes it.
    failure: Option<BodyError>,
    /// When the last frame passed.
    moved_at: Instant,
}

/// Shared between the body, which hyper owns while it sends, and the request that waits for the answer.
pub(super) type Watch = Arc<Mutex<Progress>>;

/// Takes the client's failure, if the client's side failed.
pub(super) fn take_failure(watch: &Watch) -> Option<BodyError> {
    lock(watch).failure.take()
}

/// When the body last moved.
pub(super) fn moved_at(watch: &Watch) -> Instant {
    lock(watch).moved_at
}

fn lock(watch: &Watch) -> std::sync::MutexGuard<'_, Progress> {
    // Nothing can panic while it is held.
    watch.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The client's side of the connection broke while its body was being sent on; the cause is kept in the [`Watch`].
#[derive(Debug, thiserror::Error)]
#[error("the client's request body failed")]
struct ClientFailed;

/// A request body as hyper sends it.
pub(super) struct RequestBody {
    body: Body,
    watched: Option<(Watch, Arc<Plan>)>,
}

impl RequestBody {
    /// No body at all: nothing to watch, and the request can be sent again.
    pub(super) fn none() -> Self {
        RequestBody {
            body: Body::empty(),
            watched: None,
        }
    }

    /// A body that streams.
    pub(super) fn watched(body: Body, plan: &Arc<Plan>) -> (Self, Watch) {
        let watch = Arc::new(Mutex::new(Progress {
            failure: None,
            moved_at: Instant::now(),
        }));
        let body = RequestBody {
            body,
            watched: Some((Arc::clone(&watch), Arc::clone(plan))),
        };
        (body, watch)
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let Some((watch, plan)) = &self.watched else {
            return Poll::Ready(frame);
        };
        let mut progress = lock(watch);
        progress.moved_at = Instant::now();
        Poll::Ready(match frame {
            Some(Err(error)) => {
                progress.failure = Some(error);
                Some(Err(Box::new(ClientFailed)))
            }
            Some(Ok(mut frame)) => {
                // Some servers merge trailers into headers: what a client may not say above it may not say below.
                if let Some(trailers) = frame.trailers_mut() {
                    hop_by_hop::strip(trailers);
                    plan.guarded.strip(trailers);
                    trailers.remove(http::header::COOKIE);
                }
                Some(Ok(frame))
            }
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The upstream was silent within its answer for too long.
#[derive(Debug, thiserror::Error)]
#[error("the upstream sent nothing for {0:?} within its answer")]
pub struct AnswerStalled(pub Duration);

/// The upstream reset the stream of an answer that had not ended.
#[derive(Debug, thiserror::Error)]
#[error("the upstream broke its answer off")]
struct AnswerBrokenOff;

/// An answer's body as the client gets it.
pub(super) struct ResponseBody {
    body: Incoming,
    /// Whether it comes over HTTP/2.
    http2: bool,
    /// The connection it comes from, until it is complete.
    lease: Option<Lease>,
    /// `None`: silence is part of the protocol.
    idle_timeout: Option<Duration>,
    /// Set while nothing comes.
    silent_since: Option<Instant>,
    deadline: Deadline,
}

impl ResponseBody {
    pub(super) fn new(
        body: Incoming,
        http2: bool,
        lease: Option<Lease>,
        idle_timeout: Option<Duration>,
    ) -> Self {
        ResponseBody {
            body,
            http2,
            lease,
            idle_timeout,
            silent_since: None,
            deadline: Deadline::default(),
        }
    }

    /// Gives the connection back when nothing of this answer is left on it.
    fn release_if_complete(&mut self) {
        if self.body.is_end_stream()
            && let Some(lease) = self.lease.take()
        {
            lease.give_back();
        }
    }

    /// Ready when nothing came for too long; says how long that was.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        let Some(timeout) = self.idle_timeout else {
            return Poll::Pending;
        };
        let since = *self.silent_since.get_or_insert_with(Instant::now);
        self.deadline.poll_at(since + timeout, cx).map(|()| timeout)
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
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            let silence = ready!(this.poll_idle(cx));
            this.lease = None;
            return Poll::Ready(Some(Err(Box::new(AnswerStalled(silence)))));
        };
        this.silent_since = None;
        Poll::Ready(match frame {
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    hop_by_hop::strip(trailers);
                    cookie::refuse_ours_from_upstream(trailers);
                }
                this.release_if_complete();
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                this.lease = None;
                Some(Err(Box::new(error)))
            }
            // hyper takes a reset with `NO_ERROR` for the end; it may follow that, and never replaces it (RFC 9113 section 8.1).
            None if this.http2 && !this.body.is_end_stream() => {
                Some(Err(Box::new(AnswerBrokenOff)))
            }
            None => {
                if let Some(lease) = this.lease.take() {
                    lease.give_back();
                }
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // An answer to HEAD, or one whose length was announced, may be complete without its end having been polled.
        self.release_if_complete();
    }
}
