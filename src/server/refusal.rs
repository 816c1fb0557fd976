//! What the server itself answers when a request never reaches the handler: a short problem (RFC 9457).
//!
//! Must not repeat anything the client sent.

use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Response, StatusCode};

use super::Protocol;
use crate::body::Body;

/// Why a request is refused: the status and a sentence for the developer on the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) reason: &'static str,
}

impl Refusal {
    pub(super) const TOO_LARGE: Refusal = Refusal {
        status: StatusCode::PAYLOAD_TOO_LARGE,
        reason: "the request body is larger than this server accepts",
    };
    pub(super) const TOO_SLOW: Refusal = Refusal {
        status: StatusCode::REQUEST_TIMEOUT,
        reason: "the request head did not arrive in time",
    };
    pub(super) const HEADERS_TOO_LARGE: Refusal = Refusal {
        status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        reason: "the request head is larger than this server accepts",
    };
    pub(super) const TOO_MANY_HEADERS: Refusal = Refusal {
        status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        reason: "the request has more header fields than this server accepts",
    };
    pub(super) const TARGET_TOO_LONG: Refusal = Refusal {
        status: StatusCode::URI_TOO_LONG,
        reason: "the request target is longer than this server accepts",
    };
    pub(super) const METHOD: Refusal = Refusal {
        status: StatusCode::NOT_IMPLEMENTED,
        reason: "this method is not available here",
    };
    pub(super) const VERSION: Refusal = Refusal {
        status: StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        reason: "this version of HTTP is not available here",
    };
    pub(super) const MISDIRECTED: Refusal = Refusal {
        status: StatusCode::MISDIRECTED_REQUEST,
        reason: "this connection was opened for another host",
    };
    pub(super) const EXPECTATION: Refusal = Refusal {
        status: StatusCode::EXPECTATION_FAILED,
        reason: "only `Expect: 100-continue` is available here",
    };
    pub(super) const BROKE: Refusal = Refusal {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        reason: "something went wrong in the gateway",
    };

    /// 400, with the rule that was broken.
    pub(super) const fn bad(reason: &'static str) -> Self {
        Refusal {
            status: StatusCode::BAD_REQUEST,
            reason,
        }
    }

    /// The answer; on HTTP/1 it is the connection's last, because its framing cannot be trusted any more.
    pub(super) fn last_response(self, protocol: Protocol, request_id: &str) -> Response<Body> {
        let mut response = self.response(request_id);
        if protocol == Protocol::Http1 {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response
    }

    /// The answer alone.
    pub(super) fn response(self, request_id: &str) -> Response<Body> {
        let body = format!(
            "{{\"type\":\"about:blank\",\"title\":\"{}\",\"status\":{},\"detail\":\"{}\"}}\n",
            self.status.canonical_reason().unwrap_or("Refused"),
            self.status.as_u16(),
            self.reason,
        );
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Ok(id) = HeaderValue::from_str(request_id) {
            headers.insert(HeaderName::from_static("x-request-id"), id);
        }
        response
    }
}
