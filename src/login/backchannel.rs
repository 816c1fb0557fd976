//! Back-channel logout (OpenID Connect Back-Channel Logout 1.0): a provider's server says who has signed out there.
//!
//! Verifies the token and remembers which came before. Anybody can send anything here, so an address whose tokens are refused
//! is made to wait before its next one is looked at. Must not end a session.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;

use crate::auth::ClientAddr;
use crate::auth::foreign_token::{self, ForeignTokenError};
use crate::auth::logout_token::{self, LogoutClaims, LogoutTokenError};
use crate::clock::Timestamp;
use crate::issuer::RemoteKeys;
use crate::login::throttle::{Limits, Throttle};
use crate::patience::Rate;

/// How many tokens that were obeyed are remembered on this node.
const REMEMBERED: usize = 10_000;

/// Whose logout tokens, for whom.
#[derive(Clone, Copy)]
pub struct Sender<'a> {
    /// The provider's configured name.
    pub provider: &'a str,
    /// Our name there: `aud`.
    pub client_id: &'a str,
    /// Its identifier and keys.
    pub keys: &'a Arc<RemoteKeys>,
}

/// Why nothing was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is not from this provider, not for us, or over (400).
    #[error("the token is refused: {0}")]
    Token(ForeignTokenError),
    /// It is no logout token (400).
    #[error("the token is refused: {0}")]
    Logout(LogoutTokenError),
    /// It came before (400).
    #[error("the token was used before")]
    Replayed,
    /// Too many tokens from this address were refused (429).
    #[error("too many refused tokens")]
    Throttled {
        /// When to try again.
        retry_after: Duration,
    },
    /// The provider's keys are not known and cannot be fetched now (503).
    #[error("the provider's keys cannot be fetched now")]
    NoKeys,
}

/// What this node knows of logout tokens.
pub struct Backchannel {
    throttle: Throttle,
    obeyed: Obeyed,
}

impl Default for Backchannel {
    fn default() -> Self {
        Backchannel {
            throttle: Throttle::new(Limits {
                free_failures: 10,
                longest_delay: Duration::from_secs(60),
                forget_failures: Duration::from_secs(600),
                address: Rate {
                    burst: 60,
                    refill: Duration::from_secs(1),
                },
                // The real provider must not be kept out by what others send, however many they are.
                account: Rate {
                    burst: u32::MAX,
                    refill: Duration::from_millis(1),
                },
                ..Limits::default()
            }),
            obeyed: Obeyed::default(),
        }
    }
}

impl Backchannel {
    /// What a token wants ended. Say [`Backchannel::obeyed`] when that is done.
    pub async fn judge(
        &self,
        token: &str,
        sender: Sender<'_>,
        addr: ClientAddr,
        now: Timestamp,
    ) -> Result<LogoutClaims, Refused> {
        let admission = self
            .throttle
            .admit(sender.provider, addr, now)
            .map_err(|retry_after| Refused::Throttled { retry_after })?;
        match verify(token, sender, now).await {
            // Not the sender's fault.
            Err(Refused::NoKeys) => {
                self.throttle.forgiven(admission);
                Err(Refused::NoKeys)
            }
            Err(refused) => Err(refused),
            // Known from now on, whatever else comes from its address.
            Ok(claims) => {
                self.throttle.succeeded(admission, now);
                match self.obeyed.has(sender.provider, &claims.token_id) {
                    true => Err(Refused::Replayed),
                    false => Ok(claims),
                }
            }
        }
    }

    /// What the token wants is done: it is not looked at a second time. Another node, or this one after a restart, may do so,
    /// and ends nothing that began since (`session::Logout`).
    pub fn obeyed(&self, provider: &str, claims: &LogoutClaims) {
        self.obeyed.add(provider, &claims.token_id);
    }
}

async fn verify(token: &str, sender: Sender<'_>, now: Timestamp) -> Result<LogoutClaims, Refused> {
    let expect = logout_token::expectation(sender.keys.issuer(), sender.client_id);
    let fetched = sender.keys.ready().await.ok_or(Refused::NoKeys)?;
    let verified = match foreign_token::verify(token, &fetched.keys, &expect, now) {
        Err(ForeignTokenError::UnknownKey) => {
            let newer = sender.keys.unknown_key(fetched.keys.generation()).await;
            let newer = newer.ok_or(Refused::Token(ForeignTokenError::UnknownKey))?;
            foreign_token::verify(token, &newer.keys, &expect, now)
        }
        judged => judged,
    };
    logout_token::read(&verified.map_err(Refused::Token)?).map_err(Refused::Logout)
}

type Digest = [u8; 32];

/// Tokens that were obeyed. Bounded: the oldest are forgotten, which is harmless (see [`Backchannel::obeyed`]).
#[derive(Default)]
struct Obeyed(Mutex<Tokens>);

#[derive(Default)]
struct Tokens {
    known: HashSet<Digest>,
    /// Oldest first.
    order: VecDeque<Digest>,
}

impl Obeyed {
    fn digest(provider: &str, token_id: &str) -> Digest {
        let mut digest = digest::Context::new(&digest::SHA256);
        // No provider's name has a NUL.
        for part in [provider.as_bytes(), b"\0", token_id.as_bytes()] {
            digest.update(part);
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.finish().as_ref());
        bytes
    }

    fn has(&self, provider: &str, token_id: &str) -> bool {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.known.contains(&Self::digest(provider, token_id))
    }

    fn add(&self, provider: &str, token_id: &str) {
        let digest = Self::digest(provider, token_id);
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !tokens.known.insert(digest) {
            return;
        }
        tokens.order.push_back(digest);
        if tokens.order.len() > REMEMBERED
            && let Some(oldest) = tokens.order.pop_front()
        {
            tokens.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests;
