//! Back-channel logout: a provider's server says who has signed out there.

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::attacks::w_upgrade::open as open_socket;
use crate::harness::client::Answer;
use crate::harness::maker::{Alg, unsigned};
use crate::harness::wait::within;
use crate::harness::{App, Ask, Browser, Gateway, Nodes, ORIGIN, Person, Provider, Rogue};
use crate::nodes::refused_everywhere;

const FORM: &str = "application/x-www-form-urlencoded";
const ENDPOINT: &str = "/.auth/backchannel-logout/corp";

async fn send(gateway: &Gateway, ask: Ask) -> Answer {
    let answer = gateway.door().ask(ask).await;
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(!answer.sets_cookies());
    answer
}

async fn tell(gateway: &Gateway, token: &str) -> Answer {
    let body = format!("logout_token={token}");
    send(
        gateway,
        Ask::post(ENDPOINT, body).header("content-type", FORM),
    )
    .await
}

#[tokio::test]
async fn l04_a_session_that_ends_at_the_provider_is_over_on_every_node() {
    let provider = Provider::start();
    let app = App::start().await;
    let setup = Gateway::before(&app).login(&provider.table("corp", ""));
    let nodes = Nodes::three(setup).await;
    provider.knows(&nodes.nodes[1]).await;
    let alice = nodes.anon().signed_in_by("corp", "alice").await;
    let bob = nodes.anon().signed_in_by("corp", "bob").await;
    let mut sockets = Vec::new();
    for node in 0..3 {
        assert_eq!(nodes.get(&alice, node, "/").await.status, 200);
        let at = nodes.through(&alice, node);
        sockets.push(open_socket(&at, "/socket", ORIGIN).await.unwrap());
    }
    assert_eq!(provider.end_sessions("alice").await, 1);
    refused_everywhere(&nodes, &alice).await;
    for mut socket in sockets {
        within("the socket is closed", async {
            while let Some(Ok(_)) = socket.next().await {}
        })
        .await;
    }
    for node in 0..3 {
        assert_eq!(nodes.get(&bob, node, "/").await.status, 200);
    }
    let line = nodes.nodes[1]
        .until_logged(&["audit", "\"revoked\"", "signed out at the provider"])
        .await;
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&line["by"], &line["sessions"]),
        (&json!("provider"), &json!(1))
    );
    assert!(
        line["request_id"].is_string() && line["client"].is_string(),
        "{line}"
    );
}

/// Signed in at a provider that says whatever it is told to, which calls the session `there`.
async fn signed_in(rogue: &Rogue, gateway: &Gateway) -> Browser {
    rogue.person(json!({ "sub": "p1", "preferred_username": "p", "email": "p@example.com" }));
    rogue.id_token(|token| token.claims["sid"] = json!("there"));
    let browser = gateway.anon();
    let back = Person::new()
        .visit(&browser.begin("corp", "/").await, "p1")
        .await;
    assert_eq!(browser.come_back(&back).await.status, 303, "signed in");
    browser
}

#[tokio::test]
async fn l03_what_is_no_logout_token_ends_nothing() {
    let rogue = Rogue::start().await;
    let app = App::start().await;
    let gateway = Gateway::before(&app)
        .server("trusted_proxies = [\"127.0.0.0/8\"]")
        .login(&rogue.table("corp", ""))
        .run();
    let browser = signed_in(&rogue, &gateway).await;
    let good = || rogue.logout_claims(None, Some("there"));
    let sign = |claims: &Value| rogue.maker.token(Alg::Rs256, "logout+jwt", claims);
    let with = |name: &str, value: Value| {
        let mut claims = good();
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value,
        }
        sign(&claims)
    };
    let event = "http://schemas.openid.net/event/backchannel-logout";
    let mut refused: Vec<(&str, String)> = vec![
        ("aud", with("aud", json!("somebody"))),
        ("no aud", with("aud", Value::Null)),
        ("iss", with("iss", json!("https://evil.example"))),
        ("no event", with("events", Value::Null)),
        (
            "wrong event",
            with("events", json!({ "http://x.example/": {} })),
        ),
        ("event as text", with("events", json!({ event: "" }))),
        ("nonce", with("nonce", json!("n"))),
        ("no jti", with("jti", Value::Null)),
        ("no iat", with("iat", Value::Null)),
        ("nobody", with("sid", Value::Null)),
        ("sid as number", with("sid", json!(7))),
        ("old", with("exp", json!(rogue.now() - 3600))),
        (
            "unsigned",
            unsigned(r#"{"alg":"none"}"#, &good().to_string()),
        ),
        (
            "an impostor",
            rogue
                .maker
                .impostor()
                .token(Alg::Rs256, "logout+jwt", &good()),
        ),
        (
            "another typ",
            rogue.maker.token(Alg::Rs256, "at+jwt", &good()),
        ),
        ("nothing", String::new()),
        ("no token", "x".to_owned()),
    ];
    refused.push(("cut", good().to_string()));
    let mut asked = 0;
    for (case, token) in &refused {
        // Each from an address of its own: what is refused makes its sender wait.
        let body = format!("logout_token={token}");
        let ask = Ask::post(ENDPOINT, body).header("content-type", FORM);
        let answer = send(
            &gateway,
            ask.header("x-forwarded-for", format!("192.0.2.{asked}")),
        )
        .await;
        assert_eq!(answer.status, 400, "{case}: {}", answer.text());
        assert_eq!(answer.json()["error"], "invalid_request", "{case}");
        assert_eq!(browser.get("/").await.status, 200, "{case}");
        asked += 1;
    }
    assert!(asked > 15);
}

