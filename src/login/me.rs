//! `GET /.auth/me`: who is signed in, as JSON. Must not contain a token, nor anything that could be used as one.

use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{Response, StatusCode};
use serde::Serialize;

use crate::auth::Subject;
use crate::body::Body;
use crate::clock::Timestamp;

#[derive(Serialize)]
struct Me<'a> {
    user: &'a str,
    email: Option<&'a str>,
    name: Option<&'a str>,
    preferred_username: Option<&'a str>,
    groups: &'a [String],
    provider: &'a str,
    amr: &'a [String],
    /// The session's id; it names the session (`vestibule session revoke`) and opens nothing. `null` where the session is
    /// another service's.
    session: Option<String>,
    /// When the person signed in.
    started_at: String,
    /// When the access token will be renewed at the latest; not the end of the session.
    expires_at: String,
}

/// The answer for a verified identity. An absent claim is `null`, so that the members are always the same; times are
/// RFC 3339.
pub fn response(subject: &Subject) -> Response<Body> {
    let identity = subject.identity();
    let me = Me {
        user: &identity.user,
        email: identity.email.as_deref(),
        name: identity.name.as_deref(),
        preferred_username: identity.preferred_username.as_deref(),
        groups: &identity.groups,
        provider: &identity.provider,
        amr: &identity.amr,
        session: subject.session().map(|session| session.to_string()),
        started_at: rfc3339(identity.auth_time),
        expires_at: rfc3339(subject.expires_at()),
    };
    json_response(&me)
}

/// What only the signed-in person may read, as JSON that no cache keeps.
pub(super) fn json_response(value: &impl Serialize) -> Response<Body> {
    // Strings and numbers always serialize; an empty object would still be valid JSON.
    let json = serde_json::to_vec(value).unwrap_or_else(|_| b"{}".to_vec());
    let mut response = Response::new(Body::from(json));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        VARY,
        HeaderValue::from_static("Accept, Cookie, Sec-Fetch-Mode"),
    );
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    );
    response
}

pub(super) fn rfc3339(at: Timestamp) -> String {
    jiff::Timestamp::from_second(at.as_secs())
        .map(|at| at.to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{AccessClaims, Generation, Identity, SessionId};

    #[test]
    fn the_identity_and_nothing_to_steal() {
        let claims = AccessClaims {
            identity: Identity {
                user: "alice".into(),
                email: Some("alice@example.com".into()),
                name: None,
                preferred_username: None,
                groups: vec!["staff".into()],
                provider: "local".into(),
                auth_time: Timestamp::from_secs(1_800_000_000),
                amr: vec!["pwd".into()],
            },
            session: SessionId::from_bytes([7; 16]),
            generation: Generation(3),
            began_at: Timestamp::from_secs(1_800_000_000),
            issued_at: Timestamp::from_secs(1_800_000_100),
            expires_at: Timestamp::from_secs(1_800_000_400),
            token_id: "jti".into(),
        };
        let response = response(&Subject::new(claims));
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(response.headers()["cache-control"], "no-store");
        let Body::Full(Some(bytes)) = response.into_body() else {
            panic!("no body")
        };
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(&bytes).unwrap(),
            serde_json::json!({
                "user": "alice",
                "email": "alice@example.com",
                "name": null,
                "preferred_username": null,
                "groups": ["staff"],
                "provider": "local",
                "amr": ["pwd"],
                "session": "BwcHBwcHBwcHBwcHBwcHBw",
                "started_at": "2027-01-15T08:00:00Z",
                "expires_at": "2027-01-15T08:06:40Z",
            })
        );
    }
}
