//! `/.auth/login`: the page, its form, and the session that begins.

use std::sync::Arc;

use http::{HeaderMap, Method, Request, Response};

use super::super::answer::{self, Asked};
use super::super::session_cookies::SessionCookies;
use super::super::{Context, Trail, client_of, identify};
use super::providers::{self, Wish};
use super::sign_out::presented_session;
use super::{ending, is_suspect};
use crate::audit::AuditEvent;
use crate::auth::Identity;
use crate::auth::decision::Decision;
use crate::auth::path::CanonicalTarget;
use crate::body::Body;
use crate::error::GatewayError;
use crate::login::form;
use crate::login::local::{Attempt, PROVIDER};
use crate::login::pages::{self, Button, SignIn, SignInError};
use crate::login::return_to::ReturnTo;
use crate::observe::metrics::SignInOutcome;
use crate::session::{BeginError, IssuedPair, Reason, SignedInThere};

/// `GET /.auth/login`.
pub(super) async fn page(
    context: &Context<'_>,
    method: &Method,
    headers: &HeaderMap,
    target: &CanonicalTarget,
    asked: &Asked,
) -> Response<Body> {
    let local = context.app.local.is_some();
    let providers = context.app.providers.all();
    // One provider and nothing else: nothing to choose.
    if let ([only], false, true) = (providers, local, asked.person()) {
        let wish = Wish::of(context, target.query());
        return providers::begin(context, method, headers, only, wish, asked).await;
    }
    if providers.is_empty() && !local {
        return answer::not_found(context, asked);
    }
    let rd = ReturnTo::from_query(target.query(), &context.live.return_hosts);
    if let Decision::SignedIn(_) = identify(context, headers) {
        return answer::signed_in(&rd);
    }
    let page = SignIn {
        return_to: &rd,
        allowed: &context.live.return_hosts,
        username: "",
        error: None,
        local,
        buttons: &buttons(context),
    };
    pages::sign_in(&answer::view(context, asked), &page)
}

/// `POST /.auth/login`: the form, the throttle, the hash, a new session; an older one of this browser ends.
pub(super) async fn sign_in(
    context: &Context<'_>,
    request: Request<Body>,
    asked: &Asked,
    trail: &mut Trail,
) -> Result<Response<Body>, GatewayError> {
    let (parts, body) = request.into_parts();
    let Some(local) = &context.app.local else {
        return Ok(answer::not_found(context, asked));
    };
    if is_suspect(context, &parts.method, &parts.headers) {
        return Ok(answer::cross_site(context, asked));
    }
    let form = match form::read(&parts.headers, body).await {
        Ok(form) => form,
        Err(error) => return Ok(answer::bad_form(context, asked, &error)),
    };
    let (Some(user), Some(password)) = (form.field("username"), form.secret("password")) else {
        return Ok(answer::incomplete_form(context, asked));
    };
    let rd = ReturnTo::parse(form.field("rd").unwrap_or("/"), &context.live.return_hosts);
    let refused = async |reason: &'static str, error: SignInError| {
        let known = local.known(user).await;
        let event = AuditEvent::SignInRefused {
            user: known.as_deref(),
            provider: PROVIDER,
            reason,
        };
        context.app.audit.record_for(&event, context.cause());
        let page = SignIn {
            return_to: &rd,
            allowed: &context.live.return_hosts,
            username: user,
            error: Some(error),
            local: true,
            buttons: &buttons(context),
        };
        Ok(pages::sign_in(&answer::view(context, asked), &page))
    };
    let attempt = local
        .attempt(user, &password, context.client, context.now)
        .await;
    context.app.metrics.sign_in_attempts.add(outcome(&attempt));
    let identity = match attempt {
        Attempt::SignedIn(identity) => identity,
        Attempt::Wrong => return refused("wrong name or password", SignInError::Wrong).await,
        // Only operators learn it, and only when the password was right.
        Attempt::Blocked => return refused("blocked", SignInError::Wrong).await,
        Attempt::Throttled { retry_after } => {
            return refused("too many attempts", SignInError::Throttled { retry_after }).await;
        }
        Attempt::Busy => return Err(GatewayError::SignInBusy),
        Attempt::Unavailable => return Err(GatewayError::SignInUnavailable),
    };

    match new_session(context, &parts.headers, identity, None, asked, trail).await? {
        Ok(pair) => {
            let mut response = answer::signed_in(&rd);
            SessionCookies::Issue(pair).apply(context, response.headers_mut());
            Ok(response)
        }
        Err(refused) => Ok(refused),
    }
}

/// A session for somebody who has just signed in, or the answer to somebody whose identity fits no cookie.
pub(super) async fn new_session(
    context: &Context<'_>,
    headers: &HeaderMap,
    identity: Identity,
    there: Option<SignedInThere>,
    asked: &Asked,
    trail: &mut Trail,
) -> Result<Result<Arc<IssuedPair>, Response<Body>>, GatewayError> {
    // A session that this browser brought along ends: a planted one must not survive the sign-in (attacks E08).
    if let Some(old) = presented_session(context, headers) {
        context
            .app
            .sessions
            .end(old, ending(context, Reason::SignedInAnew))
            .await
            .map_err(|error| GatewayError::Begin(error.into()))?;
    }
    let client = client_of(context, headers);
    let (name, provider) = (identity.user.clone(), identity.provider.clone());
    let (sessions, now) = (&context.app.sessions, context.now);
    let begun = match there {
        Some(there) => {
            sessions
                .begin_at_provider(identity, there, &client, now)
                .await
        }
        None => sessions.begin(identity, &client, now).await,
    };
    let pair = match begun {
        Ok(pair) => pair,
        Err(BeginError::TooLarge(_)) => {
            return Ok(Err(answer::identity_too_large(context, asked)));
        }
        Err(error) => return Err(GatewayError::Begin(error)),
    };
    let event = AuditEvent::SignIn {
        user: &name,
        provider: &provider,
        session: pair.session,
    };
    context.app.audit.record_for(&event, context.cause());
    trail.user = Some(name);
    Ok(Ok(pair))
}

/// The providers that somebody may choose.
fn buttons<'a>(context: &Context<'a>) -> Vec<Button<'a>> {
    let all = context.app.providers.all().iter();
    all.map(|provider| Button {
        name: &provider.settings().name,
        display_name: &provider.settings().display_name,
    })
    .collect()
}

fn outcome(attempt: &Attempt) -> SignInOutcome {
    match attempt {
        Attempt::SignedIn(_) => SignInOutcome::SignedIn,
        Attempt::Wrong | Attempt::Blocked => SignInOutcome::Wrong,
        Attempt::Throttled { .. } => SignInOutcome::Throttled,
        Attempt::Busy => SignInOutcome::Busy,
        Attempt::Unavailable => SignInOutcome::Unavailable,
    }
}
