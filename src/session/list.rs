//! A person's own sessions: seeing them, and ending all but one. Must not decide whose they are: the caller has an
//! identity that was verified.

use std::sync::Arc;

use super::{Ending, Sessions};
use crate::auth::rotation::SessionRecord;
use crate::auth::{Identity, SessionId};
use crate::clock::Timestamp;
use crate::store::StoreError;

/// Sessions that are ended at once share commits.
const GROUP: usize = 256;

impl Sessions {
    /// The live sessions of a person, asked of the store.
    pub async fn of_person(
        &self,
        identity: &Identity,
        now: Timestamp,
    ) -> Result<Vec<SessionRecord>, StoreError> {
        let user = (identity.provider.as_str(), identity.user.as_str());
        let mut live = self.timed(self.store.sessions(Some(user), now)).await?;
        live.retain(|record| !self.revocations.concerns_record(record));
        Ok(live)
    }

    /// All live sessions, asked of the store; without those that this node knows to be over and the store does not, yet.
    pub async fn live(&self, now: Timestamp) -> Result<Vec<SessionRecord>, StoreError> {
        let mut live = self.store.sessions(None, now).await?;
        live.retain(|record| !self.has_ended(record));
        Ok(live)
    }

    /// Whether a session was ended, by its record or by what this node was told.
    pub fn has_ended(&self, record: &SessionRecord) -> bool {
        record.revoked_at.is_some() || self.revocations.concerns_record(record)
    }

    /// Ends all live sessions of a person but `kept`; how many there were.
    pub async fn end_others(
        self: &Arc<Self>,
        identity: &Identity,
        kept: SessionId,
        ending: Ending,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let others: Vec<SessionId> = self
            .of_person(identity, now)
            .await?
            .into_iter()
            .map(|record| record.id)
            .filter(|session| *session != kept)
            .collect();
        let mut ended = 0;
        for group in others.chunks(GROUP) {
            let ends = group
                .iter()
                .map(|session| self.end(*session, ending.clone()));
            for end in futures_util::future::join_all(ends).await {
                ended += usize::from(end?.is_some());
            }
        }
        Ok(ended)
    }
}
