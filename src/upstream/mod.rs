//! From a permit to an answer: pooled connections, identity headers, assertion, streaming, upgrades.
//!
//! Must not decide who may: it demands a [`crate::auth::Permit`].

pub mod assertion;
mod body;
mod connect;
mod forward;
pub mod identity;
mod pool;
mod rewrite;
#[cfg(test)]
mod tests;
mod tunnel;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Request, Response};
use rustls::RootCertStore;
use tokio_util::task::TaskTracker;

use crate::auth::keyset::{KeyError, KeySet};
use crate::auth::{Permit, Subject};
use crate::body::{Body, BodyError};
use crate::clock::Timestamp;
use crate::headers::forwarded::Hop;
use crate::headers::names::GuardedNames;

pub use body::AnswerStalled;
pub use tunnel::SessionEnd;

/// One configured upstream.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name: `aud` of its assertions, label in metrics.
    pub name: String,
    /// Where it listens; several are used in turn.
    pub endpoints: Vec<Endpoint>,
    /// TCP (and TLS) established within.
    pub connect_timeout: Duration,
    /// Request sent -> response head.
    pub response_timeout: Duration,
    /// Longest silence within a response body; server-sent events and gRPC are exempt, for them silence is normal.
    pub body_idle_timeout: Duration,
    /// Whether `X-Vestibule-Assertion` is sent.
    pub assertion: bool,
    /// Which header carries which claim.
    pub headers: HeaderMapping,
}

/// Where an upstream listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `http://host:port`
    Http {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// `https://host:port`, verified against the system's roots; HTTP/1.1 or HTTP/2 by ALPN.
    Https {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// `h2c://host:port`: HTTP/2 without TLS, by prior knowledge.
    H2c {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// `unix:/path`
    Unix(PathBuf),
}

/// What a header can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// `Identity::user`
    User,
    /// `Identity::email`
    Email,
    /// `Identity::name`
    Name,
    /// `Identity::preferred_username`, or the user where there is none.
    PreferredUsername,
    /// `Identity::groups`, joined by `,`
    Groups,
}

/// Header -> claim, from a preset or a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMapping(pub Vec<(HeaderName, Claim)>);

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host, port) = match self {
            Endpoint::Http { host, port } => ("http", host, port),
            Endpoint::Https { host, port } => ("https", host, port),
            Endpoint::H2c { host, port } => ("h2c", host, port),
            Endpoint::Unix(path) => return write!(f, "unix:{}", path.display()),
        };
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}")
        } else {
            write!(f, "{scheme}://{host}:{port}")
        }
    }
}

/// What the gateway knows about a request besides the request.
pub struct Forwarding<'a> {
    /// Whether that peer is in `trusted_proxies`: then its forwarding data is kept and appended to.
    pub trusted_peer: bool,
    /// The connection the request came in on, and how the client named us.
    pub hop: &'a Hop,
    /// The request's id.
    pub request_id: &'a HeaderValue,
    /// The keys that sign assertions now.
    pub keys: &'a KeySet,
    /// The request's moment.
    pub now: Timestamp,
}

