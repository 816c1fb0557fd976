//! What the throttle counts beside its buckets, and how it forgets: bounded tables of failures and of known addresses.
//!
//! Must not decide whether an attempt is admitted; that is the module above.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use super::Limits;
use crate::clock::Timestamp;
use crate::patience::{LEAST_ENTRIES, Network, make_room};

/// An account's name under a key of this process: bounded memory, and nobody can choose collisions.
pub(super) type NameHash = u64;
pub(super) type Pair = (NameHash, Network);

/// A bounded map. When it is full, what is over goes first, then the quarter with the least failures.
#[derive(Debug)]
pub(super) struct Table<K, E> {
    pub(super) entries: HashMap<K, E>,
    most: usize,
}

/// Something that is counted. Its default is what is true of whoever was never seen.
pub(super) trait Entry: Clone + Default {
    /// Whether it says no more than the default.
    fn is_over(&self, now: Timestamp, limits: &Limits) -> bool;
    /// How much would be lost by forgetting it early.
    fn weight(&self) -> (u32, Timestamp);
    /// Takes back what lies in the future because the wall clock went backwards.
    fn no_later_than(&mut self, now: Timestamp, limits: &Limits);
}

impl<K: Copy + Eq + Hash, E: Entry> Table<K, E> {
    pub(super) fn new(most: usize) -> Self {
        Table {
            entries: HashMap::new(),
            most: most.max(LEAST_ENTRIES),
        }
    }

    pub(super) fn find(&mut self, key: &K, now: Timestamp, limits: &Limits) -> E {
        match self.entries.get_mut(key) {
            Some(entry) if entry.is_over(now, limits) => E::default(),
            Some(entry) => {
                entry.no_later_than(now, limits);
                entry.clone()
            }
            None => E::default(),
        }
    }

    pub(super) fn change(&mut self, key: &K, change: impl FnOnce(&mut E)) {
        if let Some(entry) = self.entries.get_mut(key) {
            change(entry);
        }
    }

    pub(super) fn keep(&mut self, key: K, entry: E, now: Timestamp, limits: &Limits) {
        if self.entries.len() >= self.most && !self.entries.contains_key(&key) {
            make_room(
                &mut self.entries,
                self.most,
                |entry| entry.is_over(now, limits),
                E::weight,
            );
        }
        self.entries.insert(key, entry);
    }
}

/// Failed (and running) attempts of one address at one account.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Failures {
    count: u32,
    /// When the latest was admitted.
    at: Timestamp,
}

impl Failures {
    pub(super) fn wait(&self, now: Timestamp, free: u32, limits: &Limits) -> Duration {
        let Some(beyond) = self.count.checked_sub(free) else {
            return Duration::ZERO;
        };
        let delay = Duration::from_secs(1u64.checked_shl(beyond).unwrap_or(u64::MAX))
            .min(limits.longest_delay);
        delay.saturating_sub(now.since(self.at))
    }

    pub(super) fn plus_one(self, now: Timestamp) -> Self {
        Failures {
            count: self.count.saturating_add(1),
            at: now,
        }
    }

    pub(super) fn minus_one(&mut self) {
        self.count = self.count.saturating_sub(1);
    }
}

impl Entry for Failures {
    fn is_over(&self, now: Timestamp, limits: &Limits) -> bool {
        self.count == 0 || now.since(self.at) >= limits.forget_failures
    }

    fn weight(&self) -> (u32, Timestamp) {
        (self.count, self.at)
    }

    fn no_later_than(&mut self, now: Timestamp, _: &Limits) {
        self.at = self.at.min(now);
    }
}

/// The addresses that signed in to an account, the latest last. Per account and bounded there, so that whoever has one
/// account and many addresses can push out nobody's but their own.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    networks: Vec<(Network, Timestamp)>,
}

impl Known {
    /// More places than one person signs in from.
    const MOST: usize = 32;

    pub(super) fn contains(&self, network: Network, now: Timestamp) -> bool {
        self.networks
            .iter()
            .any(|(known, until)| *known == network && *until > now)
    }

    pub(super) fn with(mut self, network: Network, until: Timestamp) -> Self {
        self.networks.retain(|(known, _)| *known != network);
        if self.networks.len() >= Self::MOST {
            self.networks.remove(0);
        }
        self.networks.push((network, until));
        self
    }

    fn latest(&self) -> Timestamp {
        self.networks
            .last()
            .map(|(_, until)| *until)
            .unwrap_or_default()
    }
}

impl Entry for Known {
    fn is_over(&self, now: Timestamp, _: &Limits) -> bool {
        self.latest() <= now
    }

    fn weight(&self) -> (u32, Timestamp) {
        (0, self.latest())
    }

    fn no_later_than(&mut self, now: Timestamp, limits: &Limits) {
        for (_, until) in &mut self.networks {
            *until = (*until).min(now.plus(limits.known_for));
        }
    }
}
