//! Revocations in memory: every request asks here, so the common answer (there are none) costs one load.
//!
//! An entry is held until the last access token it concerns has expired. Must not touch the store.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;
use dashmap::DashMap;

use super::CLOCK_LEEWAY;
use crate::auth::rotation::SessionRecord;
use crate::auth::{AccessClaims, Identity, SessionId, Subject};
use crate::clock::Timestamp;
use crate::store::{RevocationRecord, RevocationTarget};

#[derive(Clone, Copy, Debug)]
struct Cut {
    at: Timestamp,
    until: Timestamp,
}

impl Cut {
    /// The later moment counts. Of the same moment the newer word counts: it is kept long until all records are marked, and
    /// short from then on.
    fn then(self, newer: Cut) -> Cut {
        if self.at == newer.at {
            return newer;
        }
        Cut {
            at: self.at.max(newer.at),
            until: self.until.max(newer.until),
        }
    }
}

/// Session ids are random already: their first bytes are their hash.
#[derive(Default)]
struct OwnRandomness(u64);

impl Hasher for OwnRandomness {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_ne_bytes(*first);
        }
    }

    /// The length of the bytes, which is the same for all.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What has been ended and may still have living access tokens.
#[derive(Default)]
pub(super) struct Revocations {
    /// How many entries there are, so that none costs nothing.
    entries: AtomicUsize,
    /// How many of them are of users, whose lookup compares texts.
    user_entries: AtomicUsize,
    sessions: DashMap<SessionId, Timestamp, BuildHasherDefault<OwnRandomness>>,
    /// By user; each at one provider or few.
    users: DashMap<String, Vec<(String, Cut)>>,
    all: ArcSwapOption<Cut>,
}

impl Revocations {
    /// Takes one in; from now on it is obeyed. Who ended all sessions "until now" by a clock that was ahead must not lock out
    /// those who sign in from now on, so it counts as of the moment when it is first heard of.
    pub(super) fn obey(&self, record: &RevocationRecord, now: Timestamp) {
        if record.at <= now.plus(CLOCK_LEEWAY) {
            return self.insert(record);
        }
        let known = match &record.target {
            RevocationTarget::Session(_) => None,
            RevocationTarget::User { provider, user } => self.users.get(user).and_then(|cuts| {
                let cut = cuts.iter().find(|(known, _)| known == provider);
                cut.map(|(_, cut)| cut.until)
            }),
            RevocationTarget::All => self.all.load().as_ref().map(|cut| cut.until),
        };
        if known != Some(record.until) {
            self.insert(&RevocationRecord {
                at: now,
                ..record.clone()
            });
        }
    }

