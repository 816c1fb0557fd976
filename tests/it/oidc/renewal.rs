//! What a provider says later: renewals ask it, seldom and once, live by its answer, and outlive its outages.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Map, Value, json};

use super::by;
use crate::harness::browser::as_fetch;
use crate::harness::client::Answer;
use crate::harness::clock::WallClock;
use crate::harness::nodes::patiently_with_the_store;
use crate::harness::wait::until;
use crate::harness::{ACCESS, App, Ask, Browser, Gateway, Nodes, Person, Provider, Rogue};

/// Longer than a check is good for, and than an access token lives.
const PAST_CHECK: Duration = Duration::from_secs(20 * 60);
/// Nobody is renewed without an answer.
const NO_GRACE: &str = "provider_grace = \"0s\"";

/// A provider, an app and a gateway that live under one clock.
struct World {
    app: App,
    provider: Provider,
    gateway: Gateway,
    clock: Arc<WallClock>,
}

impl World {
    async fn with(lines: &str) -> Self {
        let clock = WallClock::shared();
        let app = App::start().await;
        let provider = Provider::with().clock(&clock).start();
        let gateway = by(&app, &provider.table("corp", lines)).clock(&clock).run();
        provider.knows(&gateway).await;
        World {
            app,
            provider,
            gateway,
            clock,
        }
    }

    async fn signed_in(&self, login: &str) -> Browser {
        let browser = self.gateway.anon().signed_in_by("corp", login).await;
        self.provider.forget().await;
        browser
    }

    /// Time passes, and the browser no longer sends its access token.
    fn later(&self, browser: &Browser) {
        self.clock.advance(PAST_CHECK);
        browser.drop_cookie(ACCESS);
    }

    async fn until_refreshed(&self, times: usize) {
        until(&format!("{times} checks"), async || {
            let answered = self.provider.count("token.answered").await;
            (answered >= times).then_some(())
        })
        .await;
    }
}

/// Refused for now: nothing is changed in the browser, and it is told when to come back.
fn for_now(answer: &Answer, what: &str) {
    assert_eq!(answer.status, 503, "{what}: {}", answer.text());
    assert!(answer.header("retry-after").is_some(), "{what}");
    assert!(!answer.sets_cookies(), "{what}");
}

#[tokio::test]
async fn a_young_check_is_not_repeated_and_an_old_one_is_in_the_background() {
    let world = World::with("").await;
    let alice = world.signed_in("alice").await;
    for _ in 0..2 {
        world.gateway.outlive_access_token();
        alice.drop_cookie(ACCESS);
        assert_eq!(alice.get("/").await.status, 200);
    }
    assert_eq!(world.provider.refreshes().await, 0, "twelve minutes");
    // Once it is due nobody waits for it.
    world
        .provider
        .faults(json!({ "token": { "hold": true } }))
        .await;
    world.later(&alice);
    assert_eq!(alice.get("/").await.status, 200);
    world.provider.until_called("token").await;
    assert_eq!(alice.get("/").await.status, 200);
    world.provider.release().await;
    world.until_refreshed(1).await;
    world.provider.faults(json!({})).await;
    // And it was kept: the next one is due in a while only.
    world.gateway.outlive_access_token();
    alice.drop_cookie(ACCESS);
    assert_eq!(alice.get("/").await.status, 200);
    assert_eq!(world.provider.refreshes().await, 1);
}

