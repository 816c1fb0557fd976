//! I: renewals: once, shared, lost, repeated, stolen.

use std::time::Duration;

use futures_util::future::join_all;

use crate::harness::app::{blob_bytes, sha256};
use crate::harness::browser::{Browser, as_fetch, claims};
use crate::harness::{ACCESS, App, Ask, Gateway, REFRESH};

/// Longer than `replay_grace` and `redelivery_window`, shorter than `access_ttl`.
const PAST_GRACE: Duration = Duration::from_secs(40);

async fn rotations(gateway: &Gateway) -> f64 {
    gateway
        .metric("vestibule_renewals_total", &["outcome=\"rotated\""])
        .await
}

#[tokio::test]
async fn i01_a_renewal_issues_a_new_token_and_the_old_one_is_dead() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).with_clock().run();
    let alice = gateway.signed_in("alice").await;
    let old = alice.copy();
    old.drop_cookie(ACCESS);
    gateway.outlive_access_token();
    let answer = alice.get("/").await;
    assert_eq!(answer.status, 200);
    assert_eq!(app.only().one("x-forwarded-user"), Some("alice"));
    assert_eq!(alice.generation(), 1);
    assert_ne!(alice.refresh(), old.refresh());
    assert_eq!(rotations(&gateway).await, 1.0);
    // The new access token was seen: the old refresh token is spent for good once the grace is over.
    assert_eq!(alice.get("/").await.status, 200);
    acknowledged(&old).await;
    gateway.clock().advance(PAST_GRACE);
    assert_eq!(old.get("/").await.status, 401);
}

/// Waits until the gateway has taken note that the client received its newest generation, which happens beside the
/// request: from then on the spent token is served, and no longer brings the newest pair again.
async fn acknowledged(parent: &Browser) {
    crate::harness::wait::until("the acknowledgement", async || {
        let answer = parent.copy().get("/").await;
        assert_eq!(answer.status, 200);
        (!answer.sets_cookies()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn i02_reuse_ends_the_whole_family_and_is_told_once() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).with_clock().run();
    let alice = gateway.signed_in("alice").await;
    let parent = alice.copy();
    parent.drop_cookie(ACCESS);
    let thief = parent.copy().at("127.0.0.66");
    gateway.outlive_access_token();
    assert_eq!(alice.get("/").await.status, 200);
    assert_eq!(alice.get("/").await.status, 200);
    acknowledged(&parent).await;
    gateway.clock().advance(PAST_GRACE);
    app.forget();
    let session = alice.session();
    for _ in 0..3 {
        assert_eq!(thief.get("/").await.status, 401);
    }
    // The newest pair died with it: its unexpired access token as well as its refresh token.
    assert_eq!(alice.copy().get("/").await.status, 401);
    let only_refresh = alice.copy();
    only_refresh.drop_cookie(ACCESS);
    assert_eq!(only_refresh.get("/").await.status, 401);
    assert!(app.seen().is_empty());
    gateway.until_logged(&["audit", "replay", &session]).await;
    let told = gateway.logged(&["audit", "replay", &session]);
    let replays: Vec<_> = told
        .iter()
        .filter(|line| line.contains("\"event\":\"replay\""))
        .collect();
    assert_eq!(replays.len(), 1, "{told:?}");
}

#[tokio::test]
async fn i02_a_thief_who_renews_first_gains_one_pair_and_ends_both() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).with_clock().run();
    let alice = gateway.expired("alice").await;
    let mut thief = alice.copy().at("127.0.0.66");
    thief.user_agent = "thief/1.0".to_owned();
    assert_eq!(thief.get("/").await.status, 200);
    assert_eq!(thief.generation(), 1);
    assert_eq!(thief.get("/").await.status, 200);
    // She is served for the moment, and gets nothing that would let both live on.
    let answer = alice.get("/").await;
    assert_eq!((answer.status, answer.sets_cookies()), (200, false));
    gateway.clock().advance(PAST_GRACE);
    assert_eq!(alice.get("/").await.status, 401);
    app.forget();
    assert_eq!(thief.copy().get("/").await.status, 401);
    thief.drop_cookie(ACCESS);
    assert_eq!(thief.get("/").await.status, 401);
    assert!(app.seen().is_empty());
    gateway
        .until_logged(&["audit", "\"replay\"", "alice"])
        .await;
    // She signs in again, and he is out.
    assert_eq!(
        alice
            .sign_in("alice", crate::harness::PASSWORD, "/")
            .await
            .status,
        303
    );
    assert_eq!(alice.get("/").await.status, 200);
    assert_eq!(thief.get("/").await.status, 401);
}

