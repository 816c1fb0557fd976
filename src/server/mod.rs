//! Sockets to requests: accept, permits, TLS, the wire guard, timeouts, one task per connection, drain.
//!
//! Must not know routes, sessions or upstreams: it hands well-formed requests to a [`Handler`].

mod accept;
mod body;
mod connection;
mod descriptors;
mod guard;
mod h2_watch;
mod http1;
mod http2;
mod redirect;
mod refusal;
mod target;
mod timeouts;
pub mod tls;
mod unread;
mod worker;

pub use accept::{Bound, Drained, ServerError, bind};
pub use body::RequestBodyError;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};

use crate::body::Body;
use crate::headers::forwarded::Hop;

/// Where and how to listen.
#[derive(Clone, Debug)]
pub struct Settings {
    /// TLS listeners.
    pub listen: Vec<SocketAddr>,
    /// Plain listener that answers 308 to https, nothing else: hosts of `origins` to theirs, anything else to `origin`.
    pub redirect_http: Option<SocketAddr>,
    /// The origin, `https://host[:port]` without trailing slash: where the redirect leads whoever names no host of `origins`.
    pub origin: String,
    /// Host -> its origin, for every host that is served: where the redirect leads whoever names one.
    pub origins: BTreeMap<String, String>,
    /// Every limit and timeout.
    pub limits: Limits,
    /// Worker threads, each with a runtime of its own.
    pub workers: usize,
}

/// Every limit and timeout of `[server.limits]`; each one is enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest header block in bytes (431).
    pub header_bytes: usize,
    /// Most header fields (431).
    pub headers: usize,
    /// Largest request body (413); `None` = unlimited.
    pub body_bytes: Option<u64>,
    /// Most connections at once; further ones wait in the kernel's queue.
    pub connections: usize,
    /// TCP accepted -> TLS established.
    pub handshake_timeout: Duration,
    /// First byte of a request head -> its last; also TLS established -> first byte.
    pub header_timeout: Duration,
    /// Longest silence within a body, either way.
    pub body_idle_timeout: Duration,
    /// Longest silence between requests.
    pub idle_timeout: Duration,
    /// How long in-flight requests may take to end at shutdown.
    pub shutdown_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            header_bytes: 64 << 10,
            headers: 100,
            body_bytes: None,
            connections: 10_000,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            body_idle_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            shutdown_grace: Duration::from_secs(30),
        }
    }
}

/// Which HTTP the connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// What is known of the connection a request came on.
#[derive(Debug)]
pub struct Connection {
    /// The socket's peer.
    pub peer: SocketAddr,
    /// SNI, lower case, when the client sent one.
    pub server_name: Option<Box<str>>,
    /// By ALPN.
    pub protocol: Protocol,
    /// Which worker serves it: an index below [`Settings::workers`].
    pub worker: usize,
}

/// What a request is addressed to, as it was received and found valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addressed {
    /// Whom; the same value for all requests of a connection that name the same.
    pub authority: Arc<Authority>,
    /// What of them.
    pub target: RawTarget,
}

/// Whom a request is addressed to: validated `Host` or `:authority`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Lower case, without port; an IPv6 address keeps its brackets.
    pub host: Box<str>,
    /// The port, when one was given.
    pub port: Option<u16>,
    /// What upstreams are told of the connection and this name.
    pub hop: Hop,
}

/// The request target (path and query) byte for byte as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawTarget(pub Box<str>);

impl RawTarget {
    /// The target without its query.
    pub fn path(&self) -> &str {
        let end = memchr::memchr(b'?', self.0.as_bytes());
        end.and_then(|end| self.0.get(..end)).unwrap_or(&self.0)
    }
}

/// Whatever answers requests. A panic in it costs one request (500), never the connection's neighbours.
pub trait Handler: Send + Sync + 'static {
    /// Answers one well-formed request. The body obeys `body_bytes` and `body_idle_timeout` by itself.
    fn handle(
        &self,
        request: Request<Body>,
        addressed: Addressed,
        connection: &Arc<Connection>,
    ) -> impl Future<Output = Response<Body>> + Send;

    /// Hears of a request that was refused before it could be handled (malformed, too large, too slow) or whose handling
    /// panicked. `request_id` is what the answer carries, `head` what the request was for, if its head was well-formed.
    fn refused(
        &self,
        status: http::StatusCode,
        reason: &'static str,
        request_id: &str,
        head: Option<RefusedHead<'_>>,
        connection: &Connection,
    ) {
        let _ = (status, reason, request_id, head, connection);
    }

    /// Hears what becomes of connections, to count it. Must not wait.
    fn happened(&self, happening: Happening) {
        let _ = happening;
    }
}

/// What a refused request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedHead<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its host, lower case, without port.
    pub host: &'a str,
    /// Its path, without the query.
    pub path: &'a str,
}

/// What becomes of connections, besides their requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// Accepted; each one ends later.
    Accepted,
    /// Over, by whatever cause; an upgraded one lives on as a tunnel.
    Ended,
    /// No TLS session came about.
    HandshakeFailed,
    /// No TLS session came about in time.
    HandshakeTimedOut,
    /// A handler panicked; the request got 500.
    Panicked,
}

#[cfg(test)]
mod tests;
