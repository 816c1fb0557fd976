//! Bearer tokens of configured issuers: which issuer a token says it is from, that issuer's keys, and what was verified
//! before.
//!
//! A token is judged by the one issuer that it names, or is none of ours. Must not know HTTP answers, routes or sessions.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use rustls_pki_types::CertificateDer;
use tokio::runtime::Handle;

use crate::auth::Subject;
use crate::auth::bearer::{self, BearerRefusal};
use crate::auth::claims::{ClaimError, ClaimMap};
use crate::auth::foreign_keys::{Algorithm, ForeignKeys, KeyGeneration};
use crate::auth::foreign_token::{
    self, ForeignClaims, ForeignExpect, ForeignKind, ForeignTokenError, LEEWAY, UnverifiedIssuer,
};
use crate::auth::subject::{ForeignProof, Proof};
use crate::clock::Timestamp;
use crate::issuer::{self, Location, RemoteKeys};
use crate::outbound::{self, Outbound};
use crate::token_cache::TokenCache;

/// How many verified tokens are remembered.
const REMEMBERED: usize = 4096;

/// One configured issuer.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `iss`, exact; no two have the same.
    pub issuer: String,
    /// What `aud` must name.
    pub audience: String,
    /// Which claim is what.
    pub claims: ClaimMap,
    /// Longest life that is believed.
    pub max_lifetime: Duration,
    /// What its tokens are verified with.
    pub keys: Keys,
}

/// Where keys come from.
#[derive(Clone, Debug)]
pub enum Keys {
    /// Read with the configuration.
    Fixed(Arc<ForeignKeys>),
    /// Fetched, and kept fresh.
    Remote {
        /// From where.
        location: Location,
        /// What they may be used with.
        algorithms: Vec<Algorithm>,
        /// Certificate authorities that are believed beside the system's.
        ca: Vec<CertificateDer<'static>>,
    },
}

/// All configured issuers.
pub struct Bearers {
    issuers: Vec<Issuer>,
    seen: TokenCache<Seen>,
}

struct Issuer {
    expect: ForeignExpect,
    claims: ClaimMap,
    source: Source,
}

enum Source {
    Fixed(Arc<ForeignKeys>),
    Remote(Arc<RemoteKeys>),
}

/// What was verified, and under what: another issuer, another audience (which is the issuer's) or other keys make it unknown.
#[derive(Clone)]
struct Seen {
    subject: Arc<Subject>,
    issuer: usize,
    keys: KeyGeneration,
}

/// A token that names a configured issuer, not verified.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    token: &'a str,
    issuer: usize,
}

/// What a request's `Authorization` is.
#[derive(Clone, Debug)]
pub enum Found<'a> {
    /// None, or of another scheme: nothing of ours.
    Nothing,
    /// A bearer token that is of no configured issuer: an upstream's, or nobody's.
    Stranger,
    /// Of a configured issuer, and verified before.
    Known(Arc<Subject>),
    /// Of a configured issuer.
    Presented(Presented<'a>),
    /// Several lines, one of them of a configured issuer: nobody could say which one counts.
    Several,
}

/// What checking a token came to.
#[derive(Debug)]
pub enum Finding {
    /// Verified.
    Valid(Arc<Subject>),
    /// Not accepted.
    Refused(BearerRefusal),
    /// The issuer's keys were never fetched, so that nobody can say.
    Unavailable,
}

/// Why a token is not accepted, for an operator who holds it in hand.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    /// The token.
    #[error(transparent)]
    Token(#[from] ForeignTokenError),
    /// A claim.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The identity.
    #[error(
        "it says more about its subject than can be passed on ({} bytes of JSON at most): fewer groups",
        bearer::MAX_IDENTITY
    )]
    TooLarge,
    /// No keys.
    #[error("the keys of its issuer cannot be had")]
    Unavailable,
}

impl Why {
    /// What the client is told; `None` = that it has to come again.
    pub fn refusal(&self) -> Option<BearerRefusal> {
        Some(match self {
            Why::Token(error) => BearerRefusal::Token(*error),
            Why::Claim(error) => BearerRefusal::Claim(error.purpose),
            Why::TooLarge => BearerRefusal::TooLarge,
            Why::Unavailable => return None,
        })
    }
}

impl Bearers {
    /// Begins to fetch the keys of those issuers that publish them, on `runtime`.
    pub fn start(settings: Vec<Settings>, runtime: &Handle) -> Result<Self, outbound::SetupError> {
        let issuers = settings
            .into_iter()
            .map(|one| Issuer::start(one, runtime))
            .collect::<Result<_, _>>()?;
        Ok(Bearers {
            issuers,
            seen: TokenCache::new(REMEMBERED),
        })
    }

