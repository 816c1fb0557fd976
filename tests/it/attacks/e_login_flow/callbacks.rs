//! E01 to E06: callbacks that are not the answer to this very sign-in.

use serde_json::Value;
use url::Url;

use super::{CALLBACK, not_signed_in_by, on_the_way_back, refused_before_asking};
use crate::harness::forge::random;
use crate::harness::{App, Ask, Gateway, Person, Rogue};
use crate::oidc::{LOGIN, by, nobody, page_of, parameter, with_parameter};

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
