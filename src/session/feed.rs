//! Following what other nodes of a shared store do: their revocations are obeyed as they come, their signing keys are read,
//! and each time the feed is attached anew everything that could have been missed is loaded.
//!
//! Two tasks, so that no event waits while something is loaded. Must not know how a store tells its nodes. That nothing
//! arrives is said, and harms only for so long: every renewal asks the store, so after the life of an access token nothing
//! is left to miss; open streams are asked for, and end where nobody answers.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{OpenError, SessionEvent, Sessions};
use crate::clock::Timestamp;
use crate::pauses::Pauses;
use crate::store::{Feed, FeedEvent, RevocationRecord, Store, StoreError};

/// How long a start waits for the feed, once the store answered: as long as for that.
const FIRST_ATTACHMENT: Duration = Duration::from_secs(10);
/// How long loading all revocations may take.
const LOAD_PATIENCE: Duration = Duration::from_secs(20);
/// Everything is loaded anew this often although nothing should have been missed.
const BELT: Duration = Duration::from_secs(300);
/// A failed load is tried again after so long.
const PAUSES: Pauses = Pauses::doubling(Duration::from_millis(100), LONGEST_PAUSE);
/// A feed that the store ended is asked for again after so long, too.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Tokens with a key id that nobody knows make the keys be read no more often than this.
const UNKNOWN_KEY_PAUSE: Duration = Duration::from_secs(10);
/// How many sessions are asked for or written at once.
const AT_ONCE: usize = 16;

/// What this node knows of the feed; shared by the two tasks and whoever asks.
#[derive(Default)]
pub(super) struct Following {
    state: Mutex<State>,
    wake: Notify,
    keys_wanted: AtomicBool,
    all_wanted: AtomicBool,
}

#[derive(Default)]
struct State {
    /// How often the feed was attached or detached: a load counts only if nothing changed while it ran.
    changes: u64,
    attached: bool,
    /// `None` while all revocations that were ever made are obeyed.
    blind: Option<Blind>,
    /// When a token with an unknown key last made the keys be read.
    unknown_key_at: Option<Instant>,
}

/// Revocations may be missing.
struct Blind {
    /// Why, as was said last.
    problem: String,
    /// From when on, by time that was seen to pass.
    since: Timestamp,
}

impl Following {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing can panic while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why revocations of other nodes may be missing.
    pub(super) fn problem(&self) -> Option<String> {
        let state = self.state();
        state.blind.as_ref().map(|blind| blind.problem.clone())
    }

    /// A token came whose key nobody here knows: perhaps another node has just made it. Bounded, because anybody can
    /// write a key id.
    pub(super) fn unknown_key(&self) {
        if self.keys_wanted.load(Ordering::Relaxed) {
            return;
        }
        let now = Instant::now();
        let mut state = self.state();
        let recent = |at: Instant| now.duration_since(at) < UNKNOWN_KEY_PAUSE;
        if !state.unknown_key_at.is_some_and(recent) {
            state.unknown_key_at = Some(now);
            drop(state);
            self.want(&self.keys_wanted);
        }
    }

    fn want(&self, what: &AtomicBool) {
        what.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    fn changed(&self, attached: bool, problem: String, now: Timestamp) {
        let mut state = self.state();
        state.changes += 1;
        state.attached = attached;
        let since = state.blind.as_ref().map_or(now, |blind| blind.since);
        state.blind = Some(Blind { problem, since });
    }

    /// For how long revocations may have been missed by now.
    fn blind_for(&self, now: Timestamp) -> Duration {
        let state = self.state();
        let blind = state.blind.as_ref();
        blind.map_or(Duration::ZERO, |blind| now.since(blind.since))
    }

    fn changes(&self) -> u64 {
        self.state().changes
    }

    /// Everything was loaded; whether that made this node whole again.
    fn caught_up(&self, since: u64) -> bool {
        let mut state = self.state();
        state.attached && state.changes == since && state.blind.take().is_some()
    }
}

/// The feed of a store that has one, attached: what is loaded from now on is complete together with what the feed brings.
pub(super) async fn attach(store: &dyn Store) -> Result<Option<Feed>, OpenError> {
    let Some(mut feed) = store.feed() else {
        return Ok(None);
    };
    let mut reason = "no answer".to_owned();
    let attached = tokio::time::timeout(FIRST_ATTACHMENT, async {
        while let Some(event) = feed.recv().await {
            match event {
                FeedEvent::Attached => return true,
                FeedEvent::Detached(why) => reason = why,
                // Loaded in a moment.
                FeedEvent::Revoked(_) | FeedEvent::KeysChanged => {}
            }
        }
        false
    })
    .await;
    match attached {
        Ok(true) => Ok(Some(feed)),
        Ok(false) | Err(_) => Err(OpenError::Feed(reason)),
    }
}

/// Starts both tasks.
pub(super) fn start(sessions: &Arc<Sessions>, feed: Feed) {
    sessions.following.state().attached = true;
    sessions
        .control
        .spawn(follow(Arc::downgrade(sessions), feed));
    sessions.control.spawn(load(Arc::downgrade(sessions)));
}

/// Obeys event after event until the engine is gone.
async fn follow(sessions: Weak<Sessions>, mut feed: Feed) {
    loop {
        let event = feed.recv().await;
        let Some(sessions) = sessions.upgrade() else {
            return;
        };
        match event {
            Some(FeedEvent::Revoked(revocation)) => sessions.obey(&revocation),
            Some(FeedEvent::KeysChanged) => {
                sessions.following.want(&sessions.following.keys_wanted);
            }
            Some(FeedEvent::Attached) => {
                let now = sessions.clock.witnessed();
                sessions
                    .following
                    .changed(true, "catching up".to_owned(), now);
                sessions.following.want(&sessions.following.all_wanted);
            }
            Some(FeedEvent::Detached(reason)) => sessions.lost(reason),
            None => {
                sessions.lost("the store ended it".to_owned());
                tokio::time::sleep(LONGEST_PAUSE).await;
                match sessions.store.feed() {
                    Some(again) => feed = again,
                    None => return,
                }
            }
        }
    }
}

/// Loads what is wanted, again and again until it worked; and everything once in a while.
async fn load(sessions: Weak<Sessions>) {
    loop {
        let following = match sessions.upgrade() {
            Some(sessions) => Arc::clone(&sessions.following),
            None => return,
        };
        if tokio::time::timeout(BELT, following.wake.notified())
            .await
            .is_err()
        {
            following.all_wanted.store(true, Ordering::Release);
        }
        let mut pauses = PAUSES;
        loop {
            let all = following.all_wanted.swap(false, Ordering::AcqRel);
            let keys = following.keys_wanted.swap(false, Ordering::AcqRel);
            if !all && !keys {
                break;
            }
            let Some(sessions) = sessions.upgrade() else {
                return;
            };
            let since = following.changes();
            match sessions.load_missed(all).await {
                Ok(()) if all && following.caught_up(since) => {
                    sessions.observer.observe(&SessionEvent::FeedRegained);
                }
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!(%error, "what other nodes did cannot be loaded; trying again");
                    following.all_wanted.fetch_or(all, Ordering::AcqRel);
                    following.keys_wanted.fetch_or(keys, Ordering::AcqRel);
                    drop(sessions);
                    tokio::time::sleep(pauses.pause()).await;
                }
            }
        }
    }
}

