//! Answers for programs: RFC 9457 problems, and the gRPC form of a refusal.
//!
//! Must not say why in detail: a problem carries a public phrase and the request id that leads an operator to the cause.

use std::time::Duration;

use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, VARY, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{Response, StatusCode};
use serde::Serialize;

use crate::body::Body;

/// What went wrong, where the status alone does not say it: the last part of the problem's `type`. Stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemType {
    /// No more than the status says: `about:blank`.
    Status,
    /// Nobody is signed in; `login_url` says where to.
    SignInRequired,
    /// Somebody is signed in, but this route does not admit them.
    NotAllowed,
    /// An identity would be used and the request may come from another site.
    CrossSite,
    /// A renewal is needed and the store does not answer.
    StoreUnavailable,
    /// A renewal is needed and the provider, which has to be asked first, does not answer.
    ProviderUnavailable,
    /// What the store knows of sessions is needed, and it does not answer.
    SessionsUnavailable,
    /// Nobody can sign in now.
    SignInUnavailable,
    /// Sessions were to be ended, and it is not certain that they are.
    EndUnconfirmed,
    /// A bearer token was refused; `WWW-Authenticate` says how (RFC 6750 section 3.1).
    BearerRefused,
}

impl ProblemType {
    /// The `type` member.
    pub const fn uri(self) -> &'static str {
        match self {
            ProblemType::Status => "about:blank",
            ProblemType::SignInRequired => "urn:vestibule:problem:sign-in-required",
            ProblemType::NotAllowed => "urn:vestibule:problem:not-allowed",
            ProblemType::CrossSite => "urn:vestibule:problem:cross-site",
            ProblemType::StoreUnavailable => "urn:vestibule:problem:store-unavailable",
            ProblemType::ProviderUnavailable => "urn:vestibule:problem:provider-unavailable",
            ProblemType::SessionsUnavailable => "urn:vestibule:problem:sessions-unavailable",
            ProblemType::SignInUnavailable => "urn:vestibule:problem:sign-in-unavailable",
            ProblemType::EndUnconfirmed => "urn:vestibule:problem:end-unconfirmed",
            ProblemType::BearerRefused => "urn:vestibule:problem:bearer-refused",
        }
    }

    /// The `title` member; RFC 9457 section 4.2.1 wants the status phrase for `about:blank`.
    fn title(self, status: StatusCode) -> &'static str {
        match self {
            ProblemType::Status => status.canonical_reason().unwrap_or("Error"),
            ProblemType::SignInRequired => "Sign-in required",
            ProblemType::NotAllowed => "Not allowed",
            ProblemType::CrossSite => "Cross-site request refused",
            ProblemType::StoreUnavailable | ProblemType::ProviderUnavailable => {
                "Session cannot be renewed now"
            }
            ProblemType::SessionsUnavailable => "Sessions cannot be looked up now",
            ProblemType::SignInUnavailable => "Signing in is not possible now",
            ProblemType::EndUnconfirmed => "The session's end is not confirmed",
            ProblemType::BearerRefused => "Bearer token refused",
        }
    }
}

/// A problem under construction.
#[derive(Clone, Debug, Serialize)]
#[must_use]
pub struct Problem<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    login_url: Option<&'a str>,
    #[serde(skip)]
    retry_after: Option<Duration>,
    #[serde(skip)]
    challenge: Option<String>,
}

impl<'a> Problem<'a> {
    /// A problem that says what its type and status say.
    pub fn new(status: StatusCode, kind: ProblemType) -> Self {
        Problem {
            kind: kind.uri(),
            title: kind.title(status),
            status: status.as_u16(),
            detail: None,
            request_id: None,
            login_url: None,
            retry_after: None,
            challenge: None,
        }
    }

    /// The 401 for a request that nobody is signed in for. `origin` becomes the realm.
    ///
    /// A 401 needs a challenge (RFC 9110 section 15.5.2), and cookies have no registered scheme. `Bearer` without an
    /// error code (RFC 6750 section 3: no credentials were sent that could be judged) is what gateways and APIs of this
    /// kind send: it is registered, every client library knows it, and no browser opens a password window for it, as it
    /// would for `Basic`. People find `login_url` instead.
    pub fn sign_in_required(origin: &str, login_url: &'a str) -> Self {
        let mut problem = Problem::new(StatusCode::UNAUTHORIZED, ProblemType::SignInRequired)
            .detail("Sign in at login_url, then send the request again.");
        problem.login_url = Some(login_url);
        problem.challenge = Some(format!("Bearer realm=\"{origin}\""));
        problem
    }

    /// The answer to a bearer token that is not accepted, or not enough (RFC 6750 section 3). `error` and `description` have no
    /// quotes or backslashes; `scope` is what would be enough.
    pub fn bearer(
        status: StatusCode,
        origin: &str,
        error: &'static str,
        description: &'static str,
        scope: Option<&str>,
    ) -> Self {
        let mut problem = Problem::new(status, ProblemType::BearerRefused).detail(description);
        let mut challenge = format!(
            "Bearer realm=\"{origin}\", error=\"{error}\", error_description=\"{description}\""
        );
        if let Some(scope) = scope {
            challenge.push_str(&format!(", scope=\"{scope}\""));
        }
        problem.challenge = Some(challenge);
        problem
    }

    /// What the reader can do about it; never an internal cause.
    pub fn detail(mut self, detail: &'a str) -> Self {
        self.detail = Some(detail);
        self
    }

