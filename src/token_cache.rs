//! A bounded map from tokens that verified to whatever was learned of them. Must not judge: whether an entry still counts is
//! for whoever put it there.

use std::collections::hash_map::RandomState;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{Equivalent, UnitWeighter};

/// How much of the token's end is hashed: most of an Ed25519 signature. Tokens are compared whole.
const HASHED: usize = 64;

#[derive(Clone)]
struct TokenText(Arc<[u8]>);

struct Looked<'a>(&'a [u8]);

fn hash_end<H: Hasher>(bytes: &[u8], state: &mut H) {
    state.write(bytes.last_chunk::<HASHED>().map_or(bytes, |end| &end[..]));
}

impl Hash for TokenText {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash_end(&self.0, state);
    }
}

impl Hash for Looked<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash_end(self.0, state);
    }
}

impl PartialEq for TokenText {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for TokenText {}

impl Equivalent<TokenText> for Looked<'_> {
    fn equivalent(&self, key: &TokenText) -> bool {
        *self.0 == *key.0
    }
}

/// The map. Entries that are not asked for make room for others.
pub struct TokenCache<V> {
    // std's hasher is keyed at random per process, so nobody can aim at one bucket.
    seen: Cache<TokenText, V, UnitWeighter, RandomState>,
}

impl<V: Clone> TokenCache<V> {
    /// Room for so many tokens.
    pub fn new(entries: usize) -> Self {
        let entries = entries.max(1);
        TokenCache {
            seen: Cache::with(
                entries,
                entries as u64,
                UnitWeighter,
                RandomState::new(),
                DefaultLifecycle::default(),
            ),
        }
    }

    /// What is known of a token.
    pub fn get(&self, token: &[u8]) -> Option<V> {
        self.seen.get(&Looked(token))
    }

    /// Remembers.
    pub fn insert(&self, token: &[u8], value: V) {
        self.seen.insert(TokenText(token.into()), value);
    }

    /// Forgets one.
    pub fn remove(&self, token: &[u8]) {
        self.seen.remove(&Looked(token));
    }

    /// Forgets all.
    pub fn clear(&self) {
        self.seen.clear();
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.seen.len()
    }
}
