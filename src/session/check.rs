//! Checking the two cookies without asking the store: the access token by cache or signature, the refresh token by its MAC.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Sessions;
use super::cache::Hit;
use crate::auth::Subject;
use crate::auth::access_token::{self, TokenError};
use crate::auth::decision::{AccessFinding, RefreshFinding};
use crate::clock::Timestamp;

impl Sessions {
    /// Checks an access token. Seen before: a lookup; else verified, remembered, and noted as received.
    pub fn check_access(&self, token: &[u8], now: Timestamp) -> AccessFinding {
        let subject = match self.verified.find(token, now) {
            Hit::Valid(subject) => subject,
            Hit::Expired => return AccessFinding::Bad(TokenError::Expired),
            Hit::Unknown => return self.verify_access(token, now),
        };
        if self.revocations.concerns_subject(&subject) {
            return AccessFinding::Revoked;
        }
        AccessFinding::Valid(subject)
    }

    fn verify_access(&self, bytes: &[u8], now: Timestamp) -> AccessFinding {
        // Only now: what was remembered is text, and looking for it need not look at each byte of it.
        let Ok(token) = std::str::from_utf8(bytes) else {
            return AccessFinding::Bad(TokenError::Unknown);
        };
        let epoch = self.verified.epoch();
        self.verifications.fetch_add(1, Ordering::Relaxed);
        let claims = match access_token::verify(token, &self.keys(), &self.expect, now) {
            Ok(claims) => claims,
            // Ours, from before the lifetime was configured shorter: a renewal mends it.
            Err(TokenError::Lifetime) => return AccessFinding::Bad(TokenError::Expired),
            Err(error) => {
                if error == TokenError::Unknown {
                    self.following.unknown_key();
                }
                return AccessFinding::Bad(error);
            }
        };
        if self.revocations.concerns_token(&claims) {
            return AccessFinding::Revoked;
        }
        let noted = self.acknowledgements.note(&claims);
        let subject = Arc::new(Subject::new(claims));
        // What could not be noted stays unknown, so that its next request is a first sighting again.
        if noted {
            self.verified.remember(bytes, Arc::clone(&subject), epoch);
        }
        AccessFinding::Valid(subject)
    }

    /// Checks a refresh token's MAC; the store is not asked.
    pub fn open_refresh(&self, token: &[u8]) -> RefreshFinding {
        match std::str::from_utf8(token).map(|token| self.master.open(token)) {
            Ok(Ok(claims)) => RefreshFinding::Sealed(claims),
            Ok(Err(_)) | Err(_) => RefreshFinding::Forged,
        }
    }
}
