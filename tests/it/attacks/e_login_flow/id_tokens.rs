//! E07: ID tokens and userinfo that are wrong in one thing.

use serde_json::{Value, json};

use crate::harness::forge::{b64, random};
use crate::harness::maker::{Alg, Maker};
use crate::harness::provider::CLIENT_SECRET;
use crate::harness::rogue::{IdToken, Signed};
use crate::harness::{App, Person, Rogue};
use crate::oidc::{by, nobody, page_of, parameter};

/// A name, and how an ID token is spoilt.
type Spoilt = (&'static str, Box<dyn Fn(&mut IdToken) + Send + Sync>);

fn claim(name: &'static str, claim: &'static str, value: Value) -> Spoilt {
    (
        name,
        Box::new(move |token| token.claims[claim] = value.clone()),
    )
}

fn without(name: &'static str, claim: &'static str) -> Spoilt {
    let remove = move |token: &mut IdToken| {
        token.claims.as_object_mut().unwrap().remove(claim);
    };
    (name, Box::new(remove))
}

fn header(name: &'static str, member: &'static str, value: Value) -> Spoilt {
    (
        name,
        Box::new(move |token| token.header[member] = value.clone()),
    )
}

fn spoilt(name: &'static str, how: impl Fn(&mut IdToken) + Send + Sync + 'static) -> Spoilt {
    (name, Box::new(how))
}

/// What a relying party must refuse. The names are those of the OpenID Foundation's test modules for relying parties where
/// there is one (oidcc-client-test-…), else of what is wrong.
fn bad_id_tokens(rogue: &Rogue) -> Vec<Spoilt> {
    let now = rogue.now();
    let trap = format!("{}/trap", rogue.issuer);
    let impostor = rogue.maker.impostor().jwk(Alg::Rs256);
    let public = [
        ("hs256-under-pem", rogue.maker.pem(Alg::Rs256).into_bytes()),
        ("hs256-under-der", rogue.maker.spki(Alg::Rs256)),
        (
            "hs256-under-jwk",
            rogue.maker.jwk(Alg::Rs256).to_string().into_bytes(),
        ),
        ("hs256-under-client-secret", CLIENT_SECRET.into()),
        ("hs256-under-nothing", vec![0]),
    ];
    let mut all = vec![
        claim("invalid-iss", "iss", json!("https://evil.example")),
        claim("iss-with-slash", "iss", json!(format!("{}/", rogue.issuer))),
        claim("iss-as-list", "iss", json!([rogue.issuer])),
        without("missing-iss", "iss"),
        without("missing-sub", "sub"),
        claim("empty-sub", "sub", json!("")),
        claim("sub-is-a-number", "sub", json!(7)),
        claim("sub-is-null", "sub", Value::Null),
        claim("invalid-aud", "aud", json!("somebody-else")),
        claim("aud-without-us", "aud", json!(["a", "b"])),
        claim(
            "aud-with-strangers",
            "aud",
            json!(["vestibule", "stranger"]),
        ),
        claim("aud-is-a-number", "aud", json!(1)),
        claim("aud-is-empty", "aud", json!([])),
        without("missing-aud", "aud"),
        claim("invalid-azp", "azp", json!("somebody-else")),
        claim("azp-is-a-number", "azp", json!(1)),
        without("missing-iat", "iat"),
        claim("iat-is-text", "iat", json!("now")),
        claim("iat-in-the-future", "iat", json!(now + 600)),
        without("missing-exp", "exp"),
        claim("expired", "exp", json!(now - 120)),
        claim("exp-is-text", "exp", json!((now + 300).to_string())),
        claim("exp-is-huge", "exp", json!(1e300)),
        claim("not-yet", "nbf", json!(now + 600)),
        claim("nbf-is-text", "nbf", json!("x")),
        claim("nonce-invalid", "nonce", json!("another")),
        claim("nonce-is-a-number", "nonce", json!(5)),
        without("missing-nonce", "nonce"),
        claim("invalid-at-hash", "at_hash", json!(random(16))),
        claim("at-hash-is-a-number", "at_hash", json!(3)),
        claim("at-hash-is-empty", "at_hash", json!("")),
        spoilt("signature-none", |token| {
            token.header["alg"] = json!("none");
            token.signed = Signed::Not;
        }),
        spoilt("signature-NONE", |token| {
            token.header["alg"] = json!("nOnE");
            token.signed = Signed::Not;
        }),
        spoilt("no-signature", |token| token.signed = Signed::Not),
        spoilt("invalid-sig-rs256", |token| {
            token.signed = Signed::ByImpostor(Alg::Rs256);
        }),
        spoilt("invalid-sig-es256", |token| {
            token.header["alg"] = json!("ES256");
            token.header["kid"] = json!("rogue-ES256");
            token.signed = Signed::ByImpostor(Alg::Es256);
        }),
        // A key for one algorithm is none for another, though the numbers would do.
        spoilt("rs256-key-used-for-ps256", |token| {
            token.header["alg"] = json!("PS256");
            token.signed = Signed::By(Alg::Ps256);
        }),
        spoilt("alg-says-otherwise", |token| {
            token.header["alg"] = json!("ES256");
        }),
        header("unknown-kid", "kid", json!("nobody-knows")),
        header("kid-is-a-number", "kid", json!(1)),
        header("unknown-crit", "crit", json!(["bork"])),
        spoilt("unknown-crit-present", |token| {
            token.header["crit"] = json!(["bork"]);
            token.header["bork"] = json!("x");
        }),
        spoilt("b64-false", |token| {
            token.header["crit"] = json!(["b64"]);
            token.header["b64"] = json!(false);
        }),
        header("is-a-logout-token", "typ", json!("logout+jwt")),
        header("is-an-access-token", "typ", json!("at+jwt")),
        spoilt("key-in-the-header", move |token| {
            token.header["jwk"] = impostor.clone();
            token.header.as_object_mut().unwrap().remove("kid");
            token.signed = Signed::ByImpostor(Alg::Rs256);
        }),
        spoilt("key-at-a-url", move |token| {
            token.header["jku"] = json!(trap);
            token.header["x5u"] = json!(trap);
            token.header["kid"] = json!("at-the-trap");
            token.signed = Signed::ByImpostor(Alg::Rs256);
        }),
        spoilt("two-subjects", |token| {
            let claims = token.claims.to_string();
            let claims = claims.replacen('{', "{\"sub\":\"mallory\",", 1);
            token.signed = Signed::Instead(format!(
                "{}.{}.AAAA",
                b64(token.header.to_string().as_bytes()),
                b64(claims.as_bytes())
            ));
        }),
        spoilt("not-a-token", |token| {
            token.signed = Signed::Instead("not a token".to_owned());
        }),
        spoilt("five-parts", |token| {
            token.signed = Signed::Instead("a.b.c.d.e".to_owned());
        }),
        spoilt("empty", |token| {
            token.signed = Signed::Instead(String::new())
        }),
        spoilt("huge", |token| {
            token.claims["x"] = json!("x".repeat(1 << 20))
        }),
    ];
    for (name, secret) in public {
        all.push(spoilt(name, move |token| {
            token.header["alg"] = json!("HS256");
            token.signed = Signed::BySecret(secret.clone());
        }));
    }
    all
}

#[tokio::test]
async fn e07_each_bad_id_token_signs_nobody_in() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let gateway = by(&app, &rogue.table("corp", "")).run();
    let cases = bad_id_tokens(&rogue);
    assert!(cases.len() > 50);
    for (name, how) in cases {
        rogue.forget();
        rogue.id_token(how);
        let browser = gateway.anon();
        let answer = browser.sign_in_by("corp", &Person::new(), "-", "/").await;
        nobody(&answer, name);
        assert!(
            matches!(answer.status, 400..=403 | 502 | 503),
            "{name}: {}",
            answer.status
        );
        let page = page_of(&answer, name);
        assert!(browser.access().is_none() && browser.refresh().is_none());
        assert_eq!(rogue.count("token"), 1, "{name}");
        assert_eq!(rogue.count("/trap"), 0, "{name}: the trap was opened");
        assert_eq!(rogue.count("userinfo"), 0, "{name}: it was half believed");
        // The person can tell somebody, who finds it in the log.
        let id = answer.header("x-request-id").unwrap_or("no id").to_owned();
        assert!(page.contains(&id), "{name}: no request id in {page}");
        gateway.until_logged(&["audit", "corp", &id]).await;
    }
    assert!(app.seen().is_empty());
    // None of it was for another reason.
    rogue.repent();
    for alg in Alg::ALL {
        rogue.signs_with(alg);
        gateway.anon().signed_in_by("corp", "-").await;
    }
}

