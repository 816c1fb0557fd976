//! Logout tokens: what OpenID Connect Back-Channel Logout 1.0 (sections 2.4 and 2.6) demands beyond a good signature.
//!
//! Pure. That a token came before is for the caller to know.

use std::time::Duration;

use crate::auth::access_token::is_clean;
use crate::auth::claims::{ClaimPath, MAX_TEXT};
use crate::auth::foreign_token::{ForeignClaims, ForeignExpect, ForeignKind, LEEWAY};
use crate::auth::strict_json::Json;
use crate::clock::Timestamp;

/// The member of `events` that makes a token a logout token.
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// Longest life that is believed. The specification recommends two minutes; providers differ.
pub const MAX_LIFETIME: Duration = Duration::from_secs(3600);

/// What a logout token wants ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogoutClaims {
    /// `jti`, by which a token that comes again is known.
    pub token_id: String,
    /// `sub`: whose sessions.
    pub subject: Option<String>,
    /// `sid`: the sessions of one sign-in at the provider.
    pub session: Option<String>,
    /// `iat`.
    pub issued_at: Timestamp,
}

/// Why a token with a good signature is no logout token. Never contains anything of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogoutTokenError {
    /// `events` is no object with a member for logout that is an object.
    #[error("\"events\" does not say that it is a logout token")]
    Events,
    /// An ID token would have one; a logout token must not (section 2.4).
    #[error("\"nonce\" is not allowed in a logout token")]
    Nonce,
    /// Neither `sub` nor `sid`.
    #[error("neither \"sub\" nor \"sid\" says whose sessions are meant")]
    Nobody,
    /// A claim is missing or malformed: names it.
    #[error("the claim {0:?} is missing or malformed")]
    Claim(&'static str),
}

/// What a logout token of this issuer for this client must match.
pub fn expectation(issuer: &str, client_id: &str) -> ForeignExpect {
    ForeignExpect {
        issuer: issuer.to_owned(),
        audiences: vec![client_id.to_owned()],
        kind: ForeignKind::Logout,
        max_lifetime: MAX_LIFETIME,
        leeway: LEEWAY,
    }
}

