//! R13: the wall clock is stepped under the running gateway (timers run on). Nobody is signed out who is not
//! over, nothing that was over comes back, and operators are told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;

use crate::harness::browser::{Browser, as_fetch};
use crate::harness::nodes::patiently;
use crate::harness::redis::RedisServer;
use crate::harness::wait::until;
use crate::harness::{ACCESS, App, Ask, Gateway, PASSWORD, REFRESH};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const PAST_GRACE: i64 = 40_000;

/// Waits until the gateway has seen so many steps of this kind.
async fn seen(gateway: &Gateway, change: &str, steps: f64) {
    let label = format!("change=\"{change}\"");
    until(&format!("{steps} steps {change}"), async || {
        let counted = gateway
            .metric("vestibule_clock_steps_total", &[&label])
            .await;
        (counted >= steps).then_some(())
    })
    .await;
}

/// Steps the clock and waits until the gateway has noticed.
async fn step(gateway: &Gateway, millis: i64) {
    let change = if millis > 0 { "forward" } else { "backward" };
    let label = format!("change=\"{change}\"");
    let before = gateway
        .metric("vestibule_clock_steps_total", &[&label])
        .await;
    gateway.clock().step(millis);
    seen(gateway, change, before + 1.0).await;
}

async fn crowd(gateway: &Gateway) -> Vec<Browser> {
    let mut browsers = Vec::new();
    for user in ["alice", "bob", "alice", "bob"] {
        browsers.push(gateway.signed_in(user).await);
    }
    browsers
}

/// Everybody is served, with all cookies and with the refresh token alone.
async fn all_are_in(browsers: &[Browser], when: &str) {
    for browser in browsers {
        let answer = browser.get("/").await;
        assert_eq!(answer.status, 200, "{when}: {}", answer.text());
        browser.drop_cookie(ACCESS);
        let answer = browser.get("/").await;
        assert_eq!(answer.status, 200, "{when}, renewed: {}", answer.text());
        assert!(browser.access().is_some(), "{when}: no new pair");
    }
}

async fn is_ready(gateway: &Gateway) {
    let (status, body) = gateway.admin("/ready").await;
    assert_eq!(status, 200, "{body}");
}

fn access_only(browser: &Browser) -> Browser {
    let copy = browser.copy();
    copy.drop_cookie(REFRESH);
    copy
}

fn refresh_only(browser: &Browser) -> Browser {
    let copy = browser.copy();
    copy.drop_cookie(ACCESS);
    copy
}

#[tokio::test]
async fn r13_an_hour_and_a_day_forward_and_back_sign_nobody_out() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).with_clock().run();
    let browsers = crowd(&gateway).await;
    all_are_in(&browsers, "before").await;
    for hours in [1, 25, -1, -25] {
        step(&gateway, hours * HOUR).await;
        all_are_in(&browsers, &format!("after {hours:+} h")).await;
        is_ready(&gateway).await;
        let way = if hours > 0 { "forward" } else { "backward" };
        gateway
            .until_logged(&["\"audit\"", "clock_stepped", way])
            .await;
        gateway
            .until_logged(&["ERROR", "the wall clock was stepped", way])
            .await;
    }
    let fresh = gateway.signed_in("alice").await;
    all_are_in(&[fresh], "signed in afterwards").await;
    assert!(gateway.logged(&["\"replay\""]).is_empty());
}

#[tokio::test]
async fn r13_a_step_back_revives_nothing() {
    for back in [30_000, 6 * MINUTE, HOUR, 25 * HOUR] {
        let app = App::start().await;
        let gateway = Gateway::before(&app).with_clock().run();
        let over = gateway.signed_in("alice").await;
        let revoked = gateway.signed_in("bob").await;
        let spent = gateway.signed_in("bob").await;
        let live = gateway.signed_in("alice").await;
        // Seen, or the wait for the next step could take this one for it.
        step(&gateway, 6 * MINUTE).await;
        let before = spent.copy();
        let ended = revoked.copy();
        assert_eq!(revoked.get("/").await.status, 200);
        let ended_fresh = revoked.copy();
        assert_eq!(revoked.sign_out().await.status, 204);
        assert_eq!(spent.get("/").await.status, 200);
        assert_eq!(spent.get("/").await.status, 200);
        assert_eq!(live.get("/").await.status, 200);
        // The spent token is spent for good: its successor was received, and the grace is over.
        until("the acknowledgement", async || {
            let answer = refresh_only(&before).get("/").await;
            assert_eq!(answer.status, 200);
            (!answer.sets_cookies()).then_some(())
        })
        .await;
        step(&gateway, PAST_GRACE).await;
        assert_eq!(access_only(&over).get("/").await.status, 401);

        gateway.clock().step(-back);
        for round in 0..2 {
            let when = format!("{back} ms back, round {round}");
            assert_eq!(access_only(&over).get("/").await.status, 401, "{when}");
            for copy in [&ended, &ended_fresh] {
                assert_eq!(access_only(copy).get("/").await.status, 401, "{when}");
                assert_eq!(refresh_only(copy).get("/").await.status, 401, "{when}");
            }
            assert_eq!(live.get("/").await.status, 200, "{when}");
            // At first before the gateway may have looked at its clocks, then after it surely has.
            seen(&gateway, "backward", 1.0).await;
        }
        assert_eq!(refresh_only(&before).get("/").await.status, 401);
        gateway
            .until_logged(&["\"audit\"", "\"replay\"", "bob"])
            .await;
        assert_eq!(refresh_only(&live).get("/").await.status, 200);
    }
}

