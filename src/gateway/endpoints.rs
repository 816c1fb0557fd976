//! Our own endpoints under `/.auth/`, on every host that is served. Must not know how a session is judged or a
//! password hashed: it asks the engines and turns their answers into pages, problems and cookies.

mod backchannel;
mod leaving;
mod providers;
mod sessions;
mod sign_in;
mod sign_out;

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, Response, header};

use super::answer::{self, Asked};
use super::external;
use super::session_cookies::SessionCookies;
use super::{Context, Trail, identify, renew};
use crate::auth::decision::{self, CrossSite, Decision};
use crate::auth::path::CanonicalTarget;
use crate::body::Body;
use crate::error::GatewayError;
use crate::login::me;
use crate::login::pages;
use crate::session::{By, Ending, Reason};
use providers::Wish;

const PREFIX: &str = "/.auth";
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
            Ok(sign_in::page(context, &parts.method, &parts.headers, &target, asked).await)
        }
        ("/login", "POST") => sign_in::sign_in(context, request, asked, trail).await,
        ("/logout", "GET") => Ok(sign_out::page(context, &request, &target, asked)),
        ("/logout", "POST") => {
            let (parts, _) = request.into_parts();
            sign_out::sign_out(context, &parts.method, &parts.headers, asked).await
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

/// An end that the session's own browser asks for.
fn ending(context: &Context<'_>, reason: Reason) -> Ending {
    Ending::new(reason, By::Itself).from_request(Some(context.client), Some(context.request_id))
}

/// Whether a form may have been sent by another site.
pub(super) fn is_suspect(context: &Context<'_>, method: &Method, headers: &HeaderMap) -> bool {
    decision::cross_site(method, headers, context.own_origin) == CrossSite::Suspect
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
