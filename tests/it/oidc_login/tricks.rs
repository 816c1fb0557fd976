//! What comes back without having been sent away like that: altered, planted, repeated, guessed.

use super::{LOGIN, at_corp, is_anonymous, one, sets_session, with};
use crate::harness::{ACCESS, App, Gateway, Person, Provider, REFRESH, Rogue};

#[tokio::test]
async fn e01_e02_e03_e04_a_state_is_ours_used_once_and_of_this_browser() {
    let (provider, _app, gateway) = at_corp().await;
    let person = Person::new();
    let browser = gateway.anon();
    let back = person
        .visit(&browser.begin("corp", "/place").await, "alice")
        .await;

    // E01: none. E02: another one, or one that was changed.
    let state = one(&back, "state");
    let cut = &state[..state.len() - 1];
    for bad in ["", "AAAAAAAAAAAAAAAAAAAAAA", cut, &format!("{state}A")] {
        let answer = browser.copy().come_back(&with(&back, "state", bad)).await;
        assert_eq!(answer.status, 400, "{bad}");
        assert!(answer.text().contains("Start over"));
        assert!(!sets_session(&answer));
    }
    // E04: in another browser.
    let victim = gateway.anon();
    let answer = victim.come_back(&back).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(is_anonymous(&victim));
    assert_eq!(provider.count("token").await, 0, "nobody was asked so far");
    assert!(
        answer.text().contains("/.auth/login/corp?rd=/place"),
        "begins anew"
    );

    let before = browser.copy();
    assert_eq!(browser.come_back(&back).await.status, 303);
    // E03: again, with the jar of now and with that of before.
    for again in [&browser, &before] {
        let answer = again.come_back(&back).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(!sets_session(&answer));
    }
    assert_eq!(provider.count("token").await, 1);
    gateway
        .until_logged(&[
            "audit",
            "sign_in_refused",
            "not_this_browser",
            "\"provider\":\"corp\"",
        ])
        .await;
}

#[tokio::test]
async fn e05_a_code_of_another_sign_in_fails_on_pkce() {
    let (_provider, _app, gateway) = at_corp().await;
    let (attacker, victim) = (gateway.anon(), gateway.anon());
    let theirs = Person::new()
        .visit(&attacker.begin("corp", "/").await, "mallory")
        .await;
    let own = Person::new()
        .visit(&victim.begin("corp", "/").await, "alice")
        .await;
    let answer = victim
        .come_back(&with(&own, "code", &one(&theirs, "code")))
        .await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(is_anonymous(&victim));
    gateway
        .until_logged(&["code_refused", "invalid_grant"])
        .await;
}

#[tokio::test]
async fn e06_another_issuer_is_refused_before_anybody_is_asked() {
    let (provider, _app, gateway) = at_corp().await;
    for change in [
        |back: &str| with(back, "iss", "https://evil"),
        |back: &str| back.replace("&iss=", "&ssi=").replace("?iss=", "?ssi="),
    ] {
        let browser = gateway.anon();
        let back = Person::new()
            .visit(&browser.begin("corp", "/").await, "alice")
            .await;
        let answer = browser.come_back(&change(&back)).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(is_anonymous(&browser));
    }
    assert_eq!(provider.count("token").await, 0);
    gateway.until_logged(&["wrong_issuer"]).await;
}

#[tokio::test]
async fn e08_a_planted_session_does_not_survive_the_sign_in() {
    let provider = Provider::start();
    let app = App::start().await;
    let tables = format!("[login.local]\n{}", provider.table("corp", ""));
    let gateway = Gateway::before(&app).login(&tables).run();
    let attacker = gateway.signed_in("bob").await;
    let victim = gateway.anon();
    let location = victim.begin("corp", "/").await;
    victim.put_cookie(ACCESS, &attacker.access().unwrap());
    victim.put_cookie(REFRESH, &attacker.refresh().unwrap());
    let answer = victim
        .come_back(&Person::new().visit(&location, "alice").await)
        .await;
    assert_eq!(answer.status, 303);
    assert_ne!(victim.session(), attacker.session());
    assert_eq!(
        attacker.get("/").await.status,
        401,
        "the planted one is over"
    );
    assert_eq!(victim.get("/").await.status, 200);
}

#[tokio::test]
async fn e09_tabs_that_sign_in_at_once_all_succeed_and_the_cookie_stays_small() {
    let (_provider, _app, gateway) = at_corp().await;
    let browser = gateway.anon();
    let person = Person::new();
    let mut locations = Vec::new();
    for tab in 0..3 {
        locations.push(browser.begin("corp", &format!("/tab/{tab}")).await);
    }
    let mut backs = Vec::new();
    for location in &locations {
        backs.push(person.visit(location, "alice").await);
    }
    for (tab, back) in backs.iter().enumerate().rev() {
        let answer = browser.come_back(back).await;
        assert_eq!(answer.status, 303, "tab {tab}: {}", answer.text());
        assert_eq!(answer.header("location"), Some(&*format!("/tab/{tab}")));
    }
    // However many are begun, one cookie of a bounded size.
    let crowd = gateway.anon();
    let long = format!("/{}", "x".repeat(1500));
    for _ in 0..30 {
        crowd.begin("corp", &long).await;
        let cookie = crowd.cookie(LOGIN).unwrap();
        assert!(LOGIN.len() + 1 + cookie.len() <= 4096, "{}", cookie.len());
    }
    let last = crowd.begin("corp", &long).await;
    let answer = crowd.come_back(&person.visit(&last, "alice").await).await;
    assert_eq!(answer.header("location"), Some(&*long));
}

