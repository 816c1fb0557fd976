//! Open WebSockets, event streams and long answers, so that they end with their session. Must not know what flows in them.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dashmap::{DashMap, Entry};
use tokio_util::sync::CancellationToken;

use super::revocations::Revocations;
use crate::auth::{SessionId, Subject};
use crate::store::{RevocationRecord, RevocationTarget};

struct Stream {
    number: u64,
    subject: Arc<Subject>,
    ended: CancellationToken,
}

/// The list, shared with every guard.
#[derive(Default)]
struct Open {
    by_session: DashMap<SessionId, Vec<Stream>>,
    count: AtomicUsize,
}

/// All open streams of this node.
pub struct Streams {
    open: Arc<Open>,
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
    pub fn open(&self, subject: Arc<Subject>) -> StreamGuard {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let ended = CancellationToken::new();
        let session = subject.claims.session;
        let stream = Stream {
            number,
            subject: Arc::clone(&subject),
            ended: ended.clone(),
        };
        self.open
            .by_session
            .entry(session)
            .or_default()
            .push(stream);
        self.open.count.fetch_add(1, Ordering::Relaxed);
        // The session may have ended between the check of the token and this registration.
        if self.revocations.concerns_token(&subject.claims) {
            ended.cancel();
        }
        StreamGuard {
            number,
            session,
            ended,
            open: Arc::clone(&self.open),
        }
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.count.load(Ordering::Relaxed)
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whose streams are open.
    pub(super) fn sessions(&self) -> Vec<SessionId> {
        let entries = self.open.by_session.iter();
        entries.map(|streams| *streams.key()).collect()
    }

    /// Ends those that a revocation concerns; to be called after it is in memory. Told of one that is long obeyed, this ends
    /// nothing that began since.
    pub(super) fn end(&self, revocation: &RevocationRecord) {
        let (provider, user) = match &revocation.target {
            RevocationTarget::Session(session) => return self.end_session(session),
            RevocationTarget::User { provider, user } => (Some(provider), Some(user)),
            RevocationTarget::All => (None, None),
        };
        for streams in self.open.by_session.iter() {
            for stream in streams.iter() {
                let claims = &stream.subject.claims;
                let identity = &claims.identity;
                if claims.began_at <= revocation.at
                    && provider.is_none_or(|provider| *provider == identity.provider)
                    && user.is_none_or(|user| *user == identity.user)
                {
                    stream.ended.cancel();
                }
            }
        }
    }

    /// Ends those of one session.
    pub(super) fn end_session(&self, session: &SessionId) {
        if let Some(streams) = self.open.by_session.get(session) {
            streams.iter().for_each(|stream| stream.ended.cancel());
        }
    }
}

/// One open stream; dropping it takes it off the list.
pub struct StreamGuard {
    number: u64,
    session: SessionId,
    ended: CancellationToken,
    open: Arc<Open>,
}

impl StreamGuard {
    /// Resolves when the session has been ended.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        self.ended.clone().cancelled_owned()
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        if let Entry::Occupied(mut streams) = self.open.by_session.entry(self.session) {
            streams.get_mut().retain(|one| one.number != self.number);
            if streams.get().is_empty() {
                streams.remove();
            }
        }
        self.open.count.fetch_sub(1, Ordering::Relaxed);
    }
}
