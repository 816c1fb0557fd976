//! Ending sessions: one, a user's, everybody's. Obeyed by this node at once, durable before it is acknowledged.
//!
//! Order: memory and streams first, then the store. Work in the store is a task of its own, so that a caller that goes away
//! does not leave half of it undone.

use std::sync::Arc;
use std::time::Duration;

use super::{By, Ending, Reason, SessionEvent, Sessions};
use crate::auth::rotation::SessionRecord;
use crate::auth::{ClientAddr, Generation, Identity, SessionId};
use crate::clock::Timestamp;
use crate::store::{Replaced, RevocationRecord, RevocationTarget, StoreError};

/// How much longer than an access token a revocation is held, because nodes' clocks differ.
pub(super) const MARGIN: Duration = Duration::from_secs(60);
/// How long the store may take to list everybody's sessions: the end of all of them is in force before it begins.
const LIST_PATIENCE: Duration = Duration::from_secs(60);
/// How often a session is marked anew because a renewal changed it.
const TRIES: usize = 64;

impl Sessions {
    /// Ends one session; whose it was, if it was live.
    pub async fn end(
        self: &Arc<Self>,
        session: SessionId,
        ending: Ending,
    ) -> Result<Option<Identity>, StoreError> {
        let sessions = Arc::clone(self);
        self.detached(async move {
            let at = sessions.clock.now();
            let ended = sessions.end_now(session, ending.clone()).await;
            if ended.is_err() {
                sessions.end_later(RevocationTarget::Session(session), ending, at);
            }
            ended
        })
        .await
    }

    /// Ends all sessions of a user that began until now; how many there were.
    pub async fn end_user(
        self: &Arc<Self>,
        provider: &str,
        user: &str,
        ending: Ending,
    ) -> Result<usize, StoreError> {
        let target = RevocationTarget::User {
            provider: provider.to_owned(),
            user: user.to_owned(),
        };
        self.end_all_of(target, ending).await
    }

    /// Ends all sessions that began until now; how many there were.
    pub async fn end_all(self: &Arc<Self>, ending: Ending) -> Result<usize, StoreError> {
        self.end_all_of(RevocationTarget::All, ending).await
    }

    async fn end_all_of(
        self: &Arc<Self>,
        target: RevocationTarget,
        ending: Ending,
    ) -> Result<usize, StoreError> {
        let sessions = Arc::clone(self);
        self.detached(async move {
            let at = sessions.clock.now();
            let ended = sessions
                .end_many(target.clone(), ending.clone(), at, false)
                .await;
            if ended.is_err() {
                sessions.end_later(target, ending, at);
            }
            ended
        })
        .await
    }

