//! Credentials + route -> what happens. Total: every combination has an answer, and forwarding needs a [`Permit`] that
//! nothing outside this file can make.

use std::sync::Arc;

use http::header::{ACCEPT, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::auth::Subject;
use crate::auth::access_token::TokenError;
use crate::auth::allow::Admission;
use crate::auth::bearer::BearerRefusal;
use crate::auth::path::CanonicalTarget;
use crate::auth::refresh_token::RefreshClaims;
use crate::auth::route::{Access, Preflight, Route, UpstreamId};

/// What checking the access cookie found.
#[derive(Clone, Debug)]
pub enum AccessFinding {
    /// No access cookie.
    Absent,
    /// Verified, current, its session not known to be revoked.
    Valid(Arc<Subject>),
    /// Verified, but its session was revoked.
    Revoked,
    /// Not accepted, and why; [`TokenError::mended_by_renewal`] says when a refresh token may stand in.
    Bad(TokenError),
}

/// What checking the refresh cookie found (its MAC only; the store is asked by the renewal).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshFinding {
    /// No refresh cookie.
    Absent,
    /// The MAC is ours.
    Sealed(RefreshClaims),
    /// There, but not ours.
    Forged,
    /// A token of the service that issues tokens in our place (`[external]`): nobody but that service can judge it.
    Foreign,
}

/// By whom a request's credentials can be renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewable {
    /// By the session engine, with this refresh token of ours.
    Session(RefreshClaims),
    /// By the service that issued the refresh token in the request's cookie.
    External,
}

/// Why a request counts as not signed in; goes to the access line, never to the client in detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnonymousReason {
    /// No cookie of ours.
    NoCredentials,
    /// A cookie of ours occurred twice with different values.
    ConflictingCookies,
    /// The access token was refused and no refresh token could mend it.
    BadToken(TokenError),
    /// The session was ended.
    Revoked,
    /// The refresh token is not ours.
    ForgedRefresh,
    /// A renewal was tried and definitely refused.
    RenewalRefused,
    /// `Authorization: Bearer` was refused.
    Bearer(BearerRefusal),
    /// The service that issues the tokens may have taken the refresh token, and its answer never came: it cannot be sent
    /// again.
    RenewalLost,
}

/// Who is asking.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Signed in.
    SignedIn(Arc<Subject>),
    /// The access token is over (or absent) and there is something to renew it with: do so, then decide again.
    NeedsRenewal(Renewable),
    /// Nobody we know.
    Anonymous(AnonymousReason),
}

/// Who is asking, from what was found. Conflicting cookies beat everything; a certainly wrong access token is never
/// mended by a refresh token; an absent one and those of [`TokenError::mended_by_renewal`] are.
pub fn decide(conflicting: bool, access: AccessFinding, refresh: RefreshFinding) -> Decision {
    if conflicting {
        return Decision::Anonymous(AnonymousReason::ConflictingCookies);
    }
    let without_refresh = match access {
        AccessFinding::Valid(subject) => return Decision::SignedIn(subject),
        AccessFinding::Revoked => return Decision::Anonymous(AnonymousReason::Revoked),
        AccessFinding::Absent => AnonymousReason::NoCredentials,
        AccessFinding::Bad(error) if error.mended_by_renewal() => AnonymousReason::BadToken(error),
        AccessFinding::Bad(error) => {
            return Decision::Anonymous(AnonymousReason::BadToken(error));
        }
    };
    match refresh {
        RefreshFinding::Sealed(claims) => Decision::NeedsRenewal(Renewable::Session(claims)),
        RefreshFinding::Foreign => Decision::NeedsRenewal(Renewable::External),
        RefreshFinding::Forged => Decision::Anonymous(AnonymousReason::ForgedRefresh),
        RefreshFinding::Absent => Decision::Anonymous(without_refresh),
    }
}

/// What a bearer token of no configured issuer changes where nobody is signed in. It may be meant for the upstream, so it is
/// refused only where somebody has to be signed in: there it was sent to be judged.
pub fn beside_stranger(decision: Decision, access: Access) -> Decision {
    match (decision, access) {
        (Decision::Anonymous(AnonymousReason::NoCredentials), Access::Authenticated) => {
            Decision::Anonymous(AnonymousReason::Bearer(BearerRefusal::Stranger))
        }
        (decision, _) => decision,
    }
}

/// How the client should be asked to sign in (product contract 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// A top-level navigation by GET or HEAD: 303 to the sign-in page.
    Navigation,
    /// gRPC: `grpc-status: 16`.
    Grpc,
    /// Everything else: 401 problem.
    Api,
}

