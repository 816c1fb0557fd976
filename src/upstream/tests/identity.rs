//! What an upstream learns about the person, and what a client cannot make it believe (attacks A, B).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::auth::Subject;

const SPOOFS: [&str; 24] = [
    "X-Forwarded-User",
    "X-Forwarded-Email",
    "X-Forwarded-Groups",
    "X-Forwarded-Preferred-Username",
    "Remote-User",
    "Remote-Groups",
    "X-Auth-Request-User",
    "X-WEBAUTH-USER",
    "X-Vestibule-Assertion",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "X-Forwarded-Uri",
    "Forwarded",
    "X-Real-IP",
    "X-Request-Id",
    "X-Original-URL",
    "X-Original-Method",
    "X-Rewrite-URL",
    "X_Forwarded_User",
    "X-Forwarded_User",
    "x.forwarded.user",
];

fn spoofed(method: &str) -> Request<Body> {
    let lines: Vec<(&str, &str)> = SPOOFS.iter().map(|name| (*name, "evil")).collect();
    request(method, "/", &lines, Body::empty())
}

#[tokio::test]
async fn a01_a07_a10_b02_nothing_spoofed_reaches_an_upstream_without_identity() {
    let upstream = Recorder::ok().await;
    let bench = Bench::new(vec![upstream.endpoint()]);
    for method in ["GET", "OPTIONS"] {
        bench.send_as(false, spoofed(method), None).await.unwrap();
        let head = upstream.heads().pop().unwrap();
        assert!(!head.contains("evil"), "{head}");
        assert!(upstream.last("x-forwarded-user").is_empty());
        assert!(upstream.last("x-vestibule-assertion").is_empty());
    }
}

#[tokio::test]
async fn a02_a03_a05_the_verified_identity_replaces_what_the_client_sent() {
    let upstream = Recorder::ok().await;
    let bench = Bench::new(vec![upstream.endpoint()]);
    let mut request = spoofed("GET");
    request
        .headers_mut()
        .append("x-forwarded-user", "evil2".parse().unwrap());
    bench.send(request).await.unwrap();
    let head = upstream.heads().pop().unwrap();
    assert!(!head.contains("evil"), "{head}");
    assert_eq!(upstream.last("x-forwarded-user"), ["alice"]);
    assert_eq!(upstream.last("x-forwarded-email"), ["alice@example.com"]);
    assert_eq!(upstream.last("x-forwarded-groups"), ["staff,dev"]);
    assert_eq!(upstream.last("x-forwarded-for"), ["192.0.2.7"]);
    assert_eq!(upstream.last("x-forwarded-proto"), ["https"]);
    assert_eq!(upstream.last("x-forwarded-host"), ["app.example.com"]);
    assert_eq!(upstream.last("host"), ["app.example.com"]);
    assert_eq!(upstream.last("x-request-id"), ["req-1"]);
    assert_eq!(upstream.last("via"), ["1.1 vestibule"]);
}

#[tokio::test]
async fn a04_an_absent_claim_does_not_let_the_clients_header_through() {
    let upstream = Recorder::ok().await;
    let mut bench = Bench::new(vec![upstream.endpoint()]);
    let mut claims = claims();
    claims.identity.groups.clear();
    bench.subject = Arc::new(Subject::new(claims));
    bench
        .send(request(
            "GET",
            "/",
            &[("X-Forwarded-Groups", "admins")],
            Body::empty(),
        ))
        .await
        .unwrap();
    assert!(upstream.last("x-forwarded-groups").is_empty());
}

#[tokio::test]
async fn a06_connection_cannot_remove_ours() {
    let upstream = Recorder::ok().await;
    let bench = Bench::new(vec![upstream.endpoint()]);
    let nominate = "close, X-Forwarded-User, X-Vestibule-Assertion, X-Forwarded-For, X-Mine";
    bench
        .send(request(
            "GET",
            "/",
            &[("Connection", nominate), ("X-Mine", "1")],
            Body::empty(),
        ))
        .await
        .unwrap();
    assert_eq!(upstream.last("x-forwarded-user"), ["alice"]);
    assert_eq!(upstream.last("x-forwarded-for"), ["192.0.2.7"]);
    assert_eq!(upstream.last("x-vestibule-assertion").len(), 1);
    assert!(upstream.last("x-mine").is_empty());
    assert!(upstream.last("connection").is_empty());
}

#[tokio::test]
async fn a09_f08_the_apps_cookies_arrive_and_ours_do_not() {
    let upstream = Recorder::ok().await;
    let bench = Bench::new(vec![upstream.endpoint()]);
    let lines = [
        ("Cookie", "a=\"1 2\""),
        (
            "Cookie",
            "__Host-vestibule-access=t; __Host-vestibule-refresh=r",
        ),
        ("Cookie", "b=2"),
    ];
    bench
        .send(request("GET", "/", &lines, Body::empty()))
        .await
        .unwrap();
    assert_eq!(upstream.last("cookie"), ["a=\"1 2\"; b=2"]);
}

#[tokio::test]
async fn b01_a_trusted_peers_chain_is_appended_to_and_its_identity_headers_are_not_believed() {
    let upstream = Recorder::ok().await;
    let mut bench = Bench::new(vec![upstream.endpoint()]);
    bench.trusted_peer = true;
    let lines = [
        ("X-Forwarded-For", "203.0.113.1"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-User", "evil"),
        ("X_Forwarded_For", "evil"),
    ];
    bench
        .send_as(false, request("GET", "/", &lines, Body::empty()), None)
        .await
        .unwrap();
    assert_eq!(upstream.last("x-forwarded-for"), ["203.0.113.1, 192.0.2.7"]);
    assert_eq!(upstream.last("x-forwarded-proto"), ["http"]);
    assert!(!upstream.heads().pop().unwrap().contains("evil"));
}

#[tokio::test]
async fn the_assertion_names_person_and_upstream_and_is_signed_once() {
    let upstream = Recorder::ok().await;
    let bench = Bench::new(vec![upstream.endpoint()]);
    bench.send(get("/")).await.unwrap();
    let first = upstream.last("x-vestibule-assertion").pop().unwrap();
    bench.send(get("/")).await.unwrap();
    assert_eq!(
        upstream.last("x-vestibule-assertion"),
        std::slice::from_ref(&first),
        "reused while it lives"
    );
    let payload = URL_SAFE_NO_PAD
        .decode(first.split('.').nth(1).unwrap())
        .unwrap();
    let payload: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(payload["iss"], ORIGIN);
    assert_eq!(payload["aud"], "app");
    assert_eq!(payload["sub"], "alice");
    assert_eq!(payload["groups"][1], "dev");
    assert_eq!(payload["iat"], NOW.as_secs());
    assert_eq!(payload["exp"], NOW.as_secs() + 60);
}

#[tokio::test]
async fn another_signing_key_or_a_short_rest_of_life_makes_a_new_assertion() {
    let made =
        assertion::Assertion::sign(ORIGIN, "app", &Subject::new(claims()), &keys().1, NOW).unwrap();
    let (_, same) = keys();
    assert!(!made.serves(&same, NOW), "another key");
    let (_, set) = keys();
    let made =
        assertion::Assertion::sign(ORIGIN, "app", &Subject::new(claims()), &set, NOW).unwrap();
    assert!(made.serves(&set, NOW));
    assert!(made.serves(&set, NOW.plus(Duration::from_secs(30))));
    assert!(!made.serves(&set, NOW.plus(Duration::from_millis(30_001))));
    assert!(!made.serves(&set, NOW.minus(Duration::from_millis(1))));
}
