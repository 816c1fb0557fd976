use std::time::Instant;

use serde_json::{Map, Value, json};

use super::*;
use crate::auth::keyset::tests::forge;
use crate::auth::keyset::{MAX_TOKEN, StoredKey};
use crate::auth::test_support::{NOW, ORIGIN, alice, claims, expect, keys};

const SECOND: Duration = Duration::from_secs(1);

/// A key, its set, and the members of a good token to change one by one.
struct Bench {
    key: StoredKey,
    keys: KeySet,
}

impl Bench {
    fn new() -> Self {
        let (key, keys) = keys();
        Bench { key, keys }
    }

    fn good() -> Map<String, Value> {
        let members = json!({
            "iss": ORIGIN, "aud": ORIGIN, "client_id": ORIGIN, "sub": "alice",
            "sid": SessionId::from_bytes([7; 16]).to_string(), "gen": 3,
            "iat": NOW.as_secs(), "exp": NOW.as_secs() + 300, "jti": "jti-1",
            "began": NOW.as_millis() - 59_999,
            "auth_time": NOW.as_secs() - 60, "amr": ["pwd"], "provider": "local",
            "email": "alice@example.com", "name": "Alice 앨리스", "groups": ["staff", "dev"],
        });
        members.as_object().unwrap().clone()
    }

    fn verify_text(&self, payload: &str, now: Timestamp) -> Result<AccessClaims, TokenError> {
        let header = format!(
            r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{}"}}"#,
            self.key.kid
        );
        let token = forge(&self.key, header.as_bytes(), payload.as_bytes());
        verify(&token, &self.keys, &expect(), now)
    }

    fn verify(&self, members: &Map<String, Value>) -> Result<AccessClaims, TokenError> {
        self.verify_text(&Value::Object(members.clone()).to_string(), NOW)
    }
}

#[test]
fn what_was_issued_verifies() {
    let (_, keys) = keys();
    let token = issue(&claims(), &keys, &expect()).unwrap();
    assert_eq!(verify(&token, &keys, &expect(), NOW), Ok(claims()));

    let bare = AccessClaims {
        identity: Identity {
            email: None,
            name: None,
            preferred_username: Some("al".to_owned()),
            groups: Vec::new(),
            amr: Vec::new(),
            ..alice()
        },
        ..claims()
    };
    let token = issue(&bare, &keys, &expect()).unwrap();
    assert_eq!(verify(&token, &keys, &expect(), NOW), Ok(bare));
}

#[test]
fn times_are_written_in_whole_seconds() {
    let (_, keys) = keys();
    let millis = Duration::from_millis(999);
    let expect = Expect {
        max_lifetime: Duration::from_millis(1500),
        ..expect()
    };
    let issued_at = NOW.plus(millis);
    let precise = AccessClaims {
        issued_at,
        expires_at: issued_at.plus(expect.max_lifetime),
        ..claims()
    };
    let token = issue(&precise, &keys, &expect).unwrap();
    let read = verify(&token, &keys, &expect, issued_at).unwrap();
    assert_eq!(
        (read.issued_at, read.expires_at),
        (NOW, NOW.plus(2 * SECOND))
    );
}

#[test]
fn the_good_token_is_good_and_unknown_members_are_for_later_versions() {
    let bench = Bench::new();
    let mut members = Bench::good();
    assert_eq!(bench.verify(&members), Ok(claims()));
    members.insert("later".to_owned(), json!({"a": [1]}));
    assert_eq!(bench.verify(&members), Ok(claims()));
}

