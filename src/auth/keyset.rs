//! Signing keys and the immutable set of public keys that tokens are checked against.
//!
//! The algorithm belongs to the key, never to the token (RFC 8725 section 3.1). Must not fetch or store anything.

use aws_lc_rs::digest;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};

use crate::auth::access_token::TokenError;
use crate::auth::strict_json::{Json, JsonError, Object};
use crate::clock::Timestamp;
use crate::units::Secret;

/// Largest token that is looked at. Ours have to fit into a cookie, which ends at the same size.
pub const MAX_TOKEN: usize = 4096;

/// Longest `kid` that is looked up.
const MAX_KID: usize = 128;

/// A private signing key as it is kept: what the store persists and `vestibule keys` lists.
#[derive(Clone, Debug)]
pub struct StoredKey {
    /// Key id: the public key's thumbprint (RFC 7638), hence unique and safe in a URL and a header.
    pub kid: String,
    /// Ed25519 private key, PKCS#8 DER.
    pub pkcs8: Secret,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when it may no longer be used to verify; `None` while it is the signing key.
    pub retires_at: Option<Timestamp>,
}

/// Why a key could not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The bytes are not an Ed25519 private key.
    #[error("not an Ed25519 private key in PKCS#8")]
    Malformed,
    /// Signing failed.
    #[error("signing failed")]
    Signing,
    /// There is no key that may sign.
    #[error("no signing key")]
    NoSigningKey,
    /// The claims make a token that [`KeySet::verify_signature`] or its callers would refuse: too large, or a control
    /// character in a name.
    #[error("these claims do not fit into a token")]
    Claims,
}

impl StoredKey {
    /// Makes a new Ed25519 key; `now` is recorded as its birth.
    pub fn generate(now: Timestamp) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::generate().map_err(|_| KeyError::Signing)?;
        let pkcs8 = pair.to_pkcs8().map_err(|_| KeyError::Signing)?;
        Ok(StoredKey {
            kid: thumbprint(pair.public_key().as_ref()),
            pkcs8: Secret::new(pkcs8.as_ref()),
            created_at: now,
            retires_at: None,
        })
    }
}

/// The thumbprint of an Ed25519 public key (RFC 7638 section 3, members as in RFC 8037 section 2).
fn thumbprint(public: &[u8]) -> String {
    let x = URL_SAFE_NO_PAD.encode(public);
    let jwk = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, jwk.as_bytes()))
}

/// The public keys that are valid now, and the one key that signs. Swapped whole, never changed.
pub struct KeySet {
    signer: Signer,
    verifiers: Vec<Verifier>,
}

/// The signing key, parsed once: parsing it again for each token would double the cost of a signature.
struct Signer {
    pair: Ed25519KeyPair,
    kid: String,
}

struct Verifier {
    kid: String,
    key: DecodingKey,
    /// The public key in base64url.
    x: String,
    retires_at: Option<Timestamp>,
}

/// What a token is; its `typ` header (RFC 8725 section 3.11). Kinds are never interchangeable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// `at+jwt` (RFC 9068).
    Access,
    /// `vestibule-assertion+jwt`, to one upstream.
    Assertion,
}

impl TokenKind {
    /// What is written into `typ`.
    pub const fn typ(self) -> &'static str {
        match self {
            TokenKind::Access => "at+jwt",
            TokenKind::Assertion => "vestibule-assertion+jwt",
        }
    }

    /// Whether a `typ` names this kind, with or without `application/` (RFC 9068 section 4).
    fn is_named_by(self, typ: &str) -> bool {
        typ.strip_prefix("application/").unwrap_or(typ) == self.typ()
    }
}

/// The claims of a token whose signature was verified, and nothing else yet: what they say is for the caller to judge.
#[derive(Debug)]
pub struct SignedClaims {
    /// The key that signed.
    pub kid: String,
    pub(crate) members: Object,
}

impl KeySet {
    /// Builds the set: of the keys without `retires_at` the newest signs (nodes that made one at the same time agree), all
    /// of them and those whose `retires_at` is after `now` verify.
    pub fn new(keys: &[StoredKey], now: Timestamp) -> Result<Self, KeyError> {
        let newest = keys
            .iter()
            .filter(|key| key.retires_at.is_none())
            .max_by_key(|key| (key.created_at, &key.kid))
            .ok_or(KeyError::NoSigningKey)?;
        let verifiers = keys
            .iter()
            .filter(|key| key.retires_at.is_none_or(|at| now < at))
            .map(|key| {
                let pair = parse(key)?;
                let public = pair.public_key().as_ref();
                Ok(Verifier {
                    kid: key.kid.clone(),
                    key: DecodingKey::from_ed_der(public),
                    x: URL_SAFE_NO_PAD.encode(public),
                    retires_at: key.retires_at,
                })
            })
            .collect::<Result<_, KeyError>>()?;
        Ok(KeySet {
            signer: Signer {
                pair: parse(newest)?,
                kid: newest.kid.clone(),
            },
            verifiers,
        })
    }

