//! Our own endpoints under `/.auth/`, on every host that is served. Must not know how a session is judged or a
//! password hashed: it asks the engines and turns their answers into pages, problems and cookies.

mod backchannel;
mod leaving;
mod providers;
mod sessions;

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, Response, header};

use super::answer::{self, Asked};
use super::external;
use super::session_cookies::SessionCookies;
use super::{Context, Trail, identify, renew};
use crate::audit::AuditEvent;
use crate::auth::credentials::{self, Presented};
use crate::auth::decision::{
    self, AccessFinding, AnonymousReason, CrossSite, Decision, RefreshFinding,
};
use crate::auth::path::CanonicalTarget;
use crate::auth::{Identity, SessionId};
use crate::body::Body;
use crate::error::GatewayError;
use crate::login::form;
use crate::login::local::{Attempt, PROVIDER};
use crate::login::me;
use crate::login::pages::{self, Button, SignIn, SignInError};
use crate::login::return_to::ReturnTo;
use crate::observe::metrics::SignInOutcome;
use crate::session::{BeginError, By, Ending, IssuedPair, Reason, SignedInThere};
use providers::Wish;

const PREFIX: &str = "/.auth";
/// The query of the page that follows a sign-out.
const SIGNED_OUT: &str = "done";
/// That page.
const SIGNED_OUT_PAGE: &str = "/.auth/logout?done";

