//! The service's access token -> who it is: verified once, remembered while it lives.
//!
//! Must not renew, and must not believe anything of a token that did not verify under a key of the configuration.

use std::collections::hash_map::RandomState;
use std::sync::Arc;

use quick_cache::UnitWeighter;
use quick_cache::sync::Cache;

use super::Settings;
use super::memory::Key;
use crate::auth::Subject;
use crate::auth::access_token::TokenError;
use crate::auth::claims::{ClaimError, ClaimMap};
use crate::auth::foreign_keys::ForeignKeys;
use crate::auth::foreign_token::{self, ForeignExpect, ForeignKind, ForeignTokenError, LEEWAY};
use crate::auth::subject::{ForeignProof, Proof};
use crate::clock::Timestamp;

/// The provider that identities of `[external]` name.
pub const PROVIDER: &str = "external";

/// Verified tokens that are remembered: some tens of MiB at most.
const CACHE_ENTRIES: usize = 10_000;

/// Why an access token is not accepted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CheckError {
    /// The token.
    #[error(transparent)]
    Token(#[from] ForeignTokenError),
    /// It is good, and says something that cannot be an identity.
    #[error(transparent)]
    Claim(#[from] ClaimError),
}

impl CheckError {
    /// In the words of the decision. What is signed by a key that we do not know, or is no token at all, may be mended by a
    /// renewal, as may what is over; nothing else.
    pub(super) fn in_short(&self) -> TokenError {
        use ForeignTokenError as E;
        match self {
            CheckError::Claim(error) => TokenError::Claim(error.purpose),
            CheckError::Token(error) => match error {
                E::Malformed | E::Encrypted | E::UnknownKey | E::SeveralKeys => TokenError::Unknown,
                E::Expired => TokenError::Expired,
                E::NotYetValid => TokenError::NotYetValid,
                E::TooLarge => TokenError::TooLarge,
                E::Header(_) => TokenError::Header,
                E::Critical => TokenError::Critical,
                E::Algorithm => TokenError::Algorithm,
                E::Signature => TokenError::Signature,
                E::Type => TokenError::Type,
                E::OtherKind(claim) | E::Claim(claim) => TokenError::Claim(claim),
                E::Issuer => TokenError::Issuer,
                E::Audience => TokenError::Audience,
                // Of ours a shortened lifetime is mended; of another's a new token would be as long-lived as this one.
                E::Lifetime => TokenError::Claim("exp"),
                E::Bound => TokenError::Claim("cnf"),
            },
        }
    }
}

/// Verifies and remembers.
pub(super) struct Checker {
    keys: Arc<ForeignKeys>,
    expect: ForeignExpect,
    claims: ClaimMap,
    // std's hasher is keyed at random per process, so nobody can aim at one bucket.
    seen: Cache<Key, Arc<Subject>, UnitWeighter, RandomState>,
}

impl Checker {
    pub(super) fn new(settings: &Settings) -> Self {
        Checker {
            keys: Arc::clone(&settings.keys),
            expect: ForeignExpect {
                issuer: settings.issuer.clone(),
                audiences: vec![settings.audience.clone()],
                kind: ForeignKind::External,
                max_lifetime: settings.max_access_life,
                leeway: LEEWAY,
            },
            claims: settings.claims.clone(),
            seen: Cache::with(
                CACHE_ENTRIES,
                CACHE_ENTRIES as u64,
                UnitWeighter,
                RandomState::new(),
                Default::default(),
            ),
        }
    }

    /// Who it is. `exp` counts without leeway, because the service itself would not take the token any longer.
    pub(super) fn check(&self, token: &str, now: Timestamp) -> Result<Arc<Subject>, CheckError> {
        let key = Key::of(token);
        let subject = match self.seen.get(&key) {
            Some(subject) => subject,
            None => {
                let subject = self.verify(token, now)?;
                self.seen.insert(key, Arc::clone(&subject));
                subject
            }
        };
        match now < subject.expires_at() {
            true => Ok(subject),
            false => Err(ForeignTokenError::Expired.into()),
        }
    }

    fn verify(&self, token: &str, now: Timestamp) -> Result<Arc<Subject>, CheckError> {
        let claims = foreign_token::verify(token, &self.keys, &self.expect, now)?;
        let issued_at = claims.issued_at.unwrap_or(now);
        let identity = self.claims.identity(&claims.set, PROVIDER, issued_at)?;
        Ok(Arc::new(Subject::of(Proof::External(ForeignProof {
            identity,
            scopes: Vec::new(),
            expires_at: claims.expires_at,
        }))))
    }
}
