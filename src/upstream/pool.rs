//! The connections of one upstream on one worker: idle HTTP/1 connections, newest first, and one multiplexed HTTP/2
//! connection per endpoint; endpoints take turns.
//!
//! Must not send anything. A connection comes back only when its answer was read to the end (see `body`).

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use tokio::time::Instant;

use crate::deadline::Deadline;
use crate::upstream::body::RequestBody;
use crate::upstream::connect::{self, Connection, Purpose, Tls};
use crate::upstream::{Endpoint, Settings, UpstreamError};

/// Most idle connections kept per endpoint and worker.
const MAX_IDLE: usize = 256;
/// An idle connection older than this is not used again: shorter than the keep-alive of common servers (60 to 75 s).
const MAX_IDLE_AGE: Duration = Duration::from_secs(50);
/// An endpoint that could not be connected to is passed over for so long, while others can be.
const PENALTY: Duration = Duration::from_secs(2);

/// All endpoints of an upstream.
pub(super) struct Pool {
    endpoints: Vec<Arc<EndpointPool>>,
    next: AtomicUsize,
}

struct EndpointPool {
    endpoint: Endpoint,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    idle: Vec<Idle>,
    multiplexed: Option<http2::SendRequest<RequestBody>>,
    failed_at: Option<Instant>,
}

struct Idle {
    sender: http1::SendRequest<RequestBody>,
    since: Instant,
    deadline: Deadline,
}

/// A connection that was taken to send one request.
pub(super) enum Taken {
    Http1(Lease),
    /// With the authority for `:authority` and the scheme.
    Http2(http2::SendRequest<RequestBody>, &'static str),
}

/// A connection from the pool with its request on the way; dropped = closed.
pub(super) struct Lease {
    pub(super) sender: http1::SendRequest<RequestBody>,
    /// For the head of the answer: one timer serves all requests of the connection.
    pub(super) deadline: Deadline,
    /// When its request was sent; its idle age is counted from there too, which spares a reading of the clock.
    pub(super) taken_at: Instant,
    home: Arc<EndpointPool>,
}

impl Lease {
    /// Back into the pool; call only after the answer was read to its end.
    pub(super) fn give_back(self) {
        if self.sender.is_closed() {
            return;
        }
        let mut state = self.home.state();
        if state.idle.len() < MAX_IDLE {
            state.idle.push(Idle {
                sender: self.sender,
                since: self.taken_at,
                deadline: self.deadline,
            });
        }
    }
}

fn is_old(idle: &Idle, now: Instant) -> bool {
    now.duration_since(idle.since) > MAX_IDLE_AGE
}

impl Pool {
    pub(super) fn new(settings: &Settings) -> Self {
        Pool {
            endpoints: settings
                .endpoints
                .iter()
                .map(|endpoint| {
                    Arc::new(EndpointPool {
                        endpoint: endpoint.clone(),
                        state: Mutex::new(State::default()),
                    })
                })
                .collect(),
            next: AtomicUsize::new(0),
        }
    }