#[tokio::test]
async fn e07_good_id_tokens_of_every_kind_are_taken() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let gateway = by(&app, &rogue.table("corp", "")).run();
    let good: Vec<Spoilt> = vec![
        claim("aud-as-list", "aud", json!(["vestibule"])),
        claim("azp-is-us", "azp", json!("vestibule")),
        without("no-at-hash", "at_hash"),
        without("no-sid", "sid"),
        header("typ-jwt", "typ", json!("JWT")),
        claim("extra-claims", "x", json!({ "a": [1, 2, { "b": null }] })),
        spoilt("a-little-ahead", |token| {
            let iat = token.claims["iat"].as_i64().unwrap();
            token.claims["iat"] = json!(iat + 20);
        }),
    ];
    for (name, how) in good {
        rogue.id_token(how);
        let answer = gateway
            .anon()
            .sign_in_by("corp", &Person::new(), "-", "/")
            .await;
        assert_eq!(answer.status, 303, "{name}: {}", answer.text());
    }
    // kid-absent-single-jwks.
    let rogue = Rogue::start().await;
    let only = rogue.maker.jwks(&[Alg::Rs256]);
    rogue.says("jwks", move |jwks| *jwks = only.clone());
    rogue.id_token(|token| {
        token.header.as_object_mut().unwrap().remove("kid");
    });
    let gateway = by(&app, &rogue.table("corp", "")).run();
    gateway.anon().signed_in_by("corp", "-").await;
    // kid-absent-multiple-jwks: with several keys of the kind it would be a guess. One that names its key is taken.
    let several = json!({ "keys": [
        rogue.maker.jwk(Alg::Rs256),
        Maker::new("another").impostor().jwk(Alg::Rs256),
        // What cannot be read is left out (ignores-unparseable-key-in-jwks).
        { "kty": "RSA", "kid": "torn", "use": "sig", "n": "?", "e": "AQAB" },
        { "kty": "of the future", "kid": "new", "use": "sig" },
    ] });
    rogue.says("jwks", move |jwks| *jwks = several.clone());
    let gateway = by(&app, &rogue.table("corp", "")).run();
    let answer = gateway
        .anon()
        .sign_in_by("corp", &Person::new(), "-", "/")
        .await;
    nobody(&answer, "kid-absent-multiple-jwks");
    assert_eq!(answer.status, 502, "{}", answer.text());
    rogue.id_token(|_| ());
    gateway.anon().signed_in_by("corp", "-").await;
}