#[tokio::test]
async fn r13_a_jump_that_is_corrected_loses_no_session_and_leaves_no_token() {
    let app = App::start().await;
    let gateway = Gateway::before(&app)
        .with_clock()
        .session("idle_ttl = \"12h\"\nabsolute_ttl = \"24h\"")
        .run();
    let away = gateway.signed_in("alice").await;
    let busy = gateway.signed_in("alice").await;
    let out = gateway.signed_in("bob").await;
    let out_before = out.copy();
    assert_eq!(out.sign_out().await.status, 204);
    let before = busy.copy();

    step(&gateway, 25 * HOUR).await;
    // As far as anybody can tell, they are over. Their cookies are left alone: no program's answer clears them.
    let jar = away.jar();
    assert_eq!(away.get("/").await.status, 401);
    assert_eq!(away.jar(), jar);
    let ahead = gateway.signed_in("bob").await;
    let ended = gateway.signed_in("bob").await;
    let ended_before = ended.copy();
    let spent = ahead.copy();
    assert_eq!(refresh_only(&spent).get("/").await.status, 200);
    ahead.drop_cookie(ACCESS);
    assert_eq!(ahead.get("/").await.status, 200);
    let output = gateway.command(&["session", "revoke", "--user", "bob"]);
    assert!(output.status.success());

    gateway.clock().step(-25 * HOUR);
    seen(&gateway, "set_back", 1.0).await;
    gateway
        .until_logged(&["\"audit\"", "clock_stepped", "set_back"])
        .await;
    gateway.until_logged(&["\"audit\"", "key_rotated"]).await;
    is_ready(&gateway).await;
    // Whoever was over only by that clock is back, by the refresh token.
    for browser in [&away, &busy] {
        assert_eq!(browser.get("/").await.status, 200);
        assert_eq!(browser.generation(), 1);
    }
    // What ran out in that time has run out, what was ended is ended, what was issued then is void.
    assert_eq!(access_only(&before).get("/").await.status, 401);
    for copy in [&out_before, &ended_before, &ahead, &spent] {
        assert_eq!(access_only(copy).get("/").await.status, 401);
        assert_eq!(refresh_only(copy).get("/").await.status, 401);
    }
    // Ending all of bob's sessions by a clock that was ahead does not keep him out.
    until("bob to sign in again", async || {
        let answer = gateway.anon().sign_in("bob", PASSWORD, "/").await;
        (answer.status == 303).then_some(())
    })
    .await;
    let again = gateway.signed_in("bob").await;
    assert_eq!(again.get("/").await.status, 200);
    // And when that time really comes, nothing of it counts.
    gateway.clock().step(25 * HOUR);
    for copy in [&ended_before, &ahead, &spent] {
        assert_eq!(access_only(copy).get("/").await.status, 401);
    }
}

#[tokio::test]
async fn r13_a_token_spent_in_a_time_that_was_taken_back_stays_spent() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).with_clock().run();
    let alice = gateway.signed_in("alice").await;
    step(&gateway, HOUR).await;
    let parent = refresh_only(&alice);
    assert_eq!(alice.get("/").await.status, 200);
    assert_eq!(alice.get("/").await.status, 200);
    until("the acknowledgement", async || {
        let answer = parent.copy().get("/").await;
        assert_eq!(answer.status, 200);
        (!answer.sets_cookies()).then_some(())
    })
    .await;
    step(&gateway, PAST_GRACE).await;
    gateway.clock().step(-HOUR - PAST_GRACE);
    seen(&gateway, "set_back", 1.0).await;
    assert_eq!(parent.get("/").await.status, 401);
}

