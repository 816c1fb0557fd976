//! The way to a provider and back, as people go it.

use serde_json::json;

use super::{LOGIN, at_corp, is_anonymous, one};
use crate::harness::{App, Ask, Gateway, Person, Provider};

#[tokio::test]
async fn one_provider_and_nothing_else_leads_straight_to_it_and_back() {
    let (provider, app, gateway) = at_corp().await;
    let browser = gateway.anon();
    let answer = browser.navigate("/some/report?a=b&c").await;
    assert_eq!(answer.status, 303);
    let to_login = answer.header("location").unwrap().to_owned();
    assert!(to_login.starts_with("/.auth/login?rd="), "{to_login}");
    let answer = browser.navigate(&to_login).await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    let location = answer.header("location").unwrap().to_owned();
    assert!(location.starts_with(&provider.issuer), "{location}");
    assert_eq!(
        one(&location, "redirect_uri"),
        "https://app.test/.auth/callback/corp"
    );
    assert_eq!(one(&location, "code_challenge_method"), "S256");
    assert_eq!(one(&location, "response_type"), "code");
    let cookies = answer.all("set-cookie");
    assert_eq!(cookies.len(), 1, "{cookies:?}");
    assert!(cookies[0].starts_with(&format!("{LOGIN}=")), "{cookies:?}");
    for attribute in ["; Secure", "; HttpOnly", "; Path=/", "; SameSite=Lax"] {
        assert!(cookies[0].contains(attribute), "{cookies:?}");
    }
    let back = Person::new().visit(&location, "alice").await;
    let answer = browser.come_back(&back).await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    assert_eq!(answer.header("location"), Some("/some/report?a=b&c"));
    assert!(browser.cookie(LOGIN).is_none(), "nothing is pending");
    assert_eq!(browser.get("/some/report?a=b&c").await.status, 200);
    let seen = app.last();
    assert!(seen.one("x-forwarded-user").is_some());
    assert_eq!(seen.one("x-forwarded-email"), Some("alice@example.com"));
    let me = browser.get("/.auth/me").await.json();
    assert_eq!(me["provider"], "corp");
    assert_eq!(me["user"], "alice");
    gateway
        .until_logged(&["audit", "\"sign_in\"", "\"provider\":\"corp\""])
        .await;
}

#[tokio::test]
async fn several_ways_are_buttons_and_none_confuses_another() {
    let (one_op, two_op) = (
        Provider::with().known_as(&["one"]).start(),
        Provider::with().known_as(&["two"]).start(),
    );
    let app = App::start().await;
    let tables = format!(
        "[login.local]\n{}{}",
        one_op.table("one", "display_name = \"One & Co\""),
        two_op.table("two", "")
    );
    let gateway = Gateway::before(&app).login(&tables).run();
    let page = gateway.anon().navigate("/.auth/login?rd=/x%3Fy").await;
    assert_eq!(page.status, 200);
    let html = page.text();
    assert!(
        html.contains("href=\"/.auth/login/one?rd=/x%3Fy\""),
        "{html}"
    );
    assert!(html.contains("Continue with One &#38; Co") && html.contains("Continue with two"));
    assert!(html.contains("name=\"password\""));
    assert!(!html.contains("<script"));

    // Mix-up (RFC 9700 section 4.4): what one says cannot be taken to the other's callback.
    let browser = gateway.anon();
    let location = browser.begin("one", "/").await;
    let back = Person::new().visit(&location, "alice").await;
    let moved = back.replace("/callback/one", "/callback/two");
    let answer = browser.come_back(&moved).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(is_anonymous(&browser));
    assert_eq!(two_op.count("token").await, 0);

    // The same name at two providers is two people: neither ends, nor sees, the other's sessions.
    let here = gateway.anon().signed_in_by("one", "alice").await;
    let there = gateway.anon().signed_in_by("two", "alice").await;
    let local = gateway.signed_in("alice").await;
    for browser in [&here, &there, &local] {
        let listed = browser.get("/.auth/sessions").await.json();
        assert_eq!(listed["sessions"].as_array().unwrap().len(), 1, "{listed}");
    }
    let answer = here
        .send(
            Ask::post("/.auth/sessions/end-others", "")
                .header("content-type", "application/x-www-form-urlencoded")
                .header("sec-fetch-site", "same-origin"),
        )
        .await;
    assert!(answer.status < 400, "{}", answer.text());
    for browser in [&here, &there, &local] {
        assert_eq!(browser.get("/").await.status, 200);
    }
    let ended = gateway.command(&["session", "revoke", "--user", "alice", "--provider", "one"]);
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(here.get("/").await.status, 401);
    assert_eq!(there.get("/").await.status, 200);
    assert_eq!(local.get("/").await.status, 200);
}

