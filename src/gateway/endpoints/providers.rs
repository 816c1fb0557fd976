//! `/.auth/login/NAME` and `/.auth/callback/NAME`: a browser goes to a provider and comes back. Must not judge what a
//! provider says: it asks `login::oidc` and turns the outcome into pages and cookies.

use std::sync::Arc;

use http::{HeaderMap, Method, Request, Response, StatusCode, header};

use super::super::answer::{self, Asked, Refusal};
use super::super::session_cookies::SessionCookies;
use super::super::{Context, Trail, identify};
use super::sign_in::new_session;
use crate::audit::AuditEvent;
use crate::auth::credentials::{self, Presented};
use crate::auth::decision::Decision;
use crate::body::Body;
use crate::error::GatewayError;
use crate::headers::cookie::{CookieStyle, SameSite};
use crate::login::form;
use crate::login::oidc::callback::{self, Callback, IssuerRule, Refused, TRIES};
use crate::login::oidc::pending::{Jar, LIFETIME, Pending};
use crate::login::oidc::{Beginning, Failure, Provider, SignedIn};
use crate::login::pages;
use crate::login::return_to::{ReturnTo, provider_url_for};
use crate::session::SignedInThere;

/// What the address of a beginning says.
pub(super) struct Wish {
    /// Where to afterwards.
    pub(super) rd: ReturnTo,
    /// How often this sign-in was begun anew by itself.
    again: u8,
    /// As somebody else than before.
    anew: bool,
}

impl Wish {
    /// Reads a query; what cannot be read is nothing special.
    pub(super) fn of(context: &Context<'_>, query: Option<&str>) -> Self {
        let form = query.and_then(|query| form::parse(query.as_bytes()).ok());
        let field = |name| form.as_ref().and_then(|form| form.field(name));
        Wish {
            rd: ReturnTo::from_query(query, &context.live.return_hosts),
            again: field("again")
                .and_then(|number| number.parse().ok())
                .unwrap_or(0),
            anew: field("account") == Some("other"),
        }
    }
}

/// `GET /.auth/login/NAME`: to the provider. Also what `/.auth/login` does when there is no other way to sign in.
pub(super) async fn begin(
    context: &Context<'_>,
    method: &Method,
    headers: &HeaderMap,
    provider: &Provider,
    wish: Wish,
    asked: &Asked,
) -> Response<Body> {
    if method != Method::GET && method != Method::HEAD {
        return answer::wrong_method(context, asked, "GET, HEAD");
    }
    // Whatever a page embeds or fetches must not fill the cookie with sign-ins.
    if !asked.person() {
        return Refusal::new(
            StatusCode::BAD_REQUEST,
            "this address is for a browser's navigation: it leads to the provider's sign-in page",
        )
        .answer(&answer::view(context, asked), asked);
    }
    if !wish.anew
        && let Decision::SignedIn(_) = identify(context, headers)
    {
        return answer::signed_in(&wish.rd);
    }
    let rd = everywhere(context, &wish.rd);
    match begun(context, headers, provider, &rd, &wish).await {
        Ok((location, jar)) => {
            let mut response = pages::see_other(&location);
            keep(context, &jar, response.headers_mut());
            response
        }
        Err(failure) => failed(context, asked, provider, &failure, &rd, None),
    }
}

async fn begun(
    context: &Context<'_>,
    headers: &HeaderMap,
    provider: &Provider,
    rd: &ReturnTo,
    wish: &Wish,
) -> Result<(String, Jar), Failure> {
    let seal = &context.app.providers.seal;
    let name = &provider.settings().name;
    let pending = Pending::begin(name, rd.as_str(), context.now)?;
    let beginning = Beginning {
        redirect_uri: &redirect_uri(context, name),
        state: &pending.state(wish.again.min(TRIES)).seal(seal)?,
        anew: wish.anew,
    };
    let location = provider.begin(&pending, beginning).await?;
    let mut jar = opened(context, headers);
    jar.add(pending);
    Ok((location, jar))
}

