//! The service is down, slow, broken, or says no: who is told to try again, who to sign in, and that nothing which may have
//! been spent is sent again.

use serde_json::json;

use super::{ACCESS, REFRESH, Service, aside, outlive, signed_in, touches, with_refresh};
use crate::harness::client::Answer;
use crate::harness::wait::until;
use crate::harness::{Ask, Browser, Gateway, plain};

/// Told to try again, cookies untouched.
#[track_caller]
fn is_try_again(answer: &Answer) {
    assert_eq!(answer.status, 503, "{}", answer.text());
    let pause = answer.header("retry-after").expect("Retry-After");
    assert!((1..=60).contains(&pause.parse::<u64>().unwrap()), "{pause}");
    assert!(!touches(answer));
}

/// Asks until it works again: the token was not spent and may be sent again.
async fn until_served(browser: &Browser) {
    until("the service is asked again", async || {
        (browser.get("/data").await.status == 200).then_some(())
    })
    .await;
}

async fn at_expiry(lines: &str) -> (Service, Gateway, Browser) {
    let service = Service::start().await;
    let gateway = service.gateway(lines).run();
    let alice = signed_in(&gateway, "alice").await;
    outlive(&gateway, &service).await;
    (service, gateway, alice)
}

#[tokio::test]
async fn i09_a_service_that_says_not_now_signs_nobody_out() {
    let (service, gateway, alice) = at_expiry("").await;
    let before = alice.jar();
    for status in [500, 429, 404, 302] {
        let headers =
            json!({ "retry-after": "2", "set-cookie": "access_token=; Max-Age=0; Path=/" });
        service
            .set(json!({ "mode": status, "headers": headers }))
            .await;
        service.forget().await;
        until(&format!("status {status} to arrive"), async || {
            is_try_again(&alice.navigate("/data").await);
            (service.refreshes().await == 1).then_some(())
        })
        .await;
        assert_eq!(gateway.anon().get("/open").await.status, 200);
    }
    assert_eq!(alice.jar(), before);
    service.set(json!({ "mode": null, "headers": {} })).await;
    until_served(&alice).await;
    assert_eq!(service.ended().await, (0, 0));
}

#[tokio::test]
async fn a_service_that_asks_for_a_pause_gets_it() {
    let (service, _gateway, alice) = at_expiry("").await;
    let knobs = json!({ "mode": 503, "headers": { "retry-after": "30" } });
    service.set(knobs).await;
    for _ in 0..5 {
        let answer = alice.get("/data").await;
        is_try_again(&answer);
        let told: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((20..=30).contains(&told), "{told}");
    }
    assert_eq!(service.refreshes().await, 1);
}

#[tokio::test]
async fn r10_a_service_that_is_down_signs_nobody_out() {
    let (service, gateway, alice) = at_expiry("").await;
    service.set(json!({ "down": true })).await;
    let before = alice.jar();
    is_try_again(&alice.get("/data").await);
    is_try_again(&alice.navigate("/data").await);
    assert_eq!(alice.jar(), before);
    assert_eq!(gateway.anon().get("/data").await.status, 401);
    service.set(json!({ "down": false })).await;
    until_served(&alice).await;
    assert_eq!(service.refreshes().await, 1);
    assert_eq!(service.ended().await, (0, 0));
}

#[tokio::test]
async fn i07_a_slow_service_is_asked_once_and_its_late_answer_still_counts() {
    let (service, _gateway, alice) = at_expiry("wait = \"1s\"").await;
    service.set(json!({ "mode": "late" })).await;
    let all = futures_util::future::join_all((0..20).map(|_| aside(&alice, "/data"))).await;
    all.iter().for_each(is_try_again);
    is_try_again(&alice.get("/data").await);
    assert_eq!(service.refreshes().await, 1);
    service.release().await;
    until_served(&alice).await;
    assert_eq!(service.refreshes().await, 1);
    assert_eq!(service.ended().await, (0, 0));
}

#[tokio::test]
async fn i08_a_token_that_may_have_been_spent_in_vain_is_never_sent_again() {
    for (mode, lines) in [
        (json!("lost"), ""),
        (json!("hang"), "refresh_timeout = \"1s\""),
        (json!("bare"), ""),
        (json!(502), ""),
        (json!(504), ""),
    ] {
        let (service, gateway, alice) = at_expiry(&format!("replay_grace = \"2s\"\n{lines}")).await;
        service.set(json!({ "mode": mode })).await;
        is_try_again(&alice.get("/data").await);
        is_try_again(&alice.navigate("/data").await);
        service.set(json!({ "mode": null })).await;
        // In the end its owner is led to the sign-in: nothing else helps.
        let answer = until("a way out", async || {
            let answer = alice.navigate("/data").await;
            (answer.status == 303).then_some(answer)
        })
        .await;
        assert_eq!(answer.header("location"), Some("/login?rd=/data"));
        assert!(!touches(&answer), "no definite answer, no cookie cleared");
        assert_eq!(alice.get("/data").await.status, 401);
        // A route that asks nobody does not hand it to the service either.
        let open = alice.get("/open").await.json();
        assert_eq!(super::cookie_of(&open, REFRESH), None);
        assert_eq!(service.refreshes().await, 1, "{mode}");
        assert_eq!(service.ended().await, (0, 0), "{mode}");
        gateway.until_logged(&["not sent again"]).await;
        gateway.until_logged(&["external_refused", "lost"]).await;
        // And out of there it leads.
        let alice = signed_in(&gateway, "alice").await;
        assert_eq!(alice.get("/data").await.status, 200);
    }
}