#[tokio::test]
async fn what_the_provider_says_of_somebody_now_holds_from_then_on() {
    let world = World::with(NO_GRACE).await;
    let alice = world.signed_in("alice").await;
    assert_eq!(alice.get("/staff").await.status, 200);
    assert_eq!(alice.get("/admin").await.status, 403);
    let changed = json!({ "alice": {
        "groups": ["admins"], "email": "a@new.example", "email_verified": true, "name": "Alice Hargreaves",
    }});
    world.provider.set_accounts(changed).await;
    assert_eq!(alice.get("/staff").await.status, 200, "until it is asked");
    world.later(&alice);
    assert_eq!(alice.get("/staff").await.status, 403);
    assert_eq!(alice.get("/admin").await.status, 200);
    let seen = world.app.last();
    assert_eq!(seen.one("x-forwarded-groups"), Some("admins"));
    assert_eq!(seen.one("x-forwarded-email"), Some("a@new.example"));
    assert_eq!(seen.one("x-forwarded-user"), Some("alice"));
    // Somebody whom the rules no longer allow is out.
    let world = World::with(&format!("{NO_GRACE}\nallow = {{ groups = [\"staff\"] }}\n")).await;
    let alice = world.signed_in("alice").await;
    let nobody = json!({ "alice": { "groups": ["strangers"] } });
    world.provider.set_accounts(nobody).await;
    world.later(&alice);
    assert_eq!(alice.get("/").await.status, 401);
    assert_eq!(alice.navigate("/").await.status, 303);
    assert!(alice.refresh().is_none());
}

#[tokio::test]
async fn o07_each_check_spends_another_refresh_token() {
    let world = World::with(NO_GRACE).await;
    let alice = world.signed_in("alice").await;
    for round in 1..=4 {
        world.later(&alice);
        assert_eq!(alice.get("/").await.status, 200, "round {round}");
    }
    let calls = world.provider.calls().await;
    let mut spent: Vec<_> = calls.iter().filter_map(|call| call.refresh()).collect();
    assert_eq!(spent.len(), 4);
    spent.sort_unstable();
    spent.dedup();
    assert_eq!(spent.len(), 4, "a spent token was presented again");
    assert!(calls.iter().all(|call| call.endpoint() != "grant.error"));
}

