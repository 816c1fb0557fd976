//! E: what comes back from a provider, or pretends to.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use url::Url;

use crate::harness::client::Answer;
use crate::harness::forge::{b64, random};
use crate::harness::gateway::Setup;
use crate::harness::maker::Alg;
use crate::harness::provider::CLIENT_SECRET;
use crate::harness::rogue::{Ending, IdToken, Reply, Signed};
use crate::harness::{
    ACCESS, App, Ask, Browser, Gateway, ORIGIN, PASSWORD, Person, REFRESH, Rogue,
};
use crate::oidc::{LOGIN, by, nobody, page_of, parameter, with_parameter};

const CALLBACK: &str = "/.auth/callback/corp";

/// A gateway, and a browser that this rogue has just sent back to it.
async fn on_the_way_back(gateway: &Gateway, rogue: &Rogue) -> (Browser, String) {
    let browser = gateway.anon();
    let location = browser.begin("corp", "/notes").await;
    rogue.forget();
    (browser, Person::new().visit(&location, "-").await)
}

/// This answer signed nobody in, says so as a page, and leaves the token endpoint alone.
fn refused_before_asking(answer: &Answer, rogue: &Rogue, what: &str) {
    nobody(answer, what);
    assert!(
        (400..500).contains(&answer.status),
        "{what}: {}",
        answer.status
    );
    page_of(answer, what);
    assert_eq!(rogue.count("token"), 0, "{what}: the code was redeemed");
}

#[tokio::test]
async fn e01_a_callback_without_state_is_nobodys() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let gateway = by(&app, &rogue.table("corp", "")).run();
    let (browser, back) = on_the_way_back(&gateway, &rogue).await;
    for state in [None, Some(""), Some("x"), Some(&random(32))] {
        let url = with_parameter(&back, "state", state);
        let answer = browser.copy().come_back(&url).await;
        refused_before_asking(&answer, &rogue, &url);
    }
    // Not even the path alone, nor in a browser that never began.
    for target in [
        CALLBACK,
        "/.auth/callback/corp?",
        "/.auth/callback/corp?code=x",
    ] {
        let answer = gateway.anon().navigate(target).await;
        refused_before_asking(&answer, &rogue, target);
    }
    assert_eq!(browser.come_back(&back).await.status, 303, "the honest one");
    assert!(browser.access().is_some());
    assert!(app.seen().is_empty());
}

#[tokio::test]
async fn e02_an_altered_state_is_nobodys() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let gateway = by(&app, &rogue.table("corp", "")).run();
    let (browser, back) = on_the_way_back(&gateway, &rogue).await;
    let state = parameter(&back, "state");
    let mut others = vec![
        format!("{state}A"),
        format!("A{state}"),
        state[..state.len() - 1].to_owned(),
        state.to_ascii_uppercase(),
        format!(" {state}"),
        format!("{state}="),
    ];
    // Another character in many places.
    for at in (0..state.len()).step_by(7) {
        let other = if &state[at..=at] == "B" { "C" } else { "B" };
        let mut text = state.clone();
        text.replace_range(at..=at, other);
        others.push(text);
    }
    for other in others.iter().filter(|other| **other != state) {
        let url = with_parameter(&back, "state", Some(other));
        let answer = browser.copy().come_back(&url).await;
        refused_before_asking(&answer, &rogue, &url);
    }
    assert_eq!(browser.come_back(&back).await.status, 303, "the honest one");
}

#[tokio::test]
async fn e03_a_state_works_once() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let gateway = by(&app, &rogue.table("corp", "")).run();
    let (browser, back) = on_the_way_back(&gateway, &rogue).await;
    let before = browser.copy();
    assert_eq!(browser.come_back(&back).await.status, 303);
    let (session, asked) = (browser.session(), rogue.count("token"));
    assert_eq!(asked, 1);
    // Again in the same browser, with a code that would be good.
    for code in [None, Some(fresh_code(&gateway, &rogue).await)] {
        let url = match &code {
            Some(code) => with_parameter(&back, "code", Some(code)),
            None => back.clone(),
        };
        let answer = browser.come_back(&url).await;
        not_signed_in_by(&answer, &rogue);
        assert_eq!(browser.session(), session, "the session is what it was");
    }
    assert_eq!(rogue.count("token"), asked);
    // With the login cookie of before the first use, the provider has the last word: a code works once.
    let answer = before.come_back(&back).await;
    assert!(answer.status >= 400, "{}", answer.status);
    nobody(&answer, "a code that is spent");
}

