//! Access tokens: issue and verify (RFC 9068 profile, RFC 8725 rules), without any lookup.
//!
//! Must not read a clock or keep state; the cache of verified tokens lives in `session`.

use std::time::Duration;

use serde::Serialize;

use crate::auth::keyset::{KeyError, KeySet, SignedClaims, TokenKind};
use crate::auth::strict_json::Json;
use crate::auth::{Generation, Identity, SessionId};
use crate::clock::Timestamp;

/// What a verified access token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessClaims {
    /// Who.
    pub identity: Identity,
    /// Which session it was issued for (`sid`).
    pub session: SessionId,
    /// Which generation of that session (`gen`).
    pub generation: Generation,
    /// When that session began (`began`, milliseconds): what ends all sessions of a person that began until a moment is
    /// compared with this, never with the time of issue, because a token may be issued while its session is being ended.
    pub began_at: Timestamp,
    /// `iat`; whole seconds once it was written into a token.
    pub issued_at: Timestamp,
    /// `exp`; exact, no leeway, whole seconds likewise.
    pub expires_at: Timestamp,
    /// `jti`.
    pub token_id: String,
}

/// What a token must match.
#[derive(Clone, Debug)]
pub struct Expect {
    /// `iss`, exact: the configured origin.
    pub issuer: String,
    /// `aud`, exact: the configured origin. A text, as we issue it; an array is refused.
    pub audience: String,
    /// Longest `exp - iat` that is believed.
    pub max_lifetime: Duration,
    /// How far in the future `iat` and `nbf` may lie because nodes' clocks differ (at most 60 s, RFC 8725).
    pub future_leeway: Duration,
}

/// Why a token is not accepted. House rule: what we cannot judge is [`TokenError::Unknown`] (the caller is anonymous);
/// what is certainly wrong is anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a JWT, or signed by a key that we do not know.
    #[error("not a token of ours")]
    Unknown,
    /// Larger than any token we issue.
    #[error("too large")]
    TooLarge,
    /// The header's `alg` is not the key's.
    #[error("wrong algorithm")]
    Algorithm,
    /// The signature does not match under a known key.
    #[error("wrong signature")]
    Signature,
    /// `typ` is another kind of token.
    #[error("wrong type of token")]
    Type,
    /// The header is not strict JSON, has no usable `kid`, or has a member we never write (`jwk`, `jku`, `x5u`, `x5c` …).
    #[error("bad header")]
    Header,
    /// The header has `crit`, which we understand no extension of (RFC 7515 section 4.1.11).
    #[error("unknown critical header")]
    Critical,
    /// `iss`.
    #[error("wrong issuer")]
    Issuer,
    /// `aud`.
    #[error("wrong audience")]
    Audience,
    /// Correct in every way, but over.
    #[error("expired")]
    Expired,
    /// `iat` or `nbf` in the future.
    #[error("not valid yet")]
    NotYetValid,
    /// `exp - iat` is longer than we issue.
    #[error("lifetime too long")]
    Lifetime,
    /// A claim is missing, duplicated, of the wrong type or out of range; names the claim.
    #[error("bad claim {0}")]
    Claim(&'static str),
}

impl TokenError {
    /// Whether a good refresh token may stand in for this access token: because we cannot judge it, or because we did sign
    /// it and only the time or the settings are no longer (or not yet) those that it was made for. A shortened `access_ttl`
    /// or a clock set back must not sign everybody out. What is certainly wrong is never mended.
    pub const fn mended_by_renewal(self) -> bool {
        matches!(
            self,
            TokenError::Unknown
                | TokenError::Expired
                | TokenError::NotYetValid
                | TokenError::Lifetime
        )
    }
}

/// The latest moment that a `NumericDate` may name: the end of the year 9999.
pub(super) const MAX_DATE: i64 = 253_402_300_799;

/// The claims as they stand in the token.
#[derive(Serialize)]
struct Payload<'a> {
    iss: &'a str,
    aud: &'a str,
    client_id: &'a str,
    sub: &'a str,
    sid: SessionId,
    #[serde(rename = "gen")]
    generation: Generation,
    began: i64,
    iat: i64,
    exp: i64,
    jti: &'a str,
    auth_time: i64,
    amr: &'a [String],
    provider: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preferred_username: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    groups: &'a [String],
}

/// Signs the claims; `iss`, `aud` from `expect`, `client_id` is the audience (RFC 9068 section 2.2). Times are written in
/// whole seconds, rounded down. Claims that [`verify`] would refuse are refused here ([`KeyError::Claims`]).
pub fn issue(claims: &AccessClaims, keys: &KeySet, expect: &Expect) -> Result<String, KeyError> {
    let identity = &claims.identity;
    let texts = [&identity.user, &identity.provider, &claims.token_id];
    let optional = [
        &identity.email,
        &identity.name,
        &identity.preferred_username,
    ];
    let all_clean = texts
        .into_iter()
        .chain(optional.into_iter().flatten())
        .chain(&identity.groups)
        .chain(&identity.amr)
        .all(|text| is_clean(text));
    if !all_clean || texts.into_iter().any(String::is_empty) {
        return Err(KeyError::Claims);
    }
    keys.sign(
        TokenKind::Access,
        &Payload {
            iss: &expect.issuer,
            aud: &expect.audience,
            client_id: &expect.audience,
            sub: &identity.user,
            sid: claims.session,
            generation: claims.generation,
            began: claims.began_at.as_millis(),
            iat: claims.issued_at.as_secs(),
            exp: claims.expires_at.as_secs(),
            jti: &claims.token_id,
            auth_time: identity.auth_time.as_secs(),
            amr: &identity.amr,
            provider: &identity.provider,
            email: identity.email.as_deref(),
            name: identity.name.as_deref(),
            preferred_username: identity.preferred_username.as_deref(),
            groups: &identity.groups,
        },
    )
}

