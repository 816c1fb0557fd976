//! Answers that live on after their head, and must end with their session: event streams, gRPC, camera pictures, lines of
//! JSON.
//!
//! WebSockets are tunnels of the upstream engine; this is for bodies. Must not touch what flows.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::body::{Body, BodyError};
use crate::headers::media_type;
use crate::upstream::SessionEnd;

/// Whether an answer's body is a stream without a natural end.
pub(super) fn outlives_its_head(headers: &HeaderMap) -> bool {
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

/// The body, cut with an error when its session ends.
pub(super) fn until(body: Body, end: SessionEnd) -> Body {
    Body::stream(Until { body, end })
}

/// The session of a streamed answer has ended.
#[derive(Debug, thiserror::Error)]
#[error("the session of this stream has ended")]
struct SessionEnded;

struct Until {
    body: Body,
    end: SessionEnd,
}

impl HttpBody for Until {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(Box::new(SessionEnded))));
        }
        Pin::new(&mut self.body).poll_frame(cx)
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
