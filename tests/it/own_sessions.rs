//! `/.auth/sessions`: a person sees where they are signed in and ends any of it, and nobody else's.

use crate::attacks::open_socket;
use crate::harness::client::Answer;
use crate::harness::webdriver::{Chromium, Kind};
use crate::harness::{ACCESS, App, Ask, Browser, Gateway, ORIGIN, PASSWORD, REFRESH};

const PLACE: &str = "/.auth/sessions";

/// The list as programs get it.
async fn list(browser: &Browser) -> Vec<serde_json::Value> {
    let answer = browser
        .send(Ask::get(PLACE).header("accept", "application/json"))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()["sessions"].as_array().unwrap().clone()
}

/// The id of the browser's own session.
async fn own_id(browser: &Browser) -> String {
    let me = browser.get("/.auth/me").await.json();
    me["session"].as_str().unwrap().to_owned()
}

/// As the page's form is sent.
async fn submit(browser: &Browser, place: &str, body: &str) -> Answer {
    browser
        .send(
            Ask::post(place, body.to_owned())
                .header("content-type", "application/x-www-form-urlencoded")
                .header("sec-fetch-site", "same-origin")
                .header("sec-fetch-mode", "navigate")
                .header("accept", "text/html"),
        )
        .await
}

/// As a program sends it.
async fn post(browser: &Browser, place: &str, body: &str) -> Answer {
    browser
        .send(
            Ask::post(place, body.to_owned())
                .header("content-type", "application/x-www-form-urlencoded")
                .header("accept", "application/json"),
        )
        .await
}

#[tokio::test]
async fn a_person_sees_their_own_sessions_with_this_one_first() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).with_clock().run();
    let mut phone = gateway.anon().at("127.0.0.7");
    phone.user_agent =
        "Mozilla/5.0 (Android 14; Mobile; rv:144.0) Gecko/144.0 Firefox/144.0".to_owned();
    let phone = phone.signed_in_as("alice").await;
    gateway
        .clock()
        .advance(std::time::Duration::from_secs(86_400));
    // Seen again, two hours before anybody looks.
    phone.drop_cookie(ACCESS);
    assert_eq!(phone.get("/").await.status, 200);
    gateway
        .clock()
        .advance(std::time::Duration::from_secs(7300));
    let alice = gateway.signed_in("alice").await;
    let bob = gateway.signed_in("bob").await;

    let sessions = list(&alice).await;
    assert_eq!(sessions.len(), 2, "{sessions:?}");
    assert_eq!(sessions[0]["session"], own_id(&alice).await.as_str());
    assert_eq!(sessions[0]["current"], true);
    assert_eq!(sessions[1]["current"], false);
    assert_eq!(sessions[1]["browser"], "Firefox");
    assert_eq!(sessions[1]["system"], "Android");
    assert_eq!(sessions[1]["address"], "127.0.0.7");
    // First seen on one day, last seen on the next.
    let day = |name: &str| sessions[1][name].as_str().unwrap()[..10].to_owned();
    assert!(day("started_at") < day("last_seen_at"), "{sessions:?}");
    assert_eq!(list(&bob).await.len(), 1);

    let page = alice.navigate(PLACE).await;
    assert_eq!(page.status, 200);
    let text = page.text();
    assert!(text.contains("Firefox on Android") && text.contains("127.0.0.7"));
    assert!(text.contains("2 hours ago"), "{text}");
    assert!(!text.contains("<script"));
    for secret in [alice.access(), alice.refresh(), phone.refresh()] {
        assert!(!text.contains(&secret.unwrap()), "a token is on the page");
    }
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("form-action 'self'"));
    assert_eq!(page.header("cache-control"), Some("no-store"));
    // The sign-out page leads there.
    assert!(alice.navigate("/.auth/logout").await.text().contains(PLACE));
}