/// Whether a path is ours; nothing below the prefix ever reaches an upstream.
pub(super) fn is_own(path: &str) -> bool {
    path.strip_prefix(PREFIX)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Answers a request below `/.auth/`.
pub(super) async fn serve(
    context: &Context<'_>,
    request: Request<Body>,
    target: CanonicalTarget,
    asked: &Asked,
    trail: &mut Trail,
) -> Result<Response<Body>, GatewayError> {
    let path = target
        .for_matching()
        .strip_prefix(PREFIX)
        .unwrap_or_default();
    // HEAD is GET without its body, which hyper leaves out.
    let method = if request.method() == Method::HEAD {
        &Method::GET
    } else {
        request.method()
    };
    if let Some(external) = &context.app.external
        && let Some(answered) =
            external::endpoint(context, external, path, &request, &target, asked)
    {
        return Ok(answered);
    }
    match (path, method.as_str()) {
        ("/login", "GET") => {
            let (parts, _) = request.into_parts();
            Ok(sign_in_page(context, &parts.method, &parts.headers, &target, asked).await)
        }
        ("/login", "POST") => sign_in(context, request, asked, trail).await,
        ("/logout", "GET") => Ok(sign_out_page(context, &request, &target, asked)),
        ("/logout", "POST") => {
            let (parts, _) = request.into_parts();
            sign_out(context, &parts.method, &parts.headers, asked).await
        }
        ("/me", "GET") => {
            let (parts, _) = request.into_parts();
            who_am_i(context, &parts.headers, asked, trail).await
        }
        ("/sessions", "GET") => {
            let (parts, _) = request.into_parts();
            sessions::list(context, &parts.headers, target.query(), asked, trail).await
        }
        ("/sessions/end", "POST") => sessions::end_one(context, request, asked, trail).await,
        ("/sessions/end-others", "POST") => {
            sessions::end_others(context, request, asked, trail).await
        }
        ("/jwks.json", "GET") => Ok(public_keys(context)),
        ("/login" | "/logout", _) => Ok(answer::wrong_method(context, asked, "GET, HEAD, POST")),
        ("/me" | "/sessions" | "/jwks.json", _) => {
            Ok(answer::wrong_method(context, asked, "GET, HEAD"))
        }
        ("/sessions/end" | "/sessions/end-others", _) => {
            Ok(answer::wrong_method(context, asked, "POST"))
        }
        (path, _) if path.starts_with("/login/") || path.starts_with("/callback/") => {
            by_provider(context, request, &target, asked, trail).await
        }
        (path, "POST") if path.starts_with(backchannel::PATH) => {
            let name = path.strip_prefix(backchannel::PATH).unwrap_or_default();
            let name = name.to_owned();
            backchannel::end(context, request, &name, asked).await
        }
        (path, _) if path.starts_with(backchannel::PATH) => {
            Ok(answer::wrong_method(context, asked, "POST"))
        }
        (path, "GET") if path.starts_with("/assets/") => {
            Ok(pages::asset(target.path(), target.query())
                .unwrap_or_else(|| answer::not_found(context, asked)))
        }
        _ => Ok(answer::not_found(context, asked)),
    }
}

/// `/.auth/login/NAME` and `/.auth/callback/NAME`.
async fn by_provider(
    context: &Context<'_>,
    request: Request<Body>,
    target: &CanonicalTarget,
    asked: &Asked,
    trail: &mut Trail,
) -> Result<Response<Body>, GatewayError> {
    let path = target.for_matching();
    let mut parts = path.trim_start_matches(PREFIX).splitn(3, '/').skip(1);
    let (Some(what), Some(name)) = (parts.next(), parts.next()) else {
        return Ok(answer::not_found(context, asked));
    };
    let Some(provider) = providers::named(context, name) else {
        return Ok(answer::not_found(context, asked));
    };
    if what == "callback" {
        return providers::came_back(context, request, provider, target.query(), asked, trail)
            .await;
    }
    let wish = Wish::of(context, target.query());
    let (parts, _) = request.into_parts();
    let (method, headers) = (&parts.method, &parts.headers);
    Ok(providers::begin(context, method, headers, provider, wish, asked).await)
}

async fn sign_in_page(
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
async fn sign_in(
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
async fn new_session(
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
    let client = super::client_of(context, headers);
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
        Attempt::Wrong => SignInOutcome::Wrong,
        Attempt::Throttled { .. } => SignInOutcome::Throttled,
        Attempt::Busy => SignInOutcome::Busy,
        Attempt::Unavailable => SignInOutcome::Unavailable,
    }
}

fn sign_out_page(
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
async fn sign_out(
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
        context
            .app
            .sessions
            .end(session, ending(context, Reason::SignedOut))
            .await
            .map_err(GatewayError::End)?;
        context.app.audit.record_for(
            &AuditEvent::SignedOut {
                user: None,
                session,
            },
            context.cause(),
        );
    }
    let mut response = match &onward {
        Some(onward) => onward.page(context, asked),
        None if asked.person() => pages::see_other(SIGNED_OUT_PAGE),
        None => answer::no_content(),
    };
    SessionCookies::Clear.apply(context, response.headers_mut());
    Ok(response)
}

/// An end that the session's own browser asks for.
fn ending(context: &Context<'_>, reason: Reason) -> Ending {
    Ending::new(reason, By::Itself).from_request(Some(context.client), Some(context.request_id))
}

/// Whether a form may have been sent by another site.
fn is_suspect(context: &Context<'_>, method: &Method, headers: &HeaderMap) -> bool {
    decision::cross_site(method, headers, context.own_origin) == CrossSite::Suspect
}

/// The session that the cookies of a request belong to, by either of them; nothing is renewed.
fn presented_session(context: &Context<'_>, headers: &HeaderMap) -> Option<SessionId> {
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

/// `GET /.auth/me`: renews like any other request.
async fn who_am_i(
    context: &Context<'_>,
    headers: &HeaderMap,
    asked: &Asked,
    trail: &mut Trail,
) -> Result<Response<Body>, GatewayError> {
    external::prepare(context, headers).await?;
    let (decision, cookies) = match identify(context, headers) {
        Decision::NeedsRenewal(claims) => renew(context, claims, headers, trail).await?,
        decided => (decided, SessionCookies::Untouched),
    };
    let Decision::SignedIn(subject) = decision else {
        return Ok(answer::unauthorized(context, asked, "/"));
    };
    trail.subject = Some(Arc::clone(&subject));
    let mut response = me::response(&subject);
    cookies.apply(context, response.headers_mut());
    Ok(response)
}

fn public_keys(context: &Context<'_>) -> Response<Body> {
    let mut response = Response::new(Body::from(
        context.app.sessions.keys().to_jwks().to_string(),
    ));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/jwk-set+json"),
    );
    // Shorter than the overlap of a key rotation, so that a verifier has a new key before it needs it.
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=60"),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    );
    response
}
