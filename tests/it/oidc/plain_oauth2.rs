//! `[login.oauth2.NAME]`: signing in with a service that knows no OpenID Connect, in the dialect that GitHub speaks.

use std::time::Duration;

use serde_json::json;

use super::online::asked;
use super::{by, nobody, page_of, parameter, with_parameter};
use crate::harness::client::Answer;
use crate::harness::hub::CLIENT;
use crate::harness::provider::CLIENT_SECRET;
use crate::harness::{ACCESS, App, Browser, Gateway, Hub, Person, Rogue};

/// The whole way, as one browser.
async fn sign_in(gateway: &Gateway, hub: &Hub) -> (Browser, Answer) {
    let browser = gateway.anon();
    let back = hub.visit(&browser.begin("hub", "/notes").await).await;
    let answer = browser.come_back(&back).await;
    (browser, answer)
}

#[tokio::test]
async fn an_account_there_is_somebody_here_by_its_number_and_its_verified_address() {
    let (app, hub) = (App::start().await, Hub::start().await);
    let gateway = by(&app, &hub.table("hub", "allow = { users = [\"583231\"] }")).run();
    let browser = gateway.anon();
    let location = browser.begin("hub", "/notes").await;
    assert_eq!(parameter(&location, "client_id"), CLIENT);
    assert_eq!(
        parameter(&location, "redirect_uri"),
        "https://app.test/.auth/callback/hub"
    );
    assert_eq!(parameter(&location, "scope"), "read:user user:email");
    assert_eq!(parameter(&location, "code_challenge_method"), "S256");
    // Words of OpenID Connect are not for it.
    for name in ["nonce=", "max_age=", "prompt="] {
        assert!(!location.contains(name), "{location}");
    }
    let back = hub.visit(&location).await;
    let answer = browser.come_back(&back).await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, Some("/notes"))
    );
    let token = hub.last("token");
    assert_eq!(token.one("client_secret"), Some(CLIENT_SECRET));
    assert_eq!(token.one("code_verifier").map(str::len), Some(43));
    assert_eq!(browser.get("/notes").await.status, 200);
    let seen = app.last();
    assert_eq!(seen.one("x-forwarded-user"), Some("583231"));
    assert_eq!(seen.one("x-forwarded-preferred-username"), Some("octocat"));
    // Of the profile's address nobody knows whose it is.
    assert_eq!(seen.one("x-forwarded-email"), Some("octocat@example.com"));
    let me = browser.get("/.auth/me").await.json();
    assert_eq!(
        (me["provider"].as_str(), me["user"].as_str()),
        (Some("hub"), Some("583231"))
    );
    for asked in hub.asked() {
        assert!(asked.headers.get("cookie").is_none());
    }
    // Its token stays here.
    let token = hub.last("user").headers["authorization"].to_str().unwrap()[7..].to_owned();
    assert!(token.starts_with("gho_"));
    assert!(!browser.cookie_line().unwrap().contains(&token));
    for line in gateway.logs() {
        assert!(
            !line.contains(&token) && !line.contains(CLIENT_SECRET),
            "{line}"
        );
    }
    // A callback signs in once.
    let again = browser.copy().come_back(&back).await;
    nobody(&again, "the same callback again");
    assert_eq!(hub.count("token"), 1);
}

#[tokio::test]
async fn such_a_session_lives_by_its_own_limits_and_the_service_is_not_asked_again() {
    let (app, hub) = (App::start().await, Hub::start().await);
    // Even where it could be asked again.
    hub.expires();
    let gateway = by(&app, &hub.table("hub", "")).with_clock().run();
    let (browser, answer) = sign_in(&gateway, &hub).await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    hub.forget();
    // There it is over and forbidden; nobody here learns of that.
    hub.instead(
        "user",
        401,
        "application/json",
        r#"{"message":"Bad credentials"}"#,
    );
    let day = Duration::from_secs(86_400);
    for _ in 0..3 {
        gateway.clock().advance(5 * day);
        browser.drop_cookie(ACCESS);
        assert_eq!(browser.get("/").await.status, 200);
    }
    assert!(hub.asked().is_empty(), "{:?}", hub.asked());
    let (to, answer) = browser.copy().leave().await;
    assert!(
        to.is_none_or(|to| to.starts_with('/')),
        "there is no sign-out of it"
    );
    assert!(answer.status < 400, "{}", answer.text());
    assert_eq!(browser.get("/").await.status, 401);

    hub.repent();
    let (browser, _) = sign_in(&gateway, &hub).await;
    gateway.clock().advance(15 * day);
    browser.drop_cookie(ACCESS);
    assert_eq!(
        browser.get("/").await.status,
        401,
        "unused for longer than idle_ttl"
    );
}

