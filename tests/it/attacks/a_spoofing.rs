//! A: a client tries to be taken for somebody by writing identity headers itself.

use super::{QUIET, raw};
use crate::harness::client::status_of;
use crate::harness::forge::{b64, unb64};
use crate::harness::{App, Ask, Gateway, ORIGIN, prepared};

/// Every header by which the gateway speaks to an app (preset `forwarded`), and what surrounds it.
const INJECTED: [&str; 12] = [
    "X-Forwarded-User",
    "X-Forwarded-Email",
    "X-Forwarded-Preferred-Username",
    "X-Forwarded-Groups",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Real-IP",
    "Forwarded",
    "X-Vestibule-Assertion",
    "X-Request-Id",
];

fn with_spoofs(mut ask: Ask) -> Ask {
    for name in INJECTED {
        ask = ask.header(name, "spoofed-admin");
    }
    ask
}

#[tokio::test]
async fn a01_client_identity_headers_do_not_pass_a_public_route() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).upstream("assertion = true").run();
    for path in ["/public", "/optional/x"] {
        app.forget();
        let answer = gateway.anon().send(with_spoofs(Ask::get(path))).await;
        assert_eq!(answer.status, 200);
        let seen = app.only();
        assert!(
            !seen.mentions("spoofed"),
            "{}",
            String::from_utf8_lossy(&seen.head)
        );
        assert!(seen.all("x-forwarded-user").is_empty());
    }
}

#[tokio::test]
async fn a02_the_clients_value_does_not_survive_beside_ours() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).upstream("assertion = true").run();
    let alice = gateway.signed_in("alice").await;
    assert_eq!(alice.send(with_spoofs(Ask::get("/"))).await.status, 200);
    let seen = app.only();
    assert!(
        !seen.mentions("spoofed"),
        "{}",
        String::from_utf8_lossy(&seen.head)
    );
    assert_eq!(seen.one("x-forwarded-user"), Some("alice"));
    assert_eq!(seen.one("x-forwarded-email"), Some("alice@example.com"));
    assert_eq!(seen.one("x-forwarded-groups"), Some("staff,writers"));
}

#[tokio::test]
async fn a03_underscores_and_dots_are_no_way_around() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let alice = gateway.signed_in("alice").await;
    let cookies = alice.cookie_line().unwrap();
    for name in [
        "X_Forwarded_User",
        "X-Forwarded_User",
        "x_FORWARDED-user",
        "x.forwarded.user",
        "X-Forwarded.User",
        "X_Forwarded_Groups",
        "X_VESTIBULE_ASSERTION",
        "x-forwarded-user_",
        "X__Forwarded__User",
    ] {
        for (path, cookie) in [
            ("/public", String::new()),
            ("/", format!("Cookie: {cookies}\r\n")),
        ] {
            app.forget();
            let (status, _) = raw(
                &gateway,
                &format!("GET {path} HTTP/1.1\r\n{{host}}{cookie}{name}: spoofed\r\n\r\n"),
            )
            .await;
            assert!(matches!(status, 200 | 400), "{name}: {status}");
            for seen in app.seen() {
                let aliases = seen
                    .headers
                    .iter()
                    .filter(|(_, value)| value.contains("spoofed"));
                for (alias, _) in aliases {
                    let read_as: String = alias.to_ascii_uppercase().replace(['-', '.'], "_");
                    assert!(
                        ![
                            "X_FORWARDED_USER",
                            "X_FORWARDED_GROUPS",
                            "X_VESTIBULE_ASSERTION"
                        ]
                        .contains(&read_as.as_str()),
                        "{name} reached the app as {alias}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn a04_an_absent_claim_is_an_absent_header() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let bob = gateway.signed_in("bob").await;
    let ask = Ask::get("/")
        .header("X-Forwarded-Groups", "admins")
        .header("X-Forwarded-Email", "root@example.com");
    assert_eq!(bob.send(ask).await.status, 200);
    let seen = app.only();
    assert_eq!(seen.one("x-forwarded-user"), Some("bob"));
    assert!(seen.all("x-forwarded-groups").is_empty());
    assert!(seen.all("x-forwarded-email").is_empty());
}

#[tokio::test]
async fn a05_duplicates_are_all_replaced_by_the_one_of_ours() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let cookies = gateway.signed_in("alice").await.cookie_line().unwrap();
    let (status, _) = raw(
        &gateway,
        &format!("GET / HTTP/1.1\r\n{{host}}X-Forwarded-User: one\r\nCookie: {cookies}\r\nx-forwarded-USER: two\r\nX-FORWARDED-USER:\r\n\r\n"),
    )
    .await;
    assert_eq!(status, 200);
    assert_eq!(app.only().all("x-forwarded-user"), ["alice"]);
}

#[tokio::test]
async fn a06_connection_cannot_nominate_our_headers_for_removal() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).upstream("assertion = true").run();
    let cookies = gateway.signed_in("alice").await.cookie_line().unwrap();
    let (status, _) = raw(
        &gateway,
        &format!(
            "GET / HTTP/1.1\r\n{{host}}Cookie: {cookies}\r\nConnection: close, X-Forwarded-User, x-forwarded-groups, \
             X-Forwarded-For, X-Vestibule-Assertion, Cookie, Host\r\nX-App: kept\r\n\r\n"
        ),
    )
    .await;
    assert_eq!(status, 200);
    let seen = app.only();
    assert_eq!(seen.one("x-forwarded-user"), Some("alice"));
    assert_eq!(seen.one("x-forwarded-groups"), Some("staff,writers"));
    assert_eq!(seen.one("x-forwarded-for"), Some("127.0.0.1"));
    assert!(seen.one("x-vestibule-assertion").is_some());
    assert_eq!(seen.one("x-app"), Some("kept"));
}

#[tokio::test]
async fn a07_stripping_is_not_skipped_where_nobody_is_asked_who_they_are() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let preflight = with_spoofs(
        Ask::new("OPTIONS", "/cors/x")
            .header("origin", "https://elsewhere.example")
            .header("access-control-request-method", "PUT"),
    );
    assert_eq!(gateway.anon().send(preflight).await.status, 200);
    assert!(!app.only().mentions("spoofed"));
    // A preflight carries no identity even when cookies came with it.
    app.forget();
    let alice = gateway.signed_in("alice").await;
    let preflight = Ask::new("OPTIONS", "/cors/x")
        .header("origin", "https://elsewhere.example")
        .header("access-control-request-method", "PUT");
    assert_eq!(alice.send(preflight).await.status, 200);
    assert!(app.only().all("x-forwarded-user").is_empty());
    // The gateway's own endpoints believe no header either.
    let me = gateway
        .anon()
        .send(with_spoofs(Ask::get("/.auth/me")))
        .await;
    assert_eq!(me.status, 401, "{}", me.text());
    let me = alice.send(with_spoofs(Ask::get("/.auth/me"))).await;
    assert_eq!(me.status, 200);
    assert!(
        me.text().contains("alice") && !me.text().contains("spoofed"),
        "{}",
        me.text()
    );
}

