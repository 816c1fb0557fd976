//! JSON Web Keys (RFC 7517, RFC 7518 section 6, RFC 8037): which key, for which one algorithm.

use aws_lc_rs::signature::{self, ParsedPublicKey, RsaPublicKeyComponents};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{
    Algorithm, ForeignKey, ForeignKeysError, MAX_KID, Skipped, Verifier, rsa_size_is_good,
};
use crate::auth::strict_json::{Json, MAX_FOREIGN_DEPTH, Object};

/// The members of a key that are its private half (RFC 7518 sections 6.2.2 and 6.3.2).
const PRIVATE: &[&str] = &["d", "p", "q", "dp", "dq", "qi", "oth"];

/// The keys of a set, unjudged. Members of the set beside `keys` have no meaning (RFC 7517 section 5).
pub(super) fn read_set(bytes: &[u8]) -> Result<Vec<Json>, ForeignKeysError> {
    let mut set =
        Object::parse_within(bytes, MAX_FOREIGN_DEPTH).map_err(|_| ForeignKeysError::NotJwks)?;
    match set.take("keys") {
        Some(Json::Array(keys)) => Ok(keys),
        _ => Err(ForeignKeysError::NotJwks),
    }
}

/// What a key calls itself, for the list of those left out.
pub(super) fn kid_of(item: &Json) -> Option<String> {
    match item {
        Json::Object(key) => key.text("kid").map(str::to_owned),
        _ => None,
    }
}

/// The key, pinned to its algorithm.
pub(super) fn key_of(item: Json, allowed: &[Algorithm]) -> Result<ForeignKey, Skipped> {
    let Json::Object(key) = item else {
        return Err(Skipped::Malformed);
    };
    let kty = key.text("kty").ok_or(Skipped::Malformed)?;
    if kty == "oct" {
        return Err(Skipped::Symmetric);
    }
    if PRIVATE.iter().any(|name| key.has(name)) {
        return Err(Skipped::Private);
    }
    if !is_for_verifying(&key)? {
        return Err(Skipped::Use);
    }
    let kid = match key.get("kid") {
        None => None,
        Some(Json::Text(kid)) if !kid.is_empty() && kid.len() <= MAX_KID => {
            Some(kid.as_str().into())
        }
        Some(_) => return Err(Skipped::Malformed),
    };
    let named = match key.get("alg") {
        None => None,
        Some(Json::Text(name)) => Some(Algorithm::parse(name).ok_or(Skipped::Algorithm)?),
        Some(_) => return Err(Skipped::Malformed),
    };
    let pinned = |fits: &dyn Fn(Algorithm) -> bool| {
        allowed
            .iter()
            .copied()
            .find(|&algorithm| fits(algorithm) && named.is_none_or(|named| named == algorithm))
            .ok_or(Skipped::Algorithm)
    };
    let (algorithm, public) = match (kty, key.text("crv")) {
        ("RSA", _) => {
            let algorithm = pinned(&|algorithm| algorithm.rsa().is_some())?;
            (algorithm, rsa(&key, algorithm)?)
        }
        ("EC", Some(curve)) => {
            let (own, coordinate) = match curve {
                "P-256" => (Algorithm::ES256, 32),
                "P-384" => (Algorithm::ES384, 48),
                "P-521" => (Algorithm::ES512, 66),
                _ => return Err(Skipped::Type),
            };
            let algorithm = pinned(&|algorithm| algorithm == own)?;
            (algorithm, ec(&key, algorithm, coordinate)?)
        }
        ("OKP", Some("Ed25519")) => {
            let algorithm = pinned(&|algorithm| algorithm == Algorithm::EdDSA)?;
            let x = bytes_of(&key, "x")?;
            if x.len() != 32 {
                return Err(Skipped::Malformed);
            }
            let public =
                ParsedPublicKey::new(&signature::ED25519, x).map_err(|_| Skipped::Malformed)?;
            (algorithm, public)
        }
        ("EC", None) | ("OKP", None) => return Err(Skipped::Malformed),
        _ => return Err(Skipped::Type),
    };
    Ok(ForeignKey {
        kid,
        algorithm,
        verifier: Verifier::Public(public),
    })
}

/// `use` (RFC 7517 section 4.2) and `key_ops` (section 4.3), each only where it is there.
fn is_for_verifying(key: &Object) -> Result<bool, Skipped> {
    let by_use = match key.get("use") {
        None => true,
        Some(Json::Text(word)) => word == "sig",
        Some(_) => return Err(Skipped::Malformed),
    };
    let by_operations = match key.get("key_ops") {
        None => true,
        Some(Json::Array(words)) => words.contains(&Json::Text("verify".to_owned())),
        Some(_) => return Err(Skipped::Malformed),
    };
    Ok(by_use && by_operations)
}

fn rsa(key: &Object, algorithm: Algorithm) -> Result<ParsedPublicKey, Skipped> {
    let (n, e) = (bytes_of(key, "n")?, bytes_of(key, "e")?);
    // Some encoders write the sign byte of their big integers; the number is the same.
    let (n, e) = (without_zeros(&n), without_zeros(&e));
    let unused = n.first().map_or(0, |first| first.leading_zeros());
    if !rsa_size_is_good((n.len() * 8).saturating_sub(unused as usize)) {
        return Err(Skipped::Size);
    }
    // An even exponent or 1 makes no RSA key, and a long one only costs time.
    if e.len() > 4 || e == [1] || e.last().is_none_or(|last| last % 2 == 0) {
        return Err(Skipped::Malformed);
    }
    let parameters = algorithm.rsa().ok_or(Skipped::Algorithm)?;
    RsaPublicKeyComponents { n, e }
        .to_parsed_public_key(parameters)
        .map_err(|_| Skipped::Malformed)
}

fn ec(key: &Object, algorithm: Algorithm, coordinate: usize) -> Result<ParsedPublicKey, Skipped> {
    let (x, y) = (bytes_of(key, "x")?, bytes_of(key, "y")?);
    // RFC 7518 section 6.2.1.2: the full size of a coordinate.
    if x.len() != coordinate || y.len() != coordinate {
        return Err(Skipped::Malformed);
    }
    let point = [&[4_u8][..], &x, &y].concat();
    let verifying = algorithm.ecdsa().ok_or(Skipped::Algorithm)?;
    ParsedPublicKey::new(verifying, point).map_err(|_| Skipped::Malformed)
}

fn bytes_of(key: &Object, name: &str) -> Result<Vec<u8>, Skipped> {
    let text = key.text(name).ok_or(Skipped::Malformed)?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Skipped::Malformed)
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let start = number.iter().position(|&byte| byte != 0);
    start.and_then(|at| number.get(at..)).unwrap_or_default()
}