    /// A connection to the endpoint whose turn it is: an idle one if `reuse`, else a new one; the other endpoints are
    /// tried when that one cannot be reached. The flag says whether the connection was used before.
    pub(super) async fn take(
        &self,
        settings: &Settings,
        tls: Option<&Tls>,
        reuse: bool,
    ) -> Result<(Taken, bool), UpstreamError> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        if reuse
            && let Some(endpoint) = self.in_turn(turn).next()
            && let Some(taken) = endpoint.take_idle()
        {
            return Ok((taken, true));
        }
        let mut last = UpstreamError::Unreachable;
        for endpoint in self.in_turn(turn) {
            if reuse && let Some(taken) = endpoint.take_idle() {
                return Ok((taken, true));
            }
            match endpoint.open(settings, tls, Purpose::Requests).await {
                Ok(Connection::Http1(sender)) => {
                    let home = Arc::clone(endpoint);
                    let deadline = Deadline::default();
                    let lease = Lease {
                        sender,
                        deadline,
                        taken_at: Instant::now(),
                        home,
                    };
                    return Ok((Taken::Http1(lease), false));
                }
                Ok(Connection::Http2(sender)) => {
                    let scheme = endpoint.scheme();
                    endpoint.state().multiplexed = Some(sender.clone());
                    return Ok((Taken::Http2(sender, scheme), false));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// A connection of its own that may become a tunnel.
    pub(super) async fn take_for_tunnel(
        &self,
        settings: &Settings,
        tls: Option<&Tls>,
    ) -> Result<http1::SendRequest<RequestBody>, UpstreamError> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let mut last = UpstreamError::Unreachable;
        for endpoint in self.in_turn(turn) {
            match endpoint.open(settings, tls, Purpose::Tunnel).await {
                Ok(Connection::Http1(sender)) => return Ok(sender),
                // Never: a tunnel's connection speaks HTTP/1.1 by construction.
                Ok(Connection::Http2(_)) => {}
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Every endpoint once: from the one whose turn it is, those that failed a moment ago last.
    fn in_turn(&self, turn: usize) -> impl Iterator<Item = &Arc<EndpointPool>> {
        let (before, from) = self
            .endpoints
            .split_at(turn.checked_rem(self.endpoints.len()).unwrap_or(0));
        let order = move || from.iter().chain(before);
        let alone = self.endpoints.len() < 2;
        order()
            .filter(move |endpoint| alone || !endpoint.failed_lately())
            .chain(order().filter(move |endpoint| !alone && endpoint.failed_lately()))
    }
}

impl EndpointPool {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing can panic while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn scheme(&self) -> &'static str {
        match self.endpoint {
            Endpoint::Https { .. } => "https",
            _ => "http",
        }
    }

    fn failed_lately(&self) -> bool {
        let failed_at = self.state().failed_at;
        failed_at.is_some_and(|at| at.elapsed() < PENALTY)
    }

    fn take_idle(self: &Arc<Self>) -> Option<Taken> {
        let mut state = self.state();
        if let Some(sender) = &state.multiplexed {
            if sender.is_ready() {
                return Some(Taken::Http2(sender.clone(), self.scheme()));
            }
            state.multiplexed = None;
        }
        if state.idle.is_empty() {
            return None;
        }
        let now = Instant::now();
        if state.idle.first().is_some_and(|idle| is_old(idle, now)) {
            state.idle.retain(|idle| !is_old(idle, now));
        }
        while let Some(idle) = state.idle.pop() {
            if idle.sender.is_ready() && !is_old(&idle, now) {
                return Some(Taken::Http1(Lease {
                    sender: idle.sender,
                    deadline: idle.deadline,
                    taken_at: now,
                    home: Arc::clone(self),
                }));
            }
        }
        None
    }

    async fn open(
        &self,
        settings: &Settings,
        tls: Option<&Tls>,
        purpose: Purpose,
    ) -> Result<Connection, UpstreamError> {
        // Boxed: rare and large, and its future is part of that of every request.
        // An app may read a part, and work on it for as long as it may take to answer.
        let patience = settings.body_idle_timeout.max(settings.response_timeout);
        let connecting = Box::pin(connect::connect(&self.endpoint, tls, purpose, patience));
        let result = match tokio::time::timeout(settings.connect_timeout, connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            // The operator who reads the cause wants to know where; the client never sees it.
            Ok(Err(source)) => Err(UpstreamError::Connect(io::Error::new(
                source.kind(),
                format!("{}: {source}", self.endpoint),
            ))),
            Err(_) => Err(UpstreamError::ConnectTimeout),
        };
        let mut state = self.state();
        match &result {
            Ok(_) => state.failed_at = None,
            Err(error) => {
                state.failed_at = Some(Instant::now());
                tracing::debug!(upstream = %settings.name, endpoint = %self.endpoint, %error, "cannot connect");
            }
        }
        drop(state);
        result
    }
}
