//! Tokens of others: one JWT against one set of keys and one expectation (RFC 7515, RFC 7519, RFC 8725, RFC 9068).
//!
//! Everything that JWT libraries are known to let through is checked here: critical extensions, unencoded payloads, keys
//! inside the token, duplicate members, missing or oddly typed claims, tokens of another kind. Must not read a clock, fetch
//! anything or know what a claim means for a person; that is [`crate::auth::claims`].

mod kind;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::auth::access_token::{MAX_DATE, is_clean};
use crate::auth::claims::ClaimSet;
use crate::auth::foreign_keys::{Algorithm, ForeignKeys, MAX_KID, Mismatch};
use crate::auth::strict_json::{Json, MAX_FOREIGN_DEPTH, Object};
use crate::clock::Timestamp;

pub use kind::ForeignKind;
use kind::Typ;

/// Largest token that is looked at, in bytes: four times what a cookie can hold, because providers put groups into it.
pub const MAX_FOREIGN_TOKEN: usize = 16 << 10;

/// How far clocks of others may differ from ours, in either direction (RFC 8725 and RFC 7519 section 4.1.4: a few minutes at
/// most; here less).
pub const LEEWAY: Duration = Duration::from_secs(30);

/// What a token must match.
#[derive(Clone, Debug)]
pub struct ForeignExpect {
    /// `iss`, exact: no slash is added or taken away.
    pub issuer: String,
    /// `aud` must name at least one of these, exactly. Empty = no token is accepted.
    pub audiences: Vec<String>,
    /// Which kind of token, and by which rules.
    pub kind: ForeignKind,
    /// Longest `exp - iat` that is believed; where there is no `iat`, longest time until `exp`.
    pub max_lifetime: Duration,
    /// How far clocks may differ: applies to `exp`, `nbf` and `iat`. Usually [`LEEWAY`]; at most a minute.
    pub leeway: Duration,
}

