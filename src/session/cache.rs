//! The bounded cache of verified access tokens: a token seen before costs a lookup, not a signature.
//!
//! Holds only tokens that verified. A hit still checks the expiry, and counts only under the keys it was verified with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::auth::Subject;
use crate::clock::Timestamp;
use crate::token_cache::TokenCache;

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
    seen: TokenCache<(Arc<Subject>, Epoch)>,
    epoch: AtomicU64,
}

impl VerifiedTokens {
    pub(super) fn new(entries: usize) -> Self {
        VerifiedTokens {
            seen: TokenCache::new(entries),
            epoch: AtomicU64::new(0),
        }
    }

    pub(super) fn find(&self, token: &[u8], now: Timestamp) -> Hit {
        match self.seen.get(token) {
            Some((_, epoch)) if epoch != self.epoch() => Hit::Unknown,
            Some((subject, _)) if now < subject.expires_at() => Hit::Valid(subject),
            Some(_) => {
                self.seen.remove(token);
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
        self.seen.insert(token, (subject, epoch));
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