#[tokio::test]
async fn r13_a_step_back_during_renewals_and_grace_windows_signs_nobody_out() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).with_clock().run();
    let stop = Arc::new(AtomicBool::new(false));
    let renewals = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for user in ["alice", "bob", "alice"] {
        let browser = gateway.signed_in(user).await;
        let (stop, renewals) = (Arc::clone(&stop), Arc::clone(&renewals));
        tasks.push(tokio::spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                renew_with_stragglers(&browser).await;
                renewals.fetch_add(1, Ordering::SeqCst);
            }
            browser
        }));
    }
    for (round, millis) in [
        -HOUR,
        HOUR,
        -6 * MINUTE,
        6 * MINUTE,
        -25 * HOUR,
        25 * HOUR,
        -HOUR,
    ]
    .into_iter()
    .enumerate()
    {
        let before = renewals.load(Ordering::SeqCst);
        gateway.clock().step(millis);
        until("renewals to go on", async || {
            let crashed = tasks.iter().any(tokio::task::JoinHandle::is_finished);
            assert!(!crashed, "somebody was signed out in round {round}");
            (renewals.load(Ordering::SeqCst) >= before + 6).then_some(())
        })
        .await;
    }
    stop.store(true, Ordering::SeqCst);
    for task in tasks {
        assert_eq!(task.await.unwrap().get("/").await.status, 200);
    }
    let replays = gateway.metric("vestibule_replays_total", &[]).await;
    assert_eq!(replays, 0.0);
}

/// Eight requests at once with the refresh token alone; one more with the same token after its successor was received.
async fn renew_with_stragglers(browser: &Browser) {
    let connection = browser.door.h2().await;
    browser.drop_cookie(ACCESS);
    let parent = browser.copy();
    let ask = || browser.dress(as_fetch(Ask::get("/")));
    let asks: Vec<_> = (0..8).map(|_| connection.ask(ask())).collect();
    for answer in join_all(asks).await {
        assert_eq!(answer.status, 200, "{}", answer.text());
        browser.take_cookies(&answer);
    }
    assert_eq!(browser.get("/").await.status, 200);
    assert_eq!(parent.get("/").await.status, 200, "in the grace window");
}

#[tokio::test]
async fn r13_timers_run_on_monotonic_time() {
    let app = App::start().await;
    let gateway = Gateway::before(&app)
        .with_clock()
        .limits("header_timeout = \"2s\"\nidle_timeout = \"10m\"")
        .run();
    // A step does not end a connection that is within its time, nor lengthen the life of one that is not.
    for millis in [25 * HOUR, -25 * HOUR, -HOUR] {
        let alice = gateway.signed_in("alice").await;
        let connection = gateway.door().h2().await;
        gateway.clock().step(millis);
        let answer = alice.send_on(&connection, as_fetch(Ask::get("/"))).await;
        assert_eq!(answer.status, 200);
        let started = std::time::Instant::now();
        gateway
            .door()
            .raw(b"GET / HTTP/1.1\r\nHo", Duration::from_secs(60))
            .await;
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(1900), "{took:?}");
    }
}

#[tokio::test]
async fn r13_the_clock_of_a_shared_store_says_whom_to_believe() {
    let app = App::start().await;
    let redis = RedisServer::start();
    let one = Gateway::before(&app)
        .with_clock()
        .store(&redis.store_lines())
        .run();
    let other = Gateway::before(&app).store(&redis.store_lines()).run();
    one.add_user("carol", &[]);
    let carol = one.signed_in("carol").await;

    // This node's wall clock goes wrong: sessions go on on both nodes, in turns.
    step(&one, -HOUR).await;
    for _ in 0..10 {
        for node in [&one, &other] {
            let mut there = carol.clone();
            there.door = node.door();
            there.drop_cookie(ACCESS);
            let answer = patiently(async || there.get("/").await).await;
            assert_eq!(answer.status, 200);
            // Seen by the other node, too: it is no token of another time.
            let answer = patiently(async || there.get("/").await).await;
            assert_eq!(answer.status, 200);
        }
    }
    let ahead = one.metric("vestibule_clock_ahead_seconds", &[]).await;
    assert!((3590.0..=3601.0).contains(&ahead), "{ahead}");
    assert_eq!(one.metric("vestibule_replays_total", &[]).await, 0.0);
    assert_eq!(other.metric("vestibule_replays_total", &[]).await, 0.0);

    // From two hours ahead to one: nearer to the truth, though not where it was.
    step(&one, HOUR).await;
    step(&one, 2 * HOUR).await;
    step(&one, -HOUR).await;
    seen(&one, "set_back", 1.0).await;
    until("a renewal on the other node", async || {
        let mut there = carol.clone();
        there.door = other.door();
        there.drop_cookie(ACCESS);
        (there.get("/").await.status == 200).then_some(())
    })
    .await;
}
