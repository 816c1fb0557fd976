use std::sync::LazyLock;

use super::*;
use crate::auth::test_support::NOW;
use crate::auth::test_support::foreign::{Maker, jwks};
use crate::units::Secret;

use ForeignTokenError as E;

const ISSUER: &str = "https://id.example.com/realms/corp";
const GOOD: &str = r#""iss":"https://id.example.com/realms/corp","aud":"api","sub":"alice""#;

/// Key generation of RSA takes its time: once.
static MAKERS: LazyLock<Vec<(Maker, ForeignKeys)>> = LazyLock::new(|| {
    use Algorithm as A;
    [A::RS256, A::PS256, A::ES256, A::EdDSA, A::HS256]
        .into_iter()
        .map(|algorithm| {
            let maker = Maker::new(algorithm);
            let keys = match &maker {
                Maker::Secret(secret, _) => {
                    ForeignKeys::from_secret(&Secret::new(secret.clone()), &[algorithm])
                }
                _ => {
                    let jwk = maker.jwk(&format!(r#""kid":"k","alg":"{algorithm}""#));
                    ForeignKeys::from_jwks(&jwks(&[jwk]), Algorithm::ASYMMETRIC)
                }
            };
            (maker, keys.unwrap())
        })
        .collect()
});

fn expect(kind: ForeignKind) -> ForeignExpect {
    ForeignExpect {
        issuer: ISSUER.to_owned(),
        audiences: vec!["api".to_owned(), "other".to_owned()],
        kind,
        max_lifetime: Duration::from_secs(3600),
        leeway: LEEWAY,
    }
}

/// `NOW` plus seconds.
fn at(secs: i64) -> i64 {
    NOW.as_secs() + secs
}

/// Good claims with `more` in front.
fn claims(more: &str) -> String {
    format!(r#"{{{more}{GOOD},"iat":{},"exp":{}}}"#, at(-10), at(300))
}

/// The answer to one token, which must be the same whatever the key.
fn answer(
    kind: ForeignKind,
    make: impl Fn(&Maker) -> String,
) -> Result<ForeignClaims, ForeignTokenError> {
    let mut answers = MAKERS
        .iter()
        .map(|(maker, keys)| (maker, verify(&make(maker), keys, &expect(kind), NOW)));
    let (_, first) = answers.next().unwrap();
    for (maker, answer) in answers {
        let same = match (&first, &answer) {
            (Ok(_), Ok(_)) => true,
            (Err(one), Err(other)) => one == other,
            _ => false,
        };
        assert!(same, "{}: {answer:?}, but {first:?}", maker.algorithm());
    }
    first
}

fn bearer(claims: &str) -> Result<ForeignClaims, ForeignTokenError> {
    answer(ForeignKind::Bearer, |maker| maker.jwt("k", claims))
}

fn with_header(header: &str) -> Result<ForeignClaims, ForeignTokenError> {
    answer(ForeignKind::Bearer, |maker| {
        let alg = maker.algorithm();
        maker.raw(&header.replace("ALG", alg.name()), &claims(""))
    })
}

#[test]
fn a_good_token_says_what_it_says() {
    let read = bearer(&claims(r#""scope":"a b","#)).unwrap();
    assert_eq!(read.issuer, ISSUER);
    assert_eq!(read.audiences, ["api"]);
    assert_eq!(read.subject.as_deref(), Some("alice"));
    assert_eq!(read.issued_at, Some(Timestamp::from_secs(at(-10))));
    assert_eq!(read.expires_at, Timestamp::from_secs(at(300)));
    assert_eq!(read.set.text("scope"), Some("a b"));
}

#[test]
fn g01_none_is_no_algorithm() {
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        for end in ["", "AA"] {
            let token = |maker: &Maker| {
                let signed = maker.raw(&format!(r#"{{"alg":"{alg}"}}"#), &claims(""));
                let (signed, _) = signed.rsplit_once('.').unwrap();
                format!("{signed}.{end}")
            };
            let refused = answer(ForeignKind::Bearer, token);
            assert_eq!(refused.unwrap_err(), E::Algorithm, "{alg}");
        }
    }
    assert_eq!(with_header("{}").unwrap_err(), E::Algorithm);
    assert_eq!(with_header(r#"{"alg":null}"#).unwrap_err(), E::Algorithm);
}

#[test]
fn g02_a_public_key_is_no_secret() {
    for (maker, keys) in MAKERS.iter() {
        if maker.algorithm().is_symmetric() {
            continue;
        }
        let jwk = maker.jwk(r#""kid":"k""#);
        for secret in [
            maker.pem().into_bytes(),
            maker.pem().trim_end().as_bytes().to_vec(),
            maker.spki(),
            jwk.clone().into_bytes(),
            jwks(std::slice::from_ref(&jwk)),
        ] {
            let forger = Maker::Secret(secret, Algorithm::HS256);
            for header in [r#"{"alg":"HS256","kid":"k"}"#, r#"{"alg":"HS256"}"#] {
                let token = forger.raw(header, &claims(""));
                let refused = verify(&token, keys, &expect(ForeignKind::Bearer), NOW);
                assert_eq!(refused.unwrap_err(), E::Algorithm);
            }
            let as_its_own = format!(r#"{{"alg":"{}","kid":"k"}}"#, maker.algorithm());
            let token = forger.raw(&as_its_own, &claims(""));
            let refused = verify(&token, keys, &expect(ForeignKind::Bearer), NOW);
            assert_eq!(refused.unwrap_err(), E::Signature);
        }
    }
}

#[test]
fn g03_without_its_signature_nothing_is_believed() {
    let cut = |end: &'static str| {
        answer(ForeignKind::Bearer, move |maker| {
            let token = maker.jwt("k", &claims(""));
            let (signed, _) = token.rsplit_once('.').unwrap();
            format!("{signed}{end}")
        })
    };
    assert_eq!(cut(".").unwrap_err(), E::Signature);
    assert_eq!(cut("").unwrap_err(), E::Malformed);
    assert_eq!(cut(".AAAA").unwrap_err(), E::Signature);
    assert_eq!(cut(".AAAA==").unwrap_err(), E::Malformed);
    assert_eq!(cut(".AA.AA").unwrap_err(), E::Malformed);
    assert_eq!(cut("..AA.AA").unwrap_err(), E::Encrypted);
    // Wycheproof: r = s = 0, and the order of the curve.
    for scalar in [[0_u8; 64], [0xff; 64]] {
        let refused = answer(ForeignKind::Bearer, |maker| {
            let token = maker.jwt("k", &claims(""));
            let (signed, _) = token.rsplit_once('.').unwrap();
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(scalar))
        });
        assert_eq!(refused.unwrap_err(), E::Signature);
    }
    // A DER-encoded ECDSA signature is another signature.
    let refused = answer(ForeignKind::Bearer, |maker| {
        let (token, other) = (
            maker.jwt("k", &claims("")),
            maker.jwt("k", &claims(r#""x":1,"#)),
        );
        let (signed, _) = token.rsplit_once('.').unwrap();
        let (_, signature) = other.rsplit_once('.').unwrap();
        format!("{signed}.{signature}")
    });
    assert_eq!(refused.unwrap_err(), E::Signature);
}

#[test]
fn g04_no_key_comes_with_the_token() {
    for (name, value) in [
        ("jwk", r#"{"kty":"oct","k":"AA"}"#),
        ("jku", r#""https://evil.example/jwks""#),
        ("x5u", r#""https://evil.example/x""#),
        ("x5c", r#"["AA"]"#),
    ] {
        let refused = with_header(&format!(r#"{{"alg":"ALG","kid":"k","{name}":{value}}}"#));
        assert_eq!(refused.unwrap_err(), E::Header(name));
    }
}

#[test]
fn g05_a_strange_kid_is_a_bad_header() {
    let check = |kid: &str, want: E| {
        let (maker, keys) = &MAKERS[2];
        let header = format!(r#"{{"alg":"ES256","kid":{kid}}}"#);
        let token = maker.raw(&header, &claims(""));
        let refused = verify(&token, keys, &expect(ForeignKind::Bearer), NOW);
        assert_eq!(refused.unwrap_err(), want, "{kid}");
    };
    check(r#""../../dev/null""#, E::UnknownKey);
    check(r#""' OR 1=1--""#, E::UnknownKey);
    check(r#""K""#, E::UnknownKey);
    check("5", E::Header("kid"));
    check("null", E::Header("kid"));
    check(r#""""#, E::Header("kid"));
    check(&format!("\"{}\"", "k".repeat(257)), E::Header("kid"));
    check(&format!("\"{}\"", "k".repeat(100_000)), E::TooLarge);
}

#[test]
fn g06_and_g07_critical_extensions_are_refused() {
    for header in [
        r#"{"alg":"ALG","kid":"k","crit":["bork"],"bork":"x"}"#,
        r#"{"alg":"ALG","kid":"k","crit":[]}"#,
        r#"{"alg":"ALG","kid":"k","crit":"exp"}"#,
        r#"{"alg":"ALG","kid":"k","crit":["b64"],"b64":false}"#,
        r#"{"alg":"ALG","kid":"k","crit":null}"#,
    ] {
        assert_eq!(with_header(header).unwrap_err(), E::Critical, "{header}");
    }
    for name in ["b64", "zip", "enc", "cty"] {
        let refused = with_header(&format!(r#"{{"alg":"ALG","kid":"k","{name}":false}}"#));
        assert_eq!(refused.unwrap_err(), E::Header(name));
    }
    // What is merely unknown is passed over.
    assert!(with_header(r#"{"alg":"ALG","kid":"k","x5t":"abc","bork":1}"#).is_ok());
    // A payload that was signed unencoded.
    let refused = answer(ForeignKind::Bearer, |maker| {
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{}","kid":"k"}}"#, maker.algorithm())),
            r#"{"exp":9999999999}"#
        );
        let signature = URL_SAFE_NO_PAD.encode(maker.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    });
    assert_eq!(refused.unwrap_err(), E::Malformed);
}

#[test]
fn g08_kinds_are_never_mixed() {
    let typ = |kind, typ: &str| {
        answer(kind, |maker| {
            let alg = maker.algorithm();
            let more = r#""client_id":"c","jti":"j","#;
            let header = format!(r#"{{"alg":"{alg}","kid":"k","typ":{typ}}}"#);
            maker.raw(&header, &claims(more))
        })
        .map(|_| ())
    };
    use ForeignKind::{Bearer, External, IdToken, Logout};
    let jwt = ["JWT", "jwt", "Application/JWT"];
    let access = [&["at+jwt", "AT+JWT", "application/at+jwt"][..], &jwt].concat();
    let logout = [&["logout+jwt", "application/logout+jwt"][..], &jwt].concat();
    for (kind, good) in [
        (Bearer, access.clone()),
        (External, access),
        (IdToken, jwt.to_vec()),
        (Logout, logout),
    ] {
        for word in [
            "at+jwt",
            "AT+JWT",
            "application/at+jwt",
            "JWT",
            "jwt",
            "Application/JWT",
            "logout+jwt",
            "application/logout+jwt",
            "dbsc+jwt",
            "dpop+jwt",
            "secevent+jwt",
            "vestibule-assertion+jwt",
            "JOSE",
            "",
            "application/",
            "id_token+jwt",
        ] {
            let want = match good.contains(&word) {
                true => Ok(()),
                false => Err(E::Type),
            };
            assert_eq!(typ(kind, &format!("\"{word}\"")), want, "{kind:?} {word}");
        }
        assert_eq!(typ(kind, "5"), Err(E::Type));
        assert_eq!(typ(kind, "null"), Err(E::Type));
    }
}

#[test]
fn g08_claims_tell_what_is_no_access_token() {
    let check = |more: &str, want: Result<(), E>| {
        for kind in [ForeignKind::Bearer, ForeignKind::External] {
            let answer = answer(kind, |maker| maker.jwt("k", &claims(more))).map(|_| ());
            assert_eq!(answer, want, "{kind:?} {more}");
        }
    };
    check(r#""nonce":"n","#, Err(E::OtherKind("nonce")));
    check(r#""at_hash":"n","#, Err(E::OtherKind("at_hash")));
    check(r#""events":{},"#, Err(E::OtherKind("events")));
    check(r#""typ":"Refresh","#, Err(E::OtherKind("typ")));
    check(r#""typ":"ID","#, Err(E::OtherKind("typ")));
    check(r#""token_use":"id","#, Err(E::OtherKind("token_use")));
    check(r#""type":"refresh","#, Err(E::OtherKind("type")));
    check(
        r#""token_type":"refresh","#,
        Err(E::OtherKind("token_type")),
    );
    check(r#""cnf":{"jkt":"x"},"#, Err(E::Bound));
    check(r#""cnf":null,"#, Err(E::Bound));
    check(r#""typ":"Bearer","nonce":"n","#, Ok(()));
    check(
        r#""typ":"Bearer","events":{},"#,
        Err(E::OtherKind("events")),
    );
    check(r#""token_use":"access","#, Ok(()));
    check(r#""type":"user","#, Ok(()));
    // An ID token may have all that.
    let id = answer(ForeignKind::IdToken, |maker| {
        maker.jwt("k", &claims(r#""nonce":"n","at_hash":"h","typ":"ID","#))
    });
    assert!(id.is_ok());
    let id = answer(ForeignKind::IdToken, |maker| {
        maker.jwt("k", &claims(r#""events":{},"#))
    });
    assert_eq!(id.unwrap_err(), E::OtherKind("events"));
}

#[test]
fn rfc9068_tokens_must_be_complete() {
    let check = |more: &str, want: Result<(), E>| {
        let answer = answer(ForeignKind::Bearer, |maker| {
            let alg = maker.algorithm();
            let header = format!(r#"{{"alg":"{alg}","kid":"k","typ":"at+jwt"}}"#);
            maker.raw(&header, &claims(more))
        });
        assert_eq!(answer.map(|_| ()), want, "{more}");
    };
    check(r#""client_id":"c","jti":"j","#, Ok(()));
    check(r#""jti":"j","#, Err(E::Claim("client_id")));
    check(r#""client_id":"c","#, Err(E::Claim("jti")));
    check(r#""client_id":5,"jti":"j","#, Err(E::Claim("client_id")));
    check(r#""client_id":"c","jti":5,"#, Err(E::Claim("jti")));
    // A nonce does not make it an ID token: its header says what it is.
    check(r#""client_id":"c","jti":"j","nonce":"n","#, Ok(()));
}

#[test]
fn logout_tokens_need_iat_and_jti_and_no_exp() {
    let check = |claims: String, want: Result<i64, E>| {
        let answer = answer(ForeignKind::Logout, |maker| maker.jwt("k", &claims));
        let ends = answer.map(|read| read.expires_at.as_secs());
        assert_eq!(ends, want, "{claims}");
    };
    let with = |more: &str| format!(r#"{{{GOOD},"events":{{}}{more}}}"#);
    let iat = at(-10);
    check(
        with(&format!(r#","jti":"j","iat":{iat},"exp":{}"#, at(60))),
        Ok(at(60)),
    );
    check(with(&format!(r#","jti":"j","iat":{iat}"#)), Ok(at(3590)));
    check(with(&format!(r#","iat":{iat}"#)), Err(E::Claim("jti")));
    check(with(r#","jti":"j""#), Err(E::Claim("exp")));
    check(
        with(&format!(r#","jti":"j","exp":{}"#, at(60))),
        Err(E::Claim("iat")),
    );
    check(
        with(&format!(r#","jti":"j","iat":{}"#, at(-4000))),
        Err(E::Expired),
    );
}

#[test]
fn g09_the_audience_must_be_named() {
    let check = |aud: &str, good: bool| {
        let claims = format!(
            r#"{{"iss":"{ISSUER}","sub":"a",{aud}"iat":{},"exp":{}}}"#,
            at(0),
            at(60)
        );
        let want = if good { Ok(()) } else { Err(E::Audience) };
        assert_eq!(bearer(&claims).map(|_| ()), want, "{aud}");
    };
    check(r#""aud":"api","#, true);
    check(r#""aud":["x","api"],"#, true);
    check(r#""aud":["other"],"#, true);
    for bad in [
        "",
        r#""aud":"API","#,
        r#""aud":"api ","#,
        r#""aud":"apis","#,
        r#""aud":["x"],"#,
        r#""aud":[],"#,
        r#""aud":["api",5],"#,
        r#""aud":[["api"]],"#,
        r#""aud":5,"#,
        r#""aud":null,"#,
        r#""aud":{"api":1},"#,
        r#""aud":"","#,
    ] {
        check(bad, false);
    }
    let mut nobody = expect(ForeignKind::Bearer);
    nobody.audiences.clear();
    let (maker, keys) = &MAKERS[3];
    let refused = verify(&maker.jwt("k", &claims("")), keys, &nobody, NOW);
    assert_eq!(refused.unwrap_err(), E::Audience);
}

#[test]
fn g10_the_issuer_is_compared_exactly() {
    for iss in [
        String::new(),
        r#""iss":"https://evil.example","#.to_owned(),
        format!(r#""iss":"{ISSUER}/","#),
        format!(r#""iss":"{}","#, ISSUER.to_uppercase()),
        format!(r#""iss":["{ISSUER}"],"#),
        r#""iss":null,"#.to_owned(),
        r#""iss":5,"#.to_owned(),
    ] {
        let claims = format!(
            r#"{{{iss}"aud":"api","sub":"a","iat":{},"exp":{}}}"#,
            at(0),
            at(60)
        );
        assert_eq!(bearer(&claims).unwrap_err(), E::Issuer, "{iss}");
    }
}

#[test]
fn g11_to_g13_and_g17_times() {
    let check = |times: String, want: Result<(), E>| {
        let answer = bearer(&format!("{{{GOOD}{times}}}")).map(|_| ());
        assert_eq!(answer, want, "{times}");
    };
    let exp = E::Claim("exp");
    check(String::new(), Err(exp));
    for bad in [
        r#""x""#.to_owned(),
        format!("\"{}\"", at(60)),
        "null".to_owned(),
        "1e300".to_owned(),
        "18446744073709551616".to_owned(),
        "-1".to_owned(),
        "true".to_owned(),
        "[]".to_owned(),
        "253402300800".to_owned(),
    ] {
        check(format!(r#","exp":{bad}"#), Err(exp));
        check(
            format!(r#","exp":{},"nbf":{bad}"#, at(60)),
            Err(E::Claim("nbf")),
        );
        check(
            format!(r#","exp":{},"iat":{bad}"#, at(60)),
            Err(E::Claim("iat")),
        );
    }
    check(format!(r#","exp":{}"#, at(60)), Ok(()));
    check(format!(r#","exp":{}.75"#, at(60)), Ok(()));
    // G17: the edge of the leeway of 30 s.
    check(format!(r#","exp":{}"#, at(-29)), Ok(()));
    check(format!(r#","exp":{}"#, at(-30)), Err(E::Expired));
    check(format!(r#","exp":{}"#, at(-31)), Err(E::Expired));
    check(format!(r#","exp":{},"nbf":{}"#, at(90), at(30)), Ok(()));
    check(
        format!(r#","exp":{},"nbf":{}"#, at(90), at(31)),
        Err(E::NotYetValid),
    );
    check(format!(r#","exp":{},"iat":{}"#, at(90), at(30)), Ok(()));
    check(
        format!(r#","exp":{},"iat":{}"#, at(90), at(31)),
        Err(E::NotYetValid),
    );
    // G13: an hour is believed.
    check(format!(r#","iat":{},"exp":{}"#, at(-10), at(3590)), Ok(()));
    check(
        format!(r#","iat":{},"exp":{}"#, at(-10), at(3591)),
        Err(E::Lifetime),
    );
    check(format!(r#","exp":{}"#, at(3600)), Ok(()));
    check(format!(r#","exp":{}"#, at(3601)), Err(E::Lifetime));
    check(
        format!(r#","iat":{0},"exp":{0}"#, at(10)),
        Err(E::Backwards),
    );
}

#[test]
fn g14_duplicates_are_refused() {
    let refused = bearer(&claims(r#""sub":"mallory","#));
    assert_eq!(refused.unwrap_err(), E::Malformed);
    let refused = bearer(&claims(r#""x":{"a":1,"a":2},"#));
    assert_eq!(refused.unwrap_err(), E::Malformed);
    let refused = with_header(r#"{"alg":"none","alg":"ALG","kid":"k"}"#);
    assert_eq!(refused.unwrap_err(), E::Malformed);
}

#[test]
fn g15_a_subject_is_a_clean_text() {
    for sub in ["5", "null", r#""""#, r#""a\r\nb""#, r#""a\u0000""#, "[]"] {
        let claims = format!(
            r#"{{"iss":"{ISSUER}","aud":"api","sub":{sub},"exp":{}}}"#,
            at(60)
        );
        assert_eq!(bearer(&claims).unwrap_err(), E::Claim("sub"), "{sub}");
    }
}

#[test]
fn g16_size_and_depth_are_bounded() {
    let pad = |bytes: usize| claims(&format!(r#""pad":"{}","#, "x".repeat(bytes)));
    assert!(bearer(&pad(8 << 10)).is_ok());
    assert_eq!(bearer(&pad(16 << 10)).unwrap_err(), E::TooLarge);
    let deep = format!(r#""deep":{}1{},"#, "[".repeat(15), "]".repeat(15));
    assert!(bearer(&claims(&deep)).is_ok());
    let deep = format!(r#""deep":{}1{},"#, "[".repeat(16), "]".repeat(16));
    assert_eq!(bearer(&claims(&deep)).unwrap_err(), E::Malformed);
    let (_, keys) = &MAKERS[0];
    for text in ["", ".", "..", "...", "a.b.c", "é.é.é", &"[".repeat(10_000)] {
        let refused = verify(text, keys, &expect(ForeignKind::Bearer), NOW);
        assert!(matches!(refused, Err(E::Malformed | E::TooLarge)), "{text}");
    }
}

#[test]
fn an_unverified_issuer_is_read_from_anything_that_looks_like_a_jwt() {
    let (maker, _) = &MAKERS[3];
    let of = |token: &str| UnverifiedIssuer::of(token).map(|found| found.0);
    assert_eq!(of(&maker.jwt("k", &claims(""))).as_deref(), Some(ISSUER));
    let (header, claims) = (
        URL_SAFE_NO_PAD.encode("x"),
        URL_SAFE_NO_PAD.encode(r#"{"iss":5}"#),
    );
    for bad in [
        "",
        "opaque",
        "a.b",
        "a.b.c",
        "a.e30.c.d.e",
        &format!("{header}.{claims}.x"),
    ] {
        assert_eq!(of(bad), None, "{bad}");
    }
    let long = maker.jwt(
        "k",
        &format!(r#"{{"iss":"i","pad":"{}"}}"#, "x".repeat(16 << 10)),
    );
    assert_eq!(of(&long), None);
}