#[tokio::test]
async fn e07_how_long_ago_somebody_signed_in_is_checked_when_asked_for() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let gateway = by(&app, &rogue.table("corp", "max_age = \"10m\"")).run();
    let location = gateway.anon().begin("corp", "/").await;
    assert_eq!(parameter(&location, "max_age"), "600");
    let now = rogue.now();
    for (auth_time, good) in [
        (json!(now - 30), true),
        (json!(now - 1200), false),
        (json!("x"), false),
        (json!(now + 600), false),
        (Value::Null, false),
    ] {
        let said = auth_time.clone();
        rogue.id_token(move |token| token.claims["auth_time"] = said.clone());
        let answer = gateway
            .anon()
            .sign_in_by("corp", &Person::new(), "-", "/")
            .await;
        let signed_in = answer.status == 303 && answer.sets_cookies();
        assert_eq!(signed_in, good, "{auth_time}: {}", answer.text());
    }
}

#[tokio::test]
async fn e07_userinfo_is_of_the_same_person() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    // Nothing of the identity is in the ID token: it has to be asked for.
    rogue.id_token(|token| {
        for name in ["email", "email_verified", "name", "groups"] {
            token.claims.as_object_mut().unwrap().remove(name);
        }
    });
    let gateway = by(&app, &rogue.table("corp", "")).run();
    let alice = gateway.anon().signed_in_by("corp", "-").await;
    alice.get("/staff").await;
    assert_eq!(
        app.last().one("x-forwarded-email"),
        Some("alice@example.com")
    );
    assert_eq!(rogue.count("userinfo"), 1);
    app.forget();
    for (name, sub) in [
        ("userinfo-invalid-sub", json!("mallory")),
        ("userinfo-missing-sub", Value::Null),
        ("userinfo-sub-number", json!(1)),
        ("userinfo-other-case", json!("Alice")),
    ] {
        rogue.says("userinfo", move |claims| claims["sub"] = sub.clone());
        let answer = gateway
            .anon()
            .sign_in_by("corp", &Person::new(), "-", "/")
            .await;
        nobody(&answer, name);
        assert!(answer.status >= 400, "{name}: {}", answer.status);
    }
    assert!(app.seen().is_empty());
}
