//! Revocations in memory: every request asks here, so the common answer (there are none) costs one load.
//!
//! An entry is held until the last access token it concerns has expired. Must not touch the store.

use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;
use dashmap::DashMap;

use crate::auth::rotation::SessionRecord;
use crate::auth::{AccessClaims, Identity, SessionId};
use crate::clock::Timestamp;
use crate::store::{RevocationRecord, RevocationTarget};

#[derive(Clone, Copy, Debug)]
struct Cut {
    at: Timestamp,
    until: Timestamp,
}

impl Cut {
    fn joined(self, other: Cut) -> Cut {
        Cut {
            at: self.at.max(other.at),
            until: self.until.max(other.until),
        }
    }
}

/// What has been ended and may still have living access tokens.
#[derive(Default)]
pub(super) struct Revocations {
    /// How many entries there are, so that none costs nothing.
    entries: AtomicUsize,
    sessions: DashMap<SessionId, Timestamp>,
    /// Provider, then user.
    users: DashMap<String, DashMap<String, Cut>>,
    all: ArcSwapOption<Cut>,
}

impl Revocations {
    /// Takes one in; from now on it is obeyed.
    pub(super) fn insert(&self, record: &RevocationRecord) {
        let cut = Cut {
            at: record.at,
            until: record.until,
        };
        match &record.target {
            RevocationTarget::Session(session) => {
                self.sessions.insert(*session, record.until);
            }
            RevocationTarget::User { provider, user } => {
                self.users
                    .entry(provider.clone())
                    .or_default()
                    .entry(user.clone())
                    .and_modify(|known| *known = known.joined(cut))
                    .or_insert(cut);
            }
            RevocationTarget::All => {
                self.all.rcu(|known| {
                    let cut = known.as_deref().map_or(cut, |known| known.joined(cut));
                    Some(std::sync::Arc::new(cut))
                });
            }
        }
        self.entries.fetch_add(1, Ordering::Release);
    }

    fn none(&self) -> bool {
        self.entries.load(Ordering::Acquire) == 0
    }

    /// The latest moment at which all of this person's sessions were ended.
    fn cut_of(&self, identity: &Identity) -> Option<Timestamp> {
        let user = self.users.get(&identity.provider).and_then(|users| {
            let cut = users.get(&identity.user)?;
            Some(cut.at)
        });
        let all = self.all.load().as_ref().map(|cut| cut.at);
        user.max(all)
    }

    pub(super) fn concerns_session(&self, session: &SessionId) -> bool {
        !self.none() && self.sessions.contains_key(session)
    }

    /// Whether the session of this access token has been ended. A token tells its birth in whole seconds, so one from the
    /// very second of a revocation counts as ended; [`Revocations::birth`] keeps new ones out of that second.
    pub(super) fn concerns_token(&self, claims: &AccessClaims) -> bool {
        if self.none() {
            return false;
        }
        self.sessions.contains_key(&claims.session)
            || self
                .cut_of(&claims.identity)
                .is_some_and(|at| claims.issued_at.as_secs() <= at.as_secs())
    }

    /// Whether this session has been ended.
    pub(super) fn concerns_record(&self, record: &SessionRecord) -> bool {
        if self.none() {
            return false;
        }
        self.sessions.contains_key(&record.id)
            || self
                .cut_of(&record.identity)
                .is_some_and(|at| record.created_at <= at)
    }

    /// The birth to write into an access token that is issued now for a session that is not concerned.
    pub(super) fn birth(&self, identity: &Identity, now: Timestamp) -> Timestamp {
        if self.none() {
            return now;
        }
        match self.cut_of(identity) {
            Some(at) if at.as_secs() == now.as_secs() => {
                Timestamp::from_secs(at.as_secs().saturating_add(1))
            }
            _ => now,
        }
    }

    /// Drops what no access token can be concerned by any more.
    pub(super) fn forget(&self, now: Timestamp) {
        let before = self.entries.load(Ordering::Acquire);
        self.sessions.retain(|_, until| now < *until);
        self.users.retain(|_, users| {
            users.retain(|_, cut| now < cut.until);
            !users.is_empty()
        });
        self.all
            .rcu(|known| known.clone().filter(|cut| now < cut.until));
        let nothing =
            self.sessions.is_empty() && self.users.is_empty() && self.all.load().is_none();
        if nothing {
            // Only if none came in meanwhile; otherwise the next time.
            let _ = self
                .entries
                .compare_exchange(before, 0, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    /// How many entries are held.
    pub(super) fn len(&self) -> usize {
        let users: usize = self.users.iter().map(|users| users.len()).sum();
        self.sessions.len() + users + usize::from(self.all.load().is_some())
    }
}
