//! Signing in with a name and a password: the page, the mistakes, and those who guess.

use std::time::Duration;

use futures_util::future::join_all;

use crate::harness::browser::{as_fetch, sign_in_form};
use crate::harness::{ACCESS, App, Ask, Browser, Gateway, PASSWORD};

#[tokio::test]
async fn the_page_needs_no_script_and_can_be_framed_by_nobody() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    for path in ["/.auth/login?rd=/x", "/.auth/logout"] {
        let page = gateway.anon().navigate(path).await;
        assert_eq!(page.status, 200, "{path}");
        let policy = page.header("content-security-policy").expect("a policy");
        assert!(
            policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe-inline"), "{policy}");
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
        assert!(
            page.header("cache-control")
                .is_some_and(|cache| cache.contains("no-store"))
        );
        let text = page.text();
        assert!(
            !text.contains("<script") && !text.contains("onclick") && !text.contains("style="),
            "{text}"
        );
        assert!(text.contains("<label") || path.contains("logout"));
        assert!(text.contains("name=\"viewport\""), "it fits a phone");
    }
    // What the page links to exists.
    let page = gateway.anon().navigate("/.auth/login").await.text();
    let mut assets = 0;
    for link in page
        .split(['"', '\''])
        .filter(|link| link.starts_with("/.auth/assets/"))
    {
        assert_eq!(gateway.anon().get(link).await.status, 200, "{link}");
        assets += 1;
    }
    assert!(assets > 0);
}

#[tokio::test]
async fn the_page_speaks_the_browsers_language() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    for (accepted, language, word) in [
        ("ko-KR,ko;q=0.9,en;q=0.8", "ko", "비밀번호"),
        ("en-US,en;q=0.9", "en", "Password"),
        ("fr-FR,fr;q=0.9", "en", "Password"),
        ("en;q=0.1, ko", "ko", "비밀번호"),
    ] {
        let page = gateway
            .anon()
            .send(
                Ask::get("/.auth/login")
                    .header("accept-language", accepted)
                    .header("accept", "text/html"),
            )
            .await;
        assert!(
            page.text().contains(&format!("<html lang=\"{language}\"")),
            "{accepted}"
        );
        assert!(page.text().contains(word), "{accepted}");
        let vary = page.all("vary").join(",").to_ascii_lowercase();
        assert!(
            vary.contains("accept-language")
                || page.header("cache-control").unwrap().contains("no-store")
        );
    }
}

#[tokio::test]
async fn an_unknown_name_looks_and_costs_like_a_wrong_password() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let mut costs = [0, 0];
    let mut pages = [String::new(), String::new()];
    // In turn, from several addresses, so that no throttle answers instead.
    for round in 1..=6 {
        for (i, user) in ["bobb", "bob"].into_iter().enumerate() {
            let browser = gateway.anon().at(&format!("127.0.2.{round}"));
            let before = gateway.ticks();
            let answer = browser.sign_in(user, "a wrong password", "/").await;
            costs[i] += gateway.ticks() - before;
            assert_eq!(answer.status, 401, "{}", answer.text());
            pages[i] = answer
                .text()
                .replace(&format!("value=\"{user}\""), "value=\"\"");
            assert!(!answer.sets_cookies());
            assert!(
                !answer.text().contains("a wrong password"),
                "the password is sent back"
            );
        }
    }
    assert_eq!(
        pages[0], pages[1],
        "the page tells whether the account exists"
    );
    // Processor time, which does not depend on what else the machine does; a hash is several ticks of 10 ms.
    let [unknown, known] = costs;
    assert!(
        unknown >= 6,
        "six attempts cost {unknown} ticks: no password was hashed"
    );
    assert!(
        unknown * 2 >= known && known * 2 >= unknown,
        "unknown {unknown}, known {known}"
    );
}

#[tokio::test]
async fn n03_who_guesses_waits_and_nobody_else_does() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).with_clock().run();
    let guesser = gateway.anon().at("127.0.0.66");
    guess_until_told_to_wait(&gateway, &guesser, |_, ask| ask).await;
    // Even the right password has to wait there: otherwise guessing would go on.
    assert_eq!(guesser.sign_in("alice", PASSWORD, "/").await.status, 429);
    // She herself, elsewhere, does not; nor does anybody else.
    assert_eq!(
        gateway.anon().sign_in("alice", PASSWORD, "/").await.status,
        303
    );
    assert_eq!(
        gateway
            .anon()
            .at("127.0.0.67")
            .sign_in("bob", PASSWORD, "/")
            .await
            .status,
        303
    );
    gateway
        .until_logged(&["audit", "sign_in_refused", "127.0.0.66"])
        .await;
}

