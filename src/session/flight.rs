//! Flights: renewals under way, who waits for them and whose turn it is. Must not judge or write: that is in `renew`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{Renewal, Sessions};
use crate::auth::{ClientAddr, Generation, SessionId};

/// How long a request waits for a renewal before it is told to try again.
pub(super) const PATIENCE: Duration = Duration::from_millis(950);

/// What a flight is for. The answer depends on all three, so none may be shared across them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct FlightKey {
    pub(super) session: SessionId,
    pub(super) generation: Generation,
    pub(super) user_agent: Arc<str>,
    pub(super) addr: ClientAddr,
}

/// A flight under way, as its waiters see it.
#[derive(Clone)]
pub(super) struct Flight {
    pub(super) outcome: watch::Receiver<Option<Renewal>>,
    pub(super) hearers: Arc<Hearers>,
}

/// Until when somebody may be waiting for a flight: the last one's arrival and a request's patience, on the monotonic clock.
pub(super) struct Hearers {
    until: Mutex<Instant>,
}

impl Hearers {
    /// The first.
    pub(super) fn first() -> Self {
        Hearers {
            until: Mutex::new(Instant::now() + PATIENCE),
        }
    }

    /// One more, from now on.
    pub(super) fn one_more(&self) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + PATIENCE;
    }

    /// Whether everybody has been answered.
    pub(super) fn are_gone(&self) -> bool {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) < Instant::now()
    }
}

/// Takes the flight off the list when it ends, however it ends.
pub(super) struct Landing {
    pub(super) sessions: Arc<Sessions>,
    pub(super) key: FlightKey,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.sessions.flights.remove(&self.key);
    }
}

/// A session's turn; off the list when nobody holds or awaits it.
pub(super) struct Turn<'a> {
    sessions: &'a Sessions,
    session: SessionId,
    pub(super) lock: Arc<tokio::sync::Mutex<()>>,
}

impl<'a> Turn<'a> {
    pub(super) fn of(sessions: &'a Sessions, session: SessionId) -> Self {
        let lock = Arc::clone(&sessions.turns.entry(session).or_default());
        Turn {
            sessions,
            session,
            lock,
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // Two: the list's and this one. Others take theirs under the same shard lock.
        self.sessions
            .turns
            .remove_if(&self.session, |_, lock| Arc::strong_count(lock) <= 2);
    }
}
