//! THE REQUEST PATH. `handle` wraps (request id, access line, metrics); `serve` reads top to bottom:
//! host -> target -> own endpoints -> route -> credentials -> decision -> renewal, once -> action.
//!
//! Nothing here judges: rules are in `auth`. Nothing here is forwarded without a [`Permit`] that `auth` made. Refusals
//! and redirects are values; only breakage is an error ([`GatewayError`]).

mod answer;
mod bearer;
mod endpoints;
mod external;
mod request_id;
mod session_cookies;
mod streams;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body::Body as _;
use tokio::time::Instant;

use crate::app::{App, Live};
use crate::audit::{AuditEvent, Cause};
use crate::auth::credentials::{self, Presented};
use crate::auth::decision::{
    self, AccessFinding, Action, AnonymousReason, Decision, Permit, RefreshFinding, Renewable,
};
use crate::auth::path::CanonicalTarget;
use crate::auth::refresh_token::RefreshClaims;
use crate::auth::rotation;
use crate::auth::route::{Access, Matched, Revocation, Route};
use crate::auth::{Client, ClientAddr, Subject};
use crate::body::Body;
use crate::clock::Timestamp;
use crate::error::GatewayError;
use crate::external::{External, Grant};
use crate::observe::access::AccessLine;
use crate::observe::metrics::{HandshakeFailure, Label as _, Outcome};
use crate::server::{Addressed, Connection, Handler, Happening, Protocol, RefusedHead};
use crate::session::{IssuedPair, Renewal, RenewalRefusal, StreamGuard};
use crate::upstream::{Forwarding, SessionEnd};

pub use answer::{Asked, Refusal};
pub use request_id::REQUEST_ID;
use session_cookies::SessionCookies;

/// Answers requests with what [`App`] wired together.
pub struct Gateway {
    app: Arc<App>,
}

impl Gateway {
    /// A gateway on top of wired engines.
    pub fn new(app: Arc<App>) -> Self {
        Gateway { app }
    }
}

/// What is known of one request before anything is decided; taken once, handed down.
struct Context<'a> {
    app: &'a App,
    live: &'a Live,
    connection: &'a Connection,
    now: Timestamp,
    addressed: &'a Addressed,
    id: &'a HeaderValue,
    /// The text of `id`.
    request_id: &'a str,
    /// After `trusted_proxies`.
    client: ClientAddr,
    trusted_peer: bool,
    /// Lower case, without port.
    host: &'a str,
    /// `https://host[:port]` as the browser sees it, for CSRF and redirects.
    own_origin: &'a str,
}

impl Context<'_> {
    /// What ties an audit line to this request.
    fn cause(&self) -> Cause<'_> {
        Cause {
            client: Some(self.client),
            request_id: Some(self.request_id),
        }
    }
}

/// What was learned on the way, for the access line and the metrics.
struct Trail {
    outcome: Outcome,
    route: Option<usize>,
    user: Option<String>,
    subject: Option<Arc<Subject>>,
    /// What the service of `[external]` renewed for this request: the answer carries its cookies, whatever answer it is.
    renewed: Option<Grant>,
    reason: Option<&'static str>,
    upstream_time: Option<Duration>,
}

impl Handler for Gateway {
    async fn handle(
        &self,
        mut request: Request<Body>,
        addressed: Addressed,
        connection: &Arc<Connection>,
    ) -> Response<Body> {
        let started = Instant::now();
        let app = &*self.app;
        // In full: of the cheaper kind a thread holds eight at once, and requests that wait hold theirs.
        let live = app.live.load_full();
        let now = app.clock.now();
        let peer = connection.peer.ip().to_canonical();
        let trusted_peer = live.trusted_proxies.contains(peer);
        let id = request_id::of(trusted_peer, request.headers(), now);
        let request_id = id.to_str().unwrap_or_default();
        let host = &*addressed.authority.host;
        let served = live.origin_of(&addressed.authority);
        let context = Context {
            app,
            live: &live,
            connection,
            now,
            addressed: &addressed,
            id: &id,
            request_id,
            client: ClientAddr(live.trusted_proxies.client_address(peer, request.headers())),
            trusted_peer,
            host,
            own_origin: served.unwrap_or(&live.origin),
        };
        let asked = Asked::of(&request);
        // What answers may take the rest of the request; this is cheap to keep.
        let method = request.method().clone();
        let mut trail = Trail {
            outcome: Outcome::Malformed,
            route: None,
            user: None,
            subject: None,
            renewed: None,
            reason: None,
            upstream_time: None,
        };

        let mut response = if served.is_some() {
            serve(&context, &mut request, &asked, &mut trail)
                .await
                .unwrap_or_else(|error| {
                    trail.outcome = error.outcome();
                    error.log(request_id);
                    error.count(&app.metrics);
                    error
                        .refusal()
                        .answer(&answer::view(&context, &asked), &asked)
                })
        } else {
            trail.outcome = Outcome::NoRoute;
            answer::misdirected(&context, &asked)
        };
        response.headers_mut().insert(REQUEST_ID, id.clone());
        external::relay(&context, &trail, response.headers_mut());

        let total = started.elapsed();
        let status = response.status().as_u16();
        let route = trail.route.and_then(|index| live.route_labels.get(index));
        app.metrics.request_duration.observe(total);
        app.metrics.decisions.add(trail.outcome);
        match trail.route.and_then(|index| live.route_metrics.get(index)) {
            Some(counters) => counters.answered(status),
            None => live.unrouted_metrics.answered(status),
        }
        if let Some(log) = &app.access_log {
            let subject = trail.subject.as_deref();
            AccessLine {
                time: now,
                request_id,
                client: context.client,
                protocol: protocol_name(connection.protocol),
                method: method.as_str(),
                host,
                path: addressed.target.path(),
                route: route.map(String::as_str),
                status,
                outcome: trail.outcome.text(),
                reason: trail.reason,
                user: subject
                    .map(|subject| subject.identity().user.as_str())
                    .or(trail.user.as_deref()),
                session: subject.and_then(Subject::session),
                total,
                upstream: trail.upstream_time,
            }
            .write(log);
        }
        response
    }