/// A code that the provider would redeem, from another browser's sign-in.
async fn fresh_code(gateway: &Gateway, rogue: &Rogue) -> String {
    let asked = rogue.count("token");
    let (_, back) = on_the_way_back(gateway, rogue).await;
    assert_eq!(rogue.count("token"), 0);
    // `on_the_way_back` forgot them.
    for _ in 0..asked {
        let url = Url::parse(&format!("{}/token", rogue.issuer)).unwrap();
        let _ = crate::harness::plain::ask(&url, Ask::new("POST", "")).await;
    }
    parameter(&back, "code")
}

/// Refused as a page, or begun anew with a state of this browser's own: the code of the answer is not used.
fn not_signed_in_by(answer: &Answer, rogue: &Rogue) {
    nobody(answer, "not this browser's");
    if answer.status == 303 {
        let to = answer.header("location").unwrap();
        let authorize = format!("{}/authorize?", rogue.issuer);
        assert!(to.starts_with(&authorize), "{to}");
    } else {
        assert!((400..500).contains(&answer.status), "{}", answer.status);
        page_of(answer, "not this browser's");
    }
}

#[tokio::test]
async fn e04_nobody_is_signed_in_as_the_attacker() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let gateway = by(&app, &rogue.table("corp", "")).run();
    // The attacker stops before the callback and lets a victim open it.
    let (attacker, back) = on_the_way_back(&gateway, &rogue).await;
    let victims = [gateway.anon(), {
        // One who has begun a sign-in of their own.
        let victim = gateway.anon();
        victim.begin("corp", "/mine").await;
        victim
    }];
    for victim in victims {
        let answer = victim.come_back(&back).await;
        not_signed_in_by(&answer, &rogue);
        assert!(victim.access().is_none() && victim.refresh().is_none());
        assert_eq!(rogue.count("token"), 0);
        if answer.status == 303 {
            // What was begun anew is the victim's own: their code, and never the attacker's.
            let to = answer.header("location").unwrap();
            assert_ne!(parameter(to, "state"), parameter(&back, "state"));
        }
    }
    // A fake login cookie with it changes nothing.
    let victim = gateway.anon();
    victim.put_cookie(LOGIN, &random(200));
    not_signed_in_by(&victim.come_back(&back).await, &rogue);
    assert_eq!(rogue.count("token"), 0);
    assert_eq!(attacker.come_back(&back).await.status, 303);
}

#[tokio::test]
async fn e05_a_code_of_another_transaction_fails_on_its_verifier() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let gateway = by(&app, &rogue.table("corp", "")).run();
    let (_, stolen) = on_the_way_back(&gateway, &rogue).await;
    let (attacker, back) = on_the_way_back(&gateway, &rogue).await;
    let injected = with_parameter(&back, "code", Some(&parameter(&stolen, "code")));
    let answer = attacker.come_back(&injected).await;
    nobody(&answer, "injected");
    assert!(answer.status >= 400, "{}", answer.status);
    page_of(&answer, "injected");
    assert_eq!(rogue.count("token"), 1, "the provider refused it");
    // The same of one browser: a code belongs to its own state.
    let browser = gateway.anon();
    let (one, two) = (
        browser.begin("corp", "/1").await,
        browser.begin("corp", "/2").await,
    );
    let person = Person::new();
    let (one, two) = (person.visit(&one, "-").await, person.visit(&two, "-").await);
    let crossed = with_parameter(&two, "code", Some(&parameter(&one, "code")));
    let answer = browser.come_back(&crossed).await;
    nobody(&answer, "crossed");
    assert!(answer.status >= 400, "{}", answer.status);
}

