//! The moment of expiry: many requests at once, stragglers before and after the answer, generations in between.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{
    ACCESS, REFRESH, Service, aside, cookie_of, outlive, signed_in, touches, with_refresh,
};
use crate::harness::Ask;
use crate::harness::browser::as_fetch;
use crate::harness::wait::until;

#[tokio::test]
async fn i03_thirty_requests_at_expiry_cost_the_service_one_call_and_sign_nobody_out() {
    let service = Service::start().await;
    let gateway = service.gateway("").run();
    let alice = signed_in(&gateway, "alice").await;
    alice.put_cookie("theme", "light");
    outlive(&gateway, &service).await;
    let before = (
        alice.cookie(ACCESS).unwrap(),
        alice.cookie(REFRESH).unwrap(),
    );
    service.forget().await;
    service.set(json!({ "hold": true })).await;

    let h2 = gateway.door().h2().await;
    let browsers: Vec<_> = (0..30).map(|_| alice.copy()).collect();
    let all = tokio::spawn(async move {
        let asked = browsers.iter().enumerate().map(async |(n, browser)| {
            let target = format!("/data?n={n}");
            match n % 3 {
                0 => browser.send_on(&h2, as_fetch(Ask::get(&target))).await,
                1 => browser.get(&target).await,
                _ => {
                    browser
                        .send(as_fetch(Ask::new("POST", &target)).body("hello"))
                        .await
                }
            }
        });
        join_all(asked).await
    });
    service.until_held().await;
    service.set(json!({ "hold": false })).await;
    service.release().await;
    let answers = all.await.unwrap();

    assert_eq!(service.refreshes().await, 1);
    assert_eq!(service.ended().await, (0, 0));
    let cookies: Vec<Vec<String>> = answers
        .iter()
        .map(|answer| answer.all("set-cookie"))
        .collect();
    for (answer, cookies) in answers.iter().zip(&cookies) {
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["user"], "alice");
        // As the service set them, to everybody the same, and to nobody else's cache.
        assert_eq!(cookies, &answers[0].all("set-cookie"));
        assert!(cookies[0].starts_with("access_token=ey"), "{cookies:?}");
        assert!(cookies[0].ends_with("; Max-Age=300; Path=/; HttpOnly; Secure; SameSite=Lax"));
        assert!(cookies[1].starts_with("refresh_token=ey"));
        assert!(
            cookies[1].ends_with("; Max-Age=1209600; Path=/; HttpOnly; Secure; SameSite=Strict")
        );
        assert_eq!(cookies.len(), 2, "only the two: {cookies:?}");
        assert_eq!(answer.header("cache-control"), Some("private, no-store"));
    }
    // The app sees the new tokens, never the spent one, and its other cookies as they were.
    let received = service.received("/data").await;
    assert_eq!(received.len(), 30);
    for request in &received {
        let access = cookie_of(request, ACCESS).unwrap();
        let refresh = cookie_of(request, REFRESH).unwrap();
        assert!(cookies[0][0].contains(&access) && access != before.0);
        assert!(cookies[0][1].contains(&refresh) && refresh != before.1);
        assert_eq!(cookie_of(request, "theme").as_deref(), Some("light"));
        assert_eq!(request["headers"]["x-forwarded-user"], "alice");
        if request["method"] == "POST" {
            assert_eq!(request["text"], "hello");
        }
    }
    let call = &service.state().await["refreshes"][0];
    assert_eq!(call["token"], before.1);
    assert_eq!(call["headers"]["cookie"], format!("{REFRESH}={}", before.1));
    assert_eq!(call["headers"]["x-forwarded-proto"], "https");

    // And so on, over the next expiry.
    alice.take_cookies(&answers[17]);
    assert!(!touches(&alice.get("/data").await));
    outlive(&gateway, &service).await;
    assert_eq!(alice.get("/data").await.json()["user"], "alice");
    assert_eq!(service.refreshes().await, 2);
    assert_eq!(service.ended().await, (0, 0));
    let renewals = async |outcome: &str| {
        let label = format!("outcome=\"{outcome}\"");
        gateway.metric("vestibule_renewals_total", &[&label]).await
    };
    assert_eq!(renewals("rotated").await, 2.0);
}