#[tokio::test]
async fn a_definite_refusal_leads_to_the_sign_in_and_is_remembered() {
    let service = Service::start().await;
    let gateway = service.gateway("").run();
    let alice = signed_in(&gateway, "alice").await;
    // Signed out behind the gateway's back.
    let url = url::Url::parse(&format!("http://{}/logout", service.addr)).unwrap();
    let out = Ask::new("POST", "/logout").header("cookie", alice.cookie_line().unwrap());
    assert_eq!(plain::ask(&url, out).await.unwrap().status, 303);
    outlive(&gateway, &service).await;
    let refused = alice.copy().get("/data").await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.json()["login_url"], "/login?rd=/data");
    assert!(
        !touches(&refused),
        "a straggler could clear a newer sign-in"
    );
    let optional = aside(&alice, "/optional").await;
    assert!(!touches(&optional), "nor there");
    let optional = optional.json();
    assert_eq!(optional["headers"].get("x-forwarded-user"), None);
    assert_eq!(super::cookie_of(&optional, REFRESH), None);
    // A person is sent to the sign-in, with the service's own deletions.
    let answer = alice.navigate("/data?x=1").await;
    assert_eq!(answer.status, 303);
    assert_eq!(answer.header("location"), Some("/login?rd=/data%3Fx%3D1"));
    assert_eq!((alice.cookie(ACCESS), alice.cookie(REFRESH)), (None, None));
    assert_eq!(service.refreshes().await, 1);
    gateway.until_logged(&["external_refused"]).await;
}

#[tokio::test]
async fn made_up_refresh_tokens_are_refused_and_cost_one_call_each() {
    let service = Service::start().await;
    let gateway = service.gateway("").run();
    for token in ["nonsense", "a.b.c"] {
        for _ in 0..3 {
            assert_eq!(with_refresh(&gateway, token, "/data").await.status, 401);
        }
    }
    assert_eq!(service.refreshes().await, 2);
    // An empty one is none.
    assert_eq!(with_refresh(&gateway, "", "/data").await.status, 401);
    assert_eq!(service.refreshes().await, 2);
}

#[tokio::test]
async fn n03_an_address_that_makes_up_tokens_is_told_to_wait_and_others_are_not() {
    let service = Service::start().await;
    let gateway = service
        .gateway("")
        .server("trusted_proxies = [\"127.0.0.1/32\"]")
        .run();
    let alice = signed_in(&gateway, "alice").await;
    outlive(&gateway, &service).await;
    let made_up = (0..150).map(async |n| {
        let ask = crate::harness::browser::as_fetch(Ask::get("/data"))
            .header("x-forwarded-for", "203.0.113.9")
            .header("cookie", format!("{REFRESH}=made-up-{n}"));
        gateway.door().ask(ask).await
    });
    let answers = futures_util::future::join_all(made_up).await;
    let told: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status == 429)
        .collect();
    assert!(told.len() > 50, "{}", told.len());
    for answer in &told {
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert!(!touches(answer));
    }
    assert_eq!(service.refreshes().await, 150 - told.len());
    assert_eq!(alice.get("/data").await.status, 200);
}

#[tokio::test]
async fn without_a_way_to_renew_an_expired_token_is_a_challenge() {
    let service = Service::start().await;
    let gateway = service
        .gateway_with(&format!("{}cookies_to = [\"app\"]\n", service.basics()))
        .run();
    let alice = signed_in(&gateway, "alice").await;
    assert_eq!(alice.get("/data").await.json()["user"], "alice");
    outlive(&gateway, &service).await;
    assert_eq!(alice.get("/data").await.status, 401);
    assert_eq!(alice.navigate("/data").await.status, 303);
    assert_eq!(service.refreshes().await, 0);
}

#[tokio::test]
async fn p03_no_token_is_in_any_log_or_metric() {
    let (service, gateway, alice) = at_expiry("").await;
    let old = alice.jar();
    assert_eq!(alice.get("/data").await.status, 200);
    service.set(json!({ "mode": "lost" })).await;
    outlive(&gateway, &service).await;
    is_try_again(&alice.get("/data").await);
    let (_, metrics) = gateway.admin("/metrics").await;
    let said = format!("{}\n{metrics}", gateway.logs().join("\n"));
    for jar in [old, alice.jar()] {
        for name in [ACCESS, REFRESH] {
            let token = jar.find(name).unwrap();
            for part in token.split('.').filter(|part| part.len() > 20).skip(1) {
                assert!(!said.contains(part), "{name} is in the log");
            }
        }
    }
    assert!(!said.contains(super::ACCESS_SECRET));
}
