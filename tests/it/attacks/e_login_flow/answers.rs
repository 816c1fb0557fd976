//! E12: endpoints and documents of a provider that misbehave.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::CALLBACK;
use crate::harness::client::Answer;
use crate::harness::gateway::Setup;
use crate::harness::provider::CLIENT_SECRET;
use crate::harness::rogue::{Ending, Reply};
use crate::harness::{App, Gateway, ORIGIN, Person, Rogue};
use crate::oidc::{by, nobody, page_of};

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
    let page = ends_in_a_page(&gateway, &rogue, "invalid_client")
        .await
        .text();
    assert!(
        page.contains("Whoever runs this site has to look after it"),
        "{page}"
    );
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
