//! `vestibule explain`: what the pure core would say of a request; no socket, no store.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use http::header::{ACCEPT, HeaderValue, ORIGIN};
use http::{HeaderMap, Method};
use serde::Serialize;

use super::ConfigFile;
use crate::auth::decision::{Action, AnonymousReason, Decision, RequestKind, act};
use crate::auth::path::CanonicalTarget;
use crate::auth::route::{Access, Matched, Preflight, Route, RouteTable};
use crate::auth::subject::{ForeignProof, Proof};
use crate::auth::{AccessClaims, Generation, Identity, Permit, SessionId, Subject};
use crate::clock::Timestamp;
use crate::config::{Config, Origin};
use crate::upstream::Endpoint;

/// Explain what would happen to a request: which route, which rule, which headers the app would see
///
/// Nothing is sent. Without --user the request comes from somebody who is not signed in.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    #[command(flatten)]
    file: ConfigFile,
    /// The method, in capitals
    #[arg(value_name = "METHOD", value_parser = method)]
    method: Method,
    /// The address as a browser would have it, or a path on the origin
    #[arg(value_name = "URL")]
    url: String,
    /// Signed in as this user
    #[arg(long)]
    user: Option<String>,
    /// A group of theirs; may be repeated
    #[arg(long = "group", value_name = "GROUP", requires = "user")]
    groups: Vec<String>,
    /// Their e-mail address
    #[arg(long, requires = "user")]
    email: Option<String>,
    /// Their name
    #[arg(long, requires = "user")]
    name: Option<String>,
    /// Not by a session, but by a bearer token of a configured issuer
    #[arg(long, requires = "user")]
    bearer: bool,
    /// A scope of that token; may be repeated
    #[arg(long = "scope", value_name = "SCOPE", requires = "bearer")]
    scopes: Vec<String>,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

fn method(text: &str) -> Result<Method, String> {
    match Method::from_bytes(text.as_bytes()) {
        Ok(method) if !text.bytes().any(|byte| byte.is_ascii_lowercase()) => Ok(method),
        _ => Err(format!(
            "methods are written in capitals: {}",
            text.to_ascii_uppercase()
        )),
    }
}

impl Explain {
    pub(crate) fn run(self) -> ExitCode {
        let config = match self.file.load() {
            Ok(config) => config,
            Err(code) => return code,
        };
        let identity = self.user.as_ref().map(|user| Identity {
            user: user.clone(),
            email: self.email.clone(),
            name: self.name.clone(),
            preferred_username: None,
            groups: self.groups.clone(),
            provider: "local".to_owned(),
            auth_time: Timestamp::EPOCH,
            amr: Vec::new(),
        });
        let subject = identity.map(|identity| match self.bearer {
            true => by_token(identity, self.scopes.clone()),
            false => by_session(identity),
        });
        let explained = explain(&config, &self.method, &self.url, subject).map(|mut explanation| {
            if self.user.is_some() && self.groups.is_empty() {
                explanation.notes.push(
                    "no account is looked up: name the person's groups with --group, the address with --email".to_owned(),
                );
            }
            explanation
        });
        match explained {
            Ok(explanation) if self.json => {
                super::print_text(&format!("{}\n", serde_json::json!(explanation)))
            }
            Ok(explanation) => super::print_text(&explanation.to_string()),
            Err(hint) => super::bad_usage(&format!("{:?} is not an address: {hint}", self.url)),
        }
    }
}

/// What would happen.
#[derive(Debug, Default, Serialize)]
struct Explanation {
    request: String,
    path: Option<String>,
    /// Counted from 1, as in `rule`.
    route: Option<usize>,
    rule: Option<String>,
    upstream: Option<String>,
    who: String,
    outcome: String,
    forwarded: bool,
    /// Identity headers by name.
    headers: Vec<(String, String)>,
    notes: Vec<String>,
}