#[tokio::test]
async fn e06_an_answer_of_another_issuer_is_not_redeemed() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let gateway = by(&app, &rogue.table("corp", "")).run();
    let issuer = rogue.issuer.clone();
    let wrong = [
        Some("https://evil".to_owned()),
        Some(format!("{issuer}/")),
        Some(issuer.to_ascii_uppercase()),
        Some(issuer.replace("http://", "https://")),
        Some(String::new()),
        // Its metadata says that it always names itself (RFC 9207, section 2.4).
        None,
    ];
    for iss in wrong {
        let (browser, back) = on_the_way_back(&gateway, &rogue).await;
        let url = with_parameter(&back, "iss", iss.as_deref());
        let answer = browser.come_back(&url).await;
        refused_before_asking(&answer, &rogue, &url);
        // Spent all the same.
        nobody(&browser.come_back(&back).await, "after a wrong issuer");
        assert_eq!(rogue.count("token"), 0);
        // An error of another issuer is not told as if it were the provider's.
        let (browser, back) = on_the_way_back(&gateway, &rogue).await;
        let url = with_parameter(&back, "iss", iss.as_deref());
        let url = with_parameter(&url, "code", None);
        let url = with_parameter(&url, "error", Some("access_denied"));
        let answer = browser.come_back(&url).await;
        refused_before_asking(&answer, &rogue, &url);
    }
    let (browser, back) = on_the_way_back(&gateway, &rogue).await;
    assert_eq!(browser.come_back(&back).await.status, 303, "the honest one");

    // One that does not promise it may leave it out, and may still not be somebody else.
    let older = Rogue::start().await;
    older.says("discovery", |metadata| {
        metadata["authorization_response_iss_parameter_supported"] = Value::Null;
    });
    let gateway = by(&app, &older.table("corp", "")).run();
    let (browser, back) = on_the_way_back(&gateway, &older).await;
    let url = with_parameter(&back, "iss", None);
    assert_eq!(browser.come_back(&url).await.status, 303);
    let (browser, back) = on_the_way_back(&gateway, &older).await;
    let url = with_parameter(&back, "iss", Some("https://evil"));
    refused_before_asking(&browser.come_back(&url).await, &older, &url);
}

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
    // kid-absent-single-jwks; with several keys of the kind it would be a guess.
    let rogue = Rogue::start().await;
    let only = rogue.maker.jwks(&[Alg::Rs256]);
    rogue.says("jwks", move |jwks| *jwks = only.clone());
    rogue.id_token(|token| {
        token.header.as_object_mut().unwrap().remove("kid");
    });
    let gateway = by(&app, &rogue.table("corp", "")).run();
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

#[tokio::test]
async fn e08_a_planted_session_is_not_signed_in() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let tables = format!("[login.local]\n{}", rogue.table("corp", ""));
    let gateway = by(&app, &tables).run();
    // Mallory plants a session of her own, and keeps a copy.
    let victim = gateway.anon();
    victim.sign_in("bob", PASSWORD, "/").await;
    let planted = victim.copy();
    let old = victim.session();
    // Whoever is somebody already is only led on, and stays who they were.
    let answer = victim.navigate("/.auth/login/corp?rd=/notes").await;
    assert_eq!(answer.header("location"), Some("/notes"));
    assert_eq!(victim.session(), old);
    // As somebody else they become a new session.
    let answer = victim
        .navigate("/.auth/login/corp?rd=/&account=other")
        .await;
    let location = answer.header("location").unwrap();
    let back = Person::new().visit(location, "-").await;
    let answer = victim.come_back(&back).await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    assert_ne!(victim.session(), old);
    assert_ne!(victim.access(), planted.access());
    assert_ne!(victim.refresh(), planted.refresh());
    app.forget();
    victim.get("/staff").await;
    assert_eq!(app.only().one("x-forwarded-user"), Some("alice"));
    // What she kept has not become the victim's, and is over.
    for without in [None, Some(ACCESS)] {
        let copy = planted.copy();
        if let Some(name) = without {
            copy.drop_cookie(name);
        }
        assert_eq!(copy.get("/").await.status, 401);
    }
    // Neither has a made-up one, nor cookies without any meaning.
    for (access, refresh) in [
        (
            gateway.forged().access().unwrap(),
            gateway.forged().refresh().unwrap(),
        ),
        ("planted".to_owned(), "planted".to_owned()),
    ] {
        let victim = gateway.anon();
        victim.put_cookie(ACCESS, &access);
        victim.put_cookie(REFRESH, &refresh);
        let answer = victim.sign_in_by("corp", &Person::new(), "-", "/").await;
        assert_eq!(answer.status, 303, "{}", answer.text());
        assert_ne!(victim.access().unwrap(), access);
        assert_ne!(victim.refresh().unwrap(), refresh);
        assert_eq!(victim.get("/").await.status, 200);
    }
}