/// `GET /.auth/callback/NAME`: back from the provider.
pub(super) async fn came_back(
    context: &Context<'_>,
    request: Request<Body>,
    provider: &Provider,
    query: Option<&str>,
    asked: &Asked,
    trail: &mut Trail,
) -> Result<Response<Body>, GatewayError> {
    let (parts, _) = request.into_parts();
    if parts.method != Method::GET {
        return Ok(answer::wrong_method(context, asked, "GET"));
    }
    let admitted = context.app.providers.admit(context.client, context.now);
    let admission = match admitted {
        Ok(admission) => admission,
        // No line of the audit stream: that is part of what is bounded. The cookie stays, so that the same address works later.
        Err(retry_after) => {
            count(context, provider, "throttled");
            let refusal = Refusal {
                retry_after: Some(retry_after),
                ..Refusal::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "too many sign-ins of this address came to nothing; try again when Retry-After has passed",
                )
            };
            return Ok(refusal.answer(&answer::view(context, asked), asked));
        }
    };
    let Some(_turn) = provider.turn().await else {
        count(context, provider, "busy");
        return Err(GatewayError::SignInBusy);
    };
    let home = ReturnTo::default();
    let rule = match provider.issuer_rule().await {
        Ok(rule) => rule,
        Err(failure) => return Ok(failed(context, asked, provider, &failure, &home, None)),
    };
    let mut jar = opened(context, &parts.headers);
    let (rd, outcome) = judged(context, provider, rule, query, &mut jar).await;
    let mut response = match outcome {
        Ok(signed_in) => {
            admission.succeeded();
            let identity = signed_in.person.identity;
            let there = SignedInThere {
                issuer: signed_in.issuer,
                subject: signed_in.person.subject,
                session: signed_in.session,
                refresh_token: signed_in.refresh_token,
                id_token: signed_in.id_token,
                groups_at_userinfo: signed_in.groups_at_userinfo,
            };
            match new_session(context, &parts.headers, identity, Some(there), asked, trail).await? {
                Ok(pair) => {
                    count(context, provider, "signed_in");
                    let mut response = onward(context, asked, &rd);
                    SessionCookies::Issue(pair).apply(context, response.headers_mut());
                    response
                }
                Err(refused) => {
                    count(context, provider, "too_large");
                    refused
                }
            }
        }
        Err(failure) => {
            let here = identify(context, &parts.headers);
            failed(context, asked, provider, &failure, &rd, Some(&here))
        }
    };
    keep(context, &jar, response.headers_mut());
    Ok(response)
}

/// Who came back, and where they wanted to go.
async fn judged(
    context: &Context<'_>,
    provider: &Provider,
    rule: IssuerRule<'_>,
    query: Option<&str>,
    jar: &mut Jar,
) -> (ReturnTo, Result<SignedIn, Failure>) {
    let providers = &context.app.providers;
    let name = &provider.settings().name;
    let place = |text: &str| ReturnTo::parse(text, &context.live.return_hosts);
    let found = callback::judge(query, name, rule, jar, &providers.seal, context.now);
    match found {
        Callback::Code { pending, code } => {
            let rd = place(&pending.return_to);
            if !providers.spend(&pending.id) {
                let refused = Refused::NotThisBrowser {
                    id: pending.id,
                    return_to: pending.return_to,
                    again: TRIES,
                };
                return (rd, Err(Failure::Callback(refused)));
            }
            let redirect_uri = redirect_uri(context, name);
            let finished = provider.finish(&pending, &code, &redirect_uri, context.now);
            (rd, finished.await)
        }
        Callback::Declined { pending, error } => {
            let rd = place(&pending.return_to);
            providers.spend(&pending.id);
            (rd, Err(Failure::Declined(error)))
        }
        Callback::Refused(refused) => {
            let rd = match &refused {
                Refused::NotThisBrowser { return_to, .. } => place(return_to),
                _ => ReturnTo::default(),
            };
            (rd, Err(Failure::Callback(refused)))
        }
    }
}

/// The page of a failure, and what operators are told.
fn failed(
    context: &Context<'_>,
    asked: &Asked,
    provider: &Provider,
    failure: &Failure,
    rd: &ReturnTo,
    here: Option<&Decision>,
) -> Response<Body> {
    let settings = provider.settings();
    let word = failure.word();
    tracing::warn!(
        request_id = context.request_id,
        provider = settings.name,
        reason = word,
        detail = %failure,
        "nobody was signed in"
    );
    let event = AuditEvent::SignInRefused {
        user: failure.user(),
        provider: &settings.name,
        reason: word,
    };
    context.app.audit.record_for(&event, context.cause());
    count(context, provider, word);

    let trouble = failure.trouble();
    if !asked.person() {
        let refusal = Refusal::new(
            trouble.status(),
            "nobody was signed in; open login_url in a browser",
        );
        return refusal.answer(&answer::view(context, asked), asked);
    }
    let mut again = provider_url_for(&settings.name, rd);
    let mut by_itself = false;
    let mut add = |parameter: String| {
        again.push(if again.contains('?') { '&' } else { '?' });
        again.push_str(&parameter);
    };
    match failure {
        // Several tabs that began at once overwrote each other's cookie: whoever lost begins anew, a few times. A state
        // that was used already, or that somebody planted, only ever leads to a sign-in of this browser's own.
        Failure::Callback(Refused::NotThisBrowser {
            id, again: before, ..
        }) if *before < TRIES && !context.app.providers.is_spent(id) => {
            by_itself = true;
            if !matches!(here, Some(Decision::SignedIn(_))) {
                add(format!("again={}", before + 1));
            }
        }
        // With the same account the answer would be the same.
        Failure::Person(_) => add("account=other".to_owned()),
        _ => {}
    }
    pages::trouble(
        &answer::view(context, asked),
        trouble,
        &settings.display_name,
        failure.words().as_deref(),
        &again,
        by_itself,
    )
}

