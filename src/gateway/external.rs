//! `[external]` on the request path: renewals by the service, its cookies towards upstreams and browsers, and what is left
//! of the endpoints when somebody else signs people in. Must not know what a renewal is: that is the engine's.

use std::time::Duration;

use http::header::USER_AGENT;
use http::{HeaderMap, HeaderValue, Method, Request, Response};

use super::answer::{self, Asked};
use super::endpoints::is_suspect;
use super::session_cookies::{self, SessionCookies};
use super::{Context, GatewayError, Trail};
use crate::audit::AuditEvent;
use crate::auth::credentials;
use crate::auth::decision::{AnonymousReason, Decision};
use crate::auth::path::CanonicalTarget;
use crate::auth::route::UpstreamId;
use crate::body::Body;
use crate::external::{Caller, External, Renewal, Sent};
use crate::login::pages;
use crate::login::return_to::ReturnTo;

/// When a client may try again while the service's keys cannot be fetched.
const KEYS_RETRY: Duration = Duration::from_secs(2);

/// One renewal by the service, and what it means for this request. Its cookies travel in the trail: they leave with
/// whatever answer there is.
pub(super) async fn renew(
    context: &Context<'_>,
    headers: &HeaderMap,
    trail: &mut Trail,
) -> Result<(Decision, SessionCookies), GatewayError> {
    // The decision found both a moment ago.
    let external = context.app.external.as_ref();
    let Some(external) = external else {
        return Err(GatewayError::RenewalLoop);
    };
    let presented = credentials::from_headers(headers, external.cookie_names());
    let Some(token) = presented.refresh.value() else {
        return Err(GatewayError::RenewalLoop);
    };
    let caller = Caller {
        client: context.client,
        user_agent: headers
            .get(USER_AGENT)
            .map_or(&b""[..], HeaderValue::as_bytes),
        request_id: context.request_id,
    };
    let (reason, cookies) = match external.renew(token, caller, context.now).await {
        Renewal::Renewed(grant) => {
            let subject = grant.pair.subject.clone();
            trail.renewed = Some(grant);
            return Ok((Decision::SignedIn(subject), SessionCookies::Untouched));
        }
        Renewal::Unavailable(retry_after) => {
            return Err(GatewayError::ProviderSilent { retry_after });
        }
        Renewal::Throttled(retry_after) => {
            return Err(GatewayError::RenewalsThrottled { retry_after });
        }
        Renewal::Refused(lines) => {
            record(context, "refused by the service");
            (
                AnonymousReason::RenewalRefused,
                SessionCookies::Service(lines),
            )
        }
        Renewal::Lost => {
            record(context, "the service's answer was lost");
            (AnonymousReason::RenewalLost, SessionCookies::Untouched)
        }
    };
    Ok((Decision::Anonymous(reason), cookies))
}

/// Whether [`prepare`] may have something to wait for.
pub(super) fn waits(context: &Context<'_>) -> bool {
    let external = context.app.external.as_deref();
    external.is_some_and(External::fetches_keys)
}

/// Before a request with an access token of the service is judged: its keys, where they are fetched.
pub(super) async fn prepare(
    context: &Context<'_>,
    headers: &HeaderMap,
) -> Result<(), GatewayError> {
    let Some(external) = &context.app.external else {
        return Ok(());
    };
    let presented = credentials::from_headers(headers, external.cookie_names());
    let Some(token) = presented.access.value() else {
        return Ok(());
    };
    external
        .prepare(token, context.now)
        .await
        .map_err(|_| GatewayError::ProviderSilent {
            retry_after: KEYS_RETRY,
        })
}

fn record(context: &Context<'_>, reason: &'static str) {
    let event = AuditEvent::ExternalRefused { reason };
    context.app.audit.record_for(&event, context.cause());
}

/// Before a request leaves: which of the service's cookies its upstream sees.
pub(super) async fn dress(
    context: &Context<'_>,
    upstream: UpstreamId,
    headers: &mut HeaderMap,
    trail: &Trail,
) -> Sent {
    match &context.app.external {
        // Boxed: it may wait, and its future would make every request's larger.
        Some(external) => {
            let renewed = trail.renewed.as_ref();
            Box::pin(external.dress(upstream, headers, context.client, renewed)).await
        }
        None => Sent::default(),
    }
}

/// When the answer has come: what it says about the service's cookies.
pub(super) fn answered(
    context: &Context<'_>,
    upstream: UpstreamId,
    sent: Sent,
    headers: &mut HeaderMap,
) {
    let Some(external) = &context.app.external else {
        return;
    };
    let refused = external.answered(upstream, sent, headers);
    if refused > 0 {
        let upstream = context.app.upstream_name(upstream);
        tracing::warn!(%upstream, refused, "the upstream tried to set cookies of the external service");
    }
}

/// Before an answer leaves: the cookies of this request's renewal.
pub(super) fn relay(context: &Context<'_>, trail: &Trail, headers: &mut HeaderMap) {
    if let (Some(external), Some(grant)) = (&context.app.external, &trail.renewed)
        && external.relay(grant, headers, context.app.clock.now())
    {
        session_cookies::never_shared(headers);
    }
}

/// The endpoints that mean something else here, or nothing; `None` for those that are as always.
pub(super) fn endpoint(
    context: &Context<'_>,
    external: &External,
    path: &str,
    request: &Request<Body>,
    target: &CanonicalTarget,
    asked: &Asked,
) -> Option<Response<Body>> {
    let reads = request.method() == Method::GET || request.method() == Method::HEAD;
    Some(match path {
        "/me" | "/jwks.json" => return None,
        _ if path.starts_with("/assets/") => return None,
        "/login" if reads => {
            let rd = ReturnTo::from_query(target.query(), &context.live.return_hosts);
            match super::identify(context, request.headers()) {
                Decision::SignedIn(_) => answer::signed_in(&rd),
                _ => pages::see_other(&answer::login_url(context, rd.as_str())),
            }
        }
        // The sign-in is the service's, and only it can end it: to the page where it does.
        "/logout" => match external.logout_url() {
            Some(_) if is_suspect(context, request.method(), request.headers()) => {
                answer::cross_site(context, asked)
            }
            Some(page) => pages::see_other(page),
            None => answer::not_found(context, asked),
        },
        _ => answer::not_found(context, asked),
    })
}