#[tokio::test]
async fn e09_two_tabs_sign_in_at_once() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let gateway = by(&app, &rogue.table("corp", "")).run();
    // One after the other begins; they come back in either order.
    for swapped in [false, true] {
        let browser = gateway.anon();
        let mut tabs = vec![
            ("/one?a=1", browser.begin("corp", "/one?a=1").await),
            ("/two", browser.begin("corp", "/two").await),
        ];
        if swapped {
            tabs.reverse();
        }
        for (rd, location) in tabs {
            let back = Person::new().visit(&location, "-").await;
            let answer = browser.come_back(&back).await;
            assert_eq!(answer.status, 303, "{}", answer.text());
            assert_eq!(answer.header("location"), Some(rd));
            assert_eq!(browser.get("/").await.status, 200);
        }
    }
    // Both begin before the browser has any cookie, so that one cookie replaces the other.
    let browser = gateway.anon();
    let (left, right) = (browser.copy(), browser.copy());
    let tabs = [
        ("/left", left.begin("corp", "/left").await),
        ("/right", right.begin("corp", "/right").await),
    ];
    browser.put_cookie(LOGIN, &left.cookie(LOGIN).unwrap());
    browser.put_cookie(LOGIN, &right.cookie(LOGIN).unwrap());
    for (rd, location) in tabs {
        let back = Person::new().visit(&location, "-").await;
        let mut answer = browser.come_back(&back).await;
        // The one whose cookie was lost begins anew by itself.
        if answer.status != 303 {
            answer = browser.carried_on(answer, &Person::new(), "-").await;
        }
        assert_eq!(answer.status, 303, "{rd}: {}", answer.text());
        assert_eq!(answer.header("location"), Some(rd));
    }
    assert_eq!(browser.get("/").await.status, 200);
}

#[tokio::test]
async fn e09_however_many_tabs_the_cookie_stays_small() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let gateway = by(&app, &rogue.table("corp", "")).run();
    let browser = gateway.anon();
    let mut begun = Vec::new();
    for tab in 0..40 {
        // Each wants to go far.
        let rd = format!("/tab/{tab}?{}", "x".repeat(1500));
        begun.push((rd.clone(), browser.begin("corp", &rd).await));
        let cookies = browser.cookie_line().unwrap();
        assert!(cookies.len() <= 4096, "{} bytes", cookies.len());
        assert_eq!(cookies.matches("vestibule-login").count(), 1);
    }
    // The newest works, the oldest was dropped, and says so kindly.
    let (rd, location) = begun.last().unwrap();
    let answer = browser
        .come_back(&Person::new().visit(location, "-").await)
        .await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    assert_eq!(answer.header("location"), Some(rd.as_str()));
    rogue.forget();
    let back = Person::new().visit(&begun[0].1, "-").await;
    let answer = gateway.anon().come_back(&back).await;
    not_signed_in_by(&answer, &rogue);
    // Short ones: several at once are all good.
    let browser = gateway.anon();
    let mut tabs = Vec::new();
    for tab in 0..5 {
        tabs.push(browser.begin("corp", &format!("/{tab}")).await);
    }
    for (tab, location) in tabs.iter().enumerate() {
        let back = Person::new().visit(location, "-").await;
        let answer = browser.come_back(&back).await;
        let to = format!("/{tab}");
        assert_eq!(
            (answer.status, answer.header("location")),
            (303, Some(to.as_str()))
        );
    }
    // What is pending does not stay once all is done.
    assert!(browser.cookie(LOGIN).is_none());
}

