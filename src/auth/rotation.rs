//! The rotation rule: what a presented refresh token means (product contract 6.3, the table, and nothing else).
//!
//! Pure: the store calls it inside its compare-and-set, the model checker drives it, tests tabulate it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::auth::provider_session::ProviderSession;
use crate::auth::{Client, Generation, Identity, SessionId};
use crate::clock::Timestamp;

/// The part of a session that the rule judges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// The newest generation, *N*.
    pub newest: Generation,
    /// Its parent, *P*: the generation that was spent for it; `None` at sign-in.
    pub parent: Option<Generation>,
    /// When *N* was issued.
    pub issued_at: Timestamp,
    /// Since when *N* is known to have been received; `None` = not acknowledged.
    pub acknowledged_at: Option<Timestamp>,
    /// The client seen at the last rotation.
    pub client: Client,
}

/// A session as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Its id.
    pub id: SessionId,
    /// Who, as of the last renewal.
    pub identity: Identity,
    /// What the rule judges.
    pub lineage: Lineage,
    /// When the person signed in.
    pub created_at: Timestamp,
    /// When it was last renewed.
    pub last_seen_at: Timestamp,
    /// Ends when unused until then.
    pub idle_expires_at: Timestamp,
    /// Ends in any case then; never extended.
    pub absolute_expires_at: Timestamp,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
    /// What it keeps of its provider; nothing with built-in accounts. The rule looks past it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Box<ProviderSession>>,
}

impl SessionRecord {
    /// The earlier of both expiries.
    pub fn ends_at(&self) -> Timestamp {
        self.idle_expires_at.min(self.absolute_expires_at)
    }
}

/// The two windows of the rule and the lifetimes that a rotation extends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// How long an unacknowledged answer is handed out again.
    pub redelivery: Duration,
    /// How long a spent token of a request in flight is served after the acknowledgement.
    pub replay_grace: Duration,
    /// A rotation moves the idle expiry to now plus this.
    pub idle_ttl: Duration,
}

/// The row of the table that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// *g = N*: spend it, issue *N+1*.
    Rotate,
    /// *g = N+1* with a valid MAC: the store lost its last write; take *g* as newest, then rotate.
    Heal,
    /// The answer was lost or is under way, same client: hand out the same *N* again.
    Redeliver,
    /// The answer was lost for good: issue *N+1* with the same parent; what lies between is abandoned.
    Reissue,
    /// Serve this one request, set no cookie.
    Serve,
    /// Two parties hold this session: revoke it, tell audit and operator.
    Replay,
    /// Refuse; sign in again.
    Refuse(Refusal),
}

/// Why a session is refused without being revoked anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not in the store (or long expired).
    Unknown,
    /// Ended by logout, an operator or an earlier replay.
    Revoked,
    /// Idle or absolute lifetime over.
    Expired,
    /// *g > N+1*: no store loss explains it; alarm.
    Ahead,
}

/// Judges a refresh token of generation `presented`. Both windows include their last millisecond; a clock that went
/// backwards counts as "no time has passed".
pub fn judge(
    session: &SessionRecord,
    presented: Generation,
    client: &Client,
    windows: &Windows,
    now: Timestamp,
) -> Verdict {
    if session.revoked_at.is_some() {
        return Verdict::Refuse(Refusal::Revoked);
    }
    if now >= session.ends_at() {
        return Verdict::Refuse(Refusal::Expired);
    }
    let lineage = &session.lineage;
    if presented == lineage.newest {
        return Verdict::Rotate;
    }
    if presented == lineage.newest.next() {
        return Verdict::Heal;
    }
    if presented > lineage.newest {
        return Verdict::Refuse(Refusal::Ahead);
    }
    if lineage.parent != Some(presented) {
        // Abandoned (somebody did receive it after all) or older than the parent.
        return Verdict::Replay;
    }
    match lineage.acknowledged_at {
        None if now.since(lineage.issued_at) > windows.redelivery => Verdict::Reissue,
        None if *client == lineage.client => Verdict::Redeliver,
        None => Verdict::Serve,
        Some(at) if now.since(at) > windows.replay_grace => Verdict::Replay,
        Some(_) => Verdict::Serve,
    }
}

/// Whether an answer that leaves at `now` is too late to carry the pair of `generation`, which was issued at `issued_at`: later
/// than a third of the redelivery window it could overtake a newer pair and put a spent token back into the jar. The pair of a
/// sign-in is never late: nobody else knows that session yet, and it was issued as of the request's arrival, before its
/// password waited for a hash.
pub fn is_late(
    generation: Generation,
    issued_at: Timestamp,
    redelivery: Duration,
    now: Timestamp,
) -> bool {
    generation > Generation(0) && now.since(issued_at) > redelivery / 3
}

/// What a first-seen access token of generation `seen` tells about its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// Nothing new.
    Nothing,
    /// It carries the newest generation, which is hereby acknowledged.
    Acknowledges,
    /// It carries an abandoned generation: somebody did receive it. Revoke.
    Replay,
}

/// Judges the first sighting of an access token that carries generation `seen`.
pub fn sight(session: &SessionRecord, seen: Generation) -> Sighting {
    let lineage = &session.lineage;
    if session.revoked_at.is_some() {
        return Sighting::Nothing;
    }
    if seen == lineage.newest {
        return match lineage.acknowledged_at {
            None => Sighting::Acknowledges,
            Some(_) => Sighting::Nothing,
        };
    }
    match lineage.parent {
        Some(parent) if parent < seen && seen < lineage.newest => Sighting::Replay,
        _ => Sighting::Nothing,
    }
}

/// The record after `verdict`; unchanged for verdicts that change nothing. `Replay` marks it revoked.
pub fn apply(
    session: &SessionRecord,
    verdict: Verdict,
    presented: Generation,
    client: &Client,
    windows: &Windows,
    now: Timestamp,
) -> SessionRecord {
    let mut next = session.clone();
    let lineage = &mut next.lineage;
    match verdict {
        Verdict::Rotate => {
            lineage.parent = Some(lineage.newest);
            lineage.newest = lineage.newest.next();
        }
        Verdict::Heal => {
            lineage.parent = Some(presented);
            lineage.newest = presented.next();
        }
        Verdict::Reissue => lineage.newest = lineage.newest.next(),
        Verdict::Replay => {
            next.revoked_at = next.revoked_at.or(Some(now));
            return next;
        }
        Verdict::Redeliver | Verdict::Serve | Verdict::Refuse(_) => return next,
    }
    lineage.issued_at = now;
    lineage.acknowledged_at = None;
    lineage.client = client.clone();
    next.last_seen_at = now;
    next.idle_expires_at = now.plus(windows.idle_ttl).min(next.absolute_expires_at);
    next
}

/// The record after a sighting.
pub fn apply_sighting(
    session: &SessionRecord,
    sighting: Sighting,
    now: Timestamp,
) -> SessionRecord {
    let mut next = session.clone();
    match sighting {
        Sighting::Nothing => {}
        Sighting::Acknowledges => {
            next.lineage.acknowledged_at = next.lineage.acknowledged_at.or(Some(now));
        }
        Sighting::Replay => next.revoked_at = next.revoked_at.or(Some(now)),
    }
    next
}

#[cfg(test)]
mod histories;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
