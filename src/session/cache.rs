//! The bounded cache of verified access tokens: a token seen before costs a lookup, not a signature.
//!
//! Holds only tokens that verified. A hit still checks the expiry, and counts only under the keys it was verified with.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::Equivalent;
use quick_cache::sync::Cache;

use crate::auth::Subject;
use crate::clock::Timestamp;

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

/// What a lookup found.
pub(super) enum Hit {
    /// Verified before and current.
    Valid(Arc<Subject>),
    /// Verified before, over by now.
    Expired,
    /// Not seen before: verify it.
    Unknown,
}

/// The keys in force; a token verified under other ones is unknown again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Epoch(u64);

/// Verified tokens.
pub(super) struct VerifiedTokens {
    // std's hasher is keyed at random per process, so nobody can aim at one bucket.
    seen: Cache<
        TokenText,
        (Arc<Subject>, Epoch),
        quick_cache::UnitWeighter,
        std::collections::hash_map::RandomState,
    >,
    epoch: AtomicU64,
}

impl VerifiedTokens {
    pub(super) fn new(entries: usize) -> Self {
        let entries = entries.max(1);
        VerifiedTokens {
            seen: Cache::with(
                entries,
                entries as u64,
                quick_cache::UnitWeighter,
                std::collections::hash_map::RandomState::new(),
                quick_cache::sync::DefaultLifecycle::default(),
            ),
            epoch: AtomicU64::new(0),
        }
    }

    pub(super) fn find(&self, token: &[u8], now: Timestamp) -> Hit {
        match self.seen.get(&Looked(token)) {
            Some((_, epoch)) if epoch != self.epoch() => Hit::Unknown,
            Some((subject, _)) if now < subject.expires_at() => Hit::Valid(subject),
            Some(_) => {
                self.seen.remove(&Looked(token));
                Hit::Expired
            }
            None => Hit::Unknown,
        }
    }

    /// To be read before the keys that a token is verified with.
    pub(super) fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    pub(super) fn remember(&self, token: &[u8], subject: Arc<Subject>, epoch: Epoch) {
        self.seen.insert(TokenText(token.into()), (subject, epoch));
    }

    /// The keys changed: to be called after the new ones are in force.
    pub(super) fn forget_all(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.seen.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }
}