#[tokio::test]
async fn a_straggler_shortly_after_the_answer_gets_the_same_and_spends_nothing() {
    let service = Service::start().await;
    let gateway = service.gateway("").run();
    let alice = signed_in(&gateway, "alice").await;
    outlive(&gateway, &service).await;
    let late = alice.copy();
    let first = alice.get("/data").await;
    assert_eq!(first.status, 200);
    // The near miss itself: long enough after the answer that no call is under way.
    tokio::time::sleep(Duration::from_millis(40)).await;
    let second = aside(&late, "/data").await;
    assert_eq!(second.status, 200);
    assert_eq!(second.all("set-cookie"), first.all("set-cookie"));
    assert_eq!(cookie_of(&second.json(), REFRESH), alice.cookie(REFRESH));
    // One without an access cookie, as browsers drop it when its Max-Age is over.
    late.drop_cookie(ACCESS);
    assert_eq!(aside(&late, "/data").await.json()["user"], "alice");
    // And one to a route that asks nobody: what the app could spend itself is the newest one.
    let open = aside(&late, "/open").await.json();
    assert_eq!(cookie_of(&open, REFRESH), alice.cookie(REFRESH));
    assert_eq!(cookie_of(&open, ACCESS), alice.cookie(ACCESS));
    assert_eq!(service.refreshes().await, 1);
    assert_eq!(service.ended().await, (0, 0));
}

#[tokio::test]
async fn a_straggler_during_the_call_waits_for_it_and_so_does_what_needs_no_identity() {
    let service = Service::start().await;
    let gateway = service.gateway("").run();
    let alice = signed_in(&gateway, "alice").await;
    outlive(&gateway, &service).await;
    service.set(json!({ "mode": "late" })).await;
    let spent = alice.cookie(REFRESH).unwrap();
    let ask = |target: &'static str| {
        let browser = alice.copy();
        tokio::spawn(async move { browser.get(target).await })
    };
    let first = ask("/data?first");
    service.until_held().await;
    let straggler = ask("/data?second");
    let open = ask("/open?third");
    // The service has spent the token by now. Nothing of the three reaches it before it answers.
    assert_eq!(service.received("/data").await.len(), 0);
    service.release().await;
    let (first, straggler, open) = (
        first.await.unwrap(),
        straggler.await.unwrap(),
        open.await.unwrap(),
    );
    assert_eq!(
        (first.status, straggler.status, open.status),
        (200, 200, 200)
    );
    assert_eq!(first.all("set-cookie"), straggler.all("set-cookie"));
    for answer in [&first, &straggler, &open] {
        assert_ne!(cookie_of(&answer.json(), REFRESH).unwrap(), spent);
    }
    assert_eq!(service.refreshes().await, 1);
    assert_eq!(service.ended().await, (0, 0));
}

#[tokio::test]
async fn a_browser_that_goes_away_does_not_stop_the_call_that_spends_its_token() {
    let service = Service::start().await;
    let gateway = service.gateway("").run();
    let alice = signed_in(&gateway, "alice").await;
    outlive(&gateway, &service).await;
    service.set(json!({ "hold": true })).await;
    let gone = alice.copy();
    let request = tokio::spawn(async move { gone.get("/data").await });
    service.until_held().await;
    request.abort();
    assert!(request.await.is_err());
    service.set(json!({ "hold": false })).await;
    service.release().await;
    assert_eq!(alice.get("/data").await.status, 200);
    assert_eq!(service.refreshes().await, 1);
    assert_eq!(service.ended().await, (0, 0));
}

#[tokio::test]
async fn i05_a_token_spent_two_generations_ago_brings_no_cookies_and_is_not_sent_again() {
    let service = Service::start().await;
    let gateway = service.gateway("").run();
    let alice = signed_in(&gateway, "alice").await;
    let first = alice.cookie(REFRESH).unwrap();
    let mut spent = vec![first];
    for _ in 0..2 {
        alice.drop_cookie(ACCESS);
        assert_eq!(alice.get("/data").await.status, 200);
        spent.push(alice.cookie(REFRESH).unwrap());
    }
    spent.pop();
    // The jar of whoever is that late has newer ones already: it is served, and keeps what it has.
    let straggler = with_refresh(&gateway, &spent[0], "/data").await;
    assert_eq!(straggler.status, 200);
    let seen = straggler.json();
    assert_eq!(seen["headers"]["x-forwarded-user"], "alice");
    assert_eq!(cookie_of(&seen, REFRESH), None);
    assert_eq!(cookie_of(&seen, ACCESS), alice.cookie(ACCESS));
    assert!(!touches(&straggler));
    assert_eq!(service.refreshes().await, 2);
    assert_eq!(service.ended().await, (0, 0));
    outlive(&gateway, &service).await;
    assert_eq!(alice.get("/data").await.status, 200);
    // A thief could have the service itself renew: it sees no token that it would take.
    let ask = Ask::new("POST", "/auth/refresh").header("cookie", format!("{REFRESH}={}", spent[1]));
    let answer = gateway.door().ask(as_fetch(ask)).await;
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert_eq!(service.ended().await, (0, 0));
    outlive(&gateway, &service).await;
    assert_eq!(alice.get("/data").await.status, 200);
}