async fn herd(h2: bool) {
    let app = App::start().await;
    let gateway = Gateway::before(&app).with_clock().run();
    let alice = gateway.expired("alice").await;
    let before = alice.refresh();
    let connection = gateway.door().h2().await;
    let answers = join_all((0..50).map(|i| {
        let (alice, connection) = (alice.clone(), connection.clone());
        async move {
            let ask = as_fetch(Ask::get(&format!("/herd/{i}")));
            if h2 {
                alice.send_on(&connection, ask).await
            } else {
                alice.send(ask).await
            }
        }
    }))
    .await;
    assert_eq!(answers.len(), 50);
    for answer in &answers {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let seen = app.seen();
    assert_eq!(seen.len(), 50);
    assert!(
        seen.iter()
            .all(|seen| seen.one("x-forwarded-user") == Some("alice"))
    );
    assert_eq!(rotations(&gateway).await, 1.0);
    assert_eq!(alice.generation(), 1);
    assert_ne!(alice.refresh(), before);
    // Every answer that brought cookies brought the same pair.
    let mut pairs: Vec<_> = answers
        .iter()
        .flat_map(|answer| answer.all("set-cookie"))
        .filter_map(|line| {
            line.strip_prefix(&format!("{REFRESH}="))
                .map(|rest| rest.split(';').next().unwrap().to_owned())
        })
        .collect();
    assert!(!pairs.is_empty());
    pairs.dedup();
    assert_eq!(pairs.len(), 1, "several refresh tokens were handed out");
    // The browser goes on with what it has.
    gateway.outlive_access_token();
    assert_eq!(alice.get("/").await.status, 200);
    assert_eq!(alice.generation(), 2);
}

#[tokio::test]
async fn i03_fifty_requests_share_one_renewal_http1() {
    herd(false).await;
}

#[tokio::test]
async fn i03_fifty_requests_share_one_renewal_http2() {
    herd(true).await;
}

#[tokio::test]
async fn i04_a_lost_answer_is_delivered_again() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).with_clock().run();
    let alice = gateway.expired("alice").await;
    let old = alice.jar();
    assert_eq!(alice.get("/").await.status, 200);
    let successor = alice.refresh();
    // The answer never arrived: the browser still has what it had, and asks again within the window.
    alice.restore(old.clone());
    gateway.clock().advance(Duration::from_secs(5));
    assert_eq!(alice.get("/").await.status, 200);
    assert_eq!(
        alice.refresh(),
        successor,
        "the same successor is handed out again"
    );
    assert_eq!(alice.generation(), 1);
    assert_eq!(rotations(&gateway).await, 1.0);
    // Somebody else with the old token is served at most, and gets no cookie.
    let thief = alice.copy().at("127.0.0.66");
    thief.restore(old.clone());
    let answer = thief.get("/").await;
    assert!(!answer.sets_cookies());
    // Lost for good: after the window, the next try gets a newer generation, and nobody is logged out.
    alice.restore(old);
    gateway.clock().advance(PAST_GRACE);
    assert_eq!(alice.get("/").await.status, 200);
    assert_eq!(alice.generation(), 2);
    assert_eq!(alice.get("/").await.status, 200);
}

#[tokio::test]
async fn i04_a_late_answer_carries_no_cookies() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).with_clock().run();
    let alice = gateway.expired("alice").await;
    let before = alice.refresh();
    let slow = tokio::spawn({
        let alice = alice.clone();
        async move { alice.get("/gate").await }
    });
    crate::harness::wait::until("the app to have the request", async || {
        (!app.seen().is_empty()).then_some(())
    })
    .await;
    // The app takes longer than a third of the window: its answer must not put a pair into the jar that may be spent.
    gateway.clock().advance(Duration::from_secs(12));
    app.open_gate(1);
    let late = slow.await.unwrap();
    assert_eq!((late.status, late.sets_cookies()), (200, false));
    assert_eq!(alice.refresh(), before);
    // The next ones are served again, and once the window is over one brings a newer pair.
    let next = alice.get("/").await;
    assert_eq!((next.status, next.sets_cookies()), (200, false));
    assert_eq!(rotations(&gateway).await, 1.0);
    gateway.clock().advance(PAST_GRACE);
    let next = alice.get("/").await;
    assert_eq!((next.status, next.sets_cookies()), (200, true));
    assert_eq!(alice.generation(), 2);
}

