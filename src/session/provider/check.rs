//! Asking a provider whether a session may go on.
//!
//! The lease on a call lies in the record and is taken by compare-and-set, so there is one call among all nodes: in the
//! background it is taken together with a rotation, in the foreground by a write of its own. Whoever waits may go away; the
//! call goes on. Must not decide when to ask (`auth::provider_session`), nor know what an answer means (`call`).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::BeganThere;
use super::call::{Call, PAUSE};
use super::seal::Kind;
use crate::auth::SessionId;
use crate::auth::provider_session::{Asking, Due, due};
use crate::auth::rotation::SessionRecord;
use crate::clock::Timestamp;
use crate::session::{RenewalTrouble, Sessions};
use crate::store::{Replaced, StoreError, Stored};

/// How long a request waits for a provider.
pub(in crate::session) const PATIENCE: Duration = Duration::from_secs(25);
/// How often a flight looks whether the call of another one, perhaps on another node, has been answered.
const LOOK: Duration = Duration::from_millis(200);
/// What a renewal is to do about the provider of its session.
pub(in crate::session) enum Consulted {
    /// Go on.
    Good,
    /// Go on, and ask meanwhile if this could be committed.
    Asking(Asking, OwnedSemaphorePermit),
    /// Not before the provider has answered.
    Wait,
    /// The provider is not configured any more.
    Gone,
}

/// What waiting for a provider came to.
pub(in crate::session) enum Waited {
    /// Judge the session again: it was checked, or it is over.
    Judge,
    /// The provider does not answer.
    Silent {
        /// When to try again.
        retry_after: Duration,
    },
    /// Nothing definite can be said now.
    Unavailable(RenewalTrouble),
}

impl Sessions {
    /// What is due at a renewal of this session.
    pub(in crate::session) fn consult(&self, record: &SessionRecord, now: Timestamp) -> Consulted {
        let Some(there) = &record.provider else {
            return Consulted::Good;
        };
        let provider = &record.identity.provider;
        let Some(times) = self.providers.talker.times(provider, &there.issuer) else {
            return Consulted::Gone;
        };
        match due(there, &times, now) {
            Due::Nothing => Consulted::Good,
            Due::Foreground | Due::Awaited | Due::Paused(_) => Consulted::Wait,
            Due::Background => match self.providers.room(provider).try_acquire_owned() {
                Ok(permit) => match self.lease() {
                    Some(asking) => Consulted::Asking(asking, permit),
                    None => Consulted::Good,
                },
                // The provider is busy with others; the next renewal is soon enough.
                Err(_) => Consulted::Good,
            },
        }
    }

    fn lease(&self) -> Option<Asking> {
        let mut number = [0; 8];
        aws_lc_rs::rand::fill(&mut number).ok()?;
        Some(Asking {
            by: Some(u64::from_ne_bytes(number)),
            until: self.clock.now().plus(Asking::LEASE),
        })
    }

    /// Makes the call that a committed lease is for. Resolves when the answer is kept, with whether it could be at the first
    /// try; whoever does not care drops this.
    pub(in crate::session) fn ask_provider(
        self: &Arc<Self>,
        leased: SessionRecord,
        permit: OwnedSemaphorePermit,
    ) -> oneshot::Receiver<bool> {
        let (kept, first_try) = oneshot::channel();
        let there = leased.provider.as_deref();
        let token = there.and_then(|there| there.refresh_token.clone());
        let number = there.and_then(|there| there.asking).and_then(|it| it.by);
        if let (Some(token), Some(number)) = (token, number) {
            let call = Call {
                session: leased.id,
                number,
                token,
                asked_at: self.clock.now(),
                record: leased,
            };
            let work = call.work(Arc::downgrade(self), permit, kept);
            self.providers.tasks.spawn_on(work, &self.control);
        }
        first_try
    }

    /// Sees to it that the provider is asked, by this flight or another one, and waits for the answer.
    pub(in crate::session) async fn wait_for_provider(
        self: &Arc<Self>,
        session: SessionId,
    ) -> Waited {
        let until = Instant::now() + PATIENCE;
        let silent = Waited::Silent { retry_after: PAUSE };
        loop {
            let (stored, due) = match self.look(&session).await {
                Ok(Some(found)) => found,
                Ok(None) => return Waited::Judge,
                Err(error) => return Waited::Unavailable(error.into()),
            };
            match due {
                Due::Nothing | Due::Background => return Waited::Judge,
                Due::Paused(until) => {
                    let retry_after = until.since(self.clock.now());
                    return Waited::Silent { retry_after };
                }
                Due::Awaited => tokio::time::sleep(LOOK).await,
                Due::Foreground => {
                    let provider = &stored.record.identity.provider;
                    let room = self.providers.room(provider).acquire_owned();
                    let Ok(Ok(permit)) = tokio::time::timeout_at(until, room).await else {
                        return silent;
                    };
                    match self.take_lease(stored).await {
                        Ok(Some(leased)) => {
                            let kept = self.ask_provider(leased, permit);
                            match tokio::time::timeout_at(until, kept).await {
                                Ok(Ok(true)) => {}
                                Ok(Ok(false) | Err(_)) => {
                                    return Waited::Unavailable(RenewalTrouble::NotKept);
                                }
                                Err(_) => return silent,
                            }
                        }
                        Ok(None) => {}
                        Err(error) => return Waited::Unavailable(error.into()),
                    }
                }
            }
            if Instant::now() >= until {
                return silent;
            }
        }
    }

    /// The session and what is due; `None` when it is over, or its provider is gone.
    async fn look(
        &self,
        session: &SessionId,
    ) -> Result<Option<(Stored<SessionRecord>, Due)>, StoreError> {
        let Some(stored) = self.load(session).await? else {
            return Ok(None);
        };
        let record = &stored.record;
        let now = self.clock.now();
        let Some(there) = &record.provider else {
            return Ok(None);
        };
        let provider = &record.identity.provider;
        let Some(times) = self.providers.talker.times(provider, &there.issuer) else {
            return Ok(None);
        };
        let over = record.revoked_at.is_some()
            || record.ends_at() <= now
            || self.revocations.concerns_record(record);
        let due = due(there, &times, now);
        Ok((!over).then_some((stored, due)))
    }

    /// The record with a lease of ours in it; `None` when others were faster.
    async fn take_lease(
        &self,
        stored: Stored<SessionRecord>,
    ) -> Result<Option<SessionRecord>, StoreError> {
        let mut leased = stored.record;
        if let Some(there) = &mut leased.provider {
            there.asking = self.lease();
        }
        Ok(match self.replace(&leased, stored.revision).await? {
            Replaced::Committed(_) => Some(leased),
            Replaced::Conflict | Replaced::Missing => None,
        })
    }

    /// Where a session began, for a logout there; `None` when it began here, or is unknown.
    pub async fn began_there(&self, session: SessionId) -> Result<Option<BeganThere>, StoreError> {
        let Some(Stored { record, .. }) = self.load(&session).await? else {
            return Ok(None);
        };
        Ok(record.provider.map(|there| BeganThere {
            provider: record.identity.provider,
            issuer: there.issuer,
            id_token: there
                .id_token
                .and_then(|token| self.providers.seal.open(&session, Kind::Id, &token)),
        }))
    }
}