#[tokio::test]
async fn e10_a_parameter_twice_is_refused() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let gateway = by(&app, &rogue.table("corp", "")).run();
    let (browser, back) = on_the_way_back(&gateway, &rogue).await;
    let (code, state) = (parameter(&back, "code"), parameter(&back, "state"));
    for more in [
        "&state=b".to_owned(),
        format!("&state={state}"),
        "&code=b".to_owned(),
        format!("&code={code}"),
        format!("&%63ode={code}"),
        "&iss=https%3A%2F%2Fevil".to_owned(),
        "&error=access_denied".to_owned(),
        "&error=a&error=b".to_owned(),
        "&x=%zz".to_owned(),
        "&x=%ff%fe".to_owned(),
    ] {
        let answer = browser.copy().come_back(&format!("{back}{more}")).await;
        refused_before_asking(&answer, &rogue, &more);
        assert_eq!(answer.status, 400, "{more}");
    }
    // What the standard tells to ignore is ignored.
    let answer = browser
        .come_back(&format!("{back}&session_state=x&scope=openid"))
        .await;
    assert_eq!(answer.status, 303, "{}", answer.text());
}

#[tokio::test]
async fn e11_words_of_others_are_text() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let gateway = by(&app, &rogue.table("corp", "")).run();
    let nasty = [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "'\"><svg/onload=alert(1)>",
        "</title><script>alert(1)</script>",
        "javascript:alert(1)",
        "{{7*7}}",
        "\r\nset-cookie: x=y",
        "line\n{\"audit\":\"forged-entry-4711\"}",
        "\u{202e}\u{0}\u{1b}[31mred",
    ];
    for words in nasty {
        for begun in [true, false] {
            let (browser, back) = on_the_way_back(&gateway, &rogue).await;
            let mut url = with_parameter(&back, "code", None);
            url = with_parameter(&url, "error", Some(words));
            url = with_parameter(&url, "error_description", Some(words));
            url = with_parameter(&url, "error_uri", Some("javascript:alert(1)"));
            if !begun {
                url = with_parameter(&url, "state", Some(words));
            }
            let answer = browser.come_back(&url).await;
            nobody(&answer, words);
            assert!((400..=502).contains(&answer.status), "{}", answer.status);
            let page = page_of(&answer, words);
            for raw in [
                "<script>alert",
                "<img src",
                "<svg",
                "</title><script",
                "href=\"javascript",
            ] {
                assert!(!page.contains(raw), "{words:?}: {page}");
            }
            assert!(!page.contains('\u{0}') && !page.contains('\u{1b}'));
            assert!(answer.header("x").is_none());
            let policy = answer.header("content-security-policy").unwrap();
            assert!(policy.contains("default-src 'none'"), "{policy}");
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
            // And there is a way to start over.
            assert!(page.contains("/.auth/login"), "{words:?}: {page}");
        }
    }
    // What the provider said is in the log, as a value.
    gateway.until_logged(&["corp", "alert(1)"]).await;
    let forged = gateway.logged(&["forged-entry-4711"]);
    assert!(
        forged.iter().all(|line| !line.starts_with("{\"audit\"")),
        "{forged:?}"
    );
}

