//! Open WebSockets and streams, so that they end with their session. Must not know what flows in them.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use tokio_util::sync::CancellationToken;

use super::revocations::Revocations;
use crate::auth::{AccessClaims, SessionId};
use crate::store::RevocationTarget;

struct Stream {
    session: SessionId,
    provider: String,
    user: String,
    ended: CancellationToken,
}

/// All open streams of this node.
pub struct Streams {
    open: Arc<DashMap<u64, Stream>>,
    next: AtomicU64,
    revocations: Arc<Revocations>,
}

impl Streams {
    pub(super) fn new(revocations: Arc<Revocations>) -> Self {
        Streams {
            open: Arc::default(),
            next: AtomicU64::new(0),
            revocations,
        }
    }

    /// Registers a stream for as long as the guard lives.
    pub fn open(&self, claims: &AccessClaims) -> StreamGuard {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let ended = CancellationToken::new();
        self.open.insert(
            number,
            Stream {
                session: claims.session,
                provider: claims.identity.provider.clone(),
                user: claims.identity.user.clone(),
                ended: ended.clone(),
            },
        );
        // The session may have ended between the check of the token and this registration.
        if self.revocations.concerns_token(claims) {
            ended.cancel();
        }
        StreamGuard {
            number,
            ended,
            open: Arc::clone(&self.open),
        }
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Ends those that `target` concerns; to be called after the revocation is in memory.
    pub(super) fn end(&self, target: &RevocationTarget) {
        for stream in self.open.iter() {
            let concerned = match target {
                RevocationTarget::Session(session) => stream.session == *session,
                RevocationTarget::User { provider, user } => {
                    stream.provider == *provider && stream.user == *user
                }
                RevocationTarget::All => true,
            };
            if concerned {
                stream.ended.cancel();
            }
        }
    }
}

/// One open stream; dropping it takes it off the list.
pub struct StreamGuard {
    number: u64,
    ended: CancellationToken,
    open: Arc<DashMap<u64, Stream>>,
}

impl StreamGuard {
    /// Resolves when the session has been ended.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        self.ended.clone().cancelled_owned()
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.open.remove(&self.number);
    }
}