#[tokio::test]
async fn e12_whatever_else_it_answers_signs_nobody_in() {
    const JSON: &str = "application/json; charset=utf-8";
    const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";
    let (app, hub) = (App::start().await, Hub::start().await);
    let table = hub.table("hub", "allow = { email_domains = [\"example.com\"] }");
    let gateway = by(&app, &table).run();
    let (browser, answer) = sign_in(&gateway, &hub).await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    assert_eq!(browser.get("/").await.status, 200);
    let token = r#"{"access_token":"gho_none","token_type":"bearer","scope":""}"#;
    let cases: &[(&str, &str, u16, &str, &str, u16)] = &[
        // Errors with status 200, as it gives them.
        (
            "bad code",
            "token",
            200,
            JSON,
            r#"{"error":"bad_verification_code","error_description":"s3cret"}"#,
            400,
        ),
        (
            "bad client",
            "token",
            200,
            JSON,
            r#"{"error":"incorrect_client_credentials","error_description":"s3cret"}"#,
            502,
        ),
        (
            "a form",
            "token",
            200,
            FORM,
            "access_token=gho_s3cret&token_type=bearer",
            502,
        ),
        (
            "an error as a form",
            "token",
            200,
            FORM,
            "error=bad_verification_code",
            502,
        ),
        (
            "no client",
            "token",
            404,
            JSON,
            r#"{"message":"Not Found"}"#,
            502,
        ),
        ("away", "token", 503, "text/html", "<html>", 503),
        ("a token that opens nothing", "token", 200, JSON, token, 502),
        (
            "no account",
            "user",
            401,
            JSON,
            r#"{"message":"Bad credentials"}"#,
            502,
        ),
        (
            "an account without id",
            "user",
            200,
            JSON,
            r#"{"login":"octocat"}"#,
            403,
        ),
        (
            "an account with a hollow id",
            "user",
            200,
            JSON,
            r#"{"login":"octocat","id":null}"#,
            403,
        ),
        ("the API is away", "user", 502, "text/html", "<html>", 503),
        (
            "not allowed to read addresses",
            "emails",
            404,
            JSON,
            r#"{"message":"Not Found"}"#,
            502,
        ),
        (
            "addresses that are no list",
            "emails",
            200,
            JSON,
            r#"{"email":"a@example.com"}"#,
            502,
        ),
        (
            "no verified address",
            "emails",
            200,
            JSON,
            r#"[{"email":"a@example.com","verified":false,"primary":true}]"#,
            403,
        ),
        (
            "no address of ours",
            "emails",
            200,
            JSON,
            r#"[{"email":"a@example.com.evil","verified":true,"primary":true}]"#,
            403,
        ),
        (
            "cancelled",
            "authorize",
            0,
            "",
            "error=access_denied&error_description=The+user+has+denied&error_uri=x",
            0,
        ),
        (
            "suspended",
            "authorize",
            0,
            "",
            "error=application_suspended",
            0,
        ),
        (
            "neither code nor error",
            "authorize",
            0,
            "",
            "setup_action=install",
            400,
        ),
    ];
    for (what, endpoint, status, kind, body, page) in cases {
        hub.repent();
        hub.instead(endpoint, *status, kind, body);
        let (browser, answer) = sign_in(&gateway, &hub).await;
        nobody(&answer, what);
        let text = page_of(&answer, what);
        assert!(!text.contains("s3cret"), "{what}: {text}");
        if *page != 0 {
            assert_eq!(answer.status, *page, "{what}: {text}");
        }
        assert_eq!(browser.get("/").await.status, 401, "{what}");
    }
    for line in gateway.logs() {
        assert!(!line.contains("s3cret"), "{line}");
    }
    gateway
        .until_logged(&["check client_id, client_auth and the secret"])
        .await;
    // Somebody without any verified address is somebody where no rule asks for one.
    hub.repent();
    hub.emails(json!([]));
    let gateway = by(&app, &hub.table("hub", "")).run();
    let (browser, _) = sign_in(&gateway, &hub).await;
    assert_eq!(browser.get("/").await.status, 200);
    assert_eq!(app.last().one("x-forwarded-email"), None);
}