    /// Of a request without a well-formed head nothing is believed, and the line says only what the gateway itself knows.
    fn refused(
        &self,
        status: StatusCode,
        reason: &'static str,
        request_id: &str,
        head: Option<RefusedHead<'_>>,
        connection: &Connection,
    ) {
        let unread = RefusedHead {
            method: "-",
            host: "-",
            path: "-",
        };
        let RefusedHead { method, host, path } = head.unwrap_or(unread);
        let outcome = match status {
            StatusCode::INTERNAL_SERVER_ERROR => Outcome::Unavailable,
            _ => Outcome::Malformed,
        };
        self.app.metrics.decisions.add(outcome);
        self.app
            .live
            .load()
            .unrouted_metrics
            .answered(status.as_u16());
        if let Some(log) = &self.app.access_log {
            AccessLine {
                time: self.app.clock.now(),
                request_id,
                client: ClientAddr(connection.peer.ip().to_canonical()),
                protocol: protocol_name(connection.protocol),
                method,
                host,
                path,
                route: None,
                status: status.as_u16(),
                outcome: outcome.text(),
                reason: Some(reason),
                user: None,
                session: None,
                total: Duration::ZERO,
                upstream: None,
            }
            .write(log);
        }
    }

    fn happened(&self, happening: Happening) {
        let metrics = &self.app.metrics;
        match happening {
            Happening::Accepted => {
                metrics.connections_accepted.inc();
                metrics.connections.inc();
            }
            Happening::Ended => {
                metrics.connections.dec();
            }
            Happening::HandshakeFailed => metrics.handshake_failures.add(HandshakeFailure::Failed),
            Happening::HandshakeTimedOut => {
                metrics.handshake_failures.add(HandshakeFailure::Timeout);
            }
            Happening::Panicked => {
                metrics.panics.inc();
            }
        }
    }
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http1 => "HTTP/1.1",
        Protocol::Http2 => "HTTP/2.0",
    }
}