#[tokio::test]
async fn l03_a_good_token_ends_the_session_once_and_only_as_a_form() {
    let rogue = Rogue::start().await;
    let app = App::start().await;
    let gateway = Gateway::before(&app).login(&rogue.table("corp", "")).run();
    let browser = signed_in(&rogue, &gateway).await;
    let token = rogue.logout_token(&rogue.logout_claims(None, Some("there")));
    let once = format!("logout_token={token}");
    let twice = format!("{once}&{once}");
    for (body, content_type) in [
        (&twice, FORM),
        (&once, "application/json"),
        (&String::new(), FORM),
    ] {
        let ask = Ask::post(ENDPOINT, body.clone()).header("content-type", content_type);
        assert_eq!(
            send(&gateway, ask).await.status,
            400,
            "{content_type} {}",
            body.len()
        );
    }
    let large = format!("{once}&x={}", "x".repeat(20_000));
    let ask = Ask::post(ENDPOINT, large).header("content-type", FORM);
    assert_eq!(send(&gateway, ask).await.status, 400);
    let other = Ask::post("/.auth/backchannel-logout/other", once.clone());
    let answer = gateway.door().ask(other.header("content-type", FORM)).await;
    assert_eq!(answer.status, 404);
    let answer = gateway.door().ask(Ask::get(ENDPOINT)).await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    assert_eq!(browser.get("/").await.status, 200);

    assert_eq!(tell(&gateway, &token).await.status, 200);
    assert_eq!(browser.get("/").await.status, 401);
    let anew = signed_in(&rogue, &gateway).await;
    assert_eq!(tell(&gateway, &token).await.status, 400, "it came before");
    assert_eq!(anew.get("/").await.status, 200);
    gateway
        .until_logged(&["audit", "\"logout_refused\"", "used before"])
        .await;
    // By the person.
    let all = rogue.logout_token(&rogue.logout_claims(Some("p1"), None));
    assert_eq!(tell(&gateway, &all).await.status, 200);
    assert_eq!(anew.get("/").await.status, 401);
}

#[tokio::test]
async fn whoever_floods_the_endpoint_waits_and_the_provider_does_not() {
    let rogue = Rogue::start().await;
    let app = App::start().await;
    let gateway = Gateway::before(&app)
        .server("trusted_proxies = [\"127.0.0.0/8\"]")
        .login(&rogue.table("corp", ""))
        .run();
    let browser = signed_in(&rogue, &gateway).await;
    let ask = |token: &str, from: &str| {
        Ask::post(ENDPOINT, format!("logout_token={token}"))
            .header("content-type", FORM)
            .header("x-forwarded-for", from)
    };
    let forged = rogue.maker.impostor();
    let forged = forged.token(
        Alg::Rs256,
        "logout+jwt",
        &rogue.logout_claims(None, Some("there")),
    );
    let mut looked_at = 0;
    for _ in 0..60 {
        match send(&gateway, ask(&forged, "192.0.2.1")).await.status {
            400 => looked_at += 1,
            429 => {}
            status => panic!("{status}"),
        }
    }
    assert!((10..=20).contains(&looked_at), "{looked_at}");
    assert_eq!(browser.get("/").await.status, 200);
    let good = rogue.logout_token(&rogue.logout_claims(None, Some("there")));
    assert_eq!(send(&gateway, ask(&good, "192.0.2.2")).await.status, 200);
    assert_eq!(browser.get("/").await.status, 401);
}