#[tokio::test]
async fn i05_grace_does_not_span_generations() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).with_clock().run();
    let alice = gateway.expired("alice").await;
    let first = alice.copy();
    assert_eq!(alice.get("/").await.status, 200);
    alice.drop_cookie(ACCESS);
    assert_eq!(alice.get("/").await.status, 200);
    assert_eq!(alice.generation(), 2);
    // R0 after R2 was issued, all within seconds.
    assert_eq!(first.get("/").await.status, 401);
    assert_eq!(
        alice.copy().get("/").await.status,
        401,
        "the family is revoked"
    );
    alice.drop_cookie(ACCESS);
    assert_eq!(alice.get("/").await.status, 401);
}

#[tokio::test]
async fn i06_there_is_no_grace_after_logout() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).with_clock().run();
    let alice = gateway.expired("alice").await;
    let parent = alice.copy();
    assert_eq!(alice.get("/").await.status, 200);
    let newest = alice.copy();
    alice.sign_out().await;
    app.forget();
    for stale in [parent, newest] {
        stale.drop_cookie(ACCESS);
        let answer = stale.get("/").await;
        assert_eq!(answer.status, 401);
        assert!(stale.access().is_none());
    }
    assert!(app.seen().is_empty());
}

#[tokio::test]
async fn i10_a_body_waits_for_the_renewal_and_arrives_once() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).with_clock().run();
    let body = blob_bytes(0, 10 << 20);
    let wanted = sha256(&body);
    for h2 in [false, true] {
        let alice = gateway.expired("alice").await;
        app.forget();
        let ask = as_fetch(Ask::post("/upload", body.clone()));
        let answer = if h2 {
            alice.send_on(&gateway.door().h2().await, ask).await
        } else {
            alice.send(ask).await
        };
        assert_eq!(answer.status, 200, "{}", answer.text());
        let seen = app.only();
        assert_eq!(
            (seen.body_len, seen.body_hash.as_str()),
            (10 << 20, wanted.as_str())
        );
        assert_eq!(seen.one("x-forwarded-user"), Some("alice"));
        assert_eq!(alice.generation(), 1);
    }
}

#[tokio::test]
async fn i11_an_answer_with_our_cookies_is_for_no_shared_cache() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).with_clock().run();
    let body = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nCache-Control: public, max-age=3600, s-maxage=9999\r\nExpires: Thu, 01 Jan 2099 00:00:00 GMT\r\n\r\nok";
    app.script("/asset.js", body);
    let alice = gateway.expired("alice").await;
    let renewed = alice.get("/asset.js").await;
    assert!(renewed.sets_cookies());
    let cache = renewed.all("cache-control").join(",").to_ascii_lowercase();
    assert!(
        cache.contains("private") || cache.contains("no-store"),
        "{cache}"
    );
    assert!(
        !cache.contains("public") && !cache.contains("s-maxage"),
        "{cache}"
    );
    // Without cookies of ours the app's word stands.
    let plain = alice.get("/asset.js").await;
    assert!(!plain.sets_cookies());
    assert_eq!(
        plain.header("cache-control"),
        Some("public, max-age=3600, s-maxage=9999")
    );
}

#[tokio::test]
async fn i12_a_session_ends_at_its_absolute_age_however_busy_it_is() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).with_clock().run();
    let alice = gateway.signed_in("alice").await;
    let day = Duration::from_secs(86_400);
    for round in 1..=8 {
        gateway.clock().advance(day * 10);
        alice.drop_cookie(ACCESS);
        let answer = alice.get("/").await;
        assert_eq!(answer.status, 200, "after {} days", round * 10);
        // Use it once more, as a browser would: the new pair is acknowledged.
        assert_eq!(alice.get("/").await.status, 200);
        assert_eq!(alice.generation(), round);
    }
    // The last access token never outlives the session.
    gateway.clock().advance(day * 10 - Duration::from_secs(60));
    alice.drop_cookie(ACCESS);
    assert_eq!(alice.get("/").await.status, 200);
    let left = claims(&alice.access().unwrap())["exp"].as_i64().unwrap() - gateway.now();
    assert!(
        left <= 60,
        "an access token lives {left} s at the end of its session"
    );
    gateway.clock().advance(Duration::from_secs(90));
    assert_eq!(alice.get("/").await.status, 401);
    alice.drop_cookie(ACCESS);
    assert_eq!(alice.get("/").await.status, 401);
    // And an idle one ends after idle_ttl.
    let bob = gateway.signed_in("bob").await;
    gateway.clock().advance(day * 14 + Duration::from_secs(1));
    bob.drop_cookie(ACCESS);
    assert_eq!(bob.get("/").await.status, 401);
}
