//! The answers that the gateway gives itself: a page for people, a problem (RFC 9457) for programs, a status for gRPC.
//! One refusal, three dresses. Must not decide who is refused.

use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};

use super::Context;
use crate::auth::bearer::BearerRefusal;
use crate::auth::decision::{self, RequestKind};
use crate::auth::path::{CanonicalTarget, TargetRefusal};
use crate::auth::route::{Matched, Route};
use crate::body::Body;
use crate::login::form::{FormError, ReadError};
use crate::login::language::Language;
use crate::login::pages::{self, View};
use crate::login::problem::{self, GrpcStatus, Problem, ProblemType};
use crate::login::return_to::{self, ReturnTo};

/// How the client asked, kept beside the request because forwarding consumes the request.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    kind: RequestKind,
    /// Whether a person is looking: refusals become pages. True for form posts, which are no GET navigation.
    person: bool,
    language: Language,
}

impl Asked {
    pub(super) fn of(request: &Request<Body>) -> Self {
        let kind = decision::request_kind(request.method(), request.headers());
        // Whether a GET with these headers would be a navigation says whether a person reads the answer to a POST.
        let person = match kind {
            RequestKind::Navigation => true,
            RequestKind::Grpc => false,
            // Of a GET it is known already.
            RequestKind::Api => {
                request.method() != Method::GET
                    && decision::request_kind(&Method::GET, request.headers())
                        == RequestKind::Navigation
            }
        };
        Asked {
            kind,
            person,
            language: Language::from_headers(request.headers()),
        }
    }

    /// How the client should be asked to sign in.
    pub(super) fn kind(self) -> RequestKind {
        self.kind
    }

    /// Whether a person is looking.
    pub(super) fn person(self) -> bool {
        self.person
    }
}

/// A refusal in neutral terms.
pub struct Refusal {
    /// The HTTP status.
    pub status: StatusCode,
    /// What programs may branch on.
    pub problem: ProblemType,
    /// What can be done about it, for programs; never a cause.
    pub detail: &'static str,
    /// When to try again.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal that its status explains.
    pub fn new(status: StatusCode, detail: &'static str) -> Self {
        Refusal {
            status,
            problem: ProblemType::Status,
            detail,
            retry_after: None,
        }
    }

    /// The refusal as this client reads it.
    pub fn answer(&self, view: &View<'_>, asked: &Asked) -> Response<Body> {
        if asked.person {
            return pages::error(view, self.status, self.problem, self.retry_after);
        }
        if asked.kind == RequestKind::Grpc {
            return problem::grpc(grpc_status(self.status), self.detail);
        }
        let mut answer = Problem::new(self.status, self.problem)
            .detail(self.detail)
            .request_id(view.request_id);
        if let Some(after) = self.retry_after {
            answer = answer.retry_after(after);
        }
        answer.response()
    }
}

/// What every page needs to know of this request.
pub(super) fn view<'a>(context: &Context<'a>, asked: &Asked) -> View<'a> {
    View {
        language: asked.language,
        host: context.host,
        request_id: context.request_id,
    }
}

fn grpc_status(status: StatusCode) -> GrpcStatus {
    match status {
        StatusCode::UNAUTHORIZED => GrpcStatus::Unauthenticated,
        StatusCode::FORBIDDEN => GrpcStatus::PermissionDenied,
        StatusCode::GATEWAY_TIMEOUT => GrpcStatus::DeadlineExceeded,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => GrpcStatus::Unavailable,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => GrpcStatus::Unimplemented,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::PAYLOAD_TOO_LARGE => {
            GrpcStatus::ResourceExhausted
        }
        StatusCode::INTERNAL_SERVER_ERROR => GrpcStatus::Internal,
        _ => GrpcStatus::InvalidArgument,
    }
}

fn refuse(
    context: &Context<'_>,
    asked: &Asked,
    status: StatusCode,
    detail: &'static str,
) -> Response<Body> {
    Refusal::new(status, detail).answer(&view(context, asked), asked)
}