/// Tells a navigation from a programmatic request by `Sec-Fetch-Mode`, or by `Accept` where there are no Sec-Fetch headers.
pub fn request_kind(method: &Method, headers: &HeaderMap) -> RequestKind {
    // One walk instead of five lookups: this is asked of every request.
    let (mut content_type, mut mode) = (Single::Absent, Single::Absent);
    let (mut by_browser, mut accepts) = (false, false);
    for (name, value) in headers {
        match name.as_str() {
            "content-type" => content_type = content_type.and(value),
            "sec-fetch-mode" => {
                mode = mode.and(value);
                by_browser = true;
            }
            "sec-fetch-site" | "sec-fetch-dest" => by_browser = true,
            "accept" => accepts = true,
            _ => {}
        }
    }
    if content_type.text().is_some_and(is_grpc) {
        return RequestKind::Grpc;
    }
    let safe = method == Method::GET || method == Method::HEAD;
    let navigates = match by_browser {
        true => mode.text() == Some("navigate"),
        false => accepts && prefers_html(headers),
    };
    match safe && navigates {
        true => RequestKind::Navigation,
        false => RequestKind::Api,
    }
}

/// A header of which only one line has a meaning.
#[derive(Clone, Copy)]
enum Single<'a> {
    Absent,
    Once(&'a HeaderValue),
    Repeated,
}

impl<'a> Single<'a> {
    fn and(self, value: &'a HeaderValue) -> Self {
        match self {
            Single::Absent => Single::Once(value),
            Single::Once(_) | Single::Repeated => Single::Repeated,
        }
    }

    fn text(self) -> Option<&'a str> {
        match self {
            Single::Once(value) => value.to_str().ok(),
            Single::Absent | Single::Repeated => None,
        }
    }
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The value of a header that is there exactly once.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

fn is_grpc(content_type: &str) -> bool {
    const GRPC: &str = "application/grpc";
    content_type
        .get(..GRPC.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(GRPC))
}

/// Whether HTML is the first among the named media types of the highest quality (RFC 9110 section 12.5.1). A wildcard is no
/// preference: that is what programs send.
fn prefers_html(headers: &HeaderMap) -> bool {
    let mut best: Option<(u16, bool)> = None;
    let lines = headers.get_all(ACCEPT).iter();
    for item in lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
    {
        let mut parts = item.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        if media_type.is_empty() || media_type.contains('*') {
            continue;
        }
        let quality = parts
            .filter_map(|part| part.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
            .map_or(1000, |(_, value)| thousandths(value.trim()));
        let html = media_type.eq_ignore_ascii_case("text/html")
            || media_type.eq_ignore_ascii_case("application/xhtml+xml");
        if quality > best.map_or(0, |(quality, _)| quality) {
            best = Some((quality, html));
        }
    }
    best.is_some_and(|(_, html)| html)
}

/// A quality value (`0`, `0.9`, `1.000`) in thousandths; anything else is none at all.
fn thousandths(value: &str) -> u16 {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if fraction.len() > 3 || !digits(fraction) {
        return 0;
    }
    match whole {
        "1" => 1000,
        "0" => format!("{fraction:0<3}").parse().unwrap_or(0),
        _ => 0,
    }
}

/// Whether a request could have been made by another site on the person's behalf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrossSite {
    /// Safe method and no WebSocket handshake, or proven same-origin.
    Harmless,
    /// State-changing or a WebSocket handshake, and not proven same-origin: 403 where an identity would be used.
    Suspect,
}

/// CSRF rule: state-changing requests and WebSocket handshakes need `Sec-Fetch-Site: same-origin` or `none`, or an
/// `Origin` equal to `own_origin` (scheme, host, port). Both present must both agree; duplicates are suspect. A WebSocket
/// over HTTP/2 (RFC 8441) is a `CONNECT`, which is no safe method.
pub fn cross_site(method: &Method, headers: &HeaderMap, own_origin: &str) -> CrossSite {
    if is_safe(method) && !is_websocket(headers) {
        return CrossSite::Harmless;
    }
    let site = match headers.contains_key(SEC_FETCH_SITE) {
        true => Some(matches!(
            text(headers, &SEC_FETCH_SITE),
            Some("same-origin" | "none")
        )),
        false => None,
    };
    let origin = match headers.contains_key(ORIGIN) {
        true => Some(text(headers, &ORIGIN).is_some_and(|origin| same_origin(origin, own_origin))),
        false => None,
    };
    match (site, origin) {
        (Some(true), Some(true) | None) | (None, Some(true)) => CrossSite::Harmless,
        _ => CrossSite::Suspect,
    }
}

/// The methods that IANA registers as safe.
fn is_safe(method: &Method) -> bool {
    matches!(
        method.as_str(),
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PROPFIND" | "REPORT" | "SEARCH" | "QUERY" | "PRI"
    )
}