/// Twenty requests at once on three nodes, whose renewal is due; the provider takes fifteen seconds. How long they took.
async fn twenty_on_three(lines: &str) -> (Nodes, Provider, Duration) {
    let clock = WallClock::shared();
    let app = App::start().await;
    let provider = Provider::with().clock(&clock).start();
    let setup = by(&app, &provider.table("corp", lines)).clock(&clock);
    let nodes = Nodes::three(setup).await;
    let alice = nodes.anon().signed_in_by("corp", "alice").await;
    provider.forget().await;
    clock.advance(PAST_CHECK);
    alice.drop_cookie(ACCESS);
    provider
        .faults(json!({ "token": { "delay": 15_000 } }))
        .await;
    let started = Instant::now();
    let answers = join_all((0..20).map(|i| {
        let there = nodes.through(&alice, i % 3);
        async move {
            let target = format!("/{i}");
            patiently_with_the_store(async || there.get(&target).await).await
        }
    }))
    .await;
    let took = started.elapsed();
    for answer in &answers {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    // All that was going to be asked has been.
    until("the answer", async || {
        (provider.count("token.answered").await > 0).then_some(())
    })
    .await;
    provider.faults(json!({})).await;
    // The session is good on every node.
    for node in 0..3 {
        assert_eq!(nodes.get(&alice, node, "/after").await.status, 200);
    }
    (nodes, provider, took)
}

#[tokio::test]
async fn i07_a_slow_provider_gets_one_call_for_everybody_who_waits() {
    let (_nodes, provider, took) = twenty_on_three(NO_GRACE).await;
    assert!(took > Duration::from_secs(14), "nobody waited: {took:?}");
    assert_eq!(provider.refreshes().await, 1);
}

#[tokio::test]
async fn i07_a_slow_provider_gets_one_call_and_nobody_waits_within_the_grace() {
    let mut tries = Vec::new();
    // Whoever waits does so every time; a busy machine is slow now and then.
    while tries.iter().all(|took| *took >= Duration::from_secs(12)) {
        assert!(tries.len() < 3, "they waited: {tries:?}");
        let (_nodes, provider, took) = twenty_on_three("").await;
        assert_eq!(provider.refreshes().await, 1);
        tries.push(took);
    }
}

#[tokio::test]
async fn i08_an_answer_that_the_store_cannot_take_is_not_lost() {
    for lines in [NO_GRACE, "provider_check = \"1s\""] {
        let clock = WallClock::shared();
        let app = App::start().await;
        let provider = Provider::with().clock(&clock).start();
        let setup = by(&app, &provider.table("corp", lines)).clock(&clock);
        let nodes = Nodes::run(1, setup).await;
        let alice = nodes.anon().signed_in_by("corp", "alice").await;
        provider.forget().await;
        clock.advance(PAST_CHECK);
        alice.drop_cookie(ACCESS);
        provider.faults(json!({ "token": { "hold": true } })).await;
        let (waiting, jar) = (alice.copy(), alice.jar());
        let waiting = tokio::spawn(async move { (waiting.get("/").await, waiting) });
        provider.until_called("token").await;
        // The provider spends the token; the store is gone when its answer comes.
        let background = lines != NO_GRACE;
        if background {
            let (answer, browser) = waiting.await.unwrap();
            assert_eq!(answer.status, 200, "in the background");
            alice.restore(browser.jar());
            nodes.networks[0].down();
            provider.release().await;
        } else {
            nodes.networks[0].down();
            provider.release().await;
            let (answer, browser) = waiting.await.unwrap();
            for_now(&answer, "foreground");
            assert_eq!(browser.jar(), jar, "nothing happened in the browser");
        }
        until("the answer has left", async || {
            (provider.count("token.answered").await == 1).then_some(())
        })
        .await;
        provider.faults(json!({})).await;
        nodes.networks[0].mend();
        let answer = nodes.get(&alice, 0, "/").await;
        assert_eq!(answer.status, 200, "{lines:?}: {}", answer.text());
        // What the provider gave then is what it is given next.
        for _ in 0..2 {
            // Sooner than a node that does not know better would give up the one that asks.
            clock.advance(match background {
                true => Duration::from_secs(360),
                false => PAST_CHECK,
            });
            let before = provider.refreshes().await;
            until("the next check", async || {
                alice.drop_cookie(ACCESS);
                let answer = nodes.get(&alice, 0, "/").await;
                assert_eq!(answer.status, 200, "{lines:?}: {}", answer.text());
                (provider.refreshes().await > before).then_some(())
            })
            .await;
        }
        let errors = provider.count("grant.error").await;
        assert_eq!(errors, 0, "{lines:?}: a spent token was presented");
        assert_eq!(nodes.get(&alice, 0, "/").await.status, 200);
    }
}

#[tokio::test]
async fn i08_an_answer_that_died_with_the_gateway_is_one_clean_sign_in() {
    let mut world = World::with(NO_GRACE).await;
    let alice = world.signed_in("alice").await;
    let bob = world.signed_in("bob").await;
    world.later(&alice);
    // Done there, and the answer never arrives anywhere.
    world
        .provider
        .faults(json!({ "token": { "hold": true } }))
        .await;
    let lost = alice.copy();
    let lost = tokio::spawn(async move { lost.try_send(as_fetch(Ask::get("/"))).await.is_err() });
    world.provider.until_called("token").await;
    world.provider.release().await;
    world.gateway.kill();
    let _ = lost.await.unwrap();
    world.provider.faults(json!({})).await;
    world.gateway.start_again();
    let back = |browser: &Browser| {
        let mut browser = browser.clone();
        browser.door = world.gateway.door();
        browser
    };
    let alice = back(&alice);
    // Whoever died first: she goes on, or signs in once; nobody is taken for a thief.
    let answer = until("an answer that is not for now", async || {
        let answer = alice.get("/").await;
        if answer.status == 503 {
            // Somebody asks, as far as anybody knows.
            for_now(&answer, "while the lease of the dead one lasts");
            world.clock.advance(Duration::from_secs(100));
            return None;
        }
        Some(answer)
    })
    .await;
    assert!(matches!(answer.status, 200 | 401), "{}", answer.status);
    if answer.status == 401 {
        let answer = alice.sign_in_by("corp", &Person::new(), "alice", "/").await;
        assert_eq!(answer.status, 303, "{}", answer.text());
    }
    assert_eq!(alice.get("/").await.status, 200);
    assert_eq!(back(&bob).get("/").await.status, 200, "and nobody else");
    assert!(world.gateway.logged(&["audit", "\"replay\""]).is_empty());
}

#[tokio::test]
async fn i09_only_a_definite_no_ends_a_session() {
    let world = World::with(NO_GRACE).await;
    let error = |status: u16, error: &str| json!({ "status": status, "body": json!({ "error": error }).to_string() });
    let unsure = [
        ("500", json!({ "status": 500 })),
        (
            "502 html",
            json!({ "status": 502, "body": "<html>", "headers": { "content-type": "text/html" } }),
        ),
        (
            "503",
            json!({ "status": 503, "headers": { "retry-after": "7" } }),
        ),
        (
            "429",
            json!({ "status": 429, "headers": { "retry-after": "3" } }),
        ),
        ("cut", json!({ "cut": true })),
        (
            "302",
            json!({ "status": 302, "headers": { "location": "https://evil.example/" } }),
        ),
        (
            "200 html",
            json!({ "status": 200, "body": "<html>", "headers": { "content-type": "text/html" } }),
        ),
        (
            "200 half",
            json!({ "status": 200, "body": "{\"access_token\":" }),
        ),
        ("invalid_client", error(401, "invalid_client")),
        ("invalid_request", error(400, "invalid_request")),
        ("unauthorized_client", error(400, "unauthorized_client")),
        (
            "temporarily_unavailable",
            error(400, "temporarily_unavailable"),
        ),
        ("500 invalid_grant", error(500, "invalid_grant")),
        (
            "403",
            json!({ "status": 403, "body": "forbidden", "headers": { "content-type": "text/plain" } }),
        ),
    ];
    for (what, fault) in unsure {
        let alice = world.signed_in("alice").await;
        world.later(&alice);
        world.provider.faults(json!({ "token": fault })).await;
        let jar = alice.jar();
        let answer = alice.get("/").await;
        for_now(&answer, what);
        assert_eq!(alice.jar(), jar, "{what}");
        // A person sees a page that says so.
        let page = alice.navigate("/notes").await;
        for_now(&page, what);
        assert!(
            page.header("content-type")
                .unwrap()
                .starts_with("text/html")
        );
        world.provider.faults(json!({})).await;
        // A provider that is in trouble is left alone for a moment.
        world.clock.advance(Duration::from_secs(61));
        let answer = alice.get("/").await;
        assert_eq!(answer.status, 200, "{what}, mended: {}", answer.text());
    }
    let alice = world.signed_in("alice").await;
    world.later(&alice);
    world.provider.goes_away().await;
    for_now(&alice.get("/").await, "away");
    world.provider.comes_back().await;
    world.clock.advance(Duration::from_secs(61));
    assert_eq!(alice.get("/").await.status, 200);

    // The definite one.
    let other = alice.copy();
    world.later(&alice);
    world.provider.revoke("alice").await;
    let answer = alice.get("/").await;
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert_eq!(alice.navigate("/").await.status, 303);
    assert!(alice.access().is_none() && alice.refresh().is_none());
    assert_eq!(other.get("/").await.status, 401, "with whatever cookie");
    world
        .gateway
        .until_logged(&["audit", "alice", "provider"])
        .await;
    assert_eq!(
        world.gateway.metric("vestibule_replays_total", &[]).await,
        0.0
    );
}

#[tokio::test]
async fn i09_within_the_grace_no_trouble_of_the_provider_is_noticed() {
    let world = World::with("").await;
    let alice = world.signed_in("alice").await;
    for fault in [
        json!({ "token": { "status": 500 } }),
        json!({ "token": { "status": 429, "headers": { "retry-after": "30" } } }),
        json!({ "token": { "cut": true } }),
        json!({ "token": { "hang": true } }),
    ] {
        world.provider.faults(fault.clone()).await;
        let mut tries = Vec::new();
        // Whoever waits does so every time; a busy machine is slow now and then.
        while tries.iter().all(|took| *took >= Duration::from_secs(5)) {
            assert!(tries.len() < 3, "{fault}: waited {tries:?}");
            world.later(&alice);
            let started = Instant::now();
            for _ in 0..3 {
                assert_eq!(alice.get("/").await.status, 200, "{fault}");
                alice.drop_cookie(ACCESS);
            }
            tries.push(started.elapsed());
        }
    }
    assert!(world.provider.refreshes().await >= 3);
}

/// The name of the token endpoint has no address any more. It has a label of 64 octets, which no resolver asks anybody for
/// (RFC 1035, section 2.3.4): the test needs no network.
#[tokio::test]
async fn i09_a_name_that_does_not_resolve_signs_nobody_out() {
    let gone = format!("https://{}.invalid/token", "n".repeat(64));
    for (lines, status, told) in [
        (
            NO_GRACE,
            503,
            "whose grace is over; it is not renewed before",
        ),
        ("", 200, "goes on for its grace"),
    ] {
        let clock = WallClock::shared();
        let app = App::start().await;
        let rogue = Rogue::under(Some(clock.clone())).await;
        let mut gateway = by(&app, &rogue.table("corp", lines)).clock(&clock).run();
        let mut alice = gateway.anon().signed_in_by("corp", "-").await;
        // Metadata is read anew by a gateway that starts.
        let place = gone.clone();
        rogue.says("discovery", move |metadata| {
            metadata["token_endpoint"] = json!(place);
        });
        gateway.start_again();
        alice.door = gateway.door();
        clock.advance(PAST_CHECK);
        alice.drop_cookie(ACCESS);
        let jar = alice.jar();
        let answer = alice.get("/").await;
        match status {
            503 => {
                for_now(&answer, "no such name");
                assert_eq!(alice.jar(), jar);
            }
            _ => assert_eq!(answer.status, status, "{}", answer.text()),
        }
        gateway.until_logged(&["cannot be resolved", told]).await;
        assert!(gateway.logged(&["audit", "\"revoked\""]).is_empty());
        // The name is back, and so is she.
        rogue.repent();
        gateway.start_again();
        alice.door = gateway.door();
        clock.advance(PAST_CHECK);
        alice.drop_cookie(ACCESS);
        let answer = alice.get("/").await;
        assert_eq!(answer.status, 200, "mended: {}", answer.text());
    }
}

#[tokio::test]
async fn i09_a_provider_that_never_answers_is_not_waited_for_for_ever() {
    let world = World::with(NO_GRACE).await;
    let alice = world.signed_in("alice").await;
    world.later(&alice);
    world
        .provider
        .faults(json!({ "token": { "hang": true } }))
        .await;
    let started = Instant::now();
    for_now(&alice.get("/").await, "hangs");
    assert!(started.elapsed() < Duration::from_secs(40));
    // Whoever needs no renewal is not concerned.
    let public = world.gateway.anon().get("/public").await;
    assert_eq!(public.status, 200);
}

#[tokio::test]
async fn r10_an_outage_of_the_provider_signs_nobody_out() {
    let mut world = World::with("provider_grace = \"1h\"").await;
    let alice = world.signed_in("alice").await;
    let jar = alice.jar();
    world.provider.goes_away().await;
    // Live sessions go on: stateless, and renewed within the grace.
    assert_eq!(alice.get("/").await.status, 200);
    for _ in 0..3 {
        world.later(&alice);
        assert_eq!(alice.get("/").await.status, 200);
    }
    // After check and grace they wait, and are not destroyed.
    world.later(&alice);
    let kept = alice.jar();
    let renewed = |words: &str| world.gateway.logged(&[words]).len();
    assert_eq!(renewed("it is not renewed before"), 0);
    for_now(&alice.get("/").await, "after the grace");
    assert_eq!(alice.jar(), kept);
    // Asked again once the pause after the last attempt is over, and told as what it is.
    until("the log says that nothing is renewed", async || {
        world.clock.advance(Duration::from_secs(61));
        for_now(&alice.get("/").await, "still after the grace");
        (renewed("whose grace is over; it is not renewed before") > 0).then_some(())
    })
    .await;
    assert_ne!(kept, jar);
    // Nobody can sign in, and is told so.
    let browser = world.gateway.anon();
    let answer = browser.navigate("/.auth/login/corp?rd=/").await;
    if answer.status != 303 {
        for_now(&answer, "sign-in");
        super::page_of(&answer, "sign-in");
    }
    // A gateway that starts meanwhile serves all the same.
    world.gateway.start_again();
    let mut alice = alice;
    alice.door = world.gateway.door();
    assert_eq!(world.gateway.anon().get("/public").await.status, 200);
    let answer = world
        .gateway
        .anon()
        .navigate("/.auth/login/corp?rd=/")
        .await;
    for_now(&answer, "sign-in after a start without the provider");
    let page = super::page_of(&answer, "sign-in");
    assert!(page.contains("/.auth/login"), "a way to try again: {page}");
    for_now(&alice.get("/").await, "after a start without the provider");
    // It is back, and all is as it was.
    world.provider.comes_back().await;
    world.clock.advance(Duration::from_secs(61));
    let answer = until("the provider is found again", async || {
        let answer = alice.get("/").await;
        (answer.status != 503).then_some(answer)
    })
    .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    until("sign-in works again", async || {
        let answer = world
            .gateway
            .anon()
            .navigate("/.auth/login/corp?rd=/")
            .await;
        (answer.status == 303).then_some(())
    })
    .await;
    world.gateway.anon().signed_in_by("corp", "bob").await;
}

#[tokio::test]
async fn a_provider_without_refresh_tokens_is_asked_nothing_and_ends_nothing() {
    let clock = WallClock::shared();
    let app = App::start().await;
    let provider = Provider::with()
        .clock(&clock)
        .client(json!({ "grant_types": ["authorization_code"] }))
        .start();
    let gateway = by(&app, &provider.table("corp", NO_GRACE))
        .clock(&clock)
        .run();
    let alice = gateway.anon().signed_in_by("corp", "alice").await;
    provider.forget().await;
    for _ in 0..3 {
        clock.advance(PAST_CHECK);
        alice.drop_cookie(ACCESS);
        assert_eq!(alice.get("/").await.status, 200);
    }
    assert_eq!(provider.refreshes().await, 0);
}

#[tokio::test]
async fn a_person_who_is_another_one_now_is_not_let_in() {
    let clock = WallClock::shared();
    let app = App::start().await;
    let rogue = Rogue::under(Some(clock.clone())).await;
    let gateway = by(&app, &rogue.table("corp", NO_GRACE)).clock(&clock).run();
    // OpenID Connect Core, section 12.2: what a refreshed ID token must say as before, when there is one.
    let issuer = rogue.issuer.clone();
    type Lie = (&'static str, Box<dyn Fn(&mut Value) + Send + Sync>, bool);
    let lies: Vec<Lie> = vec![
        ("the same", Box::new(|_| {}), true),
        (
            "another sub",
            Box::new(|claims| claims["sub"] = json!("mallory")),
            false,
        ),
        (
            "another iss",
            Box::new(|claims| claims["iss"] = json!("https://evil.example")),
            false,
        ),
        (
            "another aud",
            Box::new(|claims| claims["aud"] = json!("somebody-else")),
            false,
        ),
        (
            "another azp",
            Box::new(|claims| claims["azp"] = json!("somebody-else")),
            false,
        ),
        (
            "expired",
            Box::new(|claims| claims["exp"] = json!(1)),
            false,
        ),
        (
            "issuer with a slash",
            Box::new(move |claims| claims["iss"] = json!(format!("{issuer}/"))),
            false,
        ),
    ];
    for (what, lie, good) in lies {
        rogue.repent();
        let alice = gateway.anon().signed_in_by("corp", "-").await;
        rogue.id_token(move |token| {
            if token.refreshed {
                lie(&mut token.claims);
            }
        });
        clock.advance(PAST_CHECK);
        alice.drop_cookie(ACCESS);
        app.forget();
        let answer = alice.get("/").await;
        assert_eq!(answer.status == 200, good, "{what}: {}", answer.status);
        assert_eq!(app.seen().len(), usize::from(good), "{what}");
    }
}

/// Takes out of an ID token's claims whatever they say of the person but who it is.
fn only_proof(claims: &mut Value) -> &mut Map<String, Value> {
    let claims = claims.as_object_mut().unwrap();
    for name in ["email", "email_verified", "name", "groups"] {
        claims.remove(name);
    }
    claims
}

/// A lying provider whose refreshed ID tokens are changed from now on.
struct Liar {
    app: App,
    rogue: Rogue,
    gateway: Gateway,
    clock: Arc<WallClock>,
}

impl Liar {
    async fn with(lines: &str) -> Self {
        let clock = WallClock::shared();
        let app = App::start().await;
        let rogue = Rogue::under(Some(clock.clone())).await;
        // Of its own accord it would say everything at userinfo.
        rogue.leaves_out("discovery", "userinfo_endpoint");
        let table = rogue.table("corp", &format!("{NO_GRACE}\n{lines}"));
        let gateway = by(&app, &table).clock(&clock).run();
        Liar {
            app,
            rogue,
            gateway,
            clock,
        }
    }

    /// Alice, whose next refreshed ID token says of her what is said here and nothing else.
    async fn later(&self, said: Value) -> (Browser, Answer) {
        let alice = self.gateway.anon().signed_in_by("corp", "-").await;
        self.rogue.id_token(move |token| {
            if token.refreshed {
                let claims = only_proof(&mut token.claims);
                claims.extend(said.as_object().unwrap().clone());
            }
        });
        self.clock.advance(PAST_CHECK);
        alice.drop_cookie(ACCESS);
        let answer = alice.get("/staff").await;
        (alice, answer)
    }
}

#[tokio::test]
async fn a_refreshed_id_token_that_is_only_proof_takes_nothing_away() {
    let liar = Liar::with("allow = { groups = [\"staff\"] }").await;
    // OpenID Connect Core, section 12.2: it need not say more.
    let (_, answer) = liar.later(json!({})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = liar.app.last();
    assert_eq!(seen.one("x-forwarded-groups"), Some("staff,writers"));
    assert_eq!(seen.one("x-forwarded-email"), Some("alice@example.com"));
    // One that says something of her says that she is in no group: that is how many providers take away somebody's last one.
    let (alice, answer) = liar.later(json!({ "name": "Alice Liddell" })).await;
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert_eq!(alice.navigate("/staff").await.status, 303);
}

#[tokio::test]
async fn a_refreshed_id_token_without_the_users_name_harms_no_session() {
    let liar = Liar::with("claims = { user = \"name\" }").await;
    // Nor does it take away a name or an address that it does not repeat; only the address that is denied is gone.
    let (_, answer) = liar
        .later(json!({ "groups": ["staff"], "email_verified": false }))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(liar.app.last().one("x-forwarded-email"), None);
    let (_, answer) = liar.later(json!({ "groups": ["staff"] })).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = liar.app.last();
    assert_eq!(seen.one("x-forwarded-groups"), Some("staff"));
    assert_eq!(seen.one("x-forwarded-user"), Some("Alice Liddell"));
    assert_eq!(seen.one("x-forwarded-email"), Some("alice@example.com"));
}

#[tokio::test]
async fn whose_name_is_an_address_that_is_denied_is_nobody_any_more() {
    let denied = json!({ "name": "Alice Liddell", "email_verified": false });
    let liar = Liar::with("claims = { user = \"email\" }").await;
    let (alice, answer) = liar.later(denied).await;
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert_eq!(alice.navigate("/staff").await.status, 303);
    // By userinfo, too, where a refresh brings no ID token.
    let clock = WallClock::shared();
    let rogue = Rogue::under(Some(clock.clone())).await;
    let table = rogue.table(
        "corp",
        &format!("{NO_GRACE}\nclaims = {{ user = \"email\" }}"),
    );
    let gateway = by(&liar.app, &table).clock(&clock).run();
    let alice = gateway.anon().signed_in_by("corp", "-").await;
    rogue.leaves_out("token", "id_token");
    rogue.says("userinfo", |claims| {
        claims["email_verified"] = json!(false);
    });
    clock.advance(PAST_CHECK);
    alice.drop_cookie(ACCESS);
    let answer = alice.get("/staff").await;
    assert_eq!(answer.status, 401, "{}", answer.text());
}

#[tokio::test]
async fn whose_groups_come_from_userinfo_loses_the_last_one_by_its_silence() {
    let clock = WallClock::shared();
    let app = App::start().await;
    let rogue = Rogue::under(Some(clock.clone())).await;
    let gateway = by(&app, &rogue.table("corp", NO_GRACE)).clock(&clock).run();
    let id_tokens_say_who_it_is_alone = || {
        rogue.id_token(|token| {
            only_proof(&mut token.claims);
        });
    };
    let userinfo_says_no_groups = || {
        rogue.leaves_out("userinfo", "groups");
    };
    let renewed = async |alice: &Browser| {
        clock.advance(PAST_CHECK);
        alice.drop_cookie(ACCESS);
        let answer = alice.get("/").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        app.last()
    };
    id_tokens_say_who_it_is_alone();
    let alice = gateway.anon().signed_in_by("corp", "/").await;
    let seen = renewed(&alice).await;
    assert_eq!(seen.one("x-forwarded-groups"), Some("staff,writers"));
    userinfo_says_no_groups();
    let seen = renewed(&alice).await;
    assert_eq!(seen.one("x-forwarded-groups"), None);
    assert_eq!(seen.one("x-forwarded-email"), Some("alice@example.com"));

    // Of somebody of whom it never named any, its silence says nothing: here the ID token of the sign-in did.
    rogue.repent();
    userinfo_says_no_groups();
    let alice = gateway.anon().signed_in_by("corp", "/").await;
    id_tokens_say_who_it_is_alone();
    let seen = renewed(&alice).await;
    assert_eq!(seen.one("x-forwarded-groups"), Some("staff,writers"));
    // Until it does.
    rogue.says("userinfo", |claims| claims["groups"] = json!(["staff"]));
    let seen = renewed(&alice).await;
    assert_eq!(seen.one("x-forwarded-groups"), Some("staff"));
    userinfo_says_no_groups();
    let seen = renewed(&alice).await;
    assert_eq!(seen.one("x-forwarded-groups"), None);
}

#[tokio::test]
async fn silence_about_groups_harms_nobody_where_no_app_is_told_them() {
    let clock = WallClock::shared();
    let app = App::start().await;
    let rogue = Rogue::under(Some(clock.clone())).await;
    rogue.leaves_out("userinfo", "groups");
    // Only the provider's own rule asks for a group.
    let table = rogue.table(
        "corp",
        &format!("{NO_GRACE}\nallow = {{ groups = [\"writers\"] }}"),
    );
    let gateway = by(&app, &table)
        .upstream("headers = { \"x-user\" = \"user\" }")
        .clock(&clock)
        .run();
    let alice = gateway.anon().signed_in_by("corp", "-").await;
    // Section 12.2 again: a refresh need not bring an ID token at all.
    rogue.leaves_out("token", "id_token");
    clock.advance(PAST_CHECK);
    alice.drop_cookie(ACCESS);
    let answer = alice.get("/staff").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}