#[tokio::test]
async fn a_provider_of_before_rfc_9207_works_too() {
    let provider = Provider::with()
        .set(json!({ "issParameter": false }))
        .start();
    let app = App::start().await;
    let gateway = Gateway::before(&app)
        .login(&provider.table("corp", ""))
        .run();
    let browser = gateway.anon().signed_in_by("corp", "alice").await;
    assert_eq!(browser.get("/").await.status, 200);
}

#[tokio::test]
async fn who_cancels_is_told_so_and_can_start_over() {
    let provider = Provider::start();
    let app = App::start().await;
    let gateway = Gateway::before(&app)
        .login(&provider.table("corp", "display_name = \"Corp\""))
        .run();
    let browser = gateway.anon();
    let back = Person::new()
        .cancel(&browser.begin("corp", "/place").await)
        .await;
    let answer = browser.come_back(&back).await;
    assert_eq!(answer.status, 403);
    let html = answer.text();
    assert!(html.contains("Corp did not sign you in"), "{html}");
    assert!(
        html.contains("href=\"/.auth/login/corp?rd=/place\""),
        "{html}"
    );
    let id = answer.header("x-request-id").unwrap();
    assert!(html.contains(id), "the request id to tell an operator");
    gateway
        .until_logged(&[id, "access_denied", "nobody was signed in"])
        .await;
    let korean = browser.begin("corp", "/").await;
    let back = Person::new().cancel(&korean).await;
    let target = back.strip_prefix("https://app.test").unwrap();
    let page = browser
        .send(
            Ask::get(target)
                .header("accept", "text/html")
                .header("accept-language", "ko"),
        )
        .await;
    assert!(page.text().contains("<html lang=\"ko\">"));
}

#[tokio::test]
async fn with_strict_cookies_the_way_back_is_a_page_of_our_own() {
    let provider = Provider::start();
    let app = App::start().await;
    let gateway = Gateway::before(&app)
        .session("same_site = \"strict\"")
        .login(&provider.table("corp", ""))
        .run();
    let browser = gateway.anon();
    let location = browser.begin("corp", "/place?a=b").await;
    let answer = browser
        .come_back(&Person::new().visit(&location, "alice").await)
        .await;
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .text()
            .contains("http-equiv=\"refresh\" content=\"0;url=/place?a=b\"")
    );
    for line in answer.all("set-cookie") {
        let strict = line.contains("SameSite=Strict");
        assert_eq!(strict, !line.starts_with(LOGIN), "{line}");
    }
}

#[tokio::test]
async fn only_a_navigation_begins_a_sign_in() {
    let (_provider, _app, gateway) = at_corp().await;
    for (mode, dest) in [("no-cors", "image"), ("cors", "empty")] {
        let answer = gateway
            .anon()
            .send(
                Ask::get("/.auth/login/corp")
                    .header("sec-fetch-mode", mode)
                    .header("sec-fetch-dest", dest)
                    .header("sec-fetch-site", "cross-site"),
            )
            .await;
        assert_eq!(answer.status, 400, "{mode}");
        assert!(!answer.sets_cookies());
    }
    assert_eq!(
        gateway.anon().navigate("/.auth/login/nobody").await.status,
        404
    );
    assert_eq!(
        gateway
            .anon()
            .navigate("/.auth/callback/nobody")
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn d01_no_rd_leads_elsewhere_after_a_sign_in() {
    let (_provider, _app, gateway) = at_corp().await;
    let person = Person::new();
    for rd in [
        "//evil",
        "/\\evil",
        "https://evil",
        "/%09/evil",
        "javascript:alert(1)",
        "/.auth/logout",
    ] {
        let browser = gateway.anon();
        let location = browser.begin("corp", rd).await;
        let answer = browser
            .come_back(&person.visit(&location, "alice").await)
            .await;
        assert_eq!(
            (answer.status, answer.header("location")),
            (303, Some("/")),
            "{rd}"
        );
    }
}
