//! `/.auth/logout`: the page with the button, and the end of the session.

use http::{HeaderMap, Method, Request, Response};

use super::super::answer::{self, Asked};
use super::super::session_cookies::SessionCookies;
use super::super::{Context, identify};
use super::{ending, is_suspect, leaving};
use crate::audit::AuditEvent;
use crate::auth::SessionId;
use crate::auth::credentials::{self, Presented};
use crate::auth::decision::{AccessFinding, AnonymousReason, Decision, RefreshFinding};
use crate::auth::path::CanonicalTarget;
use crate::body::Body;
use crate::error::GatewayError;
use crate::login::pages;
use crate::session::Reason;

/// The query of the page that follows a sign-out.
const SIGNED_OUT: &str = "done";
/// That page.
pub(super) const SIGNED_OUT_PAGE: &str = "/.auth/logout?done";

/// `GET /.auth/logout`.
pub(super) fn page(
    context: &Context<'_>,
    request: &Request<Body>,
    target: &CanonicalTarget,
    asked: &Asked,
) -> Response<Body> {
    let view = answer::view(context, asked);
    if target.query() == Some(SIGNED_OUT) {
        return pages::signed_out(&view);
    }
    if let Some(response) = leaving::came_back(context, request.headers(), target.query(), asked) {
        return response;
    }
    match identify(context, request.headers()) {
        Decision::SignedIn(subject) => pages::sign_out(&view, Some(&subject.identity().user)),
        Decision::Anonymous(AnonymousReason::NoCredentials) => pages::nobody_to_sign_out(&view),
        Decision::NeedsRenewal(_) | Decision::Anonymous(_) => pages::sign_out(&view, None),
    }
}

/// `POST /.auth/logout`: the session is over, durably, before anybody is told so.
pub(super) async fn sign_out(
    context: &Context<'_>,
    method: &Method,
    headers: &HeaderMap,
    asked: &Asked,
) -> Result<Response<Body>, GatewayError> {
    if is_suspect(context, method, headers) {
        return Ok(answer::cross_site(context, asked));
    }
    let mut onward = None;
    if let Some(session) = presented_session(context, headers) {
        if asked.person() {
            onward = leaving::to_provider(context, headers, session).await;
        }
        end(context, session, None).await?;
    }
    let mut response = match &onward {
        Some(onward) => onward.page(context, asked),
        None if asked.person() => pages::see_other(SIGNED_OUT_PAGE),
        None => answer::no_content(),
    };
    SessionCookies::Clear.apply(context, response.headers_mut());
    Ok(response)
}

/// Ends a session as its own browser asked, durably, and tells the audit stream; `user` where it is known whose it is.
pub(super) async fn end(
    context: &Context<'_>,
    session: SessionId,
    user: Option<&str>,
) -> Result<(), GatewayError> {
    let ended = context
        .app
        .sessions
        .end(session, ending(context, Reason::SignedOut))
        .await
        .map_err(GatewayError::End)?;
    let ended = ended.as_ref().map(|identity| identity.user.as_str());
    let user = user.or(ended);
    let event = AuditEvent::SignedOut { user, session };
    context.app.audit.record_for(&event, context.cause());
    Ok(())
}

/// The session that the cookies of a request belong to, by either of them; nothing is renewed.
pub(super) fn presented_session(context: &Context<'_>, headers: &HeaderMap) -> Option<SessionId> {
    let presented = credentials::from_headers(headers, &context.live.cookie_names);
    if let Presented::Value(token) = presented.access
        && let AccessFinding::Valid(subject) = context.app.sessions.check_access(token, context.now)
    {
        return subject.session();
    }
    match presented.refresh {
        Presented::Value(token) => match context.app.sessions.open_refresh(token) {
            RefreshFinding::Sealed(claims) => Some(claims.session),
            RefreshFinding::Absent | RefreshFinding::Forged | RefreshFinding::Foreign => None,
        },
        Presented::Absent | Presented::Conflicting => None,
    }
}