/// Why there is no answer from the upstream.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The permit names an upstream that this configuration does not have (500).
    #[error("no such upstream")]
    Unconfigured,
    /// The judged target cannot be sent as it is (400).
    #[error("the request target cannot be forwarded unchanged")]
    Target,
    /// The assertion could not be signed (500).
    #[error("the assertion could not be signed")]
    Assertion(#[from] KeyError),
    /// No endpoint took the connection (502).
    #[error("the upstream cannot be connected to")]
    Connect(#[source] io::Error),
    /// There is no endpoint at all (502).
    #[error("the upstream has no endpoint")]
    Unreachable,
    /// No connection within `connect_timeout` (504).
    #[error("connecting to the upstream took too long")]
    ConnectTimeout,
    /// No answer within `response_timeout` (504).
    #[error("the upstream did not answer in time")]
    ResponseTimeout,
    /// The connection broke, or what came was no HTTP (502).
    #[error("the upstream's answer broke")]
    Broken(#[source] hyper::Error),
    /// The answer could be read two ways, or switched to a protocol nobody asked for (502).
    #[error("the upstream's answer is ambiguous")]
    BrokenAnswer,
    /// The client's body failed on its way (408, 413 or a closed connection); the cause is whatever the body yielded.
    #[error("the client's request body failed")]
    RequestBody(#[source] BodyError),
}

/// Why the upstreams cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// There is an https upstream, and the system has no root certificates.
    #[error(
        "an https upstream is configured, but no root certificates were found on this system (install ca-certificates)"
    )]
    NoRoots,
    /// TLS cannot be configured.
    #[error("TLS to upstreams cannot be configured")]
    Tls(#[from] rustls::Error),
}

/// What all workers share: the settings and what was derived from them.
struct Plan {
    settings: Arc<[Settings]>,
    /// `iss` of assertions.
    origin: String,
    guarded: GuardedNames,
    tls: Option<connect::Tls>,
}

/// All upstreams as one worker uses them: connections are its own, the rest is shared with its siblings.
pub struct Upstreams {
    plan: Arc<Plan>,
    pools: Vec<pool::Pool>,
    tunnels: TaskTracker,
}

impl Upstreams {
    /// Sets up the upstreams for one worker. `origin` is the configured origin; `tunnels` knows every open WebSocket.
    /// Reads the system's root certificates when an upstream speaks https.
    pub fn new(
        settings: Arc<[Settings]>,
        origin: String,
        tunnels: TaskTracker,
    ) -> Result<Self, SetupError> {
        let needs_tls = settings
            .iter()
            .flat_map(|upstream| &upstream.endpoints)
            .any(|endpoint| matches!(endpoint, Endpoint::Https { .. }));
        let roots = match needs_tls {
            true => Some(system_roots()?),
            false => None,
        };
        Self::with_roots(settings, origin, tunnels, roots)
    }

    /// As [`Upstreams::new`], trusting `roots` for https.
    pub fn with_roots(
        settings: Arc<[Settings]>,
        origin: String,
        tunnels: TaskTracker,
        roots: Option<RootCertStore>,
    ) -> Result<Self, SetupError> {
        let mapped = settings
            .iter()
            .flat_map(|upstream| upstream.headers.0.iter().map(|(name, _)| name));
        let plan = Plan {
            guarded: GuardedNames::new(mapped),
            tls: roots.map(connect::Tls::new).transpose()?,
            settings,
            origin,
        };
        Ok(Self::of(Arc::new(plan), tunnels))
    }

    /// The same upstreams for another worker, with connections of its own.
    pub fn sibling(&self) -> Self {
        Self::of(Arc::clone(&self.plan), self.tunnels.clone())
    }

    fn of(plan: Arc<Plan>, tunnels: TaskTracker) -> Self {
        let pools = plan.settings.iter().map(pool::Pool::new).collect();
        Upstreams {
            plan,
            pools,
            tunnels,
        }
    }

    /// Sends the request where the permit leads, along the very target it was given for, and returns the answer as soon as
    /// its head is there; both bodies stream. Headers and body are taken out of the request. A tunnel ends with its
    /// session: `session_end` is called for one only, and what it returns resolves when the session is over.
    pub fn forward<'a>(
        &'a self,
        permit: Permit,
        request: &'a mut Request<Body>,
        context: Forwarding<'a>,
        session_end: impl FnOnce(&Arc<Subject>) -> SessionEnd + Send + 'a,
    ) -> impl Future<Output = Result<Response<Body>, UpstreamError>> + Send + 'a {
        forward::forward(self, permit, request, context, session_end)
    }

    /// Name and endpoints of every upstream, for the start-up summary.
    pub fn describe(&self) -> impl Iterator<Item = String> {
        self.plan.settings.iter().map(|upstream| {
            let endpoints: Vec<String> =
                upstream.endpoints.iter().map(ToString::to_string).collect();
            format!("{} -> {}", upstream.name, endpoints.join(", "))
        })
    }
}

/// Whether an endpoint takes connections, as far as a request would find out: TLS included, nothing is asked. For
/// `vestibule check --online`.
pub async fn reach(endpoint: &Endpoint, patience: Duration) -> io::Result<()> {
    let tls = match endpoint {
        Endpoint::Https { .. } => {
            let roots = system_roots().map_err(io::Error::other)?;
            Some(connect::Tls::new(roots).map_err(io::Error::other)?)
        }
        _ => None,
    };
    let purpose = connect::Purpose::Requests;
    let connecting = connect::connect(endpoint, tls.as_ref(), purpose, patience);
    tokio::time::timeout(patience, connecting)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
        .map(drop)
}

fn system_roots() -> Result<RootCertStore, SetupError> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    match store.is_empty() {
        true => Err(SetupError::NoRoots),
        false => Ok(store),
    }
}