    /// The id of the key that signs.
    pub fn signing_kid(&self) -> &str {
        &self.signer.kid
    }

    /// Signs `claims` as a token of `kind` with the signing key.
    pub fn sign(
        &self,
        kind: TokenKind,
        claims: &impl serde::Serialize,
    ) -> Result<String, KeyError> {
        let header = format!(
            r#"{{"typ":"{}","alg":"EdDSA","kid":"{}"}}"#,
            kind.typ(),
            self.signer.kid
        );
        let claims = serde_json::to_vec(claims).map_err(|_| KeyError::Claims)?;
        let mut token = String::with_capacity((header.len() + claims.len() + 64) * 4 / 3 + 8);
        URL_SAFE_NO_PAD.encode_string(header, &mut token);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = self
            .signer
            .pair
            .try_sign(token.as_bytes())
            .map_err(|_| KeyError::Signing)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        if token.len() > MAX_TOKEN {
            return Err(KeyError::Claims);
        }
        Ok(token)
    }

    /// Checks everything about a token but its claims: form, size, header, kind, key and signature. The header may have
    /// `alg`, `kid` and `typ` and no other member: no key is ever taken or fetched from a token.
    pub fn verify_signature(
        &self,
        kind: TokenKind,
        token: &str,
        now: Timestamp,
    ) -> Result<SignedClaims, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::TooLarge);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Unknown)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Unknown)?;
        let decode = |part: &str| {
            URL_SAFE_NO_PAD
                .decode(part)
                .map_err(|_| TokenError::Unknown)
        };
        let (header, payload, _) = (decode(header)?, decode(payload)?, decode(signature)?);

        let kid = read_header(kind, &header)?;
        let key = self
            .verifiers
            .iter()
            .find(|key| key.kid == kid && key.retires_at.is_none_or(|at| now < at))
            .ok_or(TokenError::Unknown)?;
        // The algorithm is the key's: `read_header` has only compared the token's word for it.
        match jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &key.key, Algorithm::EdDSA)
        {
            Ok(true) => {}
            Ok(false) | Err(_) => return Err(TokenError::Signature),
        }
        let members = Object::parse(&payload).map_err(|_| TokenError::Claim("(form)"))?;
        Ok(SignedClaims { kid, members })
    }

    /// The JWK Set (RFC 7517 section 5) of all public keys, as JSON; OKP keys as in RFC 8037.
    pub fn to_jwks(&self) -> serde_json::Value {
        let keys: Vec<_> = self
            .verifiers
            .iter()
            .map(|key| {
                serde_json::json!({
                    "kty": "OKP",
                    "crv": "Ed25519",
                    "use": "sig",
                    "alg": "EdDSA",
                    "kid": key.kid,
                    "x": key.x,
                })
            })
            .collect();
        serde_json::json!({ "keys": keys })
    }
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kids = self.verifiers.iter().map(|key| &key.kid);
        f.debug_set().entries(kids).finish()
    }
}

fn parse(key: &StoredKey) -> Result<Ed25519KeyPair, KeyError> {
    let pair = Ed25519KeyPair::from_pkcs8(key.pkcs8.expose()).map_err(|_| KeyError::Malformed)?;
    if thumbprint(pair.public_key().as_ref()) != key.kid {
        return Err(KeyError::Malformed);
    }
    Ok(pair)
}

/// Judges a header and returns its `kid`.
fn read_header(kind: TokenKind, header: &[u8]) -> Result<String, TokenError> {
    let mut header = Object::parse(header).map_err(|error| match error {
        JsonError::Syntax => TokenError::Unknown,
        JsonError::NotStrict => TokenError::Header,
    })?;
    if header.has("crit") {
        return Err(TokenError::Critical);
    }
    if header.take_text("alg").as_deref() != Some("EdDSA") {
        return Err(TokenError::Algorithm);
    }
    match header.take("typ") {
        Some(Json::Text(typ)) if kind.is_named_by(&typ) => {}
        _ => return Err(TokenError::Type),
    }
    let kid = header.take_text("kid").ok_or(TokenError::Header)?;
    if kid.is_empty() || kid.len() > MAX_KID || !header.is_empty() {
        return Err(TokenError::Header);
    }
    Ok(kid)
}

#[cfg(test)]
pub(crate) mod tests;
