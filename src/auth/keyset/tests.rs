use std::time::Duration;

use super::*;
use crate::auth::access_token::{issue, verify};
use crate::auth::test_support::{NOW, claims, expect, keys};

/// Signs any header and payload with a key of ours: what an attacker cannot do, so that each rule is tested alone.
pub(crate) fn forge(key: &StoredKey, header: &[u8], payload: &[u8]) -> String {
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(payload)
    );
    let pair = Ed25519KeyPair::from_pkcs8(key.pkcs8.expose()).unwrap();
    let signature = URL_SAFE_NO_PAD.encode(pair.sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn access_header(key: &StoredKey) -> String {
    format!(r#"{{"typ":"at+jwt","alg":"EdDSA","kid":"{}"}}"#, key.kid)
}

#[test]
fn key_ids_are_thumbprints() {
    // RFC 8037 appendix A.3.
    let x = URL_SAFE_NO_PAD
        .decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
        .unwrap();
    assert_eq!(
        thumbprint(&x),
        "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    );
    let key = StoredKey::generate(NOW).unwrap();
    assert_ne!(key.kid, StoredKey::generate(NOW).unwrap().kid);
    assert_eq!((key.created_at, key.retires_at), (NOW, None));
    assert!(!format!("{key:?}").contains("[48"));
}

#[test]
fn the_newest_key_signs_and_retired_keys_verify_until_they_retire() {
    let second = Duration::from_secs(1);
    let old = StoredKey {
        retires_at: Some(NOW.plus(second)),
        ..StoredKey::generate(NOW.minus(second)).unwrap()
    };
    let gone = StoredKey {
        retires_at: Some(NOW),
        ..StoredKey::generate(NOW.minus(second)).unwrap()
    };
    let new = StoredKey::generate(NOW).unwrap();
    let newer = StoredKey::generate(NOW.plus(second)).unwrap();
    let set = KeySet::new(
        &[old.clone(), newer.clone(), gone.clone(), new.clone()],
        NOW,
    )
    .unwrap();
    assert_eq!(set.signing_kid(), newer.kid);

    let check = |key: &StoredKey, now, want: Result<&str, TokenError>| {
        let token = forge(key, access_header(key).as_bytes(), b"{}");
        let found = set.verify_signature(TokenKind::Access, &token, now);
        assert_eq!(found.map(|signed| signed.kid), want.map(str::to_owned));
    };
    check(&newer, NOW, Ok(&newer.kid));
    check(&new, NOW, Ok(&new.kid));
    check(&old, NOW, Ok(&old.kid));
    check(&old, NOW.plus(Duration::from_millis(999)), Ok(&old.kid));
    check(&old, NOW.plus(second), Err(TokenError::Unknown));
    check(&gone, NOW, Err(TokenError::Unknown));

    let jwks = set.to_jwks();
    let listed = jwks["keys"].as_array().unwrap();
    assert_eq!(listed.len(), 3);
    for jwk in listed {
        assert_eq!(
            (&jwk["kty"], &jwk["crv"]),
            (&"OKP".into(), &"Ed25519".into())
        );
        assert_eq!((&jwk["alg"], &jwk["use"]), (&"EdDSA".into(), &"sig".into()));
        assert_eq!(jwk.as_object().unwrap().len(), 6, "no private member");
        let x = URL_SAFE_NO_PAD.decode(jwk["x"].as_str().unwrap()).unwrap();
        assert_eq!(jwk["kid"], thumbprint(&x));
    }
}

#[test]
fn a_set_needs_a_key_that_signs_and_keys_that_are_keys() {
    let key = StoredKey::generate(NOW).unwrap();
    let check = |keys: &[StoredKey], want: KeyError| {
        assert_eq!(KeySet::new(keys, NOW).err(), Some(want));
    };
    check(&[], KeyError::NoSigningKey);
    let retiring = StoredKey {
        retires_at: Some(NOW.plus(Duration::from_secs(9))),
        ..key.clone()
    };
    check(&[retiring], KeyError::NoSigningKey);
    let misnamed = StoredKey {
        kid: "x".to_owned(),
        ..key.clone()
    };
    check(&[misnamed], KeyError::Malformed);
    let garbage = StoredKey {
        pkcs8: Secret::new(*b"garbage"),
        ..key
    };
    check(&[garbage], KeyError::Malformed);
}

#[test]
fn an_independent_verifier_agrees() {
    let (_, keys) = keys();
    let token = issue(&claims(), &keys, &expect()).unwrap();
    let jwk = serde_json::from_value(keys.to_jwks()["keys"][0].clone()).unwrap();
    let key = DecodingKey::from_jwk(&jwk).unwrap();
    let mut validation = jsonwebtoken::Validation::new(Algorithm::EdDSA);
    validation.set_audience(&[expect().audience]);
    validation.set_issuer(&[expect().issuer]);
    // The test's "now" is not the system's.
    validation.validate_exp = false;
    let found = jsonwebtoken::decode::<serde_json::Value>(&token, &key, &validation).unwrap();
    assert_eq!(found.claims["sub"], "alice");
    assert_eq!(found.header.typ.as_deref(), Some("at+jwt"));
    assert_eq!(found.header.kid.as_deref(), Some(keys.signing_kid()));
}

#[test]
fn headers() {
    let (key, keys) = keys();
    let good = issue(&claims(), &keys, &expect()).unwrap();
    let payload = URL_SAFE_NO_PAD
        .decode(good.split('.').nth(1).unwrap())
        .unwrap();
    let kid = &key.kid;
    let check = |header: &str, want: Result<(), TokenError>| {
        let token = forge(&key, header.as_bytes(), &payload);
        let found = verify(&token, &keys, &expect(), NOW).map(|_| ());
        assert_eq!(found, want, "{header}");
    };
    let with = |alg: &str, typ: &str, more: &str| {
        format!(r#"{{"alg":{alg},"typ":{typ},"kid":"{kid}"{more}}}"#)
    };
    let (ed, at) = (r#""EdDSA""#, r#""at+jwt""#);
    check(&with(ed, at, ""), Ok(()));
    check(&with(ed, r#""application/at+jwt""#, ""), Ok(()));
    check(&with(r#""Ed\u0044SA""#, at, ""), Ok(()));

    for alg in [
        "none", "None", "NONE", "nOnE", "", "HS256", "RS256", "ES256", "eddsa", "Ed25519",
    ] {
        check(
            &with(&format!("{alg:?}"), at, ""),
            Err(TokenError::Algorithm),
        );
    }
    for alg in ["null", "1", "[\"EdDSA\"]", "{}"] {
        check(&with(alg, at, ""), Err(TokenError::Algorithm));
    }
    check(
        &format!(r#"{{"typ":"at+jwt","kid":"{kid}"}}"#),
        Err(TokenError::Algorithm),
    );

    for typ in [
        "JWT",
        "jwt",
        "",
        "AT+JWT",
        "at+jwt ",
        "vestibule-assertion+jwt",
        "logout+jwt",
        "dbsc+jwt",
        "text/at+jwt",
        "application/application/at+jwt",
    ] {
        check(&with(ed, &format!("{typ:?}"), ""), Err(TokenError::Type));
    }
    check(&with(ed, "null", ""), Err(TokenError::Type));
    check(
        &format!(r#"{{"alg":"EdDSA","kid":"{kid}"}}"#),
        Err(TokenError::Type),
    );

    for crit in [
        r#","crit":["bork"],"bork":"x""#,
        r#","crit":["bork"]"#,
        r#","crit":[]"#,
        r#","crit":["alg"]"#,
        r#","crit":["exp","exp"]"#,
        r#","crit":null"#,
        r#","crit":"b64""#,
        r#","crit":{}"#,
        r#","crit":1"#,
        r#","crit":["b64"],"b64":false"#,
    ] {
        check(&with(ed, at, crit), Err(TokenError::Critical));
    }
    for more in [
        r#","b64":false"#,
        r#","b64":true"#,
        r#","jwk":{"kty":"OKP"}"#,
        r#","jku":"https://127.0.0.1:1/jwks""#,
        r#","x5u":"https://127.0.0.1:1/""#,
        r#","x5c":["AA"]"#,
        r#","cty":"JWT""#,
        r#","zip":"DEF""#,
        r#","alg":"EdDSA""#,
        r#","\u0061lg":"none""#,
        r#","typ":"at+jwt""#,
        r#","x":[[[[1]]]]"#,
    ] {
        check(&with(ed, at, more), Err(TokenError::Header));
    }
    for kid in [
        "1",
        "null",
        "[]",
        "\"\"",
        &format!("\"{}\"", "k".repeat(129)),
    ] {
        let header = format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":{kid}}}"#);
        check(&header, Err(TokenError::Header));
    }
    check(r#"{"alg":"EdDSA","typ":"at+jwt"}"#, Err(TokenError::Header));
    for kid in ["../../dev/null", "' OR 1=1--", "x", &kid[..42]] {
        let header = format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{kid}"}}"#);
        check(&header, Err(TokenError::Unknown));
    }
    for header in ["[]", "null", "\"x\""] {
        check(header, Err(TokenError::Header));
    }
    for header in ["", "{", "{}{}", "x"] {
        check(header, Err(TokenError::Unknown));
    }
}

#[test]
fn signatures_and_spellings() {
    let (_, keys) = keys();
    let good = issue(&claims(), &keys, &expect()).unwrap();
    let check = |token: &str, want: TokenError| {
        assert_eq!(verify(token, &keys, &expect(), NOW), Err(want), "{token}");
    };
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = signed.split_once('.').unwrap();

    check(&format!("{signed}."), TokenError::Signature);
    check(
        &format!("{signed}.{}", URL_SAFE_NO_PAD.encode([0; 64])),
        TokenError::Signature,
    );
    check(
        &format!("{signed}.{}", &signature[..84]),
        TokenError::Signature,
    );
    check(
        &format!("{signed}.{}", URL_SAFE_NO_PAD.encode([0; 65])),
        TokenError::Signature,
    );
    let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    for bit in 0..512 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        check(
            &format!("{signed}.{}", URL_SAFE_NO_PAD.encode(changed)),
            TokenError::Signature,
        );
    }
    // The group order added to S: the same signature for a careless verifier (RFC 8032 section 5.1.7).
    let order: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut malleable = bytes;
    let mut carry = 0_u16;
    for (byte, add) in malleable[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
    check(
        &format!("{signed}.{}", URL_SAFE_NO_PAD.encode(malleable)),
        TokenError::Signature,
    );
    let other = URL_SAFE_NO_PAD.encode(br#"{"sub":"admin"}"#);
    check(
        &format!("{header}.{other}.{signature}"),
        TokenError::Signature,
    );
    check(&format!("{header}..{signature}"), TokenError::Signature);

    // The last character of a signature carries four bits that mean nothing: they must be zero.
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = alphabet.find(&signature[85..]).unwrap();
    let twin = &alphabet[last + 1..last + 2];
    for token in [
        "",
        ".",
        "..",
        "...",
        "a",
        signed,
        &format!("{good}."),
        &format!(".{good}"),
        &format!("{good}.{signature}"),
        &format!("{good}="),
        &format!("{good}=="),
        &format!("{good} "),
        &format!(" {good}"),
        &format!("{good}\n"),
        &format!("{signed}.{}{twin}", &signature[..85]),
        &format!("{signed}.{}+", &signature[..85]),
        &format!("{header}.{payload}==.{signature}"),
        &format!("{header}.{}é.{signature}", &payload[..10]),
    ] {
        check(token, TokenError::Unknown);
    }
}

#[test]
fn the_public_key_is_no_hmac_secret() {
    let (key, keys) = keys();
    let good = issue(&claims(), &keys, &expect()).unwrap();
    let payload = good.split('.').nth(1).unwrap();
    let jwk = &keys.to_jwks()["keys"][0];
    let x = jwk["x"].as_str().unwrap();
    let raw = URL_SAFE_NO_PAD.decode(x).unwrap();
    let mut der = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00".to_vec();
    der.extend_from_slice(&raw);
    let base64 = base64::engine::general_purpose::STANDARD.encode(&der);
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{base64}\n-----END PUBLIC KEY-----\n");
    for secret in [
        raw.as_slice(),
        &der,
        pem.as_bytes(),
        pem.trim_end().as_bytes(),
        x.as_bytes(),
        jwk.to_string().as_bytes(),
        b"",
    ] {
        for alg in ["HS256", "EdDSA"] {
            let header = format!(r#"{{"alg":"{alg}","typ":"at+jwt","kid":"{}"}}"#, key.kid);
            let signed = format!("{}.{payload}", URL_SAFE_NO_PAD.encode(header));
            let hmac = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
            let tag = aws_lc_rs::hmac::sign(&hmac, signed.as_bytes());
            let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag));
            let want = match alg {
                "HS256" => TokenError::Algorithm,
                _ => TokenError::Signature,
            };
            assert_eq!(verify(&token, &keys, &expect(), NOW), Err(want));
        }
    }
}

#[test]
fn kinds_are_never_interchangeable() {
    #[derive(serde::Serialize)]
    struct Claims {
        sub: &'static str,
    }
    let (_, keys) = keys();
    for kind in [TokenKind::Access, TokenKind::Assertion] {
        for judged_as in [TokenKind::Access, TokenKind::Assertion] {
            let token = keys.sign(kind, &Claims { sub: "alice" }).unwrap();
            let found = keys.verify_signature(judged_as, &token, NOW).map(|_| ());
            let want = match kind == judged_as {
                true => Ok(()),
                false => Err(TokenError::Type),
            };
            assert_eq!(found, want, "{kind:?} as {judged_as:?}");
        }
    }
    // The very claims of an access token, signed as an assertion.
    let token = issue(&claims(), &keys, &expect()).unwrap();
    let payload = URL_SAFE_NO_PAD
        .decode(token.split('.').nth(1).unwrap())
        .unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    let token = keys.sign(TokenKind::Assertion, &claims).unwrap();
    assert_eq!(verify(&token, &keys, &expect(), NOW), Err(TokenError::Type));
}

#[test]
fn a_key_of_another_gateway_is_unknown_and_its_name_does_not_help() {
    let (ours, keys) = keys();
    let theirs = StoredKey::generate(NOW).unwrap();
    let check = |token: String, want| {
        assert_eq!(verify(&token, &keys, &expect(), NOW), Err(want));
    };
    let payload = b"{}";
    check(
        forge(&theirs, access_header(&theirs).as_bytes(), payload),
        TokenError::Unknown,
    );
    check(
        forge(&theirs, access_header(&ours).as_bytes(), payload),
        TokenError::Signature,
    );
}

#[test]
fn size_and_depth_are_bounded_before_anything_is_parsed() {
    let (key, keys) = keys();
    let check = |token: &str, want| {
        assert_eq!(verify(token, &keys, &expect(), NOW), Err(want));
    };
    check(&"a".repeat(16 * 1024), TokenError::TooLarge);
    check(&"a.".repeat(2049)[..4097], TokenError::TooLarge);
    check(&"a".repeat(4096), TokenError::Unknown);
    let deep = forge(&key, "[".repeat(2000).as_bytes(), b"{}");
    check(&deep, TokenError::Header);
    let deep = format!(r#"{{"x":{}1{}}}"#, "[".repeat(900), "]".repeat(900));
    check(
        &forge(&key, access_header(&key).as_bytes(), deep.as_bytes()),
        TokenError::Claim("(form)"),
    );
}