/// Reads a token that was verified with [`expectation`].
pub fn read(claims: &ForeignClaims) -> Result<LogoutClaims, LogoutTokenError> {
    use LogoutTokenError as E;
    let set = &claims.set;
    if set.has("nonce") {
        return Err(E::Nonce);
    }
    // Otherwise a claim at the top whose name has dots would be found by the path below.
    let events = set.members("events").unwrap_or_default();
    let event = ClaimPath::parse(&format!("events.{EVENT}")).map_err(|_| E::Events)?;
    if !events.contains(&EVENT) || !matches!(set.at(&event), Some(Json::Object(_))) {
        return Err(E::Events);
    }
    let text = |name: &'static str| match (set.has(name), set.text(name)) {
        (false, _) => Ok(None),
        (true, Some(text)) if is_name(text) => Ok(Some(text.to_owned())),
        (true, _) => Err(E::Claim(name)),
    };
    let (subject, session) = (text("sub")?, text("sid")?);
    if subject.is_none() && session.is_none() {
        return Err(E::Nobody);
    }
    Ok(LogoutClaims {
        token_id: text("jti")?.ok_or(E::Claim("jti"))?,
        subject,
        session,
        issued_at: claims.issued_at.ok_or(E::Claim("iat"))?,
    })
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_TEXT && is_clean(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::foreign_keys::{Algorithm, ForeignKeys};
    use crate::auth::foreign_token::{ForeignTokenError, verify};
    use crate::auth::test_support::NOW;
    use crate::auth::test_support::foreign::{Maker, jwks};

    const ISSUER: &str = "https://id.example.com";

    /// Good claims, with some changed (`None`: left out). Values are JSON.
    fn claims(changes: &[(&str, Option<&str>)]) -> String {
        let (iat, exp) = (NOW.as_secs(), NOW.as_secs() + 120);
        let mut all: Vec<(&str, String)> = vec![
            ("iss", format!("{ISSUER:?}")),
            ("aud", "\"vestibule\"".to_owned()),
            ("iat", iat.to_string()),
            ("exp", exp.to_string()),
            ("jti", "\"j-1\"".to_owned()),
            ("sub", "\"a-1\"".to_owned()),
            ("sid", "\"there\"".to_owned()),
            ("events", format!("{{{EVENT:?}:{{}}}}")),
        ];
        for (name, value) in changes {
            all.retain(|(known, _)| known != name);
            if let Some(value) = value {
                all.push((name, (*value).to_owned()));
            }
        }
        let members: Vec<String> = all
            .iter()
            .map(|(name, value)| format!("{name:?}:{value}"))
            .collect();
        format!("{{{}}}", members.join(","))
    }

    #[derive(Debug, PartialEq)]
    enum Refused {
        Token(ForeignTokenError),
        Logout(LogoutTokenError),
    }

    fn judge(maker: &Maker, token: &str) -> Result<LogoutClaims, Refused> {
        let keys = jwks(&[maker.jwk(r#""kid":"k""#)]);
        let keys = ForeignKeys::from_jwks(&keys, Algorithm::ASYMMETRIC).unwrap();
        let expect = expectation(ISSUER, "vestibule");
        let verified = verify(token, &keys, &expect, NOW).map_err(Refused::Token)?;
        read(&verified).map_err(Refused::Logout)
    }

    #[test]
    fn good_tokens_say_whose_sessions_end() {
        let maker = Maker::new(Algorithm::ES256);
        let good = |changes: &[(&str, Option<&str>)]| {
            judge(&maker, &maker.jwt("k", &claims(changes))).unwrap()
        };
        let both = good(&[]);
        assert_eq!(
            both,
            LogoutClaims {
                token_id: "j-1".to_owned(),
                subject: Some("a-1".to_owned()),
                session: Some("there".to_owned()),
                issued_at: NOW,
            }
        );
        assert_eq!(good(&[("sub", None)]).subject, None);
        assert_eq!(good(&[("sid", None)]).session, None);
        assert_eq!(good(&[("aud", Some(r#"["x","vestibule"]"#))]), both);
        // Older providers send none, and some put other events and members beside.
        assert_eq!(good(&[("exp", None)]), both);
        let more = format!("{{\"x\":1,{EVENT:?}:{{\"y\":[]}}}}");
        assert_eq!(good(&[("events", Some(&more))]), both);
        for typ in ["logout+jwt", "Application/LOGOUT+jwt", "JWT"] {
            let header = format!(r#"{{"alg":"ES256","kid":"k","typ":"{typ}"}}"#);
            let token = maker.raw(&header, &claims(&[]));
            assert_eq!(judge(&maker, &token).unwrap(), both, "{typ}");
        }
        let token = maker.raw(r#"{"alg":"ES256","kid":"k"}"#, &claims(&[]));
        assert_eq!(judge(&maker, &token).unwrap(), both);
    }

    #[test]
    fn l03_whatever_is_no_logout_token_for_us_is_refused() {
        use ForeignTokenError as F;
        use LogoutTokenError as L;
        let maker = Maker::new(Algorithm::ES256);
        let check = |name: &str, value: Option<&str>, expected: Refused| {
            let token = maker.jwt("k", &claims(&[(name, value)]));
            assert_eq!(judge(&maker, &token), Err(expected), "{name} {value:?}");
        };
        let token = Refused::Token;
        let logout = Refused::Logout;
        check("iss", None, token(F::Issuer));
        check("iss", Some("\"https://id.example.com/\""), token(F::Issuer));
        check("aud", None, token(F::Audience));
        check("aud", Some("\"other\""), token(F::Audience));
        check("aud", Some("[\"vestibule\",1]"), token(F::Audience));
        check("iat", None, token(F::Claim("iat")));
        check("iat", Some("\"1\""), token(F::Claim("iat")));
        let future = (NOW.as_secs() + 31).to_string();
        check("iat", Some(&future), token(F::NotYetValid));
        let past = (NOW.as_secs() - 30).to_string();
        check("exp", Some("null"), token(F::Claim("exp")));
        check("jti", None, token(F::Claim("jti")));
        check("jti", Some("\"\""), token(F::Claim("jti")));
        check("jti", Some("7"), token(F::Claim("jti")));
        check("nonce", Some("\"n\""), logout(L::Nonce));
        check("nonce", Some("null"), logout(L::Nonce));
        check("sub", Some("7"), token(F::Claim("sub")));
        check("sid", Some("7"), logout(L::Claim("sid")));
        check("sid", Some("\"\""), logout(L::Claim("sid")));
        check("sid", Some("\"a\\u0000b\""), logout(L::Claim("sid")));
        let long = format!("{:?}", "s".repeat(MAX_TEXT + 1));
        check("sid", Some(&long), logout(L::Claim("sid")));
        check("events", None, logout(L::Events));
        let other = "{\"http://schemas.openid.net/event/other\":{}}";
        let text = format!("{{{EVENT:?}:\"\"}}");
        let list = format!("[{EVENT:?}]");
        let bare = format!("{EVENT:?}");
        let slash = format!("{{\"{EVENT}/\":{{}}}}");
        for events in ["{}", "null", "[]", other, &text, &list, &bare, &slash] {
            check("events", Some(events), logout(L::Events));
        }
        // A claim of that name at the top is not within `events`.
        let dotted = format!("events.{EVENT}");
        let changes = [("events", None), (dotted.as_str(), Some("{}"))];
        let at_the_top = maker.jwt("k", &claims(&changes));
        assert_eq!(judge(&maker, &at_the_top), Err(logout(L::Events)));

        let nobody = maker.jwt("k", &claims(&[("sub", None), ("sid", None)]));
        assert_eq!(judge(&maker, &nobody), Err(logout(L::Nobody)));
        let old = [("iat", Some("1")), ("exp", Some(past.as_str()))];
        let old = maker.jwt("k", &claims(&old));
        assert_eq!(judge(&maker, &old), Err(token(F::Lifetime)));
        let over = (NOW.as_secs() - 3631).to_string();
        let over = [("iat", Some(over.as_str())), ("exp", None)];
        let over = maker.jwt("k", &claims(&over));
        assert_eq!(judge(&maker, &over), Err(token(F::Expired)));
    }

    #[test]
    fn l03_no_other_algorithm_key_or_kind_of_token_will_do() {
        use ForeignTokenError as F;
        let maker = Maker::new(Algorithm::ES256);
        let (good, stranger) = (claims(&[]), Maker::new(Algorithm::ES256));
        let check = |token: &str, expected: F| {
            assert_eq!(judge(&maker, token), Err(Refused::Token(expected)));
        };
        check(&stranger.jwt("k", &good), F::Signature);
        check(&stranger.jwt("other", &good), F::UnknownKey);
        for alg in ["none", "None", "HS256", "RS256"] {
            let header = format!(r#"{{"alg":"{alg}","kid":"k"}}"#);
            check(&maker.raw(&header, &good), F::Algorithm);
        }
        let unsigned = maker.jwt("k", &good);
        let (unsigned, _) = unsigned.rsplit_once('.').unwrap();
        check(&format!("{unsigned}."), F::Signature);
        check(unsigned, F::Malformed);
        for typ in ["at+jwt", "secevent+jwt", "id_token"] {
            let header = format!(r#"{{"alg":"ES256","kid":"k","typ":"{typ}"}}"#);
            check(&maker.raw(&header, &good), F::Type);
        }
        let twice = good.replacen('{', "{\"sub\":\"b-1\",", 1);
        check(&maker.jwt("k", &twice), F::Malformed);
    }
}
