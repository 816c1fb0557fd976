//! Acknowledgements off the request path: an access token that is seen for the first time shows that its generation was
//! received, or that somebody else received an abandoned one.
//!
//! The queue is bounded; what does not fit is noticed at the token's next request. Must not make a request wait.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc};

use super::Sessions;
use crate::auth::rotation::{self, Sighting};
use crate::auth::{AccessClaims, Generation, SessionId};
use crate::pauses::Pauses;
use crate::store::Replaced;

const QUEUE: usize = 4096;
/// How many are written at once; they share commits.
const AT_ONCE: usize = 64;
/// How often a sighting is tried while the store fails or others change the session.
const TRIES: usize = 8;
/// A store that failed is given so long to recover.
const PAUSES: Pauses = Pauses::doubling(Duration::from_millis(50), Duration::from_secs(10));

#[derive(Clone, Copy)]
pub(super) struct Seen {
    session: SessionId,
    generation: Generation,
}

/// The way in.
pub(super) struct Acknowledgements {
    queue: mpsc::Sender<Seen>,
    pending: Arc<Pending>,
}

#[derive(Default)]
struct Pending {
    count: AtomicUsize,
    none: Notify,
}

impl Pending {
    fn one_less(&self) {
        if self.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.none.notify_waiters();
        }
    }
}

impl Acknowledgements {
    pub(super) fn new() -> (Self, mpsc::Receiver<Seen>) {
        let (queue, seen) = mpsc::channel(QUEUE);
        let pending = Arc::default();
        (Acknowledgements { queue, pending }, seen)
    }

    /// Notes a first sighting; whether there was room.
    pub(super) fn note(&self, claims: &AccessClaims) -> bool {
        self.pending.count.fetch_add(1, Ordering::AcqRel);
        let seen = Seen {
            session: claims.session,
            generation: claims.generation,
        };
        let noted = self.queue.try_send(seen).is_ok();
        if !noted {
            self.pending.one_less();
        }
        noted
    }

    /// Resolves when everything noted so far has been dealt with.
    pub(super) async fn settled(&self) {
        loop {
            let none = self.pending.none.notified();
            tokio::pin!(none);
            none.as_mut().enable();
            if self.pending.count.load(Ordering::Acquire) == 0 {
                return;
            }
            none.await;
        }
    }
}

/// Works until the engine is gone.
pub(super) async fn work(sessions: Weak<Sessions>, mut queue: mpsc::Receiver<Seen>) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(seen) = queue.recv().await {
        let Some(sessions) = sessions.upgrade() else {
            return;
        };
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        tokio::spawn(async move {
            let done = Done(Arc::clone(&sessions.acknowledgements.pending));
            sessions.acknowledge(seen).await;
            drop(done);
            drop(permit);
        });
    }
}

/// Counts down even if the work panics.
struct Done(Arc<Pending>);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.one_less();
    }
}

impl Sessions {
    async fn acknowledge(self: &Arc<Self>, seen: Seen) {
        let mut pauses = PAUSES;
        for _ in 0..TRIES {
            let stored = match self.load(&seen.session).await {
                Ok(Some(stored)) => stored,
                Ok(None) => return,
                Err(_) => {
                    tokio::time::sleep(pauses.pause()).await;
                    continue;
                }
            };
            let now = self.clock.now();
            let sighting = rotation::sight(&stored.record, seen.generation);
            if sighting == Sighting::Nothing {
                return self.tell_again(&stored.record, now).await;
            }
            let next = rotation::apply_sighting(&stored.record, sighting, now);
            let marked = match self.replace(&next, stored.revision).await {
                Ok(Replaced::Committed(_)) => true,
                Ok(Replaced::Missing) => return,
                Ok(Replaced::Conflict) => continue,
                Err(_) => false,
            };
            if sighting == Sighting::Replay {
                let (record, generation) = (&stored.record, seen.generation);
                return self.end_stolen(record, generation, None, marked).await;
            }
            if marked {
                return;
            }
            tokio::time::sleep(pauses.pause()).await;
        }
    }
}