#[tokio::test]
async fn ending_one_ends_that_one_at_once_with_its_sockets() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let (alice, laptop, phone) = (
        gateway.signed_in("alice").await,
        gateway.signed_in("alice").await,
        gateway.signed_in("alice").await,
    );
    let mut socket = open_socket(&laptop, "/socket", ORIGIN).await.unwrap();
    let id = own_id(&laptop).await;

    let answer = submit(&alice, "/.auth/sessions/end", &format!("session={id}")).await;
    assert_eq!(answer.status, 303);
    assert_eq!(answer.header("location"), Some("/.auth/sessions?ended"));
    assert_eq!(laptop.get("/").await.status, 401);
    let left = tokio::time::timeout(
        crate::harness::wait::DEADLINE,
        futures_util::StreamExt::next(&mut socket),
    );
    assert!(
        !matches!(left.await.expect("the socket ends"), Some(Ok(message)) if message.is_text())
    );
    assert_eq!(phone.get("/").await.status, 200);
    assert_eq!(list(&alice).await.len(), 2);
    let line = gateway
        .until_logged(&["audit", "\"event\":\"revoked\"", &id])
        .await;
    let by = format!("\"by\":\"session {}\"", own_id(&alice).await);
    assert!(line.contains(&by) && line.contains("\"client\":"), "{line}");
    // The page says so, in whatever language.
    let page = alice.navigate("/.auth/sessions?ended").await.text();
    assert!(page.contains("role=\"status\""), "{page}");
}

#[tokio::test]
async fn ending_all_others_keeps_this_one_and_everybody_elses() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let alice = gateway.signed_in("alice").await;
    let bob = gateway.signed_in("bob").await;
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(gateway.signed_in("alice").await);
    }
    let answer = post(&alice, "/.auth/sessions/end-others", "").await;
    assert_eq!(
        (answer.status, answer.json()["ended"].as_u64()),
        (200, Some(3))
    );
    for other in &others {
        assert_eq!(other.copy().get("/").await.status, 401);
        other.drop_cookie(ACCESS);
        assert_eq!(other.get("/").await.status, 401);
    }
    assert_eq!(alice.get("/").await.status, 200);
    assert_eq!(bob.get("/").await.status, 200);
    let answer = submit(&alice, "/.auth/sessions/end-others", "").await;
    assert_eq!(
        answer.header("location"),
        Some("/.auth/sessions?others-ended")
    );
}

#[tokio::test]
async fn somebody_elses_session_is_answered_like_one_that_does_not_exist() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let alice = gateway.signed_in("alice").await;
    let bob = gateway.signed_in("bob").await;
    let foreign = own_id(&bob).await;
    let unknown = "AAAAAAAAAAAAAAAAAAAAAA";
    let strip = |answer: Answer| {
        let mut problem = answer.json();
        problem.as_object_mut().unwrap().remove("request_id");
        (answer.status, problem)
    };
    let mut answers = Vec::new();
    for id in [foreign.as_str(), unknown, "not an id", ""] {
        let body = format!("session={id}");
        answers.push(strip(post(&alice, "/.auth/sessions/end", &body).await));
        let page = submit(&alice, "/.auth/sessions/end", &body).await;
        assert_eq!(page.header("location"), Some("/.auth/sessions?gone"));
    }
    assert_eq!(answers[0].0, 404);
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(bob.get("/").await.status, 200);
    assert_eq!(post(&alice, "/.auth/sessions/end", "x=1").await.status, 400);
}

#[tokio::test]
async fn ending_this_session_is_signing_out() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let alice = gateway.signed_in("alice").await;
    let body = format!("session={}", own_id(&alice).await);
    let answer = submit(&alice, "/.auth/sessions/end", &body).await;
    assert_eq!(answer.header("location"), Some("/.auth/logout?done"));
    assert_eq!(alice.cookie_line(), None);
    gateway.until_logged(&["audit", "signed_out"]).await;
}

#[tokio::test]
async fn l02_another_site_cannot_end_sessions() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let alice = gateway.signed_in("alice").await;
    let other = gateway.signed_in("alice").await;
    let body = format!("session={}", own_id(&other).await);
    for place in ["/.auth/sessions/end", "/.auth/sessions/end-others"] {
        for headers in [
            [("origin", "https://evil.example")].as_slice(),
            &[("origin", "null")],
            &[("sec-fetch-site", "cross-site")],
            &[],
        ] {
            let ask = headers.iter().fold(
                Ask::new("POST", place)
                    .header("content-type", "application/x-www-form-urlencoded")
                    .body(body.clone()),
                |ask, (name, value)| ask.header(name, value),
            );
            assert_eq!(alice.send(ask).await.status, 403, "{place} {headers:?}");
        }
        assert_eq!(alice.get(place).await.status, 405);
    }
    assert_eq!(other.get("/").await.status, 200);
}

