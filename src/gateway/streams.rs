//! Answers that live on after their head, and must end with their session: event streams, gRPC, camera pictures, lines of
//! JSON, long downloads.
//!
//! WebSockets are tunnels of the upstream engine; this is for bodies. Must not touch what flows, nor cost the many answers
//! that are short: those are never on the list of open streams. A client that does not read is not told of the end before
//! it does: nothing flows to it either.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::auth::Subject;
use crate::body::{Body, BodyError};
use crate::headers::media_type;
use crate::session::Sessions;
use crate::upstream::SessionEnd;

/// An answer of no more bytes is not watched, and of a longer one no more bytes pass before it is.
const SHORT: u64 = 64 << 10;

/// Whether an answer's body is a stream without a natural end.
fn outlives_its_head(headers: &HeaderMap) -> bool {
    media_type::begins_with(
        headers,
        &[
            "text/event-stream",
            "application/grpc",
            "multipart/x-mixed-replace",
            "application/x-ndjson",
            "application/ndjson",
            "application/json-seq",
        ],
    )
}

/// The body, cut with an error when its session ends, if it can last that long.
pub(super) fn until_session_ends(
    body: Body,
    headers: &HeaderMap,
    sessions: &Arc<Sessions>,
    subject: &Arc<Subject>,
) -> Body {
    if outlives_its_head(headers) {
        let end = super::end_of(sessions.streams().open(Arc::clone(subject)));
        return Body::stream(Until {
            body,
            end: End::Watched(end),
        });
    }
    if body.size_hint().upper().is_some_and(|most| most <= SHORT) {
        return body;
    }
    Body::stream(Until {
        body,
        end: End::NotYet {
            sessions: Arc::clone(sessions),
            subject: Arc::clone(subject),
            passed: 0,
        },
    })
}

/// The session of a streamed answer has ended.
#[derive(Debug, thiserror::Error)]
#[error("the session of this stream has ended")]
struct SessionEnded;

struct Until {
    body: Body,
    end: End,
}

/// How a body learns of its session's end.
enum End {
    /// Not at all while all of it comes at once.
    NotYet {
        sessions: Arc<Sessions>,
        subject: Arc<Subject>,
        passed: u64,
    },
    /// It is on the list.
    Watched(SessionEnd),
}

impl Until {
    /// On the list from now on. If the session is over by now, the next look at the end says so.
    fn watch(&mut self) {
        if let End::NotYet {
            sessions, subject, ..
        } = &self.end
        {
            let guard = sessions.streams().open(Arc::clone(subject));
            self.end = End::Watched(super::end_of(guard));
        }
    }
}

impl HttpBody for Until {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let End::NotYet { passed, .. } = &mut this.end {
            match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(frame) => {
                    let data = match &frame {
                        Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
                        Some(Err(_)) | None => 0,
                    };
                    *passed = passed.saturating_add(data as u64);
                    if *passed > SHORT {
                        this.watch();
                    }
                    return Poll::Ready(frame);
                }
                Poll::Pending => this.watch(),
            }
        }
        let End::Watched(end) = &mut this.end else {
            return Poll::Pending;
        };
        if end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(Box::new(SessionEnded))));
        }
        Pin::new(&mut this.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_endless_answer_ends_with_its_session() {
        let check = |kind: &'static str, want: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(
                http::header::CONTENT_TYPE,
                http::HeaderValue::from_static(kind),
            );
            assert_eq!(outlives_its_head(&headers), want, "{kind}");
        };
        check("text/event-stream; charset=utf-8", true);
        check("application/grpc+proto", true);
        check("Multipart/X-Mixed-Replace; boundary=frame", true);
        check("application/x-ndjson", true);
        check("application/json-seq", true);
        check("application/json", false);
        check("text/html", false);
        assert!(!outlives_its_head(&HeaderMap::new()));
    }
}
