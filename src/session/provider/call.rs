//! One call to a provider, and what its answer does to the session.
//!
//! A task of its own: an answer that the store cannot take is written again until it can, because the provider may have spent
//! the refresh token that the record still shows. An answer changes the identity and the provider's part of the record, and
//! nothing that the rotation rule judges. Must not decide when to ask, nor wait for a request.

use std::sync::Weak;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::seal::Kind;
use super::{
    MAX_ID_TOKEN, MAX_REFRESH_TOKEN, ProviderAnswer, ProviderEnd, ProviderQuestion, ProviderReply,
    ProviderTalker, tell_too_long,
};
use crate::auth::provider_session::{Asking, Sealed};
use crate::auth::rotation::SessionRecord;
use crate::auth::{Identity, SessionId};
use crate::clock::Timestamp;
use crate::pauses::Pauses;
use crate::session::{By, Ending, Reason, SessionEvent, Sessions};
use crate::store::{Replaced, StoreError};
use crate::units::Secret;

/// How long a provider may take. Shorter than the lease, and long because an answer that is not heard may be the end of the
/// session: the refresh token may be spent.
const CALL: Duration = Duration::from_secs(60);
/// A provider that gave no answer is left alone for so long, unless it says how long.
pub(super) const PAUSE: Duration = Duration::from_secs(5);
/// An answer that the store did not take is written again after so long.
const WRITES: Pauses = Pauses::doubling(Duration::from_millis(50), Duration::from_secs(1));
/// How often an answer is applied anew because others changed the session.
const TRIES: usize = 64;

/// One call to be made.
pub(super) struct Call {
    pub(super) session: SessionId,
    /// The number of the lease.
    pub(super) number: u64,
    /// As it lies in the record.
    pub(super) token: Sealed,
    pub(super) record: SessionRecord,
    pub(super) asked_at: Timestamp,
}

impl Call {
    /// Asks, then keeps the answer, however long the store takes.
    pub(super) async fn work(
        self,
        sessions: Weak<Sessions>,
        permit: OwnedSemaphorePermit,
        kept: oneshot::Sender<bool>,
    ) {
        let Some(engine) = sessions.upgrade() else {
            return;
        };
        let reply = self.ask(&engine).await;
        drop(permit);
        engine.observer.observe(&SessionEvent::ProviderAsked {
            session: self.session,
            provider: self.record.identity.provider.clone(),
            answer: reply.answer.clone(),
            overdue: self.is_overdue(engine.providers.talker.as_ref()),
        });
        drop(engine);
        let mut first = Some(kept);
        let mut writes = WRITES;
        loop {
            // When the engine is gone, so is the answer: the process ends.
            let Some(engine) = sessions.upgrade() else {
                return;
            };
            let done = engine.keep(&self, &reply).await.is_ok();
            drop(engine);
            if let Some(kept) = first.take() {
                let _ = kept.send(done);
            }
            if done {
                return;
            }
            tokio::time::sleep(writes.pause()).await;
        }
    }

    async fn ask(&self, sessions: &Sessions) -> ProviderReply {
        let identity = &self.record.identity;
        let providers = &sessions.providers;
        let unknown = |reason: &str| ProviderReply {
            refresh_token: None,
            id_token: None,
            groups_at_userinfo: false,
            answer: ProviderAnswer::Unknown {
                reason: reason.to_owned(),
                retry_after: None,
            },
        };
        let opened = providers
            .seal
            .open(&self.session, Kind::Refresh, &self.token);
        let (Some(refresh_token), Some(there)) = (opened, &self.record.provider) else {
            // Another node may have a key that this one is yet to be given; that is waited for as for a silent provider, and
            // not for ever: nobody but the person can bring another token.
            if self.is_overdue(providers.talker.as_ref()) {
                return ProviderReply {
                    answer: ProviderAnswer::Ended(ProviderEnd::Unreadable),
                    ..unknown("")
                };
            }
            return unknown("its refresh token was sealed under another master key");
        };
        let question = ProviderQuestion {
            provider: &identity.provider,
            issuer: &there.issuer,
            subject: &there.subject,
            identity,
            groups_at_userinfo: there.groups_at_userinfo,
            refresh_token: &refresh_token,
        };
        tokio::time::timeout(CALL, providers.talker.refresh(question))
            .await
            .unwrap_or_else(|_| unknown("it did not answer in time"))
    }
}