/// 421: the host is none of ours (RFC 9110 section 7.4).
pub(super) fn misdirected(context: &Context<'_>, asked: &Asked) -> Response<Body> {
    // The host is the client's word here and is not shown.
    let view = View {
        language: asked.language,
        host: &context.live.host,
        request_id: context.request_id,
    };
    Refusal::new(
        StatusCode::MISDIRECTED_REQUEST,
        "this host is not served here",
    )
    .answer(&view, asked)
}

/// 400 or 414: a path that could be read two ways is never routed.
pub(super) fn bad_target(
    context: &Context<'_>,
    asked: &Asked,
    refusal: TargetRefusal,
) -> Response<Body> {
    let (status, detail) = match refusal {
        TargetRefusal::NotAPath => (StatusCode::BAD_REQUEST, "the request target is not a path"),
        TargetRefusal::DotSegment => (
            StatusCode::BAD_REQUEST,
            "dot segments are not accepted in a path",
        ),
        TargetRefusal::Slash => (
            StatusCode::BAD_REQUEST,
            "encoded slashes and backslashes are not accepted in a path",
        ),
        TargetRefusal::EmptySegment => (
            StatusCode::BAD_REQUEST,
            "empty path segments are not accepted",
        ),
        TargetRefusal::Character => (
            StatusCode::BAD_REQUEST,
            "the request target has a character that no URI has",
        ),
        TargetRefusal::Encoding => (StatusCode::BAD_REQUEST, "the percent-encoding is broken"),
        TargetRefusal::TooLong => (StatusCode::URI_TOO_LONG, "the request target is too long"),
    };
    refuse(context, asked, status, detail)
}

/// 404, 405 or 400: no rule, no forwarding.
pub(super) fn unmatched(
    context: &Context<'_>,
    asked: &Asked,
    matched: Matched<'_>,
) -> Response<Body> {
    match matched {
        Matched::UnknownHost | Matched::NoRoute | Matched::Route(..) => not_found(context, asked),
        Matched::AmbiguousPath => refuse(
            context,
            asked,
            StatusCode::BAD_REQUEST,
            "with and without its ;parameters this path leads to different places",
        ),
        Matched::WrongMethod(methods) => {
            let allowed: Vec<&str> = methods.iter().map(Method::as_str).collect();
            wrong_method(context, asked, &allowed.join(", "))
        }
    }
}

/// 404.
pub(super) fn not_found(context: &Context<'_>, asked: &Asked) -> Response<Body> {
    refuse(
        context,
        asked,
        StatusCode::NOT_FOUND,
        "there is nothing here",
    )
}

/// 405 with `Allow`.
pub(super) fn wrong_method(context: &Context<'_>, asked: &Asked, allow: &str) -> Response<Body> {
    let mut response = refuse(
        context,
        asked,
        StatusCode::METHOD_NOT_ALLOWED,
        "this method is not accepted here",
    );
    if let Ok(allow) = HeaderValue::from_str(allow) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}

/// 415, 413 or 400: a form that could not be read.
pub(super) fn bad_form(context: &Context<'_>, asked: &Asked, error: &ReadError) -> Response<Body> {
    let (status, detail) = match error {
        ReadError::ContentType => (
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send the form as application/x-www-form-urlencoded",
        ),
        ReadError::Form(FormError::TooLarge) => {
            (StatusCode::PAYLOAD_TOO_LARGE, "the form is too large")
        }
        ReadError::Form(_) => (
            StatusCode::BAD_REQUEST,
            "the form is broken: each field once, valid UTF-8",
        ),
        ReadError::Incomplete(_) => (
            StatusCode::BAD_REQUEST,
            "the form did not arrive completely",
        ),
    };
    refuse(context, asked, status, detail)
}

/// 400: a sign-in form without name or password.
pub(super) fn incomplete_form(context: &Context<'_>, asked: &Asked) -> Response<Body> {
    refuse(
        context,
        asked,
        StatusCode::BAD_REQUEST,
        "the form needs username and password",
    )
}