#[tokio::test]
async fn a08_claim_values_cannot_break_out_of_their_header() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).upstream("headers = \"remote\"").run();
    let file = gateway.file();
    let huge = "n".repeat(20_000);
    for (name, options) in [
        ("a\r\nX-Role: admin", vec![]),
        ("tab\there", vec![]),
        ("", vec![]),
        ("carol", vec!["--name", "Carol\r\nX-Role: admin"]),
        ("carol", vec!["--email", "c@example.com\nX-Role: admin"]),
        ("carol", vec!["--group", "a,admins"]),
        ("carol", vec!["--group", "a\u{7f}"]),
        ("carol", vec!["--name", &huge]),
    ] {
        let output = prepared::try_add_user(&file, name, crate::harness::PASSWORD, &options);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success(),
            "{name:?} {options:?} was accepted"
        );
        assert!(!said.is_empty() && !said.contains("panicked"), "{said}");
    }
    // What cannot be a raw header value is percent-encoded UTF-8.
    gateway.add_user("haneul", &["--name", "김하늘"]);
    let haneul = gateway.signed_in("haneul").await;
    assert_eq!(haneul.get("/").await.status, 200);
    let seen = app.only();
    assert_eq!(seen.one("remote-user"), Some("haneul"));
    assert_eq!(seen.one("remote-name"), Some("%EA%B9%80%ED%95%98%EB%8A%98"));
    assert!(seen.all("x-role").is_empty());
}

#[tokio::test]
async fn a09_session_cookies_stay_here_and_the_apps_own_arrive_unchanged() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let alice = gateway.signed_in("alice").await;
    let ours = alice.cookie_line().unwrap();
    let (first, second) = ours.split_once("; ").unwrap();
    let theirs = ["a=1", "b=\"q; =", "c=%20x=y", "empty=", "noequals", "a=2"];
    // One line, with ours scattered among theirs; the app's come out byte for byte and in order.
    let mixed = format!(
        "{}; {first}; {}; {}; {second}; {}",
        theirs[0], theirs[2], theirs[3], theirs[5]
    );
    let (status, _) = raw(
        &gateway,
        &format!("GET / HTTP/1.1\r\n{{host}}Cookie: {mixed}\r\n\r\n"),
    )
    .await;
    assert_eq!(status, 200);
    let seen = app.only();
    assert_eq!(seen.one("cookie"), Some("a=1; c=%20x=y; empty=; a=2"));
    assert!(
        !seen.mentions("vestibule-"),
        "{}",
        String::from_utf8_lossy(&seen.head)
    );
    // Only ours: no Cookie header at all. On a public route as well.
    for path in ["/", "/public"] {
        app.forget();
        assert_eq!(alice.get(path).await.status, 200);
        assert!(app.only().all("cookie").is_empty());
    }
}

