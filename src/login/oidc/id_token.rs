//! What an ID token must say beyond being genuine: that it is the answer to this very sign-in (OpenID Connect Core sections
//! 3.1.3.7, 3.1.3.8 and 12.2). Signature, issuer, audience and times are `auth::foreign_token`'s; this looks at what only the
//! sign-in knows.

use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::auth::foreign_token::{ForeignClaims, LEEWAY};
use crate::auth::strict_json::{Json, Object};
use crate::clock::Timestamp;
use crate::units::Secret;

/// Longest `sub` (OpenID Connect Core section 2), in bytes.
const MAX_SUBJECT: usize = 255;
/// Deepest nesting of a header that has been verified already.
const HEADER_DEPTH: usize = 8;

/// What the sign-in knows.
#[derive(Clone, Copy, Debug)]
pub struct Expect<'a> {
    /// Our `client_id`.
    pub client_id: &'a str,
    /// The nonce of the request; `None` for an answer to a refresh token.
    pub nonce: Option<&'a str>,
    /// The `sub` of before; `None` at a sign-in.
    pub subject: Option<&'a str>,
    /// The `max_age` of the request.
    pub max_age: Option<Duration>,
    /// The access token that came with it.
    pub access_token: &'a Secret,
}

/// Why a genuine ID token is not the answer to this sign-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdTokenError {
    /// Missing or another one: somebody else's answer.
    #[error("the nonce is missing or another one")]
    Nonce,
    /// For several clients and not said to be for this one, or said to be for another.
    #[error("it was made for another client (azp)")]
    AuthorizedParty,
    /// Empty, too long, or not the person of before.
    #[error("the subject is missing, too long, or another one")]
    Subject,
    /// `max_age` was asked for and `auth_time` does not say that it was kept.
    #[error(
        "the person signed in at the provider too long ago, or it does not say when (auth_time)"
    )]
    AuthTime,
    /// Not that of the access token.
    #[error("it belongs to another access token (at_hash)")]
    AccessTokenHash,
}

/// Checks a token that `auth::foreign_token::verify` accepted. Returns its `sub`.
pub fn check(
    claims: &ForeignClaims,
    token: &str,
    expect: Expect<'_>,
    now: Timestamp,
) -> Result<String, IdTokenError> {
    let subject = claims
        .subject
        .as_deref()
        .filter(|subject| subject.len() <= MAX_SUBJECT)
        .filter(|subject| expect.subject.is_none_or(|before| before == *subject))
        .ok_or(IdTokenError::Subject)?;
    if let Some(nonce) = expect.nonce
        && claims.set.text("nonce") != Some(nonce)
    {
        return Err(IdTokenError::Nonce);
    }
    let named = claims.set.has("azp");
    let ours = claims.set.text("azp") == Some(expect.client_id);
    if (named && !ours) || (!named && claims.audiences.len() > 1) {
        return Err(IdTokenError::AuthorizedParty);
    }
    if let Some(max_age) = expect.max_age {
        // A clock that differs may not make a sign-in too old.
        let oldest = now.minus(max_age).minus(LEEWAY);
        let latest = now.plus(LEEWAY);
        let auth_time = claims.set.integer("auth_time").map(Timestamp::from_secs);
        if !auth_time.is_some_and(|time| oldest <= time && time <= latest) {
            return Err(IdTokenError::AuthTime);
        }
    }
    if claims.set.has("at_hash") {
        let hash = token_hash(token, expect.access_token);
        if hash.is_none() || claims.set.text("at_hash") != hash.as_deref() {
            return Err(IdTokenError::AccessTokenHash);
        }
    }
    Ok(subject.to_owned())
}