#[test]
fn every_claim_is_needed_and_of_its_type() {
    use TokenError::{Audience, Claim, Issuer};
    let bench = Bench::new();
    let error = |name: &'static str| match name {
        "iss" => Issuer,
        "aud" => Audience,
        name => Claim(name),
    };
    let check = |name: &'static str, value: Option<Value>, want: Option<TokenError>| {
        let mut members = Bench::good();
        match &value {
            Some(value) => members.insert(name.to_owned(), value.clone()),
            None => members.remove(name),
        };
        assert_eq!(bench.verify(&members).err(), want, "{name}: {value:?}");
    };
    let needed_texts = ["iss", "aud", "client_id", "sub", "sid", "jti", "provider"];
    let optional_texts = ["email", "name", "preferred_username"];
    let dates = ["iat", "exp", "auth_time"];
    for name in needed_texts.into_iter().chain(dates).chain(["gen", "amr"]) {
        check(name, None, Some(error(name)));
    }
    for name in optional_texts.into_iter().chain(["groups"]) {
        check(name, None, None);
    }
    for name in needed_texts.into_iter().chain(optional_texts) {
        for value in [
            json!(null),
            json!(1),
            json!(true),
            json!({}),
            json!([]),
            json!("a\r\nb"),
        ] {
            check(name, Some(value), Some(error(name)));
        }
    }
    for name in needed_texts {
        check(name, Some(json!("")), Some(error(name)));
    }
    for value in ["a\u{0}", "a\u{7f}", "\u{85}", "\t"] {
        check("sub", Some(json!(value)), Some(Claim("sub")));
    }
    for name in ["groups", "amr"] {
        for value in [
            json!(null),
            json!("a"),
            json!([1]),
            json!([["a"]]),
            json!(["a\nb"]),
        ] {
            check(name, Some(value), Some(Claim(name)));
        }
    }
    for name in dates {
        for value in [
            json!(null),
            json!("1800000000"),
            json!(1.5),
            json!(1e300),
            json!(u64::MAX),
            json!(-1),
            json!([1]),
            json!(true),
            json!(MAX_DATE + 1),
        ] {
            check(name, Some(value), Some(Claim(name)));
        }
    }
    for value in [
        json!(-1),
        json!(u64::from(u32::MAX) + 1),
        json!("3"),
        json!(3.0),
    ] {
        check("gen", Some(value), Some(Claim("gen")));
    }
    for value in ["x", "BwcHBwcHBwcHBwcHBwcHBx", "BwcHBwcHBwcHBwcHBwcHBw=="] {
        check("sid", Some(json!(value)), Some(Claim("sid")));
    }
    for value in [
        "https://app.example.com/",
        "https://App.example.com",
        "https://evil.example.com",
        "app.example.com",
    ] {
        check("iss", Some(json!(value)), Some(Issuer));
        check("aud", Some(json!(value)), Some(Audience));
        check("client_id", Some(json!(value)), Some(Claim("client_id")));
    }
    for name in ["iss", "aud"] {
        check(name, Some(json!([ORIGIN])), Some(error(name)));
        check(
            name,
            Some(json!([ORIGIN, "https://evil.example.com"])),
            Some(error(name)),
        );
    }
    check("cnf", Some(json!({"jkt": "x"})), Some(Claim("cnf")));
    for value in [json!("x"), json!(null), json!(1e300)] {
        check("nbf", Some(value), Some(Claim("nbf")));
    }
}

#[test]
fn duplicate_members_are_refused_wherever_they_stand() {
    let bench = Bench::new();
    let good = Value::Object(Bench::good()).to_string();
    for more in [
        r#","sub":"admin"}"#,
        r#","\u0073ub":"alice"}"#,
        r#","x":1,"x":1}"#,
        r#","x":{"y":1,"y":1}}"#,
    ] {
        let payload = format!("{}{more}", &good[..good.len() - 1]);
        assert_eq!(
            bench.verify_text(&payload, NOW),
            Err(TokenError::Claim("(form)")),
            "{more}"
        );
    }
    for payload in ["", "null", "[]", "{", "\"x\"", "{}x"] {
        assert_eq!(
            bench.verify_text(payload, NOW),
            Err(TokenError::Claim("(form)"))
        );
    }
}

