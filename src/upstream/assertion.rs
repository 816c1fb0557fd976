//! The signed assertion: a short-lived JWT that proves the identity headers to one upstream (product contract 7.2).
//!
//! Must not be made without a verified identity. Signing costs tens of microseconds, so an assertion is kept with the
//! token it was made for and sent again while it lives long enough and the signing key is the same.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderName, HeaderValue};
use serde::Serialize;

use crate::auth::Subject;
use crate::auth::keyset::{KeyError, KeySet, TokenKind};
use crate::clock::Timestamp;

/// The header it travels in.
pub const HEADER: HeaderName = HeaderName::from_static("x-vestibule-assertion");
/// How long an assertion is valid.
pub const LIFE: Duration = Duration::from_secs(60);
/// What an assertion must have left to be sent once more.
const REUSE: Duration = Duration::from_secs(30);

/// A signed assertion and what it was made under.
pub(super) struct Assertion {
    pub(super) value: HeaderValue,
    issued_at: Timestamp,
    expires_at: Timestamp,
    kid: Box<str>,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    /// `sub` is unique at one provider only: the pair says who it is.
    provider: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preferred_username: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    groups: &'a [String],
    iat: i64,
    exp: i64,
    jti: String,
}

impl Assertion {
    /// Signs one for `audience`.
    pub(super) fn sign(
        issuer: &str,
        audience: &str,
        subject: &Subject,
        keys: &KeySet,
        now: Timestamp,
    ) -> Result<Self, KeyError> {
        let mut id = [0; 16];
        aws_lc_rs::rand::fill(&mut id).map_err(|_| KeyError::Signing)?;
        let expires_at = now.plus(LIFE);
        let identity = subject.identity();
        let token = keys.sign(
            TokenKind::Assertion,
            &Claims {
                iss: issuer,
                aud: audience,
                sub: &identity.user,
                provider: &identity.provider,
                sid: subject.session().map(|session| session.to_string()),
                email: identity.email.as_deref(),
                name: identity.name.as_deref(),
                preferred_username: identity.preferred_username.as_deref(),
                groups: &identity.groups,
                iat: now.as_secs(),
                exp: expires_at.as_secs(),
                jti: URL_SAFE_NO_PAD.encode(id),
            },
        )?;
        let mut value = HeaderValue::try_from(token).map_err(|_| KeyError::Signing)?;
        value.set_sensitive(true);
        Ok(Assertion {
            value,
            issued_at: now,
            expires_at,
            kid: keys.signing_kid().into(),
        })
    }

    /// Whether it may be sent once more: signed by the current key, not from the future, and with enough life left.
    pub(super) fn serves(&self, keys: &KeySet, now: Timestamp) -> bool {
        *self.kid == *keys.signing_kid()
            && self.issued_at <= now
            && self.expires_at.since(now) >= REUSE
    }
}
