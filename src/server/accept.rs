//! Listening sockets, connection permits, and the hand-off to workers; drain at the end.
//!
//! Must not read a byte of a connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::worker::{self, Accepted, Shared};
use super::{Handler, Settings, descriptors, redirect, tls};
use crate::door;
use crate::listening::ListenError;

const BACKLOG: i32 = 4096;

/// Why the server cannot start; each message says where and how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// An address could not be taken.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A worker thread could not be started.
    #[error("cannot start a worker thread: {0}")]
    Worker(#[source] io::Error),
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut because the grace was over, however many requests they carried; a tunnel is its connection.
    pub cut: usize,
}

/// Bound sockets, not yet served.
#[derive(Debug)]
pub struct Bound {
    settings: Settings,
    listeners: Vec<Listener>,
    redirect: Option<Listener>,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

/// Binds every listener of `settings`, all or none. Port 0 takes a free port.
#[allow(
    clippy::unused_async,
    reason = "registering a socket needs a running runtime"
)]
pub async fn bind(settings: &Settings) -> Result<Bound, ServerError> {
    let mut listeners = settings
        .listen
        .iter()
        .map(|address| ("[server] listen", address))
        .chain(
            settings
                .redirect_http
                .iter()
                .map(|address| ("[server] redirect_http", address)),
        )
        .map(|(key, &address)| Listener::bind(key, address, settings))
        .collect::<Result<Vec<_>, _>>()?;
    let redirect = settings.redirect_http.and_then(|_| listeners.pop());
    Ok(Bound {
        settings: settings.clone(),
        listeners,
        redirect,
        tasks: TaskTracker::new(),
    })
}

impl Bound {
    /// The addresses of the TLS listeners, in the order of the settings.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listeners
            .iter()
            .map(|listener| listener.address)
            .collect()
    }

    /// The address of the plain listener that redirects, if any.
    pub fn redirect_addr(&self) -> Option<SocketAddr> {
        self.redirect.as_ref().map(|listener| listener.address)
    }

    /// What the drain waits for. Tunnels that outlive their request belong in here: they get the grace, then are cut
    /// when they run on the worker that served them.
    pub fn tasks(&self) -> TaskTracker {
        self.tasks.clone()
    }

    /// Serves until `shutdown`, then drains: no new connection, idle ones closed, requests in flight get
    /// `shutdown_grace`, what is left is cut.
    pub async fn run<H: Handler>(
        self,
        tls: Arc<ArcSwap<tls::Config>>,
        handler: Arc<H>,
        shutdown: CancellationToken,
    ) -> Result<Drained, ServerError> {
        let limits = Arc::new(self.settings.limits.clone());
        let shared = Shared {
            handler,
            tls,
            limits: Arc::clone(&limits),
            shutdown: shutdown.clone(),
            cut: CancellationToken::new(),
            tasks: self.tasks.clone(),
        };
        // Whatever way this function is left, also by being dropped, the workers end.
        let cut = shared.cut.clone().drop_guard();
        let mut senders = Vec::new();
        let mut threads = Vec::new();
        for index in 0..self.settings.workers.max(1) {
            let (sender, thread) = worker::spawn(index, &shared).map_err(ServerError::Worker)?;
            senders.push(sender);
            threads.push(thread);
        }
        let most = descriptors::affordable(limits.connections).clamp(1, Semaphore::MAX_PERMITS);
        let permits = Arc::new(Semaphore::new(most));
        let hand_off = Arc::new(HandOff {
            senders,
            next: AtomicUsize::new(0),
            permits: Arc::clone(&permits),
        });
        let acceptors: Vec<_> = self
            .listeners
            .into_iter()
            .map(|listener| tokio::spawn(accept(listener, Arc::clone(&hand_off), shutdown.clone())))
            .collect();
        drop(hand_off);
        let redirect = self.redirect.map(|listener| {
            let origins = redirect::Origins {
                fallback: self.settings.origin,
                of_host: self.settings.origins,
            };
            tokio::spawn(redirect::serve(
                listener.socket,
                Arc::new(origins),
                limits.as_ref().clone(),
                shutdown.clone(),
            ))
        });
        shutdown.cancelled().await;
        if let Some(redirect) = redirect {
            let _ = redirect.await;
        }
        for acceptor in acceptors {
            let _ = acceptor.await;
        }
        self.tasks.close();
        let left = match tokio::time::timeout(limits.shutdown_grace, self.tasks.wait()).await {
            Ok(()) => 0,
            // Every socket holds a permit to its end; the tasks are more, one for each stream of HTTP/2.
            Err(_) => most.saturating_sub(permits.available_permits()),
        };
        drop(cut);
        let _ = tokio::task::spawn_blocking(move || {
            for thread in threads {
                let _ = thread.join();
            }
        })
        .await;
        Ok(Drained { cut: left })
    }
}

impl Listener {
    fn bind(
        key: &'static str,
        address: SocketAddr,
        settings: &Settings,
    ) -> Result<Self, ListenError> {
        // `[::]` takes IPv4 along, unless that port has an IPv4 listener of its own.
        let mut all = settings.listen.iter().chain(&settings.redirect_http);
        let beside_ipv4 = all.any(|other| other.is_ipv4() && other.port() == address.port());
        Self::try_bind(address, beside_ipv4).map_err(|source| ListenError {
            address,
            key,
            source,
        })
    }

    fn try_bind(address: SocketAddr, beside_ipv4: bool) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM.nonblocking().cloexec(),
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() && beside_ipv4 {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let socket = TcpListener::from_std(socket.into())?;
        let address = socket.local_addr()?;
        Ok(Listener { socket, address })
    }
}

/// Where accepted connections go: to the workers in turn.
struct HandOff {
    senders: Vec<mpsc::UnboundedSender<Accepted>>,
    next: AtomicUsize,
    permits: Arc<Semaphore>,
}

impl HandOff {
    fn send(&self, accepted: Accepted) {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.senders.len().max(1);
        if let Some(sender) = self.senders.get(turn) {
            // A worker ends only after the acceptors did; a failure would mean it died, and drops the connection.
            let _ = sender.send(accepted);
        }
    }
}

/// Accepts on one listener until `shutdown`: sockets that no runtime knows yet, so that any worker can take them.
async fn accept(listener: Listener, hand_off: Arc<HandOff>, shutdown: CancellationToken) {
    let permits = &hand_off.permits;
    door::each(
        &listener.socket,
        permits,
        &shutdown,
        |(stream, peer), permit| {
            stream.set_nodelay(true)?;
            hand_off.send(Accepted {
                stream: stream.into_std()?,
                peer: SocketAddr::new(peer.ip().to_canonical(), peer.port()),
                permit,
            });
            Ok(())
        },
    )
    .await;
}