    /// The id under which the operator finds the request.
    pub fn request_id(mut self, request_id: &'a str) -> Self {
        self.request_id = Some(request_id);
        self
    }

    /// When to try again.
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// The complete answer.
    pub fn response(&self) -> Response<Body> {
        // Strings and numbers always serialize; an empty object would still be valid JSON.
        let json = serde_json::to_vec(self).unwrap_or_else(|_| b"{}".to_vec());
        let mut response = Response::new(Body::from(json));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        // The same target gives a browser's navigation something else.
        headers.insert(
            VARY,
            HeaderValue::from_static("Accept, Cookie, Sec-Fetch-Mode"),
        );
        if let Some(after) = self.retry_after {
            headers.insert(RETRY_AFTER, retry_after_value(after));
        }
        if let Some(value) = self
            .challenge
            .as_ref()
            .and_then(|text| HeaderValue::from_str(text).ok())
        {
            headers.insert(WWW_AUTHENTICATE, value);
        }
        response
    }
}

/// `Retry-After` in whole seconds, rounded up, at least one: who comes back on the second is not refused again.
pub fn retry_after_value(after: Duration) -> HeaderValue {
    HeaderValue::from(whole_seconds(after))
}

/// Seconds, rounded up, at least one.
pub(crate) fn whole_seconds(after: Duration) -> u64 {
    after
        .as_secs()
        .saturating_add(u64::from(after.subsec_nanos() > 0))
        .max(1)
}

/// A gRPC status code that the gateway itself gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrpcStatus {
    /// 16: nobody is signed in.
    Unauthenticated,
    /// 7: signed in, but not admitted; or from another site.
    PermissionDenied,
    /// 14: the store or the upstream does not answer.
    Unavailable,
    /// 4: the upstream took too long.
    DeadlineExceeded,
    /// 12: no such route.
    Unimplemented,
    /// 8: too many requests, or too large.
    ResourceExhausted,
    /// 3: no well-formed request.
    InvalidArgument,
    /// 13: a fault of the gateway.
    Internal,
}

impl GrpcStatus {
    const fn code(self) -> &'static str {
        match self {
            GrpcStatus::InvalidArgument => "3",
            GrpcStatus::DeadlineExceeded => "4",
            GrpcStatus::PermissionDenied => "7",
            GrpcStatus::ResourceExhausted => "8",
            GrpcStatus::Unimplemented => "12",
            GrpcStatus::Internal => "13",
            GrpcStatus::Unavailable => "14",
            GrpcStatus::Unauthenticated => "16",
        }
    }
}

/// What a `grpc-message` encodes besides non-ASCII.
const GRPC_MESSAGE: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b'%');

/// A gRPC refusal: HTTP 200 and the status among the headers ("Trailers-Only"), which every gRPC client reads.
pub fn grpc(status: GrpcStatus, message: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        HeaderName::from_static("grpc-status"),
        HeaderValue::from_static(status.code()),
    );
    let message = percent_encoding::utf8_percent_encode(message, GRPC_MESSAGE);
    // Percent-encoded text is a header value.
    if let Ok(value) = HeaderValue::from_str(&message.to_string()) {
        headers.insert(HeaderName::from_static("grpc-message"), value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(response: Response<Body>) -> serde_json::Value {
        let Body::Full(Some(bytes)) = response.into_body() else {
            panic!("no body")
        };
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn a_401_says_where_to_sign_in() {
        let response = Problem::sign_in_required(
            "https://app.example.com",
            "https://app.example.com/.auth/login?rd=/x",
        )
        .request_id("r1")
        .response();
        assert_eq!(response.status(), 401);
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), "application/problem+json");
        assert_eq!(
            header("www-authenticate"),
            "Bearer realm=\"https://app.example.com\""
        );
        assert_eq!(header("cache-control"), "no-store");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(
            json(response),
            serde_json::json!({
                "type": "urn:vestibule:problem:sign-in-required",
                "title": "Sign-in required",
                "status": 401,
                "detail": "Sign in at login_url, then send the request again.",
                "request_id": "r1",
                "login_url": "https://app.example.com/.auth/login?rd=/x",
            })
        );
    }

    #[test]
    fn a_plain_problem_says_what_its_status_says() {
        let response = Problem::new(StatusCode::SERVICE_UNAVAILABLE, ProblemType::Status)
            .retry_after(Duration::from_millis(1200))
            .response();
        assert_eq!(response.headers()["retry-after"], "2");
        assert!(!response.headers().contains_key("www-authenticate"));
        assert_eq!(
            json(response),
            serde_json::json!({"type": "about:blank", "title": "Service Unavailable", "status": 503})
        );
    }

    #[test]
    fn retry_after_is_whole_seconds_rounded_up() {
        for (millis, want) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (59_999, "60")] {
            assert_eq!(retry_after_value(Duration::from_millis(millis)), want);
        }
    }

    #[test]
    fn grpc_refusals_are_trailers_only() {
        let response = grpc(GrpcStatus::Unauthenticated, "sign in: 100% é\n");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/grpc");
        assert_eq!(response.headers()["grpc-status"], "16");
        assert_eq!(
            response.headers()["grpc-message"],
            "sign in: 100%25 %C3%A9%0A"
        );
        assert!(matches!(response.into_body(), Body::Full(None)));
    }
}