#[tokio::test]
async fn o03_e05_what_one_provider_says_is_worth_nothing_at_another() {
    let (app, hub, rogue) = (App::start().await, Hub::start().await, Rogue::start().await);
    let tables = format!("{}{}", hub.table("hub", ""), rogue.table("corp", ""));
    let gateway = Gateway::before(&app).login(&tables);
    // One of before RFC 9207: only what the gateway itself remembers can tell whose answer it is.
    rogue.says("discovery", |document| {
        document["authorization_response_iss_parameter_supported"] = json!(false);
    });
    rogue.callback(|parameters| parameters.retain(|(name, _)| name != "iss"));
    let gateway = gateway.run();
    // Each one's answer at the other's callback.
    let browser = gateway.anon();
    let back = hub.visit(&browser.begin("hub", "/").await).await;
    let moved = browser
        .copy()
        .come_back(&back.replace("/callback/hub", "/callback/corp"))
        .await;
    nobody(&moved, "the hub's answer at the other's callback");
    assert_eq!(moved.status, 400, "{}", moved.text());
    let other = gateway.anon();
    let there = Person::new()
        .visit(&other.begin("corp", "/").await, "-")
        .await;
    let moved = other
        .copy()
        .come_back(&there.replace("/callback/corp", "/callback/hub"))
        .await;
    nobody(&moved, "the other's answer at the hub's callback");
    assert_eq!(moved.status, 400, "{}", moved.text());
    let tokens = (hub.count("token"), rogue.count("token"));
    assert_eq!(tokens, (0, 0), "no code left for where it is not from");
    // The state of one sign-in with the code of another, at another provider and at the same.
    let mixed = with_parameter(&back, "code", Some(&parameter(&there, "code")));
    nobody(
        &browser.copy().come_back(&mixed).await,
        "somebody else's code",
    );
    let thief = gateway.anon();
    let begun = thief.begin("hub", "/").await;
    let injected = with_parameter(
        &hub.visit(&begun).await,
        "code",
        Some(&parameter(&back, "code")),
    );
    nobody(
        &thief.come_back(&injected).await,
        "a code of another sign-in: PKCE",
    );
    // Both work as they are, and the same browser has been both.
    let fresh = gateway.anon();
    let (first, second) = (
        fresh.begin("hub", "/").await,
        fresh.begin("corp", "/").await,
    );
    let second = Person::new().visit(&second, "-").await;
    assert_eq!(fresh.come_back(&hub.visit(&first).await).await.status, 303);
    assert_eq!(fresh.get("/.auth/me").await.json()["provider"], "hub");
    assert_eq!(fresh.come_back(&second).await.status, 303);
    assert_eq!(fresh.get("/.auth/me").await.json()["provider"], "corp");
}

#[tokio::test]
async fn check_online_tries_its_endpoints_and_the_client() {
    const TABLE: &str = "[login.oauth2.hub]";
    let (app, hub) = (App::start().await, Hub::start().await);
    let found = asked(&Gateway::before(&app).login(&hub.table("hub", ""))).await;
    assert_eq!(found.code(), 0, "{}", found.words);
    found.tells(
        TABLE,
        "good",
        &[
            "client: ",
            &format!("{CLIENT:?} is accepted"),
            "bad_verification_code",
        ],
    );
    found.tells(
        TABLE,
        "good",
        &[
            "authorization request",
            "https://app.test/.auth/callback/hub",
        ],
    );
    found.tells(TABLE, "good", &["userinfo_url: ", "status 401"]);
    found.tells(TABLE, "good", &["emails_url: ", "status 401"]);
    assert!(
        found.words.contains("https://app.test/.auth/callback/hub"),
        "{}",
        found.words
    );
    let wrong = hub
        .table("hub", "")
        .replace(CLIENT, "another")
        .replace("/user/emails", "/user/nothing");
    let found = asked(&Gateway::before(&app).login(&wrong)).await;
    assert_eq!(found.code(), 2, "{}", found.words);
    found.tells(
        TABLE,
        "problem",
        &[
            "client: ",
            "is not accepted",
            "incorrect_client_credentials",
        ],
    );
    found.tells(TABLE, "problem", &["emails_url: ", "status 404"]);
    // It has no such client, and says so by 404.
    found.tells(TABLE, "problem", &["authorization request", "status 404"]);
}