/// One request from its target to its answer.
async fn serve(
    context: &Context<'_>,
    request: &mut Request<Body>,
    asked: &Asked,
    trail: &mut Trail,
) -> Result<Response<Body>, GatewayError> {
    let target = match CanonicalTarget::parse(&context.addressed.target.0) {
        Ok(target) => target,
        Err(refusal) => return Ok(answer::bad_target(context, asked, refusal)),
    };
    if endpoints::is_own(target.for_matching()) {
        trail.outcome = Outcome::Own;
        // Boxed, as everything that is rare: its future would make every request's larger, and those are moved about.
        let request = std::mem::take(request);
        return Box::pin(endpoints::serve(context, request, target, asked, trail)).await;
    }
    let (index, route) = match context
        .live
        .routes
        .find(context.host, &target, request.method())
    {
        Matched::Route(index, route) => (index, route),
        refused => {
            trail.outcome = Outcome::NoRoute;
            return Ok(answer::unmatched(context, asked, refused));
        }
    };
    trail.route = Some(index);

    // A public route never looks at credentials: no identity is sent, nothing is renewed.
    let mut decision = match route.access {
        Access::Public => Decision::Anonymous(AnonymousReason::NoCredentials),
        access => match bearer::find(context, request.headers()) {
            None => {
                if external::waits(context) {
                    Box::pin(external::prepare(context, request.headers())).await?;
                }
                identify(context, request.headers())
            }
            Some(found) => {
                Box::pin(bearer::identify(context, request.headers(), found, access)).await?
            }
        },
    };
    let mut cookies = SessionCookies::Untouched;
    let mut action = act(context, &decision, route, &target, request);
    if let Action::Renew(renewable) = action {
        (decision, cookies) = Box::pin(renew(context, renewable, request.headers(), trail)).await?;
        action = act(context, &decision, route, &target, request);
    }
    if let Decision::SignedIn(subject) = decision {
        let subject = trail.subject.insert(subject);
        if route.revocation == Revocation::Checked
            && !Box::pin(still_live(context, subject)).await?
        {
            let decision = Decision::Anonymous(AnonymousReason::Revoked);
            cookies = SessionCookies::Untouched;
            action = act(context, &decision, route, &target, request);
        }
    }
    match action {
        Action::Forward(permit) => {
            trail.outcome = match permit.subject() {
                Some(_) => Outcome::Forwarded,
                None => Outcome::ForwardedAnonymous,
            };
            // Signed in or not: what a background request's answer says could come after a newer sign-in.
            let cookies = cookies.for_kind(asked.kind());
            forward(context, permit, request, cookies, trail).await
        }
        Action::Challenge(kind, AnonymousReason::Bearer(refusal)) => {
            trail.outcome = Outcome::Challenged;
            trail.reason = Some(refusal.words());
            Ok(answer::bearer_refused(context, kind, refusal))
        }
        Action::InsufficientScope => {
            trail.outcome = Outcome::NotAllowed;
            trail.reason = Some("the token has none of the scopes of this route");
            Ok(answer::insufficient_scope(context, asked, route))
        }
        Action::Challenge(kind, reason) => {
            trail.outcome = Outcome::Challenged;
            let mut response = answer::challenge(context, asked, kind, &target);
            cookies
                .or_clear(kind, reason)
                .apply(context, response.headers_mut());
            Ok(response)
        }
        Action::NotAllowed(_) => {
            trail.outcome = Outcome::NotAllowed;
            let user = trail
                .subject
                .as_ref()
                .map_or("", |subject| &subject.identity().user);
            let mut response = answer::not_allowed(context, asked, user);
            cookies.apply(context, response.headers_mut());
            Ok(response)
        }
        Action::CrossSite => {
            trail.outcome = Outcome::CrossSite;
            Ok(answer::cross_site(context, asked))
        }
        // After a renewal no decision asks for another one.
        Action::Renew(_) => Err(GatewayError::RenewalLoop),
    }
}

/// For routes that ask the store each time.
async fn still_live(context: &Context<'_>, subject: &Subject) -> Result<bool, GatewayError> {
    // What has no session cannot have been ended: it is over when its token is.
    let Some(session) = subject.session() else {
        return Ok(true);
    };
    context
        .app
        .sessions
        .is_live(session, context.now)
        .await
        .map_err(GatewayError::Store)
}

fn act(
    context: &Context<'_>,
    decision: &Decision,
    route: &Route,
    target: &CanonicalTarget,
    request: &Request<Body>,
) -> Action {
    decision::act(
        decision,
        route,
        target.clone(),
        request.method(),
        request.headers(),
        context.own_origin,
    )
}

/// Who is asking, by the cookies alone: no lookup, no wait.
fn identify(context: &Context<'_>, headers: &HeaderMap) -> Decision {
    let external = context.app.external.as_deref();
    let names = external.map_or(&context.live.cookie_names, External::cookie_names);
    let presented = credentials::from_headers(headers, names);
    let conflicting =
        presented.access == Presented::Conflicting || presented.refresh == Presented::Conflicting;
    if conflicting {
        context
            .app
            .audit
            .record_for(&AuditEvent::CookieConflict, context.cause());
    }
    let access = match presented.access {
        Presented::Value(token) if !conflicting => match external {
            Some(external) => external.check_access(token, context.now),
            None => context.app.sessions.check_access(token, context.now),
        },
        _ => AccessFinding::Absent,
    };
    // The refresh token is opened only when it can matter.
    let matters = match &access {
        AccessFinding::Absent => true,
        AccessFinding::Bad(error) => error.mended_by_renewal(),
        AccessFinding::Valid(_) | AccessFinding::Revoked => false,
    };
    let refresh = match presented.refresh {
        Presented::Value(token) if matters => match external {
            Some(external) => external.find_refresh(token),
            None => context.app.sessions.open_refresh(token),
        },
        _ => RefreshFinding::Absent,
    };
    decision::decide(conflicting, access, refresh)
}

