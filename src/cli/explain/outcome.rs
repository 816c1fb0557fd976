//! The request through the pure core: host, path, route, decision, action, each in words.

use http::header::{ACCEPT, HeaderValue, ORIGIN};
use http::{HeaderMap, Method};

use super::Explanation;
use super::asker::Asker;
use crate::auth::decision::{Action, AnonymousReason, Renewable, RequestKind, act};
use crate::auth::path::CanonicalTarget;
use crate::auth::route::{Access, Matched, Preflight, Route, RouteTable};
use crate::auth::{Identity, Permit};
use crate::config::{Config, Origin};
use crate::upstream::Endpoint;

/// The port that browsers do not write.
const HTTPS: u16 = 443;

/// `Err` = the url is none, and how to write one.
pub(super) fn explain(
    config: &Config,
    method: &Method,
    url: &str,
    asker: Asker,
) -> Result<Explanation, &'static str> {
    let (mut origin, target) = split(&config.origin, url)?;
    let mut explanation = Explanation {
        request: format!("{method} {origin}{target}"),
        who: asker.who.clone(),
        ..Explanation::default()
    };
    let table = RouteTable::build(config.routes.clone())
        .map_err(|_| "the routes are ambiguous; see vestibule check")?;
    // As the gateway: another's host is refused before its path is looked at.
    if origin.host != config.origin.host && !table.knows_host(&origin.host) {
        explanation.outcome = format!("421: no route for the host {}", origin.host);
        return Ok(explanation);
    }
    // A browser leaves 443 out of `Host`, and a `Host` without a port is the origin's, whatever listener it came to.
    if origin.port == HTTPS {
        if config.origin.port != HTTPS {
            explanation.notes.push(format!(
                "asked without a port: a browser goes to port {HTTPS} for that, what reaches the gateway is taken for {}",
                config.origin.port
            ));
        }
        origin.port = config.origin.port;
    }
    if origin.port != config.origin.port {
        explanation.outcome = format!(
            "421: the port is {}, the configured origin's is {}",
            origin.port, config.origin.port
        );
        return Ok(explanation);
    }
    let target = match CanonicalTarget::parse(target) {
        Ok(target) => target,
        Err(refusal) => {
            explanation.outcome = format!("400: {refusal}; refused before any route");
            return Ok(explanation);
        }
    };
    explanation.path = Some(target.for_matching().to_owned());
    if is_own_endpoint(target.for_matching()) {
        explanation.outcome =
            "answered by the gateway itself: its own pages and endpoints".to_owned();
        return Ok(explanation);
    }
    match table.find(&origin.host, &target, method) {
        Matched::Route(index, route) => {
            routed(
                config,
                &mut explanation,
                (index, route),
                &origin,
                target,
                method,
                asker,
            );
        }
        Matched::UnknownHost => {
            explanation.outcome = format!("404: no route for the host {}", origin.host);
        }
        Matched::NoRoute => explanation.outcome = "404: no route covers this path".to_owned(),
        Matched::WrongMethod(methods) => {
            explanation.outcome = format!("405: the route with this path takes {}", list(methods));
        }
        Matched::AmbiguousPath => {
            explanation.outcome =
                "400: with and without `;parameters` this path meets different routes".to_owned();
        }
    }
    Ok(explanation)
}