    pub(super) async fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.control
            .spawn(work)
            .await
            .unwrap_or_else(|_| Err(StoreError::Unavailable("the work was cut short".to_owned())))
    }

    pub(super) async fn end_now(
        &self,
        session: SessionId,
        ending: Ending,
    ) -> Result<Option<Identity>, StoreError> {
        let now = self.clock.now();
        let (closed, live) = tokio::join!(self.close(session, now), self.mark(session, now));
        // What is marked is over, even if not all nodes could be told.
        let live = self.tell_of_end(session, live, ending);
        closed?;
        live
    }

    /// As [`Sessions::end_now`] for callers that try again by looking for live sessions: one is only marked when every node
    /// has been told.
    pub(super) async fn end_surely(
        &self,
        session: SessionId,
        ending: Ending,
    ) -> Result<Option<Identity>, StoreError> {
        let now = self.clock.now();
        self.close(session, now).await?;
        let live = self.mark(session, now).await;
        self.tell_of_end(session, live, ending)
    }

    fn tell_of_end(
        &self,
        session: SessionId,
        marked: Result<Option<Identity>, StoreError>,
        ending: Ending,
    ) -> Result<Option<Identity>, StoreError> {
        let live = marked?;
        if let Some(identity) = &live {
            self.observer.observe(&SessionEvent::Revoked {
                session: Some(session),
                user: Some((identity.provider.clone(), identity.user.clone())),
                sessions: 1,
                ending,
            });
        }
        Ok(live)
    }

    /// Ends a session's access tokens and streams; its record is the caller's.
    pub(super) async fn close(&self, session: SessionId, now: Timestamp) -> Result<(), StoreError> {
        let revocation = RevocationRecord {
            target: RevocationTarget::Session(session),
            at: now,
            until: self.forgotten_at(now),
        };
        self.obey(&revocation);
        self.timed(self.store.put_revocation(&revocation)).await
    }

    /// Makes durable once more what this node already lives by and the store forgot.
    pub(super) async fn end_again(
        &self,
        revocation: &RevocationRecord,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        match revocation.target {
            RevocationTarget::Session(session) => {
                self.mark(session, now).await?;
                let revocation = RevocationRecord {
                    at: now,
                    ..revocation.clone()
                };
                self.timed(self.store.put_revocation(&revocation)).await
            }
            // The records' marks may be lost too: the entry ends those sessions for as long as any can live.
            RevocationTarget::User { .. } | RevocationTarget::All => {
                let guard = RevocationRecord {
                    until: now.plus(self.settings.absolute_ttl).plus(MARGIN),
                    ..revocation.clone()
                };
                self.timed(self.store.put_revocation(&guard)).await
            }
        }
    }

    /// Marks the record; the identity of a session that was live.
    pub(super) async fn mark(
        &self,
        session: SessionId,
        now: Timestamp,
    ) -> Result<Option<Identity>, StoreError> {
        for _ in 0..TRIES {
            let Some(stored) = self.load(&session).await? else {
                return Ok(None);
            };
            let mut record = stored.record;
            if record.revoked_at.is_some() {
                return Ok(None);
            }
            record.revoked_at = Some(now);
            match self.replace(&record, stored.revision).await? {
                Replaced::Committed(_) if now < record.ends_at() => {
                    return Ok(Some(record.identity));
                }
                Replaced::Committed(_) | Replaced::Missing => return Ok(None),
                Replaced::Conflict => {}
            }
        }
        Err(StoreError::Unavailable(
            "the session is changing too fast".to_owned(),
        ))
    }

    /// Ends what began until `at`, when it was asked for: just now, or `late`, because the store failed then.
    pub(super) async fn end_many(
        &self,
        target: RevocationTarget,
        ending: Ending,
        at: Timestamp,
        late: bool,
    ) -> Result<usize, StoreError> {
        let now = if late { self.clock.now() } else { at };
        let revocation = RevocationRecord {
            target,
            at,
            until: self.forgotten_at(now),
        };
        self.obey(&revocation);
        // Should this process die before all records are marked, the entry still ends those that are left.
        let guard = RevocationRecord {
            until: now.plus(self.settings.absolute_ttl).plus(MARGIN),
            ..revocation.clone()
        };
        self.timed(self.store.put_revocation(&guard)).await?;
        let user = match &revocation.target {
            RevocationTarget::User { provider, user } => Some((provider.as_str(), user.as_str())),
            RevocationTarget::All | RevocationTarget::Session(_) => None,
        };
        let mut live = self
            .timed_for(LIST_PATIENCE, self.store.sessions(user, now))
            .await?;
        if late {
            // Whoever signed in since is not meant.
            live.retain(|record| record.created_at <= at);
        }
        let mut ended = 0;
        // In groups, which share commits.
        for group in live.chunks(256) {
            let marks = group.iter().map(|record| self.mark(record.id, now));
            for mark in futures_util::future::join_all(marks).await {
                ended += usize::from(mark?.is_some());
            }
            // Begun elsewhere while this began, or by a clock that is ahead: the entry above does not concern them.
            let ahead = group
                .iter()
                .filter(|record| record.created_at > now)
                .map(|record| self.close(record.id, now));
            for closed in futures_util::future::join_all(ahead).await {
                closed?;
            }
        }
        self.timed(self.store.put_revocation(&revocation)).await?;
        let user = user.map(|(provider, user)| (provider.to_owned(), user.to_owned()));
        self.observer.observe(&SessionEvent::Revoked {
            session: None,
            user,
            sessions: ended,
            ending,
        });
        Ok(ended)
    }

    /// A token came again that was spent or abandoned: two parties hold the session. `marked`: the store confirmed the mark
    /// on its record. Where it did not, it may have set it all the same, and then nobody would find the theft again: the
    /// verdict was right of the record that was read, whatever others wrote since, and is carried out until it is confirmed.
    pub(super) async fn end_stolen(
        self: &Arc<Self>,
        record: &SessionRecord,
        generation: Generation,
        client: Option<ClientAddr>,
        marked: bool,
    ) {
        let identity = &record.identity;
        self.observer.observe(&SessionEvent::Replay {
            session: record.id,
            user: identity.user.clone(),
            provider: identity.provider.clone(),
            generation,
        });
        let at = self.clock.now();
        let ending = Ending::new(Reason::Replay, By::Gateway).from_request(client, None);
        let closed = self.close(record.id, at).await;
        if !marked || closed.is_err() {
            return self.end_later(RevocationTarget::Session(record.id), ending, at);
        }
        self.observer.observe(&SessionEvent::Revoked {
            session: Some(record.id),
            user: Some((identity.provider.clone(), identity.user.clone())),
            sessions: 1,
            ending,
        });
    }

    /// A record that is marked, and this node was not told of it: whoever marked it may have died in between. So all are told
    /// now, while access tokens of before can be alive.
    pub(super) async fn tell_again(&self, record: &SessionRecord, now: Timestamp) {
        let alive = |marked: Timestamp| now < marked.plus(self.settings.outlived());
        if record.revoked_at.is_some_and(alive) {
            // This node obeys in any case; what does not reach the others is told again by the next that is asked.
            let _ = self.close(record.id, now).await;
        }
    }

    /// From now on this node lives by it.
    pub(super) fn obey(&self, revocation: &RevocationRecord) {
        self.revocations.obey(revocation, self.clock.now());
        self.streams.end(revocation);
    }

    fn forgotten_at(&self, now: Timestamp) -> Timestamp {
        now.plus(self.settings.outlived())
    }
}