/// Nobody is signed in: to the sign-in page, or a 401 that says where it is.
pub(super) fn challenge(
    context: &Context<'_>,
    asked: &Asked,
    kind: RequestKind,
    target: &CanonicalTarget,
) -> Response<Body> {
    match kind {
        RequestKind::Navigation => pages::see_other(&login_url(context, target.as_str())),
        RequestKind::Grpc | RequestKind::Api => unauthorized(context, asked, target.as_str()),
    }
}

/// Where to sign in and come back to this target: our own page, or that of the service of `[external]`.
pub(super) fn login_url(context: &Context<'_>, target: &str) -> String {
    match &context.app.external {
        Some(external) => return_to::with_return(external.login_url(), context.own_origin, target),
        None => return_to::login_url_for(target),
    }
}

/// 401 with `WWW-Authenticate` and `login_url` (gRPC: status 16). Never a redirect, whoever asks.
pub(super) fn unauthorized(context: &Context<'_>, asked: &Asked, target: &str) -> Response<Body> {
    if asked.kind == RequestKind::Grpc {
        return problem::grpc(GrpcStatus::Unauthenticated, "sign in first");
    }
    let login_url = login_url(context, target);
    Problem::sign_in_required(context.own_origin, &login_url)
        .request_id(context.request_id)
        .response()
}

/// 401, or 400 where nobody could say which token counts (RFC 6750 section 3.1). Never a redirect: whoever sends a token
/// reads statuses.
pub(super) fn bearer_refused(
    context: &Context<'_>,
    kind: RequestKind,
    refusal: BearerRefusal,
) -> Response<Body> {
    let words = refusal.words();
    if kind == RequestKind::Grpc {
        return problem::grpc(GrpcStatus::Unauthenticated, words);
    }
    let (status, error) = match refusal {
        BearerRefusal::Several => (StatusCode::BAD_REQUEST, "invalid_request"),
        _ => (StatusCode::UNAUTHORIZED, "invalid_token"),
    };
    Problem::bearer(status, context.own_origin, error, words, None)
        .request_id(context.request_id)
        .response()
}

/// 403: the token is good, and has none of the scopes of this route, which the answer names.
pub(super) fn insufficient_scope(
    context: &Context<'_>,
    asked: &Asked,
    route: &Route,
) -> Response<Body> {
    let words = "the token has none of the scopes of this route";
    if asked.kind == RequestKind::Grpc {
        return problem::grpc(GrpcStatus::PermissionDenied, words);
    }
    let scopes = route.allow.scopes.join(" ");
    let (status, error) = (StatusCode::FORBIDDEN, "insufficient_scope");
    Problem::bearer(status, context.own_origin, error, words, Some(&scopes))
        .request_id(context.request_id)
        .response()
}

/// 403: signed in, but this route does not admit them.
pub(super) fn not_allowed(context: &Context<'_>, asked: &Asked, user: &str) -> Response<Body> {
    if asked.person {
        return pages::not_allowed(&view(context, asked), user);
    }
    let mut refusal = Refusal::new(
        StatusCode::FORBIDDEN,
        "this route does not admit the signed-in user",
    );
    refusal.problem = ProblemType::NotAllowed;
    refusal.answer(&view(context, asked), asked)
}

/// 403: an identity would be used and the request may come from another site.
pub(super) fn cross_site(context: &Context<'_>, asked: &Asked) -> Response<Body> {
    let mut refusal = Refusal::new(
        StatusCode::FORBIDDEN,
        "a request that changes something needs Sec-Fetch-Site: same-origin, or an Origin header with this very origin",
    );
    refusal.problem = ProblemType::CrossSite;
    refusal.answer(&view(context, asked), asked)
}

/// Where to after signing in.
pub(super) fn signed_in(rd: &ReturnTo) -> Response<Body> {
    pages::see_other(rd.as_str())
}

/// 204, for programs.
pub(super) fn no_content() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// 403 at sign-in: with all its groups and names the identity would not fit into a cookie that browsers keep.
pub(super) fn identity_too_large(context: &Context<'_>, asked: &Asked) -> Response<Body> {
    refuse(
        context,
        asked,
        StatusCode::FORBIDDEN,
        "this account has too many or too long groups for a session cookie; an operator must shorten them",
    )
}
