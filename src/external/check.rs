//! The service's access token -> who it is: verified once, remembered while it lives.
//!
//! Must not renew, and must not believe anything of a token that did not verify under a key of the configuration.

use std::collections::hash_map::RandomState;
use std::sync::Arc;

use quick_cache::UnitWeighter;
use quick_cache::sync::Cache;
use tokio::runtime::Handle;

use super::memory::Key;
use super::{KeySource, Settings};
use crate::auth::Subject;
use crate::auth::access_token::TokenError;
use crate::auth::claims::{ClaimError, ClaimMap};
use crate::auth::foreign_keys::{ForeignKeys, KeyGeneration};
use crate::auth::foreign_token::{self, ForeignExpect, ForeignKind, ForeignTokenError, LEEWAY};
use crate::auth::subject::{ForeignProof, Proof};
use crate::clock::Timestamp;
use crate::issuer::{self, Fetched, Location, RemoteKeys};
use crate::outbound::Outbound;

/// The provider that identities of `[external]` name.
pub const PROVIDER: &str = "external";

/// Verified tokens that are remembered: some tens of MiB at most.
const CACHE_ENTRIES: usize = 10_000;

/// Why an access token is not accepted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// The token.
    #[error(transparent)]
    Token(#[from] ForeignTokenError),
    /// It is good, and says something that cannot be an identity.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The service's keys were never fetched, so nobody can tell.
    #[error("the service's keys cannot be fetched")]
    NoKeys,
}

impl CheckError {
    /// In the words of the decision. What is signed by a key that we do not know, or is no token at all, may be mended by a
    /// renewal, as may what is over; nothing else.
    pub fn in_short(&self) -> TokenError {
        use ForeignTokenError as E;
        match self {
            CheckError::Claim(error) => TokenError::Claim(error.purpose),
            CheckError::NoKeys => TokenError::Unknown,
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
                E::Backwards | E::Lifetime => TokenError::Claim("exp"),
                E::Bound => TokenError::Claim("cnf"),
            },
        }
    }
}

/// What tokens are verified with.
enum Keys {
    Fixed(Arc<ForeignKeys>),
    Remote(Arc<RemoteKeys>),
}

/// The keys of this moment.
enum InForce {
    Fixed(Arc<ForeignKeys>),
    Fetched(Arc<Fetched>),
}

impl InForce {
    fn set(&self) -> &ForeignKeys {
        match self {
            InForce::Fixed(keys) => keys,
            InForce::Fetched(fetched) => &fetched.keys,
        }
    }
}

/// What an access token is worth, for an operator who holds it in hand: the judgement of a running gateway, with nothing
/// remembered and nothing renewed. Where the service's keys are fetched, they are fetched here and now.
pub async fn judge(
    settings: &Settings,
    outbound: &Outbound,
    runtime: &Handle,
    token: &str,
    now: Timestamp,
) -> Result<Arc<Subject>, CheckError> {
    Checker::new(settings, outbound, runtime)
        .check_patiently(token, now)
        .await
}

/// Verifies and remembers.
pub(super) struct Checker {
    keys: Keys,
    expect: ForeignExpect,
    claims: ClaimMap,
    // std's hasher is keyed at random per process, so nobody can aim at one bucket.
    seen: Cache<Key, (Arc<Subject>, KeyGeneration), UnitWeighter, RandomState>,
}

impl Checker {
    pub(super) fn new(settings: &Settings, outbound: &Outbound, control: &Handle) -> Self {
        let keys = match &settings.keys {
            KeySource::Fixed(keys) => Keys::Fixed(Arc::clone(keys)),
            KeySource::Url { url, algorithms } => {
                let place = Location::Url(url.clone());
                let issuer = settings.issuer.clone();
                let settings = issuer::Settings::new(issuer, place, algorithms.clone());
                Keys::Remote(RemoteKeys::start(
                    settings,
                    outbound.clone(),
                    control.clone(),
                ))
            }
        };
        Checker {
            keys,
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
        let keys = self.in_force().ok_or(CheckError::NoKeys)?;
        let (key, generation) = (Key::of(token), keys.set().generation());
        let subject = match self.seen.get(&key) {
            // What a key signed that is no longer among them is not remembered either.
            Some((subject, under)) if under == generation => subject,
            _ => {
                let subject = self.verify(token, keys.set(), now)?;
                self.seen.insert(key, (Arc::clone(&subject), generation));
                subject
            }
        };
        match now < subject.expires_at() {
            true => Ok(subject),
            false => Err(ForeignTokenError::Expired.into()),
        }
    }

    /// [`Self::check`] that waits, where the service's keys are fetched, for the first ones, and for newer ones when the
    /// token's is not among them.
    pub(super) async fn check_patiently(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Result<Arc<Subject>, CheckError> {
        let found = self.check(token, now);
        let Keys::Remote(remote) = &self.keys else {
            return found;
        };
        let newer = match &found {
            Err(CheckError::NoKeys) => remote.ready().await,
            Err(CheckError::Token(ForeignTokenError::UnknownKey)) => match remote.current() {
                Some(seen) => remote.unknown_key(seen.keys.generation()).await,
                None => remote.ready().await,
            },
            _ => None,
        };
        match newer {
            Some(_) => self.check(token, now),
            None => found,
        }
    }

    /// What is known of keys that are fetched.
    pub(super) fn fetched(&self) -> Option<issuer::Stats> {
        match &self.keys {
            Keys::Fixed(_) => None,
            Keys::Remote(remote) => Some(remote.stats()),
        }
    }

    /// Whether a check may have something to wait for.
    pub(super) fn fetches(&self) -> bool {
        matches!(self.keys, Keys::Remote(_))
    }

    fn in_force(&self) -> Option<InForce> {
        match &self.keys {
            Keys::Fixed(keys) => Some(InForce::Fixed(Arc::clone(keys))),
            Keys::Remote(remote) => remote.current().map(InForce::Fetched),
        }
    }

    fn verify(
        &self,
        token: &str,
        keys: &ForeignKeys,
        now: Timestamp,
    ) -> Result<Arc<Subject>, CheckError> {
        let claims = foreign_token::verify(token, keys, &self.expect, now)?;
        let issued_at = claims.issued_at.unwrap_or(now);
        let identity = self.claims.identity(&claims.set, PROVIDER, issued_at)?;
        Ok(Arc::new(Subject::of(Proof::External(ForeignProof {
            identity,
            scopes: Vec::new(),
            expires_at: claims.expires_at,
        }))))
    }
}
