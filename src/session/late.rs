//! Ends that the store did not confirm in time. This node lives by them at once; here they are tried again until they are
//! durable, and told then: whoever asked was answered that nothing is certain, and the audit stream must not stay silent
//! about what came to be all the same.
//!
//! Must not end what began after the end was asked for.

use std::sync::{Arc, Weak};
use std::time::Duration;

use dashmap::Entry;

use super::{Ending, SessionEvent, Sessions};
use crate::auth::SessionId;
use crate::clock::Timestamp;
use crate::pauses::Pauses;
use crate::store::{RevocationTarget, StoreError};

/// Most ends that wait for the store at once; those beyond are left to whoever asks again.
const MOST: usize = 4096;
/// An end that failed is tried again after so long.
pub(super) const PAUSES: Pauses =
    Pauses::doubling(Duration::from_millis(200), Duration::from_secs(5));

/// An end that is tried again.
#[derive(Clone)]
pub(super) struct Unconfirmed {
    ending: Ending,
    /// When it was asked for.
    at: Timestamp,
}

impl Sessions {
    /// Tries an end again until the store confirms it. `at` is when it was asked for; of several that are not confirmed yet
    /// the last counts, which ends what the others were to end, and more.
    pub(super) fn end_later(
        self: &Arc<Self>,
        target: RevocationTarget,
        ending: Ending,
        at: Timestamp,
    ) {
        // Before an entry is held: it asks all of the map.
        let full = self.unconfirmed.len() >= MOST;
        let wanted = Unconfirmed { ending, at };
        match self.unconfirmed.entry(target.clone()) {
            Entry::Occupied(mut known) => {
                if known.get().at < at {
                    known.insert(wanted);
                }
            }
            Entry::Vacant(place) if !full => {
                place.insert(wanted);
                let sessions = Arc::downgrade(self);
                self.control.spawn(until_confirmed(sessions, target));
            }
            Entry::Vacant(_) => {}
        }
    }

    async fn end_once_more(
        &self,
        target: &RevocationTarget,
        wanted: &Unconfirmed,
    ) -> Result<(), StoreError> {
        let Unconfirmed { ending, at } = wanted;
        match target {
            RevocationTarget::Session(session) => self.end_one_late(*session, ending).await,
            RevocationTarget::User { .. } | RevocationTarget::All => self
                .end_many(target.clone(), ending.clone(), *at, true)
                .await
                .map(drop),
        }
    }

    /// Unlike an end in time this is told although the record was marked already: the first try may have done so.
    async fn end_one_late(&self, session: SessionId, ending: &Ending) -> Result<(), StoreError> {
        let now = self.clock.now();
        // Also of a session that the store has lost since: its access tokens live on.
        self.close(session, now).await?;
        let Some(stored) = self.load(&session).await? else {
            return Ok(());
        };
        self.mark(session, now).await?;
        let record = stored.record;
        if now < record.ends_at() {
            self.observer.observe(&SessionEvent::Revoked {
                session: Some(session),
                user: Some((record.identity.provider, record.identity.user)),
                sessions: 1,
                ending: ending.clone(),
            });
        }
        Ok(())
    }
}

async fn until_confirmed(sessions: Weak<Sessions>, target: RevocationTarget) {
    let mut pauses = PAUSES;
    loop {
        tokio::time::sleep(pauses.pause()).await;
        let Some(sessions) = sessions.upgrade() else {
            return;
        };
        let Some(wanted) = sessions
            .unconfirmed
            .get(&target)
            .map(|wanted| wanted.clone())
        else {
            return;
        };
        match sessions.end_once_more(&target, &wanted).await {
            Ok(()) => {
                let same = |_: &RevocationTarget, last: &Unconfirmed| last.at == wanted.at;
                // Else somebody asked once more meanwhile.
                if sessions.unconfirmed.remove_if(&target, same).is_some() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the end of sessions is not confirmed yet; trying again");
            }
        }
    }
}