#[tokio::test]
async fn a10_a_forged_assertion_is_replaced_or_absent_and_ours_verifies() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).upstream("assertion = true").run();
    let spoof = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.";
    let answer = gateway
        .anon()
        .send(Ask::get("/public").header("X-Vestibule-Assertion", spoof))
        .await;
    assert_eq!(answer.status, 200);
    assert!(app.only().all("x-vestibule-assertion").is_empty());
    app.forget();
    let alice = gateway.signed_in("alice").await;
    assert_eq!(
        alice
            .send(Ask::get("/").header("x-vestibule-assertion", spoof))
            .await
            .status,
        200
    );
    let seen = app.only();
    let assertion = seen
        .one("x-vestibule-assertion")
        .expect("an assertion")
        .to_owned();
    let claims = verified(
        &gateway.anon().get("/.auth/jwks.json").await.json(),
        &assertion,
    );
    assert_eq!(
        (
            claims["iss"].as_str(),
            claims["aud"].as_str(),
            claims["sub"].as_str()
        ),
        (Some(ORIGIN), Some("app"), Some("alice"))
    );
    assert_eq!(claims["provider"], "local");
    let life = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert!((1..=60).contains(&life), "an assertion lives for {life} s");
    // It is no access token.
    let thief = gateway.anon();
    thief.put_cookie(crate::harness::ACCESS, &assertion);
    assert_eq!(thief.get("/").await.status, 401);
}

/// Checks a JWT against a JWK Set as an app would, with nothing of the gateway's code.
fn verified(jwks: &serde_json::Value, token: &str) -> serde_json::Value {
    let parts: Vec<&str> = token.split('.').collect();
    let header: serde_json::Value = serde_json::from_slice(&unb64(parts[0])).unwrap();
    let keys = jwks["keys"].as_array().unwrap();
    let key = keys
        .iter()
        .find(|key| key["kid"] == header["kid"])
        .expect("the key is published");
    assert_eq!(
        (key["kty"].as_str(), key["crv"].as_str()),
        (Some("OKP"), Some("Ed25519"))
    );
    assert!(key["d"].is_null(), "the private key is published");
    let public = unb64(key["x"].as_str().unwrap());
    aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ED25519, public)
        .verify(
            format!("{}.{}", parts[0], parts[1]).as_bytes(),
            &unb64(parts[2]),
        )
        .expect("the signature verifies");
    serde_json::from_slice(&unb64(parts[1])).unwrap()
}

#[tokio::test]
async fn a11_an_authorization_header_makes_nobody_somebody() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let basic = format!("Basic {}", b64(b"alice:password"));
    for value in ["Bearer junk", basic.as_str()] {
        app.forget();
        assert_eq!(
            gateway
                .anon()
                .send(Ask::get("/").header("authorization", value))
                .await
                .status,
            401
        );
        assert!(app.seen().is_empty());
        let alice = gateway.signed_in("alice").await;
        assert_eq!(
            alice
                .send(Ask::get("/").header("authorization", value))
                .await
                .status,
            200
        );
        let seen = app.only();
        assert_eq!(seen.one("x-forwarded-user"), Some("alice"));
        assert!(seen.one("authorization").is_none_or(|kept| kept == value));
    }
    // An access token of ours is a cookie, not a bearer token.
    let alice = gateway.signed_in("alice").await;
    let bearer = format!("Bearer {}", alice.access().unwrap());
    assert_eq!(
        gateway
            .anon()
            .send(Ask::get("/").header("authorization", bearer))
            .await
            .status,
        401
    );
}

#[tokio::test]
async fn a_the_recorder_would_notice() {
    // The tests above are worth nothing if the app did not record what a client wrote.
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let answer = gateway
        .door()
        .raw(
            b"GET /public HTTP/1.1\r\nHost: app.test\r\nX-Harmless_Name: spoofed-too\r\n\r\n",
            QUIET,
        )
        .await;
    assert!(matches!(status_of(&answer), 200 | 400));
    let answer = gateway
        .anon()
        .send(Ask::get("/public").header("x-harmless", "spoofed-admin"))
        .await;
    assert_eq!(answer.status, 200);
    assert!(app.last().mentions("spoofed-admin"));
}
