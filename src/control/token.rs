//! What a token is worth here, for an operator who asks. Looking changes nothing: no acknowledgement, no renewal.

use serde::{Deserialize, Serialize};

use crate::auth::access_token::{self, Expect, TokenError};
use crate::auth::keyset::{KeySet, TokenKind};
use crate::auth::rotation::SessionRecord;
use crate::auth::strict_json::Json;
use crate::auth::{Generation, SessionId};
use crate::clock::Timestamp;
use crate::units::format_duration;

/// A token on its way to be judged; it never prints itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenText(pub String);

impl std::fmt::Debug for TokenText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenText(***)")
    }
}

/// What a token is worth here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// Whether it would be accepted now.
    pub valid: bool,
    /// Why, or why not; for people.
    pub why: String,
    /// What an opened refresh token says.
    #[serde(default)]
    pub refresh: Option<RefreshInfo>,
}

/// What an opened refresh token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshInfo {
    /// Its session.
    pub session: SessionId,
    /// Its number in that session.
    pub generation: Generation,
    /// When it was issued.
    pub issued_at: Timestamp,
}

impl Judgement {
    pub(super) fn valid(why: String) -> Self {
        Judgement {
            valid: true,
            why,
            refresh: None,
        }
    }

    pub(super) fn invalid(why: String) -> Self {
        Judgement {
            valid: false,
            why,
            refresh: None,
        }
    }
}

/// The token as a JWT of ours; the session of an access token that is good in itself, to be looked up.
pub(super) fn judge_jwt(
    token: &str,
    keys: &KeySet,
    expect: &Expect,
    now: Timestamp,
) -> (Judgement, Option<SessionId>) {
    match access_token::verify(token, keys, expect, now) {
        Ok(claims) => {
            let why = format!("signed by a key of this gateway, for {}", expect.audience);
            (Judgement::valid(why), Some(claims.session))
        }
        Err(TokenError::Type) => (judge_assertion(token, keys, expect, now), None),
        Err(error) => (Judgement::invalid(why(error, expect)), None),
    }
}

fn judge_assertion(token: &str, keys: &KeySet, expect: &Expect, now: Timestamp) -> Judgement {
    let mut signed = match keys.verify_signature(TokenKind::Assertion, token, now) {
        Ok(signed) => signed,
        Err(error) => return Judgement::invalid(why(error, expect)),
    };
    // The signature holds: the claims are ours.
    if signed.members.take_text("iss").as_deref() != Some(expect.issuer.as_str()) {
        return Judgement::invalid(why(TokenError::Issuer, expect));
    }
    match signed.members.take("exp") {
        Some(Json::Integer(exp)) if now < Timestamp::from_secs(exp) => Judgement::valid(format!(
            "for the upstream {}, which must compare `aud` with its own name",
            signed.members.take_text("aud").as_deref().unwrap_or("-")
        )),
        _ => Judgement::invalid(why(TokenError::Expired, expect)),
    }
}

/// What the session adds to an access token that is good in itself.
pub(super) fn with_session(mut judgement: Judgement, live: bool) -> Judgement {
    if live {
        judgement.why.push_str("; its session is live");
    } else {
        judgement.valid = false;
        judgement.why = "its session was ended; nodes refuse the token".to_owned();
    }
    judgement
}

/// What a refresh token that was opened would meet.
pub(super) fn judge_refresh(
    refresh: RefreshInfo,
    record: Option<&SessionRecord>,
    ended: bool,
    now: Timestamp,
) -> Judgement {
    let (valid, why) = match record {
        None => (false, "its session is unknown: long over".to_owned()),
        Some(_) if ended => (false, "its session was ended".to_owned()),
        Some(record) if record.ends_at() <= now => (false, "its session has expired".to_owned()),
        Some(record) if record.lineage.newest == refresh.generation => (
            true,
            "the newest of its session: it would be renewed".to_owned(),
        ),
        Some(record) => (
            false,
            format!(
                "spent: the newest of its session is generation {}; used again it may count as a replay and end the session",
                record.lineage.newest
            ),
        ),
    };
    Judgement {
        valid,
        why,
        refresh: Some(refresh),
    }
}

fn why(error: TokenError, expect: &Expect) -> String {
    match error {
        TokenError::Unknown => {
            "signed by a key that this gateway does not know (or no longer), or not well formed"
                .to_owned()
        }
        TokenError::Issuer => format!("`iss` is not {}", expect.issuer),
        TokenError::Audience => format!("`aud` is not {}", expect.audience),
        TokenError::Signature => {
            "the signature does not match: it was altered or forged".to_owned()
        }
        TokenError::Expired => "it has expired (`exp`)".to_owned(),
        TokenError::NotYetValid => "it was issued in the future: the clocks differ".to_owned(),
        TokenError::Lifetime => format!(
            "it lives longer than access_ttl ({})",
            format_duration(expect.max_lifetime)
        ),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::auth::test_support::{NOW, claims, expect, keys};

    #[test]
    fn jwts_are_judged_with_the_reason() {
        let (_, set) = keys();
        let check = |token: &str, now: Timestamp, valid: bool, part: &str| {
            let (judgement, session) = judge_jwt(token, &set, &expect(), now);
            assert_eq!(judgement.valid, valid, "{judgement:?}");
            assert!(judgement.why.contains(part), "{judgement:?}");
            session
        };
        let token = access_token::issue(&claims(), &set, &expect()).unwrap();
        assert_eq!(
            check(&token, NOW, true, "signed by a key"),
            Some(claims().session)
        );
        let late = NOW.plus(Duration::from_secs(300));
        assert_eq!(check(&token, late, false, "expired"), None);
        let (_, stranger) = keys();
        let foreign = access_token::issue(&claims(), &stranger, &expect()).unwrap();
        check(&foreign, NOW, false, "does not know");

        let assertion = |iss: &str| {
            let claims = serde_json::json!({ "iss": iss, "aud": "app", "exp": NOW.as_secs() + 60 });
            set.sign(TokenKind::Assertion, &claims).unwrap()
        };
        check(
            &assertion(&expect().issuer),
            NOW,
            true,
            "for the upstream app",
        );
        check(
            &assertion(&expect().issuer),
            NOW.plus(Duration::from_secs(60)),
            false,
            "expired",
        );
        check(&assertion("https://other"), NOW, false, "`iss` is not");
        check("a.b.c", NOW, false, "not well formed");
    }

    #[test]
    fn a_token_on_its_way_never_prints_itself() {
        let text = format!("{:?}", TokenText("hunter2".to_owned()));
        assert!(!text.contains("hunter2"));
    }
}
