//! Open WebSockets, event streams and long answers, so that they end with their session. Must not know what flows in them.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::{DashMap, Entry};
use tokio_util::sync::CancellationToken;

use super::revocations::Revocations;
use crate::auth::{SessionId, Subject};
use crate::clock::{Clock, Timestamp};
use crate::store::{RevocationRecord, RevocationTarget};

/// How often a stream that ends at a moment looks at the clock, which may be stepped meanwhile.
const LOOK: Duration = Duration::from_secs(1);

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
    clock: Clock,
}

impl Streams {
    pub(super) fn new(revocations: Arc<Revocations>, clock: Clock) -> Self {
        Streams {
            open: Arc::default(),
            next: AtomicU64::new(0),
            revocations,
            clock,
        }
    }

    /// Registers a stream for as long as the guard lives. One without a session ends when what proved its identity expires.
    pub fn open(&self, subject: Arc<Subject>) -> StreamGuard {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let Some(session) = subject.session() else {
            self.open.count.fetch_add(1, Ordering::Relaxed);
            return StreamGuard {
                number,
                ends: Ends::At(subject.expires_at(), self.clock.clone()),
                open: Arc::clone(&self.open),
            };
        };
        let ended = CancellationToken::new();
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
        if self.revocations.concerns_subject(&subject) {
            ended.cancel();
        }
        StreamGuard {
            number,
            ends: Ends::With(session, ended),
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
                let identity = stream.subject.identity();
                let claims = stream.subject.access_claims();
                if claims.is_some_and(|claims| claims.began_at <= revocation.at)
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

/// What ends a stream.
enum Ends {
    /// The end of this session.
    With(SessionId, CancellationToken),
    /// This moment of that clock.
    At(Timestamp, Clock),
}

/// One open stream; dropping it takes it off the list.
pub struct StreamGuard {
    number: u64,
    ends: Ends,
    open: Arc<Open>,
}

impl StreamGuard {
    /// Resolves when the session has been ended, or when the token of a stream without a session has expired.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        let (ended, moment) = match &self.ends {
            Ends::With(_, ended) => (Some(ended.clone()), None),
            Ends::At(moment, clock) => (None, Some((*moment, clock.clone()))),
        };
        async move {
            if let Some(ended) = ended {
                ended.cancelled_owned().await;
            }
            if let Some((moment, clock)) = moment {
                until(moment, &clock).await;
            }
        }
    }
}

/// Waits for a moment of the wall clock, which timers know nothing of: looked at again and again.
async fn until(moment: Timestamp, clock: &Clock) {
    loop {
        let left = moment.since(clock.now());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(LOOK)).await;
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        if let Ends::With(session, _) = &self.ends
            && let Entry::Occupied(mut streams) = self.open.by_session.entry(*session)
        {
            streams.get_mut().retain(|one| one.number != self.number);
            if streams.get().is_empty() {
                streams.remove();
            }
        }
        self.open.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::subject::{ForeignProof, Proof};
    use crate::auth::test_support::{NOW, alice};

    #[tokio::test]
    async fn a_stream_without_a_session_ends_with_its_token() {
        let clock = Clock::manual(NOW);
        let streams = Streams::new(Arc::default(), clock.clone());
        let proof = Proof::Bearer(ForeignProof {
            identity: alice(),
            scopes: Vec::new(),
            expires_at: NOW.plus(Duration::from_secs(60)),
        });
        let guard = streams.open(Arc::new(Subject::of(proof)));
        assert_eq!(streams.len(), 1);
        assert!(streams.sessions().is_empty());
        let mut ended = std::pin::pin!(guard.ended());
        let soon = tokio::time::timeout(Duration::ZERO, ended.as_mut()).await;
        assert!(soon.is_err(), "ended before its token");
        // The wall clock is set forward: that counts, whatever the timers say.
        clock.advance(Duration::from_secs(60));
        let soon = tokio::time::timeout(LOOK * 10, ended).await;
        assert!(soon.is_ok(), "outlived its token");
        drop(guard);
        assert!(streams.is_empty());
    }
}
