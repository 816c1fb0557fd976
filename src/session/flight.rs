//! Flights: renewals under way, who waits for them and whose turn it is. Must not judge or write: that is in `renew`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{Renewal, Sessions};
use crate::auth::{ClientAddr, Generation, SessionId};

/// How long a request waits for a renewal before it is told to try again: within a second, answer and way included.
pub(super) const PATIENCE: Duration = Duration::from_millis(850);

/// What a flight is for. The answer depends on all three, so none may be shared across them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct FlightKey {
    pub(super) session: SessionId,
    pub(super) generation: Generation,
    pub(super) user_agent: Arc<str>,
    pub(super) addr: ClientAddr,
}

/// How far a flight is.
#[derive(Clone)]
pub(super) enum Progress {
    Flying,
    /// It waits, or has waited, for a provider.
    Waiting,
    Landed(Renewal),
}

/// A flight under way, as its waiters see it.
#[derive(Clone)]
pub(super) struct Flight {
    pub(super) progress: watch::Receiver<Progress>,
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

    /// Somebody waits for this long from now on.
    pub(super) fn wait(&self, patience: Duration) {
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        *until = (Instant::now() + patience).max(*until);
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