impl Sessions {
    /// Why this node may not know of sessions that others ended; `None` while it knows of all, or is the only one.
    pub fn feed_problem(&self) -> Option<String> {
        self.following.problem()
    }

    fn lost(&self, reason: String) {
        let known = self.following.problem().is_some();
        let now = self.clock.witnessed();
        self.following.changed(false, reason.clone(), now);
        if !known {
            self.observer.observe(&SessionEvent::FeedLost { reason });
        }
    }

    /// The keys; with `all` the revocations too, and the end of streams whose session has ended meanwhile.
    async fn load_missed(&self, all: bool) -> Result<(), OpenError> {
        let now = self.clock.now();
        self.reload_keys(now).await?;
        if all {
            let kept = self.load_revocations().await?;
            self.write_again(&kept, now).await?;
            self.end_streams_of_ended_sessions(now).await;
        }
        Ok(())
    }

    /// Obeys every revocation that the store knows of. What is over only by a clock that was stepped counts too.
    pub(super) async fn load_revocations(&self) -> Result<Vec<RevocationRecord>, StoreError> {
        let loading = self.store.revocations(self.clock.witnessed());
        let loaded = tokio::time::timeout(LOAD_PATIENCE, loading).await;
        let revocations = loaded.unwrap_or_else(|_| {
            Err(StoreError::Unavailable(
                "loading all revocations took too long".to_owned(),
            ))
        })?;
        for some in revocations.chunks(1024) {
            some.iter().for_each(|revocation| self.obey(revocation));
            tokio::task::yield_now().await;
        }
        Ok(revocations)
    }

    /// Writes what this node knows to be over and the store has lost: a failover may have cost it its last write, and with it
    /// the end of a session whose refresh token would work again once nobody remembers.
    async fn write_again(
        &self,
        kept: &[RevocationRecord],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let lost = self.revocations.lost_by(kept, now);
        if lost.is_empty() {
            return Ok(());
        }
        for some in lost.chunks(AT_ONCE) {
            let writes = some.iter().map(|one| self.end_again(one, now));
            futures_util::future::try_join_all(writes).await?;
        }
        let revocations = lost.len();
        tracing::warn!(
            revocations,
            "the store had lost revocations that this node knows of; they were written again"
        );
        Ok(())
    }

    /// Asks the store for every session with an open stream, and ends the streams of those that are over: by their lifetime,
    /// or by a revocation that was made and forgotten while nothing arrived here.
    ///
    /// Where neither the feed nor the store says anything for so long that no access token of before is left, a stream has
    /// outlived everything that vouched for it, and ends as the session's requests do: they get 503 by then.
    pub async fn end_streams_of_ended_sessions(&self, now: Timestamp) {
        let blind = self.following.blind_for(self.clock.witnessed()) > self.settings.outlived();
        let silent = AtomicBool::new(false);
        let unknown = AtomicUsize::new(0);
        let (silent, unknown) = (&silent, &unknown);
        let open = futures_util::stream::iter(self.streams.sessions());
        open.for_each_concurrent(AT_ONCE, |session| async move {
            // One question without an answer is enough: thousands of them would take hours.
            let found = match blind && silent.load(Ordering::Relaxed) {
                true => None,
                false => self.load(&session).await.ok(),
            };
            let over = match found {
                Some(Some(stored)) => {
                    let record = &stored.record;
                    record.revoked_at.is_some()
                        || record.ends_at() <= now
                        || self.revocations.concerns_record(record)
                }
                Some(None) => true,
                // Nobody knows.
                None => {
                    silent.store(true, Ordering::Relaxed);
                    unknown.fetch_add(usize::from(blind), Ordering::Relaxed);
                    blind
                }
            };
            if over {
                self.streams.end_session(&session);
            }
        })
        .await;
        let sessions = unknown.load(Ordering::Relaxed);
        if sessions > 0 {
            tracing::warn!(
                sessions,
                "streams were ended: the store has said nothing of their sessions for longer than an access token lives"
            );
        }
    }
}