fn routed(
    config: &Config,
    explanation: &mut Explanation,
    (index, route): (usize, &Route),
    origin: &Origin,
    target: CanonicalTarget,
    method: &Method,
    asker: Asker,
) {
    explanation.route = Some(index + 1);
    explanation.rule = Some(format!("route {}: {route}", index + 1));
    let upstream = config.upstreams.get(route.upstream.0);
    explanation.upstream = upstream.map(|upstream| {
        let places: Vec<_> = upstream.endpoints.iter().map(place).collect();
        format!("{} ({})", upstream.name, places.join(", "))
    });
    let Some(decision) = asker.decision_on(route.access) else {
        explanation.outcome =
            "503: the keys that the token needs cannot be had; the cookies stay as they are"
                .to_owned();
        return;
    };
    let Asker {
        by_token, notes, ..
    } = asker;
    let own_origin = origin.to_string();
    let action = act(
        &decision,
        route,
        target,
        method,
        &browser_headers(method, &own_origin),
        &own_origin,
    );
    explanation.outcome = match &action {
        Action::Forward(permit) => {
            explanation.forwarded = true;
            if let (Some(upstream), Some(identity)) = (upstream, identity_of(permit)) {
                explanation.headers = crate::upstream::identity::values(identity, &upstream.headers)
                    .into_iter()
                    .map(|(name, value)| {
                        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                        (name.to_string(), value)
                    })
                    .collect();
                if upstream.assertion {
                    explanation.headers.push((
                        "x-vestibule-assertion".to_owned(),
                        "(a signed JWT that proves the identity, 60 s)".to_owned(),
                    ));
                }
            }
            explanation.notes.push(
                "every request also carries X-Forwarded-For, -Proto, -Host, Forwarded, X-Request-Id and Via".to_owned(),
            );
            match permit.subject() {
                Some(_) => "forwarded with the identity".to_owned(),
                None => "forwarded without an identity".to_owned(),
            }
        }
        Action::Challenge(RequestKind::Navigation, _) => {
            explanation
                .notes
                .push("a program (fetch, curl) gets 401 with a problem document instead".to_owned());
            match &config.external {
                Some(external) => format!(
                    "303 to {}, which is told the way back as rd",
                    external.settings.login_url
                ),
                None => "303 to the sign-in page, and back here afterwards".to_owned(),
            }
        }
        Action::Challenge(RequestKind::Grpc, _) => "grpc-status 16: not signed in".to_owned(),
        Action::Challenge(RequestKind::Api, AnonymousReason::Bearer(refusal)) => {
            format!("401: {}", refusal.words())
        }
        Action::Challenge(RequestKind::Api, _) => "401: not signed in".to_owned(),
        Action::InsufficientScope => {
            "403 insufficient_scope: the token has none of the scopes of this route".to_owned()
        }
        Action::NotAllowed(_) => match route.allow.scopes_alone() {
            Some(scopes) if !by_token => format!(
                "403: no session is let in here, only bearer tokens with one of the scopes {}",
                scopes.join(", ")
            ),
            _ => "403: signed in, but `allow` of this route admits neither the user nor a group nor the e-mail address".to_owned(),
        },
        Action::CrossSite => "403: it may come from another site".to_owned(),
        Action::Renew(Renewable::Session(_)) => "the session is renewed first".to_owned(),
        Action::Renew(Renewable::External) => {
            explanation.notes.push(
                "a request without the refresh cookie is asked to sign in instead".to_owned(),
            );
            "the refresh cookie is spent first, once for all who present it; then it is judged again, by the new access token".to_owned()
        }
    };
    explanation.notes.extend(notes);
    if by_token && explanation.forwarded && route.access != Access::Public {
        explanation
            .notes
            .push("the token itself is taken out of the request (Authorization)".to_owned());
    }
    if route.access != Access::Public {
        for issuer in config.bearers.iter().map(|bearer| &bearer.issuer) {
            explanation
                .notes
                .push(format!("by [[bearer]], a token of {issuer} may be presented here instead of a session (Authorization: Bearer)"));
        }
    }
    if !by_token && !method.is_safe() && route.access != Access::Public {
        explanation
            .notes
            .push("sent from a page of the same origin; from another site it gets 403".to_owned());
    }
    if method == Method::OPTIONS {
        explanation.notes.push(preflight(route).to_owned());
    }
}

/// What becomes of a CORS preflight, which browsers send without cookies.
fn preflight(route: &Route) -> &'static str {
    match (route.preflight, route.access) {
        (Preflight::Forward, _) => {
            "a CORS preflight (with Origin and Access-Control-Request-Method) is forwarded without identity"
        }
        (Preflight::Deny, Access::Authenticated) => {
            "a CORS preflight has no cookies: 401, and the browser does not send what it asked for; preflight = \"forward\" lets the app answer"
        }
        (Preflight::Deny, Access::Optional | Access::Public) => {
            "a CORS preflight has no cookies: it is forwarded without identity, as from anybody who is not signed in"
        }
    }
}

fn identity_of(permit: &Permit) -> Option<&Identity> {
    permit.subject().map(|subject| subject.identity())
}

/// What a browser sends: a navigation where the method allows it, otherwise a call from the app's own page.
fn browser_headers(method: &Method, own_origin: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if matches!(*method, Method::GET | Method::HEAD) {
        headers.insert("sec-fetch-mode", HeaderValue::from_static("navigate"));
        headers.insert("sec-fetch-site", HeaderValue::from_static("none"));
        headers.insert(ACCEPT, HeaderValue::from_static("text/html"));
    } else {
        headers.insert("sec-fetch-site", HeaderValue::from_static("same-origin"));
        if let Ok(origin) = HeaderValue::from_str(own_origin) {
            headers.insert(ORIGIN, origin);
        }
    }
    headers
}

/// Origin and request target, byte for byte: no library that would tidy the path up.
fn split<'u>(default: &Origin, url: &'u str) -> Result<(Origin, &'u str), &'static str> {
    if url.starts_with('/') {
        return Ok((default.clone(), url));
    }
    let scheme = url
        .find("://")
        .ok_or("write https://host/path, or a path that begins with /")?
        + 3;
    if url.starts_with("http://") {
        return Err("the gateway serves https alone; write https://host/path, or a path");
    }
    let rest = url.get(scheme..).unwrap_or("");
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, target) = url.split_at(scheme + end);
    let origin = Origin::parse(authority)?;
    Ok((origin, if target.is_empty() { "/" } else { target }))
}

fn is_own_endpoint(path: &str) -> bool {
    path == "/.auth" || path.starts_with("/.auth/")
}

fn list(methods: &[Method]) -> String {
    let names: Vec<_> = methods.iter().map(Method::as_str).collect();
    names.join(", ")
}

fn place(endpoint: &Endpoint) -> String {
    let address = |scheme: &str, host: &str, port: u16| {
        if host.contains(':') {
            format!("{scheme}://[{host}]:{port}")
        } else {
            format!("{scheme}://{host}:{port}")
        }
    };
    match endpoint {
        Endpoint::Http { host, port } => address("http", host, *port),
        Endpoint::Https { host, port } => address("https", host, *port),
        Endpoint::H2c { host, port } => address("h2c", host, *port),
        Endpoint::Unix(path) => format!("unix:{}", path.display()),
    }
}