/// Why a foreign token is not accepted. Never contains anything of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForeignTokenError {
    /// Not three parts of base64url without padding with strict JSON in the first two.
    #[error("not a signed JWT")]
    Malformed,
    /// Five parts: encrypted (RFC 7516).
    #[error("encrypted tokens are not supported")]
    Encrypted,
    /// Larger than [`MAX_FOREIGN_TOKEN`].
    #[error("larger than 16 KiB")]
    TooLarge,
    /// A header member that is never believed or not understood: names it.
    #[error("the header has {0:?}, which is not accepted")]
    Header(&'static str),
    /// The header has `crit`, of which no extension is understood (RFC 7515 section 4.1.11).
    #[error("unknown critical header")]
    Critical,
    /// `alg` is missing, none that is known, or not the key's.
    #[error("the algorithm is not the key's")]
    Algorithm,
    /// No key of that `kid`; a refetch of the issuer's keys may know it.
    #[error("signed by a key that is not known")]
    UnknownKey,
    /// No `kid`, and several keys could have signed it (OpenID Connect Core section 10.1).
    #[error("names no key (kid), and the issuer has several")]
    SeveralKeys,
    /// The signature does not match.
    #[error("wrong signature")]
    Signature,
    /// `typ` is of another kind of token.
    #[error("wrong type of token (typ)")]
    Type,
    /// A claim says that this is another kind of token: names it.
    #[error("the claim {0:?} says that this is another kind of token")]
    OtherKind(&'static str),
    /// `iss`.
    #[error("wrong or missing issuer (iss)")]
    Issuer,
    /// `aud`.
    #[error("wrong or missing audience (aud)")]
    Audience,
    /// Correct in every way, but over.
    #[error("expired (exp)")]
    Expired,
    /// `nbf` or `iat` in the future.
    #[error("not valid yet (nbf, iat)")]
    NotYetValid,
    /// `exp` is not after `iat`.
    #[error("expires before it is issued (exp, iat)")]
    Backwards,
    /// Lives longer than is believed.
    #[error("its lifetime is longer than configured")]
    Lifetime,
    /// `cnf`: bound to a key whose possession is not checked here (RFC 7800 section 3.1, RFC 8705, RFC 9449).
    #[error("bound to a key of its sender (cnf), which is not checked here")]
    Bound,
    /// A claim is missing, of the wrong type or out of range: names it.
    #[error("the claim {0:?} is missing or malformed")]
    Claim(&'static str),
}

/// What a verified token says.
#[derive(Clone, Debug)]
pub struct ForeignClaims {
    /// `iss`, equal to the expected one.
    pub issuer: String,
    /// `aud`; at least one is an expected one.
    pub audiences: Vec<String>,
    /// `sub`, never empty, without control characters. [`ForeignKind`] says where it is required.
    pub subject: Option<String>,
    /// `iat`.
    pub issued_at: Option<Timestamp>,
    /// `exp`; for a logout token without one, `iat` plus the longest lifetime.
    pub expires_at: Timestamp,
    /// Every claim, those above included.
    pub set: ClaimSet,
}

/// Whom an unverified token claims to be from: only good for choosing what to verify it with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedIssuer(pub String);

impl UnverifiedIssuer {
    /// Reads `iss` of whatever looks like a signed JWT; `None` for anything else. Nothing of it is true.
    pub fn of(token: &str) -> Option<Self> {
        if token.len() > MAX_FOREIGN_TOKEN {
            return None;
        }
        let (_, rest) = token.split_once('.')?;
        let (payload, signature) = rest.split_once('.')?;
        if signature.contains('.') {
            return None;
        }
        let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
        let claims = Object::parse_within(&payload, MAX_FOREIGN_DEPTH).ok()?;
        claims
            .text("iss")
            .map(|iss| UnverifiedIssuer(iss.to_owned()))
    }
}

/// Checks a token completely.
pub fn verify(
    token: &str,
    keys: &ForeignKeys,
    expect: &ForeignExpect,
    now: Timestamp,
) -> Result<ForeignClaims, ForeignTokenError> {
    let (header, payload) = verify_signature(token, keys, expect.kind)?;
    let claims = Object::parse_within(&payload, MAX_FOREIGN_DEPTH)
        .map_err(|_| ForeignTokenError::Malformed)?;
    judge(claims, &header, expect, now)
}

/// What a header says that is listened to.
struct Header {
    kid: Option<String>,
    /// The token's word for it, compared with the key's.
    algorithm: Algorithm,
    typ: Typ,
}

/// Form, header, key and signature; the header and the payload's bytes.
fn verify_signature(
    token: &str,
    keys: &ForeignKeys,
    kind: ForeignKind,
) -> Result<(Header, Vec<u8>), ForeignTokenError> {
    if token.len() > MAX_FOREIGN_TOKEN {
        return Err(ForeignTokenError::TooLarge);
    }
    let mut parts = token.split('.');
    let (header, payload, signature) = match (parts.next(), parts.next(), parts.next()) {
        (Some(header), Some(payload), Some(signature)) => (header, payload, signature),
        _ => return Err(ForeignTokenError::Malformed),
    };
    match parts.count() {
        0 => {}
        2 => return Err(ForeignTokenError::Encrypted),
        _ => return Err(ForeignTokenError::Malformed),
    }
    let signed = token
        .get(..header.len() + 1 + payload.len())
        .ok_or(ForeignTokenError::Malformed)?;
    let decode = |part: &str| {
        URL_SAFE_NO_PAD
            .decode(part)
            .map_err(|_| ForeignTokenError::Malformed)
    };
    let (header, payload, signature) = (decode(header)?, decode(payload)?, decode(signature)?);
    let header = read_header(&header, kind)?;
    let (kid, algorithm) = (header.kid.as_deref(), header.algorithm);
    keys.verify(kid, algorithm, signed.as_bytes(), &signature)
        .map_err(|mismatch| match mismatch {
            Mismatch::UnknownKey => ForeignTokenError::UnknownKey,
            Mismatch::SeveralKeys => ForeignTokenError::SeveralKeys,
            Mismatch::Algorithm => ForeignTokenError::Algorithm,
            Mismatch::Signature => ForeignTokenError::Signature,
        })?;
    Ok((header, payload))
}

/// Members of a header that carry a key or a place of one, or change what is signed. None is ever believed (RFC 8725
/// section 3.10), and a token that needs one is not ours to read.
const NEVER: &[&str] = &["jwk", "jku", "x5u", "x5c", "b64", "zip", "enc", "cty"];

/// Members that are not known are passed over (RFC 7515 section 4).
fn read_header(header: &[u8], kind: ForeignKind) -> Result<Header, ForeignTokenError> {
    let mut header = Object::parse_within(header, MAX_FOREIGN_DEPTH)
        .map_err(|_| ForeignTokenError::Malformed)?;
    if header.has("crit") {
        return Err(ForeignTokenError::Critical);
    }
    if let Some(name) = NEVER.iter().find(|name| header.has(name)) {
        return Err(ForeignTokenError::Header(name));
    }
    let typ = match header.take("typ") {
        None => Typ::Plain,
        Some(Json::Text(typ)) => kind.typ(&typ).ok_or(ForeignTokenError::Type)?,
        Some(_) => return Err(ForeignTokenError::Type),
    };
    let kid = match header.take("kid") {
        None => None,
        Some(Json::Text(kid)) if !kid.is_empty() && kid.len() <= MAX_KID => Some(kid),
        Some(_) => return Err(ForeignTokenError::Header("kid")),
    };
    let algorithm = header
        .take_text("alg")
        .and_then(|name| Algorithm::parse(&name))
        .ok_or(ForeignTokenError::Algorithm)?;
    Ok(Header {
        kid,
        algorithm,
        typ,
    })
}

/// The claims of a token whose signature was verified.
fn judge(
    claims: Object,
    header: &Header,
    expect: &ForeignExpect,
    now: Timestamp,
) -> Result<ForeignClaims, ForeignTokenError> {
    use ForeignTokenError as E;
    if claims.text("iss") != Some(&expect.issuer) {
        return Err(E::Issuer);
    }
    let audiences = audiences(&claims)?;
    if !audiences.iter().any(|aud| expect.audiences.contains(aud)) {
        return Err(E::Audience);
    }
    let subject = optional_text(&claims, "sub")?;
    optional_text(&claims, "jti")?;
    let issued_at = date(&claims, "iat")?;
    let not_before = date(&claims, "nbf")?;
    let expires_at = match (date(&claims, "exp")?, issued_at) {
        (Some(exp), _) => exp,
        (None, Some(iat)) if expect.kind == ForeignKind::Logout => iat.plus(expect.max_lifetime),
        (None, _) => return Err(E::Claim("exp")),
    };
    expect.kind.judge(&claims, header.typ)?;

    let began = issued_at.unwrap_or(now);
    if issued_at.is_some_and(|iat| expires_at <= iat) {
        return Err(E::Backwards);
    }
    if expires_at > began.plus(expect.max_lifetime) {
        return Err(E::Lifetime);
    }
    let latest = now.plus(expect.leeway);
    if issued_at.is_some_and(|iat| iat > latest) || not_before.is_some_and(|nbf| nbf > latest) {
        return Err(E::NotYetValid);
    }
    if now >= expires_at.plus(expect.leeway) {
        return Err(E::Expired);
    }
    Ok(ForeignClaims {
        issuer: expect.issuer.clone(),
        audiences,
        subject,
        issued_at,
        expires_at,
        set: ClaimSet::new(claims),
    })
}

/// `aud`: a text, or a list of nothing but texts (RFC 7519 section 4.1.3).
fn audiences(claims: &Object) -> Result<Vec<String>, ForeignTokenError> {
    match claims.get("aud") {
        Some(Json::Text(one)) => Ok(vec![one.clone()]),
        Some(Json::Array(items)) => items
            .iter()
            .map(|item| match item {
                Json::Text(one) => Ok(one.clone()),
                _ => Err(ForeignTokenError::Audience),
            })
            .collect(),
        _ => Err(ForeignTokenError::Audience),
    }
}

/// A `NumericDate` (RFC 7519 section 2), which may have a fraction; rounded down. Of another type: wrong, not absent.
fn date(claims: &Object, name: &'static str) -> Result<Option<Timestamp>, ForeignTokenError> {
    match claims.get(name) {
        None => Ok(None),
        Some(Json::Integer(secs) | Json::Fraction(secs)) if (0..=MAX_DATE).contains(secs) => {
            Ok(Some(Timestamp::from_secs(*secs)))
        }
        Some(_) => Err(ForeignTokenError::Claim(name)),
    }
}

fn optional_text(claims: &Object, name: &'static str) -> Result<Option<String>, ForeignTokenError> {
    match claims.get(name) {
        None => Ok(None),
        Some(Json::Text(text)) if !text.is_empty() && is_clean(text) => Ok(Some(text.clone())),
        Some(_) => Err(ForeignTokenError::Claim(name)),
    }
}

#[cfg(test)]
mod tests;