impl Sessions {
    /// Writes an answer into the record as it is by now. What the rotation rule judges stays as it is.
    async fn keep(&self, call: &Call, reply: &ProviderReply) -> Result<(), StoreError> {
        for _ in 0..TRIES {
            let Some(stored) = self.load(&call.session).await? else {
                return Ok(());
            };
            let mut record = stored.record;
            if let ProviderAnswer::Ended(end) = &reply.answer {
                // Marked already: what is left is that every node hears of it.
                if record.revoked_at.is_some() || call.holds(&record) {
                    return self.end_there(&record, *end).await;
                }
                return Ok(());
            }
            if record.revoked_at.is_some() || !self.take_in(call, reply, &mut record) {
                return Ok(());
            }
            match self.replace(&record, stored.revision).await? {
                Replaced::Committed(_) | Replaced::Missing => return Ok(()),
                Replaced::Conflict => {}
            }
        }
        Err(StoreError::Unavailable(
            "the session is changing too fast".to_owned(),
        ))
    }

    async fn end_there(&self, record: &SessionRecord, end: ProviderEnd) -> Result<(), StoreError> {
        let reason = match end {
            ProviderEnd::InvalidGrant => Reason::EndedAtProvider,
            ProviderEnd::NotAllowed => Reason::NotAllowedAnyMore,
            ProviderEnd::SomebodyElse => Reason::SomebodyElse,
            ProviderEnd::Unreadable => Reason::KeyDropped,
        };
        let ending = Ending::new(reason, By::Provider);
        self.end_now(record.id, ending).await.map(drop)
    }

    /// Applies an answer that is no end; whether it still concerns this record.
    fn take_in(&self, call: &Call, reply: &ProviderReply, record: &mut SessionRecord) -> bool {
        let (fits, before) = (
            |record: &SessionRecord| self.pair(record, self.clock.now()).is_ok(),
            record.identity.clone(),
        );
        if let ProviderAnswer::Welcome(identity) = &reply.answer {
            record.identity = (**identity).clone();
            record.identity.provider.clone_from(&before.provider);
            // What has outgrown its cookie is refused at sign-in, never at a renewal.
            if record.identity != before && !fits(record) {
                called_as_before(&mut record.identity, &before);
                if !fits(record) {
                    record.identity = what_is_left(before, identity);
                }
            }
        }
        let holds = call.holds(record);
        let seal = |kind, token: &Secret, longest| match token.expose().len() <= longest {
            true => self.providers.seal.seal(&call.session, kind, token),
            false => None,
        };
        let Some(there) = &mut record.provider else {
            return false;
        };
        // Another call was answered meanwhile, because this one took longer than its lease.
        if there.refresh_token.as_ref() != Some(&call.token) {
            return false;
        }
        if let Some(token) = &reply.refresh_token {
            tell_too_long(&there.issuer, token);
            there.refresh_token = seal(Kind::Refresh, token, MAX_REFRESH_TOKEN);
        }
        if let Some(token) = &reply.id_token {
            there.id_token = seal(Kind::Id, token, MAX_ID_TOKEN).or(there.id_token.take());
        }
        match &reply.answer {
            ProviderAnswer::Welcome(_) => {
                there.groups_at_userinfo |= reply.groups_at_userinfo;
                there.checked_at = call.asked_at.max(there.checked_at);
                there.asking = None;
            }
            ProviderAnswer::Unknown { retry_after, .. } if holds => {
                let pause = retry_after.unwrap_or(PAUSE).min(Asking::LONGEST_PAUSE);
                there.asking = Some(Asking {
                    by: None,
                    until: self.clock.now().plus(pause),
                });
            }
            ProviderAnswer::Unknown { .. } | ProviderAnswer::Ended(_) => {}
        }
        true
    }
}

/// With the names of before: people choose them themselves, so they must not keep anything else from being taken over.
fn called_as_before(identity: &mut Identity, before: &Identity) {
    identity.name.clone_from(&before.name);
    let former = &before.preferred_username;
    identity.preferred_username.clone_from(former);
}

/// Of somebody as they were, what is still so: an answer that is too large takes away all the same.
fn what_is_left(before: Identity, now: &Identity) -> Identity {
    let mut left = before;
    left.groups.retain(|group| now.groups.contains(group));
    if left.email != now.email {
        left.email = None;
    }
    left
}

impl Call {
    /// Whether the last answer was too old to go on without another one when this call was made.
    fn is_overdue(&self, talker: &dyn ProviderTalker) -> bool {
        self.record.provider.as_deref().is_some_and(|there| {
            let times = talker.times(&self.record.identity.provider, &there.issuer);
            let age = self.asked_at.since(there.checked_at);
            times.is_some_and(|times| age > times.check.saturating_add(times.grace))
        })
    }

    /// Whether the record still has the lease and the refresh token of this call: an end that was said of another refresh
    /// token is none.
    fn holds(&self, record: &SessionRecord) -> bool {
        record.provider.as_deref().is_some_and(|there| {
            let number = there.asking.and_then(|asking| asking.by);
            number == Some(self.number) && there.refresh_token.as_ref() == Some(&self.token)
        })
    }
}