    fn insert(&self, record: &RevocationRecord) {
        let cut = Cut {
            at: record.at,
            until: record.until,
        };
        match &record.target {
            RevocationTarget::Session(session) => {
                let mut until = self.sessions.entry(*session).or_insert(record.until);
                *until = record.until.max(*until);
            }
            RevocationTarget::User { provider, user } => {
                let mut cuts = self.users.entry(user.clone()).or_default();
                match cuts.iter_mut().find(|(known, _)| known == provider) {
                    Some((_, known)) => *known = known.then(cut),
                    None => cuts.push((provider.clone(), cut)),
                }
                drop(cuts);
                self.user_entries.fetch_add(1, Ordering::Release);
            }
            RevocationTarget::All => {
                self.all.rcu(|known| {
                    let cut = known.as_deref().map_or(cut, |known| known.then(cut));
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
        let user = match self.user_entries.load(Ordering::Acquire) {
            0 => None,
            _ => self.users.get(&identity.user).and_then(|cuts| {
                let at_provider = |(provider, _): &&(String, Cut)| *provider == identity.provider;
                cuts.iter().find(at_provider).map(|(_, cut)| cut.at)
            }),
        };
        let all = self.all.load().as_ref().map(|cut| cut.at);
        user.max(all)
    }

    pub(super) fn concerns_session(&self, session: &SessionId) -> bool {
        !self.none() && self.sessions.contains_key(session)
    }

    /// Whether the session of this access token has been ended.
    pub(super) fn concerns_token(&self, claims: &AccessClaims) -> bool {
        self.concerns(&claims.session, &claims.identity, claims.began_at)
    }

    /// Whether the session behind this identity, if there is one, has been ended.
    pub(super) fn concerns_subject(&self, subject: &Subject) -> bool {
        let claims = subject.access_claims();
        claims.is_some_and(|claims| self.concerns_token(claims))
    }

    fn concerns(&self, session: &SessionId, identity: &Identity, began_at: Timestamp) -> bool {
        !self.none()
            && (self.sessions.contains_key(session)
                || self.cut_of(identity).is_some_and(|at| began_at <= at))
    }

    /// Whether this session has been ended.
    pub(super) fn concerns_record(&self, record: &SessionRecord) -> bool {
        self.concerns(&record.id, &record.identity, record.created_at)
    }

    /// The time was set back: what is dated later counts as of now.
    pub(super) fn not_after(&self, now: Timestamp) {
        let clamped = |cut: Cut| Cut {
            at: cut.at.min(now),
            ..cut
        };
        self.users.alter_all(|_, mut cuts| {
            cuts.iter_mut().for_each(|(_, cut)| *cut = clamped(*cut));
            cuts
        });
        self.all.rcu(|known| {
            known
                .as_deref()
                .map(|cut| std::sync::Arc::new(clamped(*cut)))
        });
    }

    /// What is in force here and missing from `kept`, which the store says is all: what it lost in a failover.
    pub(super) fn lost_by(
        &self,
        kept: &[RevocationRecord],
        now: Timestamp,
    ) -> Vec<RevocationRecord> {
        let kept: HashMap<&RevocationTarget, Timestamp> = kept
            .iter()
            .map(|revocation| (&revocation.target, revocation.at))
            .collect();
        let sessions = self.sessions.iter().map(|entry| {
            let (target, until) = (RevocationTarget::Session(*entry.key()), *entry.value());
            // Whenever it was: of a session, any end is the end.
            let at = Timestamp::EPOCH;
            RevocationRecord { target, at, until }
        });
        let users = self.users.iter().flat_map(|entry| {
            let of = |(provider, cut): &(String, Cut)| RevocationRecord {
                target: RevocationTarget::User {
                    provider: provider.clone(),
                    user: entry.key().clone(),
                },
                at: cut.at,
                until: cut.until,
            };
            entry.value().iter().map(of).collect::<Vec<_>>()
        });
        let all = self.all.load().as_ref().map(|cut| RevocationRecord {
            target: RevocationTarget::All,
            at: cut.at,
            until: cut.until,
        });
        sessions
            .chain(users)
            .chain(all)
            .filter(|held| now < held.until && kept.get(&held.target) < Some(&held.at))
            .collect()
    }

    /// Drops what no access token can be concerned by any more.
    pub(super) fn forget(&self, now: Timestamp) {
        let before = self.entries.load(Ordering::Acquire);
        let users_before = self.user_entries.load(Ordering::Acquire);
        self.sessions.retain(|_, until| now < *until);
        self.users.retain(|_, cuts| {
            cuts.retain(|(_, cut)| now < cut.until);
            !cuts.is_empty()
        });
        self.all
            .rcu(|known| known.clone().filter(|cut| now < cut.until));
        // To zero only if none came in meanwhile; otherwise the next time.
        let none = |count: &AtomicUsize, before| {
            let _ = count.compare_exchange(before, 0, Ordering::AcqRel, Ordering::Acquire);
        };
        if self.users.is_empty() {
            none(&self.user_entries, users_before);
            if self.sessions.is_empty() && self.all.load().is_none() {
                none(&self.entries, before);
            }
        }
    }

    /// How many entries are held.
    pub(super) fn len(&self) -> usize {
        let users: usize = self.users.iter().map(|cuts| cuts.len()).sum();
        self.sessions.len() + users + usize::from(self.all.load().is_some())
    }
}