#[test]
fn every_edge_of_time() {
    use TokenError::{Claim, Expired, Lifetime, NotYetValid};
    let bench = Bench::new();
    let start = NOW.as_secs();
    let milli = Duration::from_millis(1);
    let check = |change: &[(&str, i64)], now: Timestamp, want: Option<TokenError>| {
        let mut members = Bench::good();
        for (name, value) in change {
            members.insert((*name).to_owned(), json!(value));
        }
        let payload = Value::Object(members).to_string();
        assert_eq!(bench.verify_text(&payload, now).err(), want, "{change:?}");
    };
    let end = NOW.plus(300 * SECOND);
    check(&[], end.minus(milli), None);
    check(&[], end, Some(Expired));
    check(&[], end.plus(milli), Some(Expired));
    check(&[("iat", 0), ("exp", 1)], NOW, Some(Expired));

    check(&[("exp", start + 301)], NOW, Some(Lifetime));
    check(&[("exp", MAX_DATE)], NOW, Some(Lifetime));
    check(&[("iat", start - 1)], NOW, Some(Lifetime));
    check(&[("exp", start)], NOW, Some(Claim("exp")));
    check(&[("exp", start - 1)], NOW, Some(Claim("exp")));

    // Ten seconds of leeway for clocks that differ, and not one millisecond more.
    check(&[], NOW.minus(10 * SECOND), None);
    check(&[], NOW.minus(10 * SECOND).minus(milli), Some(NotYetValid));
    check(&[("nbf", start + 10)], NOW, None);
    check(&[("nbf", start + 11)], NOW, Some(NotYetValid));
    check(&[("nbf", 0)], NOW, None);
    check(&[("nbf", -1)], NOW, Some(Claim("nbf")));
}

#[test]
fn only_a_token_that_is_right_in_every_other_way_is_called_expired() {
    let bench = Bench::new();
    let late = NOW.plus(Duration::from_secs(86_400));
    for (name, value, want) in [
        ("iss", json!("x"), TokenError::Issuer),
        ("aud", json!("x"), TokenError::Audience),
        ("sub", json!(1), TokenError::Claim("sub")),
        ("jti", json!(1), TokenError::Claim("jti")),
        ("exp", json!(MAX_DATE), TokenError::Lifetime),
    ] {
        let mut members = Bench::good();
        members.insert(name.to_owned(), value);
        let payload = Value::Object(members).to_string();
        assert_eq!(bench.verify_text(&payload, late), Err(want));
    }
    let (_, other) = keys();
    let token = issue(&claims(), &other, &expect()).unwrap();
    assert_eq!(
        verify(&token, &bench.keys, &expect(), late),
        Err(TokenError::Unknown)
    );
    let mut tampered = issue(&claims(), &bench.keys, &expect()).unwrap();
    let last_of_payload = tampered.rfind('.').unwrap() - 2;
    let other = match &tampered[last_of_payload..=last_of_payload] {
        "A" => "B",
        _ => "A",
    };
    tampered.replace_range(last_of_payload..=last_of_payload, other);
    assert_eq!(
        verify(&tampered, &bench.keys, &expect(), late),
        Err(TokenError::Signature)
    );
}

#[test]
fn what_would_not_verify_is_not_issued() {
    let (_, keys) = keys();
    let check = |change: &dyn Fn(&mut AccessClaims)| {
        let mut claims = claims();
        change(&mut claims);
        assert_eq!(issue(&claims, &keys, &expect()), Err(KeyError::Claims));
    };
    check(&|c| c.identity.user.clear());
    check(&|c| c.identity.provider.clear());
    check(&|c| c.token_id.clear());
    check(&|c| c.identity.user.push_str("\r\nX-Role: admin"));
    check(&|c| c.identity.name = Some("a\0".to_owned()));
    check(&|c| c.identity.email = Some("\u{9b}".to_owned()));
    check(&|c| c.identity.groups.push("a\n".to_owned()));
    check(&|c| c.identity.amr.push("\t".to_owned()));
    check(&|c| c.identity.name = Some("x".repeat(MAX_TOKEN)));
}

#[test]
#[allow(clippy::disallowed_methods, reason = "measures, judges nothing")]
fn hostile_tokens_are_answered_fast() {
    let bench = Bench::new();
    let deep = format!("{{\"x\":{}", "[".repeat(2800));
    let started = Instant::now();
    for _ in 0..100 {
        assert!(bench.verify_text(&deep, NOW).is_err());
        assert!(verify(&"[".repeat(100_000), &bench.keys, &expect(), NOW).is_err());
    }
    // Hundreds of times what it takes; a reader of quadratic cost needs minutes.
    assert!(started.elapsed() < Duration::from_secs(10));
}