#[tokio::test]
async fn without_a_session_there_is_the_usual_challenge() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).with_clock().run();
    let anon = gateway.anon();
    let blocked = gateway.signed_in("bob").await;
    assert!(gateway.command(&["user", "block", "bob"]).status.success());
    for browser in [&anon, &blocked, &gateway.forged()] {
        let page = browser.navigate(PLACE).await;
        assert_eq!(page.status, 303);
        assert_eq!(
            page.header("location"),
            Some("/.auth/login?rd=/.auth/sessions")
        );
        assert_eq!(browser.get(PLACE).await.status, 401);
        let ended = submit(browser, "/.auth/sessions/end-others", "").await;
        assert_eq!(
            (ended.status, ended.header("location")),
            (303, Some("/.auth/login?rd=/.auth/sessions"))
        );
        assert_eq!(
            post(browser, "/.auth/sessions/end-others", "").await.status,
            401
        );
    }
    // Signing in leads back to it.
    let back = anon.sign_in("alice", PASSWORD, PLACE).await;
    assert_eq!(back.header("location"), Some(PLACE));
    // An access token that ran out is renewed here as anywhere.
    gateway.outlive_access_token();
    let before = anon.refresh();
    assert_eq!(anon.navigate(PLACE).await.status, 200);
    assert_ne!(anon.refresh(), before);
    gateway.outlive_access_token();
    let answer = submit(&anon, "/.auth/sessions/end-others", "").await;
    assert_eq!(answer.status, 303);
    assert!(answer.sets_cookies() && anon.cookie(REFRESH).is_some());
    assert_eq!(anon.get("/").await.status, 200);
}

#[tokio::test]
async fn one_browser_ends_the_session_of_another_and_its_open_socket() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let desk = Chromium::start(gateway.addr).await;
    let phone = Chromium::of_kind(gateway.addr, Kind::KoreanPhoneWithoutScript).await;

    desk.open("/page").await;
    desk.sign_in("alice", PASSWORD).await;
    desk.until("return document.getElementById('ready') !== null;")
        .await;
    desk.script(
        "window.over = false; window.socket = new WebSocket('wss://' + location.host + '/socket');
         socket.onmessage = () => { window.talks = true; };
         socket.onopen = () => socket.send('hello');
         socket.onclose = () => { window.over = true; };",
    )
    .await;
    desk.until("return window.talks;").await;

    phone.open(PLACE).await;
    assert_eq!(
        phone.script("return document.documentElement.lang;").await,
        "ko"
    );
    // The name has the focus; only keys are used from here on.
    for key in ["alice", "Tab", PASSWORD, "Enter"] {
        match key {
            "Tab" | "Enter" => phone.press(key).await,
            text => phone.types(text).await,
        }
    }
    phone
        .until("return document.readyState === 'complete' && document.querySelectorAll('.sessions li').length === 2;")
        .await;
    let text = phone.text().await;
    for word in ["내 세션", "이 브라우저", "Chrome(Linux)", "127.0.0.1"] {
        assert!(text.contains(word), "{word} in {text}");
    }
    // Nothing runs off the side, and a thumb can hit the buttons.
    let (wide, high) = (
        phone
            .script("return document.documentElement.scrollWidth <= window.innerWidth && window.innerWidth < 400;")
            .await,
        phone
            .script("return [...document.querySelectorAll('button, .button')].every(b => b.offsetHeight >= 44);")
            .await,
    );
    assert_eq!((wide, high), (true.into(), true.into()));
    if let Some(folder) = std::env::var_os("VESTIBULE_SCREENSHOTS") {
        let folder = std::path::Path::new(&folder);
        phone.screenshot(&folder.join("sessions.png")).await;
    }
    // The second stop is the other session's button, which says whose it is.
    phone.press("Tab").await;
    phone.press("Tab").await;
    let described = phone
        .script("return document.getElementById(document.activeElement.getAttribute('aria-describedby')).textContent;")
        .await;
    assert_eq!(described, "Chrome(Linux)");
    phone.press("Enter").await;
    phone
        .until("return document.readyState === 'complete' && document.querySelectorAll('.sessions li').length === 1;")
        .await;
    assert_eq!(phone.place().await, "/.auth/sessions?ended");
    assert!(phone.text().await.contains("세션을 종료했습니다"));

    desk.until("return window.over;").await;
    desk.open("/page?next").await;
    assert!(
        desk.place().await.starts_with("/.auth/login?rd="),
        "{}",
        desk.place().await
    );
    // It was no script of the page's that did it.
    phone.open("/page").await;
    assert_eq!(
        phone.script("return typeof window.fire;").await,
        "undefined"
    );
}