impl std::fmt::Display for Explanation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut line = |name: &str, value: &str| writeln!(f, "{name:<10}{value}");
        line("request", &self.request)?;
        line("who", &self.who)?;
        if let Some(path) = &self.path {
            line("path", path)?;
        }
        if let Some(rule) = &self.rule {
            line("rule", rule)?;
        }
        if let Some(upstream) = &self.upstream {
            line("upstream", upstream)?;
        }
        line("outcome", &self.outcome)?;
        for (index, (name, value)) in self.headers.iter().enumerate() {
            line(
                if index == 0 { "headers" } else { "" },
                &format!("{name}: {value}"),
            )?;
        }
        for note in &self.notes {
            line("note", note)?;
        }
        Ok(())
    }
}

/// `Err` = the url is none, and how to write one.
fn explain(
    config: &Config,
    method: &Method,
    url: &str,
    subject: Option<Subject>,
) -> Result<Explanation, &'static str> {
    let (origin, target) = split(&config.origin, url)?;
    let mut explanation = Explanation {
        request: format!("{method} {origin}{target}"),
        who: match &subject {
            Some(subject) => who(subject),
            None => "not signed in".to_owned(),
        },
        ..Explanation::default()
    };
    let table = RouteTable::build(config.routes.clone())
        .map_err(|_| "the routes are ambiguous; see vestibule check")?;
    // As the gateway: another's host is refused before its path is looked at.
    if origin.host != config.origin.host && !table.knows_host(&origin.host) {
        explanation.outcome = format!("421: no route for the host {}", origin.host);
        return Ok(explanation);
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
                subject,
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
    subject: Option<Subject>,
) {
    explanation.route = Some(index + 1);
    explanation.rule = Some(format!("route {}: {route}", index + 1));
    let upstream = config.upstreams.get(route.upstream.0);
    explanation.upstream = upstream.map(|upstream| {
        let places: Vec<_> = upstream.endpoints.iter().map(place).collect();
        format!("{} ({})", upstream.name, places.join(", "))
    });
    let by_token = subject
        .as_ref()
        .is_some_and(|subject| !subject.travels_by_cookie());
    let decision = match subject {
        Some(subject) => Decision::SignedIn(Arc::new(subject)),
        None => Decision::Anonymous(AnonymousReason::NoCredentials),
    };
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
                "every request also carries X-Forwarded-For, -Proto, -Host, Forwarded and X-Request-Id".to_owned(),
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
            "303 to the sign-in page, and back here afterwards".to_owned()
        }
        Action::Challenge(RequestKind::Grpc, _) => "grpc-status 16: not signed in".to_owned(),
        Action::Challenge(RequestKind::Api, _) => "401: not signed in".to_owned(),
        Action::InsufficientScope => {
            "403 insufficient_scope: the token has none of the scopes of this route".to_owned()
        }
        Action::NotAllowed(_) => "403: signed in, but `allow` of this route admits neither the user nor a group nor the e-mail address".to_owned(),
        Action::CrossSite => "403: it may come from another site".to_owned(),
        Action::Renew(_) => "the session is renewed first".to_owned(),
    };
    if by_token && explanation.forwarded && route.access != Access::Public {
        explanation
            .notes
            .push("the token itself is taken out of the request (Authorization)".to_owned());
    }
    if route.access != Access::Public {
        for issuer in config.bearers.iter().map(|bearer| &bearer.issuer) {
            explanation
                .notes
                .push(format!("also for Authorization: Bearer of {issuer}"));
        }
    }
    if !by_token && !method.is_safe() && route.access != Access::Public {
        explanation
            .notes
            .push("sent from a page of the same origin; from another site it gets 403".to_owned());
    }
    if method == Method::OPTIONS && route.preflight == Preflight::Forward {
        explanation
            .notes
            .push("a CORS preflight is forwarded without identity".to_owned());
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

fn by_token(identity: Identity, scopes: Vec<String>) -> Subject {
    Subject::of(Proof::Bearer(ForeignProof {
        identity,
        scopes,
        expires_at: Timestamp::EPOCH.plus(Duration::from_secs(1)),
    }))
}

fn by_session(identity: Identity) -> Subject {
    Subject::new(AccessClaims {
        identity,
        session: SessionId::from_bytes([0; 16]),
        generation: Generation(0),
        began_at: Timestamp::EPOCH,
        issued_at: Timestamp::EPOCH,
        expires_at: Timestamp::EPOCH.plus(Duration::from_secs(1)),
        token_id: String::new(),
    })
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

fn who(subject: &Subject) -> String {
    let identity = subject.identity();
    let mut text = identity.user.clone();
    if let Some(email) = &identity.email {
        text.push_str(&format!(" <{email}>"));
    }
    if !identity.groups.is_empty() {
        text.push_str(&format!(", groups {}", identity.groups.join(", ")));
    }
    match subject.scopes() {
        Some([]) => text.push_str(", by a bearer token without scopes"),
        Some(scopes) => text.push_str(&format!(
            ", by a bearer token with the scopes {}",
            scopes.join(", ")
        )),
        None => {}
    }
    text
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

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
[server]
origin = "https://app.example.com"
[tls]
self_signed = true
[login.local]
[[upstream]]
name = "app"
url = "http://127.0.0.1:3000"
headers = "remote"
assertion = true
[[route]]
upstream = "app"
[[route]]
path = "/admin"
methods = ["GET", "POST"]
upstream = "app"
allow.groups = ["staff"]
[[route]]
path = "/health"
access = "public"
upstream = "app"
"#;

    fn person(groups: &[&str]) -> Option<Subject> {
        Some(by_session(Identity {
            user: "ana".to_owned(),
            email: Some("ana@example.com".to_owned()),
            name: None,
            preferred_username: None,
            groups: groups.iter().map(|group| group.to_string()).collect(),
            provider: "local".to_owned(),
            auth_time: Timestamp::EPOCH,
            amr: Vec::new(),
        }))
    }

    #[test]
    fn outcomes() {
        let config = crate::config::parse(FILE, "g").unwrap();
        let check = |method: Method, url: &str, who: Option<Subject>, want: &str| {
            let explanation = explain(&config, &method, url, who).unwrap();
            assert!(
                explanation.outcome.starts_with(want),
                "{url}: {explanation}"
            );
        };
        check(Method::GET, "/", None, "303");
        check(Method::POST, "/", None, "401");
        check(Method::GET, "/", person(&[]), "forwarded with");
        check(
            Method::POST,
            "https://app.example.com/x?y",
            person(&[]),
            "forwarded with",
        );
        check(Method::GET, "/admin/x", person(&["dev"]), "403");
        check(
            Method::GET,
            "/admin/x",
            person(&["staff"]),
            "forwarded with",
        );
        check(Method::DELETE, "/admin", person(&["staff"]), "405");
        check(Method::GET, "/health", None, "forwarded without");
        check(Method::GET, "/a/../admin", person(&[]), "400");
        check(Method::GET, "/a%2fb", person(&[]), "400");
        check(
            Method::GET,
            "https://other.example.com/",
            person(&[]),
            "421",
        );
        check(
            Method::GET,
            "https://app.example.com:8443/",
            person(&[]),
            "421",
        );
        check(
            Method::GET,
            "https://other.example.com/.auth/login",
            None,
            "421",
        );
        check(Method::GET, "/.auth/me", None, "answered by the gateway");
        assert!(explain(&config, &Method::GET, "app.example.com", None).is_err());
        assert!(explain(&config, &Method::GET, "http://app.example.com/", None).is_err());
    }

    #[test]
    fn the_whole_text() {
        let config = crate::config::parse(FILE, "g").unwrap();
        let explanation =
            explain(&config, &Method::GET, "/admin/x?y=1", person(&["staff"])).unwrap();
        assert_eq!(
            explanation.to_string(),
            "\
request   GET https://app.example.com/admin/x?y=1
who       ana <ana@example.com>, groups staff
path      /admin/x
rule      route 2: app.example.com/admin [GET, POST]: authenticated, groups staff
upstream  app (http://127.0.0.1:3000)
outcome   forwarded with the identity
headers   remote-user: ana
          remote-email: ana@example.com
          remote-groups: staff
          x-vestibule-assertion: (a signed JWT that proves the identity, 60 s)
note      every request also carries X-Forwarded-For, -Proto, -Host, Forwarded and X-Request-Id
"
        );
    }
}