/// Guesses alice's password until the wait is long enough to be met by every request of a slow machine; `dress` is told
/// the number of the guess.
pub async fn guess_until_told_to_wait(
    gateway: &Gateway,
    guesser: &Browser,
    dress: impl Fn(usize, Ask) -> Ask,
) {
    let mut refused = 0;
    for guess in 0..60 {
        let form = sign_in_form("alice", &format!("guess {guess}"), "/");
        let answer = guesser.send(dress(guess, form)).await;
        if answer.status == 429 {
            let told = answer.header("retry-after").expect("Retry-After");
            let wait: u64 = told.parse().unwrap();
            assert!(wait >= 1);
            if wait > 100 {
                assert!(refused >= 4, "some guesses are free");
                return;
            }
            gateway.clock().advance(Duration::from_secs(wait));
        } else {
            assert_eq!(answer.status, 401, "guess {guess}");
            refused += 1;
        }
    }
    panic!("who guesses is never told to wait");
}

#[tokio::test]
async fn n03_a_storm_of_sign_ins_stops_no_request() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let alice = gateway.signed_in("alice").await;
    let storm = join_all((0..60).map(|i| {
        let stranger = gateway.anon().at(&format!("127.0.1.{}", i % 20 + 1));
        async move {
            stranger
                .sign_in(&format!("user-{i}"), "whatever it is", "/")
                .await
                .status
        }
    }));
    let line = gateway.door().h2().await;
    let before = (gateway.ticks(), gateway.serving_ticks());
    // As people ask: it is not this that costs.
    let calmly = async || {
        tokio::time::sleep(Duration::from_millis(20)).await;
        alice.send_on(&line, as_fetch(Ask::get("/"))).await
    };
    let mut storm = std::pin::pin!(storm);
    let mut served = 0;
    let statuses = loop {
        tokio::select! {
            statuses = &mut storm => break statuses,
            answer = calmly() => {
                assert_eq!(answer.status, 200);
                served += 1;
            }
        }
    };
    assert!(
        statuses
            .iter()
            .all(|status| matches!(status, 401 | 429 | 503)),
        "{statuses:?}"
    );
    assert!(served > 0, "nobody was served meanwhile");
    // Nobody hashes on a thread that serves requests: by processor time, which does not depend on what else the machine does.
    let (all, serving) = (
        gateway.ticks() - before.0,
        gateway.serving_ticks() - before.1,
    );
    assert!(
        serving * 2 < all,
        "{serving} of {all} ticks were spent where requests are served"
    );
}

#[tokio::test]
async fn forms_that_are_no_forms() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let form = |body: &str| {
        Ask::post("/.auth/login", body.to_owned())
            .header("content-type", "application/x-www-form-urlencoded")
    };
    let right = format!(
        "username=alice&password={}",
        PASSWORD.replace(' ', "+").replace('!', "%21")
    );
    assert_eq!(
        gateway.anon().send(form(&right)).await.status,
        303,
        "the measure of all others"
    );
    for body in [
        "",
        "username=alice",
        "password=x",
        "username=alice&password=",
        "username=&password=x",
        "username=alice&username=bob&password=x",
        &format!("{right}&password=x"),
        "username=%ff&password=x",
        "username=%&password=x",
        "&&&",
        "=",
        "username=a%00b&password=x",
        &format!("{right}&rd=/a&rd=/b"),
    ] {
        let answer = gateway.anon().send(form(body)).await;
        assert!(
            (400..500).contains(&answer.status),
            "{body:?}: {}",
            answer.status
        );
        assert!(!answer.sets_cookies());
    }
    let large = gateway
        .anon()
        .send(form(&format!(
            "username=alice&password={}",
            "x".repeat(2 << 20)
        )))
        .await;
    assert!(matches!(large.status, 400 | 413), "{}", large.status);
    let json = Ask::post("/.auth/login", r#"{"username":"alice","password":"x"}"#)
        .header("content-type", "application/json");
    assert!(matches!(gateway.anon().send(json).await.status, 400 | 415));
    assert!(gateway.logged(&["panicked"]).is_empty());
}

#[tokio::test]
async fn each_sign_in_is_a_new_session() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let victim = gateway.anon();
    let planted = gateway.signed_in("bob").await;
    victim.restore(planted.jar());
    let answer = victim.sign_in("alice", PASSWORD, "/").await;
    assert_eq!(answer.status, 303);
    assert_ne!(victim.session(), planted.session());
    assert_eq!(victim.get("/").await.status, 200);
    assert_eq!(app.last().one("x-forwarded-user"), Some("alice"));
    // What was in the jar before is over, wherever else it is.
    assert_eq!(planted.get("/").await.status, 401);
    assert!(victim.cookie(ACCESS).is_some());
}

#[tokio::test]
async fn a_slow_sign_in_brings_its_cookies_all_the_same() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).with_clock().run();
    let alice = gateway.anon();
    let signing_in = tokio::spawn({
        let alice = alice.clone();
        async move { alice.sign_in("alice", PASSWORD, "/").await }
    });
    // While the password waits for its hash, time flies: more than a third of the redelivery window.
    while !signing_in.is_finished() {
        gateway.clock().advance(Duration::from_secs(2));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let answer = signing_in.await.unwrap();
    assert_eq!((answer.status, answer.sets_cookies()), (303, true));
    assert_eq!(alice.get("/").await.status, 200);
}