/// A name, and how an answer is spoilt.
type Broken = (&'static str, fn(&mut Reply));

const BROKEN: &[Broken] = &[
    ("500", |reply| reply.status = 500),
    ("503", |reply| reply.status = 503),
    ("204", |reply| {
        reply.status = 204;
        reply.body = "".into();
    }),
    ("html", |reply| {
        reply.header("content-type", "text/html");
        reply.body = "<html>Sign in to the hotel's network</html>".into();
    }),
    ("no content type", |reply| reply.headers.clear()),
    ("not JSON", |reply| {
        reply.body = "{\"access_token\": ".into()
    }),
    ("a JSON list", |reply| reply.body = "[]".into()),
    ("nothing", |reply| reply.body = "".into()),
    ("5 MB", |reply| {
        reply.change(|value| value["x"] = "x".repeat(5 << 20).into());
    }),
    ("never begins", |reply| reply.ending = Ending::NeverBegun),
    ("never ends", |reply| reply.ending = Ending::Dripping),
    ("many headers", |reply| {
        for n in 0..2000 {
            reply.header(&format!("x-{n}"), "x");
        }
    }),
];

/// Who signs in meets an error page in bounded time, and the page shows nothing of the provider's answer.
async fn ends_in_a_page(gateway: &Gateway, rogue: &Rogue, what: &str) -> Answer {
    let started = Instant::now();
    let browser = gateway.anon();
    let answer = browser.sign_in_by("corp", &Person::new(), "-", "/").await;
    assert!(
        started.elapsed() < Duration::from_secs(40),
        "{what}: {:?}",
        started.elapsed()
    );
    nobody(&answer, what);
    assert!(
        matches!(answer.status, 502..=504),
        "{what}: {} {}",
        answer.status,
        answer.text()
    );
    let page = page_of(&answer, what);
    let codes = rogue.asked().into_iter().filter(|a| a.endpoint == "token");
    for asked in codes {
        for name in ["code", "code_verifier"] {
            assert!(!page.contains(asked.one(name).unwrap()), "{what}: {name}");
        }
    }
    assert!(
        !page.contains(CLIENT_SECRET) && !page.contains("hotel"),
        "{what}"
    );
    assert_eq!(
        rogue.count("/elsewhere"),
        0,
        "{what}: a redirect was followed"
    );
    answer
}

#[tokio::test]
async fn e12_a_token_endpoint_that_misbehaves_is_bounded() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let gateway = by(&app, &rogue.table("corp", "")).run();
    for (name, spoil) in BROKEN {
        rogue.forget();
        rogue.reply("token", spoil);
        ends_in_a_page(&gateway, &rogue, name).await;
        assert_eq!(rogue.count("token"), 1, "{name}: a code is sent once");
    }
    let elsewhere = format!("{}/elsewhere", rogue.issuer);
    for status in [301, 302, 303, 307, 308] {
        let to = elsewhere.clone();
        rogue.reply("token", move |reply| reply.redirect(status, &to));
        ends_in_a_page(&gateway, &rogue, &status.to_string()).await;
    }
    for (member, value) in [
        ("access_token", Value::Null),
        ("access_token", json!(7)),
        ("token_type", Value::Null),
        ("token_type", json!("mac")),
        ("id_token", Value::Null),
        ("id_token", json!({})),
    ] {
        let what = format!("{member} is {value}");
        rogue.says("token", move |answer| answer[member] = value.clone());
        ends_in_a_page(&gateway, &rogue, &what).await;
    }
    // Errors in the standard's form are told.
    rogue.reply("token", |reply| {
        reply.status = 400;
        reply.body = r#"{"error":"invalid_client","error_description":"hotel"}"#.into();
    });
    ends_in_a_page(&gateway, &rogue, "invalid_client").await;
    gateway.until_logged(&["corp", "invalid_client"]).await;
    rogue.repent();
    gateway.anon().signed_in_by("corp", "-").await;
    assert!(gateway.logged(&[CLIENT_SECRET]).is_empty());
}

#[tokio::test]
async fn e12_userinfo_that_misbehaves_is_bounded() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let gateway = by(&app, &rogue.table("corp", "")).run();
    rogue.id_token(|token| {
        for name in ["email", "email_verified", "name", "groups"] {
            token.claims.as_object_mut().unwrap().remove(name);
        }
    });
    for (name, spoil) in BROKEN {
        rogue.forget();
        rogue.reply("userinfo", spoil);
        ends_in_a_page(&gateway, &rogue, name).await;
        assert_eq!(rogue.count("userinfo"), 1, "{name}");
    }
    let elsewhere = format!("{}/elsewhere", rogue.issuer);
    rogue.reply("userinfo", move |reply| reply.redirect(307, &elsewhere));
    ends_in_a_page(&gateway, &rogue, "307").await;
}