/// The left half of the access token's hash, by the hash of the ID token's algorithm (section 3.1.3.6).
fn token_hash(id_token: &str, access_token: &Secret) -> Option<String> {
    let header = URL_SAFE_NO_PAD.decode(id_token.split('.').next()?).ok()?;
    let header = Object::parse_within(&header, HEADER_DEPTH).ok()?;
    let algorithm = match header.get("alg")? {
        Json::Text(name) => name.as_str(),
        _ => return None,
    };
    let hash = match algorithm {
        // RFC 8032 section 5.1: Ed25519 hashes with SHA-512.
        "EdDSA" | "Ed25519" => &digest::SHA512,
        name if name.ends_with("256") => &digest::SHA256,
        name if name.ends_with("384") => &digest::SHA384,
        name if name.ends_with("512") => &digest::SHA512,
        _ => return None,
    };
    let digest = digest::digest(hash, access_token.expose());
    let half = digest.as_ref().get(..digest.as_ref().len() / 2)?;
    Some(URL_SAFE_NO_PAD.encode(half))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::claims::ClaimSet;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn token(alg: &str) -> String {
        let header = format!(r#"{{"alg":"{alg}"}}"#);
        format!("{}.payload.signature", URL_SAFE_NO_PAD.encode(header))
    }

    fn claims(audiences: &[&str], json: &str) -> ForeignClaims {
        let set = ClaimSet::from_json(json.as_bytes()).unwrap();
        ForeignClaims {
            issuer: "https://id.example.com".to_owned(),
            audiences: audiences.iter().map(|aud| (*aud).to_owned()).collect(),
            subject: set.text("sub").map(str::to_owned),
            issued_at: Some(NOW),
            expires_at: NOW,
            set,
        }
    }

    fn judged<'a>(
        audiences: &[&str],
        json: &str,
        access_token: &'a Secret,
        change: impl FnOnce(&mut Expect<'a>),
    ) -> Result<String, IdTokenError> {
        let mut expect = Expect {
            client_id: "vestibule",
            nonce: Some("n0nce"),
            subject: None,
            max_age: None,
            access_token,
        };
        change(&mut expect);
        check(&claims(audiences, json), &token("RS256"), expect, NOW)
    }

    #[test]
    fn o09_it_is_the_answer_to_this_sign_in() {
        let check = |audiences: &[&str], json: &str, want: Result<&str, IdTokenError>| {
            let found = judged(audiences, json, &Secret::new(*b"a"), |_| {});
            assert_eq!(found, want.map(str::to_owned), "{audiences:?} {json}");
        };
        let alone = &["vestibule"][..];
        let two = &["vestibule", "other"][..];
        check(alone, r#"{"sub":"a","nonce":"n0nce"}"#, Ok("a"));
        check(
            alone,
            r#"{"sub":"a","nonce":"n0nce","azp":"vestibule"}"#,
            Ok("a"),
        );
        check(
            two,
            r#"{"sub":"a","nonce":"n0nce","azp":"vestibule"}"#,
            Ok("a"),
        );
        // E07
        for nonce in [
            r#""sub":"a""#,
            r#""sub":"a","nonce":"other""#,
            r#""sub":"a","nonce":7"#,
        ] {
            check(alone, &format!("{{{nonce}}}"), Err(IdTokenError::Nonce));
        }
        let azp = Err(IdTokenError::AuthorizedParty);
        check(two, r#"{"sub":"a","nonce":"n0nce"}"#, azp);
        check(alone, r#"{"sub":"a","nonce":"n0nce","azp":"other"}"#, azp);
        check(
            alone,
            r#"{"sub":"a","nonce":"n0nce","azp":["vestibule"]}"#,
            azp,
        );
        check(alone, r#"{"nonce":"n0nce"}"#, Err(IdTokenError::Subject));
        let long = format!(r#"{{"nonce":"n0nce","sub":"{}"}}"#, "x".repeat(256));
        check(alone, &long, Err(IdTokenError::Subject));
    }

    #[test]
    fn a_refreshed_token_is_about_the_same_person_and_needs_no_nonce() {
        let check = |before: &'static str, json: &str, want: bool| {
            let found = judged(&["vestibule"], json, &Secret::new(*b"a"), |expect| {
                expect.nonce = None;
                expect.subject = Some(before);
            });
            assert_eq!(found.is_ok(), want, "{before} {json}");
        };
        check("a", r#"{"sub":"a"}"#, true);
        check("a", r#"{"sub":"a","nonce":"whatever"}"#, true);
        check("a", r#"{"sub":"A"}"#, false);
        check("a", r#"{"sub":"b"}"#, false);
    }

    #[test]
    fn max_age_holds_to_the_second() {
        let now = NOW.as_secs();
        let leeway = i64::try_from(LEEWAY.as_secs()).unwrap();
        let check = |auth_time: &str, want: bool| {
            let json = format!(r#"{{"sub":"a","nonce":"n0nce"{auth_time}}}"#);
            let found = judged(&["vestibule"], &json, &Secret::new(*b"a"), |expect| {
                expect.max_age = Some(Duration::from_secs(60));
            });
            assert_eq!(found.is_ok(), want, "{auth_time}");
        };
        let at = |secs: i64| format!(r#","auth_time":{secs}"#);
        check(&at(now), true);
        check(&at(now - 60 - leeway), true);
        check(&at(now - 61 - leeway), false);
        check(&at(now + leeway), true);
        check(&at(now + leeway + 1), false);
        check("", false);
        check(r#","auth_time":"1800000000""#, false);
    }

    #[test]
    fn at_hash_is_that_of_the_access_token_by_the_tokens_algorithm() {
        let access_token = Secret::new(*b"the access token");
        let check = |algorithm: &str, hash: Option<&'static digest::Algorithm>| {
            let right = hash.map(|hash| {
                let digest = digest::digest(hash, access_token.expose());
                URL_SAFE_NO_PAD.encode(&digest.as_ref()[..digest.as_ref().len() / 2])
            });
            assert_eq!(
                token_hash(&token(algorithm), &access_token),
                right,
                "{algorithm}"
            );
        };
        for name in ["RS256", "PS256", "ES256"] {
            check(name, Some(&digest::SHA256));
        }
        check("ES384", Some(&digest::SHA384));
        for name in ["RS512", "EdDSA", "Ed25519"] {
            check(name, Some(&digest::SHA512));
        }
        check("none", None);
        // OpenID Connect Core appendix A.3 has a pair to hold this against.
        let example = Secret::new(*b"jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y");
        assert_eq!(
            token_hash(&token("RS256"), &example).as_deref(),
            Some("77QmUPtjPfzWtF2AnpK9RQ")
        );
        for (at_hash, want) in [
            (r#""77QmUPtjPfzWtF2AnpK9RQ""#, true),
            (r#""77QmUPtjPfzWtF2AnpK9RA""#, false),
            ("7", false),
        ] {
            let json = format!(r#"{{"sub":"a","nonce":"n0nce","at_hash":{at_hash}}}"#);
            let found = judged(&["vestibule"], &json, &example, |_| {});
            assert_eq!(found.is_ok(), want, "{at_hash}");
        }
    }
}