/// Checks a token completely; every rule of RFC 8725 and RFC 9068 section 4 that applies to our own tokens.
pub fn verify(
    token: &str,
    keys: &KeySet,
    expect: &Expect,
    now: Timestamp,
) -> Result<AccessClaims, TokenError> {
    let mut signed = keys.verify_signature(TokenKind::Access, token, now)?;
    if text(&mut signed, "iss").map_err(|_| TokenError::Issuer)? != expect.issuer {
        return Err(TokenError::Issuer);
    }
    if text(&mut signed, "aud").map_err(|_| TokenError::Audience)? != expect.audience {
        return Err(TokenError::Audience);
    }
    if text(&mut signed, "client_id")? != expect.audience {
        return Err(TokenError::Claim("client_id"));
    }
    // A token bound to a key that we never ask for must not be taken as if it were unbound (RFC 7800 section 3.1).
    if signed.members.has("cnf") {
        return Err(TokenError::Claim("cnf"));
    }
    let issued_at = date(&mut signed, "iat")?;
    let expires_at = date(&mut signed, "exp")?;
    let not_before = match signed.members.has("nbf") {
        true => date(&mut signed, "nbf")?,
        false => issued_at,
    };
    let claims = AccessClaims {
        identity: Identity {
            user: text(&mut signed, "sub")?,
            email: optional_text(&mut signed, "email")?,
            name: optional_text(&mut signed, "name")?,
            preferred_username: optional_text(&mut signed, "preferred_username")?,
            groups: match signed.members.has("groups") {
                true => texts(&mut signed, "groups")?,
                false => Vec::new(),
            },
            provider: text(&mut signed, "provider")?,
            auth_time: date(&mut signed, "auth_time")?,
            amr: texts(&mut signed, "amr")?,
        },
        session: SessionId::parse(&text(&mut signed, "sid")?).ok_or(TokenError::Claim("sid"))?,
        generation: generation(&mut signed)?,
        began_at: began(&mut signed)?,
        issued_at,
        expires_at,
        token_id: text(&mut signed, "jti")?,
    };
    if expires_at <= issued_at {
        return Err(TokenError::Claim("exp"));
    }
    // Both ends were rounded down to seconds, so that a lifetime with a fraction may look one second longer.
    let longest = whole_seconds(expect.max_lifetime);
    if expires_at.since(issued_at) > longest {
        return Err(TokenError::Lifetime);
    }
    if issued_at.max(not_before) > now.plus(expect.future_leeway) {
        return Err(TokenError::NotYetValid);
    }
    if now >= expires_at {
        return Err(TokenError::Expired);
    }
    Ok(claims)
}

/// Rounded up.
fn whole_seconds(duration: Duration) -> Duration {
    let fraction = u64::from(duration.subsec_nanos() > 0);
    Duration::from_secs(duration.as_secs().saturating_add(fraction))
}

/// Whether a text can be in a token: no control characters (they would have to be taken out again before a header).
pub(super) fn is_clean(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

fn optional_text(
    signed: &mut SignedClaims,
    name: &'static str,
) -> Result<Option<String>, TokenError> {
    match signed.members.take(name) {
        None => Ok(None),
        Some(Json::Text(text)) if is_clean(&text) => Ok(Some(text)),
        Some(_) => Err(TokenError::Claim(name)),
    }
}

fn text(signed: &mut SignedClaims, name: &'static str) -> Result<String, TokenError> {
    optional_text(signed, name)?
        .filter(|text| !text.is_empty())
        .ok_or(TokenError::Claim(name))
}

fn texts(signed: &mut SignedClaims, name: &'static str) -> Result<Vec<String>, TokenError> {
    let Some(Json::Array(items)) = signed.members.take(name) else {
        return Err(TokenError::Claim(name));
    };
    items
        .into_iter()
        .map(|item| match item {
            Json::Text(text) if is_clean(&text) => Ok(text),
            _ => Err(TokenError::Claim(name)),
        })
        .collect()
}

fn date(signed: &mut SignedClaims, name: &'static str) -> Result<Timestamp, TokenError> {
    match signed.members.take(name) {
        Some(Json::Integer(secs)) if (0..=MAX_DATE).contains(&secs) => {
            Ok(Timestamp::from_secs(secs))
        }
        _ => Err(TokenError::Claim(name)),
    }
}

fn generation(signed: &mut SignedClaims) -> Result<Generation, TokenError> {
    match signed.members.take("gen") {
        Some(Json::Integer(number)) => u32::try_from(number).ok().map(Generation),
        _ => None,
    }
    .ok_or(TokenError::Claim("gen"))
}

/// A token of before there was this claim counts as of a session that any revocation of its user concerns.
fn began(signed: &mut SignedClaims) -> Result<Timestamp, TokenError> {
    match signed.members.take("began") {
        None => Ok(Timestamp::EPOCH),
        Some(Json::Integer(millis)) if (0..=MAX_DATE * 1000).contains(&millis) => {
            Ok(Timestamp::from_millis(millis))
        }
        Some(_) => Err(TokenError::Claim("began")),
    }
}

#[cfg(test)]
mod tests;