/// Whether any `Upgrade` line asks for a WebSocket (RFC 6455 section 4.1), with or without `Connection`.
fn is_websocket(headers: &HeaderMap) -> bool {
    headers
        .get_all(UPGRADE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|&b| b == b','))
        .any(|protocol| {
            protocol
                .trim_ascii()
                .split(|&b| b == b'/')
                .next()
                .is_some_and(|name| name.eq_ignore_ascii_case(b"websocket"))
        })
}

/// Compares serialised origins (RFC 6454 section 6.2): scheme and host without case, a default port counts as none.
fn same_origin(one: &str, other: &str) -> bool {
    fn without_default_port(origin: &str) -> &str {
        let port = match origin.get(..6) {
            Some(start) if start.eq_ignore_ascii_case("https:") => ":443",
            _ => ":80",
        };
        origin.strip_suffix(port).unwrap_or(origin)
    }
    without_default_port(one).eq_ignore_ascii_case(without_default_port(other))
}

/// Leave to send one request to one upstream, along the very path that was judged. Only [`act`] makes one:
///
/// ```compile_fail,E0451
/// use vestibule::auth::Permit;
/// use vestibule::auth::path::CanonicalTarget;
/// use vestibule::auth::route::UpstreamId;
///
/// let target = CanonicalTarget::parse("/").unwrap();
/// let permit = Permit { subject: None, upstream: UpstreamId(0), target };
/// ```
#[derive(Debug)]
pub struct Permit {
    subject: Option<Arc<Subject>>,
    upstream: UpstreamId,
    target: CanonicalTarget,
}

impl Permit {
    /// The identity to send, if any.
    pub fn subject(&self) -> Option<&Arc<Subject>> {
        self.subject.as_ref()
    }

    /// Where to.
    pub fn upstream(&self) -> UpstreamId {
        self.upstream
    }

    /// The judged path and query, to be forwarded byte for byte.
    pub fn target(&self) -> &CanonicalTarget {
        &self.target
    }
}

/// What to do with the request.
#[derive(Debug)]
pub enum Action {
    /// Send it on.
    Forward(Permit),
    /// Renew first, then decide and act again, once.
    Renew(Renewable),
    /// Ask to sign in.
    Challenge(RequestKind, AnonymousReason),
    /// A good bearer token, without any of the scopes that this route asks for (403, RFC 6750 section 3.1).
    InsufficientScope,
    /// Signed in, but this route does not admit them (403).
    NotAllowed(RequestKind),
    /// An identity would be used and the request may come from another site (403).
    CrossSite,
}

/// Combines who is asking with what the route wants. A preflight (`OPTIONS` with `Origin` and
/// `Access-Control-Request-Method`) on a route with [`crate::auth::route::Preflight::Forward`] is forwarded without identity.
/// A request that may come from another site is refused before it could cause a renewal. Whom `allow` does not admit is
/// refused on an [`Access::Optional`] route too: a list of people is never passed over.
pub fn act(
    decision: &Decision,
    route: &Route,
    target: CanonicalTarget,
    method: &Method,
    headers: &HeaderMap,
    own_origin: &str,
) -> Action {
    let forward = |subject| {
        Action::Forward(Permit {
            subject,
            upstream: route.upstream,
            target,
        })
    };
    if route.preflight == Preflight::Forward && is_preflight(method, headers) {
        return forward(None);
    }
    match (route.access, decision) {
        (Access::Public, _) => forward(None),
        // Who brings a token and is refused must learn of it, also where nobody need be anybody: it may only have expired.
        (_, Decision::Anonymous(reason @ AnonymousReason::Bearer(_))) => {
            let kind = match request_kind(method, headers) {
                RequestKind::Navigation => RequestKind::Api,
                kind => kind,
            };
            Action::Challenge(kind, *reason)
        }
        (Access::Optional, Decision::Anonymous(_)) => forward(None),
        (Access::Authenticated, Decision::Anonymous(reason)) => {
            Action::Challenge(request_kind(method, headers), *reason)
        }
        (_, Decision::SignedIn(subject))
            if subject.travels_by_cookie()
                && cross_site(method, headers, own_origin) == CrossSite::Suspect =>
        {
            Action::CrossSite
        }
        (_, Decision::NeedsRenewal(_))
            if cross_site(method, headers, own_origin) == CrossSite::Suspect =>
        {
            Action::CrossSite
        }
        (_, Decision::NeedsRenewal(renewable)) => Action::Renew(*renewable),
        (_, Decision::SignedIn(subject)) => match route.allow.judge(subject) {
            Admission::Admitted => forward(Some(Arc::clone(subject))),
            Admission::InsufficientScope => Action::InsufficientScope,
            Admission::NotAdmitted => Action::NotAllowed(request_kind(method, headers)),
        },
    }
}

fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

#[cfg(test)]
mod tests;
