//! What time does to sessions: ended ones leave the store and lose their streams, revocations are forgotten, keys retire.

use std::sync::Weak;
use std::time::Duration;

use super::Sessions;
use crate::clock::Timestamp;
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
        let now = sessions.clock.now();
        sessions.forget_over(now).await;
        sessions.end_streams_of_ended_sessions(now).await;
        rounds = (rounds + 1) % STORE_ROUNDS;
        if rounds == 0
            && let Err(error) = sessions.sweep(now).await
        {
            tracing::warn!(%error, "ended sessions could not be removed; trying again in an hour");
        }
    }
}

impl Sessions {
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