#[tokio::test]
async fn tabs_that_overwrite_each_others_cookie_begin_anew_by_themselves() {
    let (_provider, _app, gateway) = at_corp().await;
    // Two tabs of a browser without any cookie: whichever answer comes last is what the jar holds.
    let browser = gateway.anon();
    let person = Person::new();
    let first = browser.copy().begin("corp", "/first").await;
    let second = browser.begin("corp", "/second").await;
    let lost = browser
        .come_back(&person.visit(&first, "alice").await)
        .await;
    assert_eq!(lost.status, 400);
    let html = lost.text();
    let next = html
        .split("content=\"0;url=")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .unwrap_or_else(|| panic!("goes on by itself: {html}"))
        .replace("&#38;", "&");
    assert_eq!(next, "/.auth/login/corp?rd=/first&again=1");
    let again = browser.navigate(&next).await;
    let back = person
        .visit(again.header("location").unwrap(), "alice")
        .await;
    let answer = browser.come_back(&back).await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, Some("/first"))
    );
    let answer = browser
        .come_back(&person.visit(&second, "alice").await)
        .await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, Some("/second"))
    );

    // A browser that keeps no cookies at all is not sent round for ever.
    let mut turns = 0;
    let mut target = "/.auth/login/corp".to_owned();
    loop {
        let begun = gateway.anon().navigate(&target).await;
        let back = person
            .visit(begun.header("location").unwrap(), "alice")
            .await;
        let html = gateway.anon().come_back(&back).await.text();
        let Some(next) = html.split("content=\"0;url=").nth(1) else {
            break;
        };
        target = next.split('"').next().unwrap().replace("&#38;", "&");
        turns += 1;
        assert!(turns < 5, "for ever: {target}");
    }
    assert_eq!(turns, 2);
}

#[tokio::test]
async fn e10_e11_parameters_twice_and_markup_are_refused_and_never_echoed() {
    let (provider, _app, gateway) = at_corp().await;
    let browser = gateway.anon();
    let back = Person::new()
        .visit(&browser.begin("corp", "/").await, "alice")
        .await;
    let state = one(&back, "state");
    for query in [
        format!("{back}&state={state}"),
        format!("{back}&code=x"),
        format!("{back}&%63ode=x"),
    ] {
        let answer = browser.copy().come_back(&query).await;
        assert_eq!(answer.status, 400, "{query}");
        assert!(!sets_session(&answer));
    }
    let callback = "https://app.test/.auth/callback/corp";
    for query in [
        "error=%3Cscript%3Ealert(1)%3C/script%3E",
        "error=x&error_description=%3Cscript%3Ealert(1)%3C/script%3E&state=x",
        "code=%3Cscript%3E&state=%3Cscript%3E",
    ] {
        let answer = gateway
            .anon()
            .come_back(&format!("{callback}?{query}"))
            .await;
        assert_eq!(answer.status, 400);
        let html = answer.text();
        assert!(!html.contains("script"), "{html}");
        assert!(
            answer
                .header("content-security-policy")
                .unwrap()
                .contains("default-src 'none'")
        );
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    // With a state of ours the provider's words are shown, escaped.
    let state = format!("state={state}");
    let declined = format!(
        "{callback}?{state}&iss={}&error=%3Cb%3E&error_description=%3Cscript%3E",
        url::form_urlencoded::byte_serialize(provider.issuer.as_bytes()).collect::<String>()
    );
    let answer = browser.come_back(&declined).await;
    assert_eq!(answer.status, 403, "{}", answer.text());
    let html = answer.text();
    assert!(
        html.contains("&#60;script&#62; (&#60;b&#62;)") && !html.contains("<script"),
        "{html}"
    );
}

#[tokio::test]
async fn n03_codes_that_are_guessed_are_bounded_by_address() {
    let rogue = Rogue::start().await;
    let app = App::start().await;
    let gateway = Gateway::before(&app).login(&rogue.table("corp", "")).run();
    let audited = || gateway.logged(&["sign_in_refused", "code_refused"]).len();
    let mut tried = 0;
    let (browser, answer) = loop {
        let browser = gateway.anon();
        let location = browser.begin("corp", "/").await;
        let junk = with(&Person::new().visit(&location, "p1").await, "code", "junk");
        let answer = browser.come_back(&junk).await;
        if answer.status != 400 {
            break (browser, answer);
        }
        tried += 1;
        assert!(tried < 200, "never throttled");
    };
    assert_eq!(answer.status, 429, "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    assert!(
        browser.cookie(LOGIN).is_some(),
        "the sign-in is still pending"
    );
    assert_eq!(rogue.count("token"), tried, "the provider was not asked");
    // Of a number alone some request id or duration may have the digits too.
    let throttled = ["/.auth/callback/corp", "\"status\":429"];
    gateway.until_logged(&throttled).await;
    assert_eq!(audited(), tried);
}