fn count(context: &Context<'_>, provider: &Provider, outcome: &'static str) {
    let name = &provider.settings().name;
    context.app.metrics.provider_sign_in(name, outcome);
}

/// Where the provider sends browsers back to.
fn redirect_uri(context: &Context<'_>, name: &str) -> String {
    format!("{}/.auth/callback/{name}", return_origin(context))
}

/// The origin that providers send browsers back to: from the configuration alone. With one sign-in for several hosts always the
/// configured one; without it that of the host that the person is on.
pub(super) fn return_origin<'a>(context: &Context<'a>) -> &'a str {
    match context.live.cookie_style.domain {
        Some(_) => &context.live.origin,
        None => context.own_origin,
    }
}

/// The place as it is called from the host of the callback, which may be another one.
fn everywhere(context: &Context<'_>, rd: &ReturnTo) -> ReturnTo {
    let elsewhere = context.live.cookie_style.domain.is_some()
        && context.own_origin != context.live.origin
        && rd.as_str().starts_with('/');
    match elsewhere {
        true => ReturnTo::parse(
            &format!("{}{rd}", context.own_origin),
            &context.live.return_hosts,
        ),
        false => rd.clone(),
    }
}

/// To where they wanted to go. Browsers do not send `SameSite=Strict` cookies along a redirect that another site began; a page
/// of our own is no other site.
fn onward(context: &Context<'_>, asked: &Asked, rd: &ReturnTo) -> Response<Body> {
    match context.live.cookie_style.same_site {
        SameSite::Strict => pages::onward(&answer::view(context, asked), rd.as_str()),
        SameSite::Lax | SameSite::None => answer::signed_in(rd),
    }
}

/// What this browser has under way.
pub(super) fn opened(context: &Context<'_>, headers: &HeaderMap) -> Jar {
    let cookie = match credentials::single(headers, &context.live.cookie_names.login) {
        Presented::Value(cookie) => std::str::from_utf8(cookie).ok(),
        Presented::Absent => None,
        Presented::Conflicting => {
            let event = AuditEvent::CookieConflict;
            context.app.audit.record_for(&event, context.cause());
            None
        }
    };
    Jar::open(cookie, &context.app.providers.seal, context.now)
}

/// Writes the login cookie. It comes back along with a redirect from the provider's site, which `SameSite=Strict` would
/// prevent, so it is never stricter than `Lax`.
pub(super) fn keep(context: &Context<'_>, jar: &Jar, headers: &mut HeaderMap) {
    let name = &context.live.cookie_names.login;
    let style = CookieStyle {
        same_site: match context.live.cookie_style.same_site {
            SameSite::None => SameSite::None,
            SameSite::Lax | SameSite::Strict => SameSite::Lax,
        },
        domain: context.live.cookie_style.domain.clone(),
    };
    let line = match jar.is_empty() {
        true => style.delete(name),
        false => {
            let Ok(value) = jar.seal(&context.app.providers.seal) else {
                return;
            };
            let Ok(line) = style.set(name, &value, LIFETIME) else {
                tracing::error!("the login cookie no longer fits a browser; not sent");
                return;
            };
            line
        }
    };
    headers.append(header::SET_COOKIE, line);
    headers.insert(
        header::CACHE_CONTROL,
        http::HeaderValue::from_static("no-store"),
    );
}

/// The provider that a path below `/.auth/login/` or `/.auth/callback/` names.
pub(super) fn named<'a>(context: &Context<'a>, name: &str) -> Option<&'a Arc<Provider>> {
    context.app.providers.find(name)
}
