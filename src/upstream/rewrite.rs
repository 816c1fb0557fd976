//! What changes between the client's request and the upstream's, and between the upstream's answer and the client's.
//!
//! The order is the point: what concerns one hop goes first, then every name that only the gateway may write, then our
//! cookies; only then are ours written. Must not send anything.

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};

use crate::auth::Permit;
use crate::headers::forwarded::Received;
use crate::headers::{cookie, forwarded, hop_by_hop, media_type};
use crate::upstream::assertion::{self, Assertion};
use crate::upstream::{Forwarding, Plan, UpstreamError, identity};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// About as many fields as the gateway writes.
const OURS: usize = 14;
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// What was read from a client's head before it was cleaned.
pub(super) struct Cleaned {
    received: Received,
    takes_trailers: bool,
}

/// Takes out of a client's head what concerns its hop only, every name that only the gateway may write, and our cookies.
pub(super) fn clean(headers: &mut HeaderMap, plan: &Plan, context: &Forwarding<'_>) -> Cleaned {
    let takes_trailers =
        headers.keys().any(|name| name == TE) && hop_by_hop::lists(headers, &TE, "trailers");
    hop_by_hop::strip(headers);
    let received = if context.trusted_peer {
        Received::from_trusted(headers)
    } else {
        Received::default()
    };
    plan.guarded.strip(headers);
    cookie::strip_ours(headers);
    Cleaned {
        received,
        takes_trailers,
    }
}

/// Writes what the gateway says into a cleaned head. `websocket` = it was found to ask for one, and an upgrade may follow.
pub(super) fn write(
    headers: &mut HeaderMap,
    cleaned: &Cleaned,
    permit: &Permit,
    plan: &Plan,
    context: &Forwarding<'_>,
    websocket: bool,
) -> Result<(), UpstreamError> {
    // Room for all that is written from here on, so that the map grows once.
    headers.reserve(OURS);
    forwarded::write(headers, &cleaned.received, context.hop);
    headers.insert(X_REQUEST_ID, context.request_id.clone());
    // RFC 9110 section 7.6.3: a gateway adds itself, under a pseudonym.
    headers.append(VIA, HeaderValue::from_static("1.1 vestibule"));
    if websocket {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, WEBSOCKET);
    } else if cleaned.takes_trailers {
        // RFC 9110 section 10.1.4: TE is of this hop, and says so.
        headers.insert(TE, TRAILERS);
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    write_identity(headers, permit, plan, context)
}

fn write_identity(
    headers: &mut HeaderMap,
    permit: &Permit,
    plan: &Plan,
    context: &Forwarding<'_>,
) -> Result<(), UpstreamError> {
    let Some(subject) = permit.subject() else {
        return Ok(());
    };
    // It was for the gateway: an upstream could use it at every other one, in its owner's name.
    if !subject.travels_by_cookie() {
        headers.remove(AUTHORIZATION);
    }
    let index = permit.upstream().0;
    let upstream = plan
        .settings
        .get(index)
        .ok_or(UpstreamError::Unconfigured)?;
    identity::with(subject, &plan.settings, index, |derived| {
        derived.write(headers);
        if !upstream.assertion {
            return Ok(());
        }
        let kept = derived.assertion.load();
        let value = match kept.as_deref() {
            Some(kept) if kept.serves(context.keys, context.now) => kept.value.clone(),
            _ => {
                let made = Assertion::sign(
                    &plan.origin,
                    &upstream.name,
                    subject,
                    context.keys,
                    context.now,
                )?;
                let value = made.value.clone();
                derived.assertion.store(Some(std::sync::Arc::new(made)));
                value
            }
        };
        headers.insert(assertion::HEADER, value);
        Ok(())
    })
    .unwrap_or(Err(UpstreamError::Unconfigured))
}

/// The judged target as a URI, byte for byte; the client's own URI is used again when it is the same text.
pub(super) fn target(received: &Uri, permit: &Permit) -> Result<PathAndQuery, UpstreamError> {
    let judged = permit.target().as_str();
    match received.path_and_query() {
        Some(same) if same.as_str() == judged => Ok(same.clone()),
        _ => {
            let built = PathAndQuery::try_from(judged).map_err(|_| UpstreamError::Target)?;
            // `http` cuts what it takes for a fragment; such a text must not travel on in another meaning.
            if built.as_str() == judged {
                Ok(built)
            } else {
                Err(UpstreamError::Target)
            }
        }
    }
}

/// Refuses answers that could be read two ways (RFC 9112 section 6.3); their connection must not be used again.
pub(super) fn answer_is_sound(status: StatusCode, headers: &HeaderMap) -> bool {
    // One walk: this is asked of every answer.
    let (mut length, mut chunked) = (false, false);
    for (name, value) in headers {
        if name == CONTENT_LENGTH {
            let digits = value.as_bytes();
            let one_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
            // A list of equal numbers is legal to read and forbidden to pass on (RFC 9110 section 8.6).
            if length || !one_number {
                return false;
            }
            length = true;
        } else if name == TRANSFER_ENCODING {
            let coding = value.as_bytes().trim_ascii();
            if chunked || !coding.eq_ignore_ascii_case(b"chunked") {
                return false;
            }
            chunked = true;
        }
    }
    // Neither field belongs on an answer without a body, but many send them; only both at once is a riddle.
    !(length && chunked)
        && (!status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS)
}

/// Rewrites the head of an answer; returns how many cookies of ours the upstream tried to set.
pub(super) fn answer(status: StatusCode, headers: &mut HeaderMap) -> usize {
    hop_by_hop::strip(headers);
    if status == StatusCode::NO_CONTENT {
        // RFC 9110 section 8.6: must not be there.
        headers.remove(CONTENT_LENGTH);
    }
    if headers.keys().any(|name| name == TRAILER) && headers.contains_key(CONTENT_LENGTH) {
        headers.remove(TRAILER);
    }
    cookie::refuse_ours_from_upstream(headers)
}

/// Whether silence within the answer is part of its protocol: server-sent events and gRPC streams wait for something to
/// happen, and end with their client, their upstream or their session.
pub(super) fn may_be_silent(headers: &HeaderMap) -> bool {
    media_type::begins_with(headers, &["text/event-stream", "application/grpc"])
}

/// Writes the two fields that make an answer a switch to WebSocket.
pub(super) fn switching(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, WEBSOCKET);
}
