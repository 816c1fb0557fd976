//! What callers of the admin API send, without surprises: bodies that no form can send, and queries of known names.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use super::shapes::Revoke;
use super::{Refusal, refusal};
use crate::control;

/// The largest body of a request; the longest sensible one is a name.
const MAX_BODY: usize = 16 << 10;
/// Most entries of one page of a list, and how many unless the caller says.
const MAX_PAGE: usize = 1000;
const PAGE: usize = 100;

/// The body of a request that changes something: JSON, and nothing that a form could send.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Incoming,
    patience: Duration,
) -> Result<Bytes, Refusal> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let is_json = types
        .next()
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"));
    if !is_json || types.next().is_some() {
        return Err(refusal(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send JSON with Content-Type: application/json",
        ));
    }
    match tokio::time::timeout(patience, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(refusal(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is too large",
        )),
        Ok(Err(_)) => Err(refusal(
            StatusCode::BAD_REQUEST,
            "the body did not arrive completely",
        )),
        Err(_) => Err(refusal(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not arrive in time",
        )),
    }
}

pub(super) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    // A list of values would be taken for the members in their order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(refusal(
            StatusCode::BAD_REQUEST,
            "the body must be a JSON object; see /openapi.json",
        ));
    }
    serde_json::from_slice(body).map_err(|error| {
        refusal(
            StatusCode::BAD_REQUEST,
            format!("the body is not what this operation takes: {error}"),
        )
    })
}

/// A query without surprises: known names only, each at most once.
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    pub(super) fn parse(query: Option<&str>, known: &[&str]) -> Result<Self, Refusal> {
        let mut fields = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if !known.contains(&&*name) {
                let detail = format!("unknown parameter; known here: {}", known.join(", "));
                return Err(refusal(StatusCode::BAD_REQUEST, detail));
            }
            if fields
                .insert(name.into_owned(), value.into_owned())
                .is_some()
            {
                return Err(refusal(StatusCode::BAD_REQUEST, "a parameter occurs twice"));
            }
        }
        Ok(Query(fields))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(super) fn limit(&self) -> Result<usize, Refusal> {
        let Some(text) = self.get("limit") else {
            return Ok(PAGE);
        };
        text.parse()
            .ok()
            .filter(|limit| (1..=MAX_PAGE).contains(limit))
            .ok_or_else(|| {
                let detail = format!("limit is a number from 1 to {MAX_PAGE}");
                refusal(StatusCode::BAD_REQUEST, detail)
            })
    }
}

impl Revoke {
    pub(super) fn meant(self) -> Result<control::Request, Refusal> {
        match self {
            Revoke {
                session: Some(session),
                user: None,
                provider: None,
                all: None,
            } => Ok(control::Request::SessionRevoke { session }),
            Revoke {
                session: None,
                user: Some(user),
                provider,
                all: None,
            } => Ok(control::Request::SessionRevokeUser { user, provider }),
            Revoke {
                session: None,
                user: None,
                provider: None,
                all: Some(true),
            } => Ok(control::Request::SessionRevokeAll),
            _ => Err(refusal(
                StatusCode::BAD_REQUEST,
                "name exactly one of: session; user, perhaps with provider; all: true",
            )),
        }
    }
}
