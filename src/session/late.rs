//! Ends that the store did not confirm in time. This node lives by them at once; here they are tried again until they are
//! durable, and told then: whoever asked was answered that nothing is certain, and the audit stream must not stay silent
//! about what came to be all the same.
//!
//! Must not end what began after the end was asked for.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::{Ending, SessionEvent, Sessions};
use crate::auth::SessionId;
use crate::clock::Timestamp;
use crate::pauses::Pauses;
use crate::store::{RevocationTarget, StoreError};

/// Most ends that wait for the store at once; those beyond are left to whoever asks again.
const MOST: usize = 4096;
/// An end that failed is tried again after so long.
const PAUSES: Pauses = Pauses::doubling(Duration::from_millis(200), Duration::from_secs(5));

impl Sessions {
    /// Tries an end again until the store confirms it. `at` is when it was asked for.
    pub(super) fn end_later(
        self: &Arc<Self>,
        target: RevocationTarget,
        ending: Ending,
        at: Timestamp,
    ) {
        if self.unconfirmed.len() >= MOST || self.unconfirmed.insert(target.clone(), ()).is_some() {
            return;
        }
        let sessions = Arc::downgrade(self);
        self.control
            .spawn(until_confirmed(sessions, target, ending, at));
    }

    async fn end_once_more(
        &self,
        target: &RevocationTarget,
        ending: &Ending,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        match target {
            RevocationTarget::Session(session) => self.end_one_late(*session, ending).await,
            RevocationTarget::User { .. } | RevocationTarget::All => self
                .end_many(target.clone(), ending.clone(), at, true)
                .await
                .map(drop),
        }
    }

    /// Unlike an end in time this is told although the record was marked already: the first try may have done so.
    async fn end_one_late(&self, session: SessionId, ending: &Ending) -> Result<(), StoreError> {
        let now = self.clock.now();
        let Some(stored) = self.load(&session).await? else {
            return Ok(());
        };
        self.close(session, now).await?;
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

async fn until_confirmed(
    sessions: Weak<Sessions>,
    target: RevocationTarget,
    ending: Ending,
    at: Timestamp,
) {
    let mut pauses = PAUSES;
    loop {
        tokio::time::sleep(pauses.pause()).await;
        let Some(sessions) = sessions.upgrade() else {
            return;
        };
        match sessions.end_once_more(&target, &ending, at).await {
            Ok(()) => {
                sessions.unconfirmed.remove(&target);
                return;
            }
            Err(error) => {
                tracing::warn!(%error, "the end of sessions is not confirmed yet; trying again");
            }
        }
    }
}