#[tokio::test]
async fn e12_a_code_is_redeemed_under_the_provider_that_it_came_from() {
    // Slow is not broken.
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let gateway = by(&app, &rogue.table("corp", "")).run();
    rogue.reply("token", |reply| reply.delay = Duration::from_secs(3));
    gateway.anon().signed_in_by("corp", "-").await;
    let asked = rogue.asked();
    let token = asked.iter().find(|a| a.endpoint == "token").unwrap();
    let callback = format!("{ORIGIN}{CALLBACK}");
    assert_eq!(token.one("redirect_uri"), Some(callback.as_str()));
    assert_eq!(token.one("grant_type"), Some("authorization_code"));
    assert!(token.one("code_verifier").is_some_and(|v| v.len() >= 43));
    assert!(token.headers.get("cookie").is_none());
}

/// The same table against both of the documents that everything else rests on.
async fn documents(setup: impl Fn(&Rogue) -> Setup, endpoint: &'static str) {
    // What is JSON although nobody says so is taken.
    for (name, spoil) in BROKEN.iter().filter(|(name, _)| *name != "no content type") {
        let rogue = Rogue::start().await;
        rogue.reply(endpoint, spoil);
        let gateway = setup(&rogue).run();
        cannot_be_used(&gateway, &rogue, &format!("{endpoint}: {name}")).await;
        // And as soon as it is mended, it works, without a restart.
        rogue.repent();
        crate::harness::wait::until(&format!("{endpoint} after {name}"), async || {
            let browser = gateway.anon();
            let answer = browser.navigate("/.auth/login/corp?rd=/").await;
            let location = answer.header("location").filter(|_| answer.status == 303)?;
            let back = Person::new().visit(location, "-").await;
            (browser.come_back(&back).await.status == 303).then_some(())
        })
        .await;
    }
}

/// Nobody gets in, and is told at the start or at the end, in bounded time.
async fn cannot_be_used(gateway: &Gateway, rogue: &Rogue, what: &str) {
    let started = Instant::now();
    let browser = gateway.anon();
    let mut answer = browser.navigate("/.auth/login/corp?rd=/").await;
    if let Some(location) = answer.header("location").filter(|_| answer.status == 303) {
        let back = Person::new().visit(location, "-").await;
        answer = browser.come_back(&back).await;
    }
    assert!(
        matches!(answer.status, 502..=504),
        "{what}: {} {}",
        answer.status,
        answer.text()
    );
    nobody(&answer, what);
    page_of(&answer, what);
    assert!(
        started.elapsed() < Duration::from_secs(60),
        "{what}: {:?}",
        started.elapsed()
    );
    assert_eq!(
        rogue.count("/elsewhere"),
        0,
        "{what}: a redirect was followed"
    );
}

#[tokio::test]
async fn e12_discovery_that_misbehaves_is_bounded() {
    let app = App::start().await;
    documents(|rogue| by(&app, &rogue.table("corp", "")), "discovery").await;
}

#[tokio::test]
async fn e12_keys_that_misbehave_are_bounded() {
    let app = App::start().await;
    documents(|rogue| by(&app, &rogue.table("corp", "")), "jwks").await;
}

#[tokio::test]
async fn e12_redirects_of_documents_are_not_followed() {
    let app = App::start().await;
    for endpoint in ["discovery", "jwks"] {
        let rogue = Rogue::start().await;
        let to = format!("{}/elsewhere", rogue.issuer);
        rogue.reply(endpoint, move |reply| reply.redirect(302, &to));
        let gateway = by(&app, &rogue.table("corp", "")).run();
        cannot_be_used(&gateway, &rogue, endpoint).await;
    }
}
