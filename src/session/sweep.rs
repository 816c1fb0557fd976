//! What time does to sessions: ended ones leave the store and lose their streams, revocations are forgotten, keys retire.
//!
//! None of that can be undone, so none of it is done on the strength of a step of the wall clock (`clock::steps`): while
//! one is in doubt nothing goes, and what leaves the store ended long ago by time that was seen to pass.

use std::sync::Weak;
use std::time::Duration;

use super::Sessions;
use crate::clock::{DOUBT, Timestamp};
use crate::store::StoreError;

const EVERY: Duration = Duration::from_secs(60);
/// The store is swept every so many rounds: once an hour.
const STORE_ROUNDS: u32 = 60;

/// Works until the engine is gone.
pub(super) async fn work(sessions: Weak<Sessions>) {
    let mut rounds = 0u32;
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(sessions) = sessions.upgrade() else {
            return;
        };
        sessions
            .end_streams_of_ended_sessions(sessions.clock.now())
            .await;
        rounds = (rounds + 1) % STORE_ROUNDS;
        sessions.round(rounds == 0).await;
    }
}

impl Sessions {
    pub(super) async fn round(&self, store_too: bool) {
        let Some(now) = self.clock.settled() else {
            return;
        };
        self.forget_over(now).await;
        let long_ago = self.clock.witnessed().minus(DOUBT);
        if store_too && let Err(error) = self.sweep(long_ago).await {
            tracing::warn!(%error, "ended sessions could not be removed; trying again in an hour");
        }
    }

    /// Forgets revocations that concern no token any more, and retires keys.
    pub async fn forget_over(&self, now: Timestamp) {
        self.revocations.forget(now);
        if let Err(error) = self.retire_keys(now).await {
            tracing::warn!(%error, "retired signing keys could not be removed; trying again in a minute");
        }
    }

    /// Removes ended sessions and revocations from the store; how many.
    pub async fn sweep(&self, now: Timestamp) -> Result<usize, StoreError> {
        self.store.remove_expired(now).await
    }
}