    /// What a request brings; verifies nothing.
    pub fn find<'a>(&self, headers: &'a HeaderMap, now: Timestamp) -> Found<'a> {
        let mut lines = bearer::tokens(headers);
        let Some(first) = lines.next() else {
            return Found::Nothing;
        };
        if let Some(second) = lines.next() {
            let mut all = [first, second].into_iter().chain(lines).flatten();
            return match all.any(|token| self.issuer_of(token).is_some()) {
                true => Found::Several,
                false => Found::Nothing,
            };
        }
        let Some(token) = first else {
            return Found::Nothing;
        };
        if let Some(seen) = self.seen.get(token.as_bytes()) {
            let keys = self.issuers.get(seen.issuer).and_then(Issuer::generation);
            if keys == Some(seen.keys) && now < seen.subject.expires_at() {
                return Found::Known(seen.subject);
            }
            self.seen.remove(token.as_bytes());
        }
        match self.issuer_of(token) {
            Some(issuer) => Found::Presented(Presented { token, issuer }),
            None => Found::Stranger,
        }
    }

    /// Verifies a token, with keys fetched for it where it needs some that are not known yet.
    pub async fn check(&self, presented: Presented<'_>, now: Timestamp) -> Finding {
        let Some(issuer) = self.issuers.get(presented.issuer) else {
            return Finding::Refused(BearerRefusal::Stranger);
        };
        let why = match issuer.check(presented.token, now).await {
            Ok((subject, keys)) => {
                let seen = Seen {
                    subject: Arc::clone(&subject),
                    issuer: presented.issuer,
                    keys,
                };
                self.seen.insert(presented.token.as_bytes(), seen);
                return Finding::Valid(subject);
            }
            Err(why) => why,
        };
        let Some(refusal) = why.refusal() else {
            return Finding::Unavailable;
        };
        if let Why::Claim(error) = why {
            // The configuration and the issuer disagree: nobody but an operator can mend it.
            tracing::warn!(issuer = issuer.expect.issuer, %error, "a good token cannot be used");
        }
        Finding::Refused(refusal)
    }

    /// As [`Bearers::check`] for a token alone, with everything that can be said of it; `None` = it names no configured
    /// issuer.
    pub async fn explain(&self, token: &str, now: Timestamp) -> Option<Result<Arc<Subject>, Why>> {
        let issuer = self.issuers.get(self.issuer_of(token)?)?;
        let checked = issuer.check(token, now).await;
        Some(checked.map(|(subject, _)| subject))
    }

    /// The configured issuers, and what is known of the keys of those that are fetched.
    pub fn issuers(&self) -> impl Iterator<Item = (&str, Option<issuer::Stats>)> {
        self.issuers.iter().map(|issuer| {
            let stats = match &issuer.source {
                Source::Fixed(_) => None,
                Source::Remote(remote) => Some(remote.stats()),
            };
            (issuer.expect.issuer.as_str(), stats)
        })
    }

    /// How many verified tokens are remembered.
    pub fn remembered(&self) -> usize {
        self.seen.len()
    }

    fn issuer_of(&self, token: &str) -> Option<usize> {
        let UnverifiedIssuer(named) = UnverifiedIssuer::of(token)?;
        let mut issuers = self.issuers.iter();
        issuers.position(|issuer| issuer.expect.issuer == named)
    }
}

impl Issuer {
    fn start(settings: Settings, runtime: &Handle) -> Result<Self, outbound::SetupError> {
        let source = match settings.keys {
            Keys::Fixed(keys) => Source::Fixed(keys),
            Keys::Remote {
                location,
                algorithms,
                ca,
            } => {
                let outbound = Outbound::new(outbound::Settings { ca })?;
                let remote = issuer::Settings::new(settings.issuer.clone(), location, algorithms);
                Source::Remote(RemoteKeys::start(remote, outbound, runtime.clone()))
            }
        };
        Ok(Issuer {
            expect: ForeignExpect {
                issuer: settings.issuer,
                audiences: vec![settings.audience],
                kind: ForeignKind::Bearer,
                max_lifetime: settings.max_lifetime,
                leeway: LEEWAY,
            },
            claims: settings.claims,
            source,
        })
    }

    /// Which keys are in force.
    fn generation(&self) -> Option<KeyGeneration> {
        match &self.source {
            Source::Fixed(keys) => Some(keys.generation()),
            Source::Remote(remote) => remote.current().map(|fetched| fetched.keys.generation()),
        }
    }

    async fn check(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Result<(Arc<Subject>, KeyGeneration), Why> {
        let (claims, keys) = match &self.source {
            Source::Fixed(keys) => (self.verify(token, keys, now)?, keys.generation()),
            Source::Remote(remote) => {
                let fetched = remote.ready().await.ok_or(Why::Unavailable)?;
                let generation = fetched.keys.generation();
                match self.verify(token, &fetched.keys, now) {
                    // Perhaps the issuer has new keys.
                    Err(ForeignTokenError::UnknownKey) => {
                        let newer = remote.unknown_key(generation).await;
                        let newer = newer.ok_or(ForeignTokenError::UnknownKey)?;
                        let claims = self.verify(token, &newer.keys, now)?;
                        (claims, newer.keys.generation())
                    }
                    verified => (verified?, generation),
                }
            }
        };
        let otherwise = claims.issued_at.unwrap_or(now);
        let identity = self
            .claims
            .identity(&claims.set, &self.expect.issuer, otherwise)?;
        if !bearer::can_be_carried(&identity) {
            return Err(Why::TooLarge);
        }
        let proof = ForeignProof {
            identity,
            scopes: bearer::scopes(&claims.set),
            expires_at: claims.expires_at.plus(self.expect.leeway),
        };
        Ok((Arc::new(Subject::of(Proof::Bearer(proof))), keys))
    }

    fn verify(
        &self,
        token: &str,
        keys: &ForeignKeys,
        now: Timestamp,
    ) -> Result<ForeignClaims, ForeignTokenError> {
        foreign_token::verify(token, keys, &self.expect, now)
    }
}