/// One renewal and what it means for this request.
async fn renew(
    context: &Context<'_>,
    renewable: Renewable,
    headers: &HeaderMap,
    trail: &mut Trail,
) -> Result<(Decision, SessionCookies), GatewayError> {
    match renewable {
        Renewable::Session(claims) => renew_session(context, claims, headers).await,
        Renewable::External => external::renew(context, headers, trail).await,
    }
}

/// A renewal by the session engine.
async fn renew_session(
    context: &Context<'_>,
    claims: RefreshClaims,
    headers: &HeaderMap,
) -> Result<(Decision, SessionCookies), GatewayError> {
    let client = client_of(context, headers);
    match context
        .app
        .sessions
        .renew(claims, &client, context.now)
        .await
    {
        Renewal::Issued(pair, subject) => {
            Ok((Decision::SignedIn(subject), SessionCookies::Issue(pair)))
        }
        Renewal::Served(subject) => Ok((Decision::SignedIn(subject), SessionCookies::Untouched)),
        Renewal::Refused { refusal, user } => {
            let reason = refusal_word(refusal);
            let event = AuditEvent::RotationRefused {
                user: user.as_deref(),
                session: claims.session,
                reason,
            };
            context.app.audit.record_for(&event, context.cause());
            Ok((
                Decision::Anonymous(AnonymousReason::RenewalRefused),
                SessionCookies::Untouched,
            ))
        }
        Renewal::Unavailable(trouble) => Err(GatewayError::RenewalUnavailable(trouble)),
        Renewal::ProviderSilent { retry_after } => {
            Err(GatewayError::ProviderSilent { retry_after })
        }
    }
}

fn refusal_word(refusal: RenewalRefusal) -> &'static str {
    match refusal {
        RenewalRefusal::Rule(rotation::Refusal::Unknown) => "unknown session",
        RenewalRefusal::Rule(rotation::Refusal::Revoked) => "revoked session",
        RenewalRefusal::Rule(rotation::Refusal::Expired) => "expired session",
        RenewalRefusal::Rule(rotation::Refusal::Ahead) => "generation ahead of the store",
        RenewalRefusal::Replay => "replay",
        RenewalRefusal::AccountClosed => "account blocked or removed",
        RenewalRefusal::ProviderGone => "provider not configured any more",
    }
}

/// Sends a permitted request on and prepares the answer.
async fn forward(
    context: &Context<'_>,
    permit: Permit,
    request: &mut Request<Body>,
    cookies: SessionCookies,
    trail: &mut Trail,
) -> Result<Response<Body>, GatewayError> {
    let signed_in = permit.subject().is_some();
    let upstream = permit.upstream();
    let dressed = external::dress(context, upstream, request.headers_mut(), trail).await;
    let keys = context.app.sessions.keys();
    // Only the access line says it.
    let sent = context.app.access_log.as_ref().map(|_| Instant::now());
    let forwarding = Forwarding {
        trusted_peer: context.trusted_peer,
        hop: &context.addressed.authority.hop,
        request_id: context.id,
        keys: &keys,
        now: context.now,
    };
    let session_end = |subject: &Arc<Subject>| {
        let streams = context.app.sessions.streams();
        end_of(streams.open(Arc::clone(subject)))
    };
    let answered = context
        .app
        .upstreams_of(context.connection.worker)
        .forward(permit, request, forwarding, session_end)
        .await;
    trail.upstream_time = sent.map(|sent| sent.elapsed());
    let mut response = answered
        .map_err(|error| GatewayError::Upstream(context.app.upstream_name(upstream), error))?;
    external::answered(context, upstream, dressed, response.headers_mut());
    cookies.apply(context, response.headers_mut());
    if let Some(subject) = &trail.subject
        && signed_in
        && !response.body().is_end_stream()
    {
        let body = std::mem::take(response.body_mut());
        let sessions = &context.app.sessions;
        *response.body_mut() =
            streams::until_session_ends(body, response.headers(), sessions, subject);
    }
    Ok(response)
}

/// Resolves when the guard's session is over; holds the guard until then.
fn end_of(guard: StreamGuard) -> SessionEnd {
    Box::pin(async move { guard.ended().await })
}

/// The browser as the rotation rule knows it: bounded user agent and address.
fn client_of(context: &Context<'_>, headers: &HeaderMap) -> Client {
    let agent = headers
        .get(header::USER_AGENT)
        .map_or(&b""[..], HeaderValue::as_bytes);
    let mut user_agent = String::from_utf8_lossy(agent).into_owned();
    let mut cut = Client::MAX_USER_AGENT.min(user_agent.len());
    while !user_agent.is_char_boundary(cut) {
        cut -= 1;
    }
    user_agent.truncate(cut);
    Client {
        user_agent,
        addr: context.client,
    }
}