#[tokio::test]
async fn i06_nothing_is_remembered_beyond_a_sign_out() {
    let service = Service::start().await;
    let gateway = service.gateway("").run();
    let alice = signed_in(&gateway, "alice").await;
    outlive(&gateway, &service).await;
    let straggler = alice.copy();
    assert_eq!(alice.get("/data").await.status, 200);
    let thief = alice.copy();
    let out = alice
        .send(Ask::post("/logout", "").header("sec-fetch-site", "same-origin"))
        .await;
    assert_eq!(out.status, 303);
    assert_eq!((alice.cookie(ACCESS), alice.cookie(REFRESH)), (None, None));
    // Within the grace, with the spent token and with its successor: nobody is signed in again.
    for browser in [straggler, thief] {
        browser.drop_cookie(ACCESS);
        let answer = browser.get("/data").await;
        assert_eq!(answer.status, 401);
        assert!(!touches(&answer));
    }
    assert_eq!(service.refreshes().await, 1);
}

#[tokio::test]
async fn a_sign_out_with_a_spent_token_reaches_the_service_with_the_newest_and_stays_one() {
    let service = Service::start().await;
    let gateway = service
        .gateway("")
        .routes(&super::ROUTES.replace(
            "path = \"/logout\"\nupstream = \"app\"\naccess = \"public\"",
            "path = \"/logout\"\nupstream = \"app\"",
        ))
        .run();
    let alice = signed_in(&gateway, "alice").await;
    outlive(&gateway, &service).await;
    // The request is renewed, and its own answer deletes what was renewed: the deletion stands.
    let out = alice
        .send(Ask::post("/logout", "").header("sec-fetch-site", "same-origin"))
        .await;
    assert_eq!(out.status, 303);
    let lines = out.all("set-cookie");
    assert!(
        lines.iter().all(|line| line.contains("_token=;")),
        "{lines:?}"
    );
    assert_eq!((alice.cookie(ACCESS), alice.cookie(REFRESH)), (None, None));
    assert_eq!(service.ended().await, (1, 0));
}

#[tokio::test]
async fn i02_after_the_grace_the_service_judges_a_spent_token_itself() {
    let service = Service::start().await;
    let gateway = service.gateway("replay_grace = \"1s\"").run();
    let alice = signed_in(&gateway, "alice").await;
    let stolen = alice.cookie(REFRESH).unwrap();
    alice.drop_cookie(ACCESS);
    assert_eq!(alice.get("/data").await.status, 200);
    until("the gateway has forgotten the spent token", async || {
        (with_refresh(&gateway, &stolen, "/data").await.status == 401).then_some(())
    })
    .await;
    // The service noticed, and ended the sign-in, as it should; the honest browser has to sign in as well.
    assert_eq!(service.ended().await, (1, 1));
    outlive(&gateway, &service).await;
    assert_eq!(alice.get("/data").await.status, 401);
    assert_eq!(service.refreshes().await, 3);
}

#[tokio::test]
async fn the_cookies_of_a_renewal_leave_with_an_answer_of_whatever_kind() {
    let service = Service::start().await;
    let nobody = crate::harness::gateway::free_port();
    let gateway = service
        .gateway("")
        .more(&format!(
            "[[upstream]]\nname = \"dead\"\nurl = \"http://{nobody}\"\n[[route]]\npath = \"/dead\"\nupstream = \"dead\"\n\
             [[route]]\npath = \"/board\"\nupstream = \"app\"\nallow = {{ groups = [\"board\"] }}\n"
        ))
        .run();
    let alice = signed_in(&gateway, "alice").await;
    for (target, status) in [("/dead", 502), ("/board", 403), ("/.auth/me", 200)] {
        outlive(&gateway, &service).await;
        let before = alice.cookie(REFRESH).unwrap();
        let answer = alice.get(target).await;
        assert_eq!(answer.status, status, "{target}");
        assert!(
            touches(&answer),
            "{target}: the browser was left with a spent token"
        );
        assert_ne!(alice.cookie(REFRESH).unwrap(), before);
    }
    assert_eq!(service.refreshes().await, 3);
    assert_eq!(service.ended().await, (0, 0));
    let _: Value = alice.get("/data").await.json();
}
