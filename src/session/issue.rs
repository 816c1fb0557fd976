//! Making pairs: an access token and a refresh token of one generation. Must not decide whether one is due.

use std::sync::Arc;

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{IssuedPair, Sessions};
use crate::auth::access_token::{self, AccessClaims};
use crate::auth::keyset::KeyError;
use crate::auth::refresh_token::RefreshClaims;
use crate::auth::rotation::SessionRecord;
use crate::auth::{Generation, Identity, SessionId, Subject};
use crate::clock::Timestamp;

/// Name and value of a cookie stay below this (RFC 6265bis, "Limits").
const COOKIE_LIMIT: usize = 4096;
/// The longest of our cookie names.
const LONGEST_NAME: usize = "__Secure-vestibule-refresh".len();

/// Why there is no pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The access token would not fit into a cookie.
    #[error("the identity has more claims than a cookie of {COOKIE_LIMIT} bytes can carry")]
    TooLarge,
    /// The token could not be signed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The system has no random bytes.
    #[error("the system has no random bytes")]
    Random,
}

/// Whether these claims are large rather than malformed, when no token can be made of them.
fn is_large(identity: &Identity) -> bool {
    serde_json::to_vec(identity).is_ok_and(|json| json.len() > COOKIE_LIMIT / 2)
}

/// A name for a new session that nobody can guess.
pub(super) fn new_session_id() -> Result<SessionId, IssueError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| IssueError::Random)?;
    Ok(SessionId::from_bytes(bytes))
}

impl Sessions {
    /// What an access token for this session says if it is issued now.
    pub(super) fn claims(
        &self,
        record: &SessionRecord,
        generation: Generation,
        now: Timestamp,
    ) -> Result<AccessClaims, IssueError> {
        let mut token_id = [0; 16];
        rand::fill(&mut token_id).map_err(|_| IssueError::Random)?;
        Ok(AccessClaims {
            identity: record.identity.clone(),
            session: record.id,
            generation,
            began_at: record.created_at,
            issued_at: now,
            expires_at: now.plus(self.settings.access_ttl).min(record.ends_at()),
            token_id: URL_SAFE_NO_PAD.encode(token_id),
        })
    }

    /// The newest pair of the record: the one refresh token of that generation, and a fresh access token.
    pub(super) fn pair(
        &self,
        record: &SessionRecord,
        now: Timestamp,
    ) -> Result<(Arc<IssuedPair>, Arc<Subject>), IssueError> {
        let lineage = &record.lineage;
        let claims = self.claims(record, lineage.newest, now)?;
        let access =
            access_token::issue(&claims, &self.keys(), &self.expect).map_err(
                |error| match error {
                    KeyError::Claims if is_large(&claims.identity) => IssueError::TooLarge,
                    other => IssueError::Key(other),
                },
            )?;
        let refresh = self.master.seal(&RefreshClaims {
            session: record.id,
            generation: lineage.newest,
            issued_at: lineage.issued_at,
        });
        let bytes = LONGEST_NAME + 1 + access.len().max(refresh.len());
        if bytes >= COOKIE_LIMIT {
            return Err(IssueError::TooLarge);
        }
        let pair = IssuedPair {
            access,
            refresh,
            session: record.id,
            generation: lineage.newest,
            issued_at: lineage.issued_at,
            access_expires_at: claims.expires_at,
            refresh_expires_at: record.ends_at(),
        };
        Ok((Arc::new(pair), Arc::new(Subject::new(claims))))
    }
}
