//! B: a client tries to be routed, trusted or judged by what it says about itself.

use super::{asks_to_sign_in, raw};
use crate::harness::browser::sign_in_form;
use crate::harness::{App, Ask, Gateway, ORIGIN, PASSWORD};
use crate::sign_in::guess_until_told_to_wait;

#[tokio::test]
async fn b01_x_forwarded_for_of_anybody_is_not_believed() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    for spoof in ["203.0.113.9", "127.0.0.9", "::1, 10.0.0.1"] {
        app.forget();
        let answer = gateway
            .anon()
            .send(Ask::get("/public").header("x-forwarded-for", spoof))
            .await;
        assert_eq!(answer.status, 200);
        let seen = app.only();
        assert_eq!(seen.one("x-forwarded-for"), Some("127.0.0.1"));
        assert!(!seen.mentions(spoof));
    }
    let far = gateway.anon().at("127.0.0.7");
    app.forget();
    far.send(Ask::get("/public/far").header("x-forwarded-for", "203.0.113.9"))
        .await;
    assert_eq!(app.only().one("x-forwarded-for"), Some("127.0.0.7"));
    // The gateway's own log uses the socket's peer as well.
    let line = gateway.until_logged(&["/public/far"]).await;
    assert!(
        line.contains("127.0.0.7") && !line.contains("203.0.113.9"),
        "{line}"
    );
}

#[tokio::test]
async fn b01_who_guesses_passwords_is_counted_by_the_sockets_peer() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).with_clock().run();
    let guesser = gateway.anon().at("127.0.0.66");
    let elsewhere = |address: &str, ask: Ask| {
        ask.header("x-forwarded-for", address)
            .header("forwarded", format!("for={address}"))
            .header("x-real-ip", address)
    };
    // As if each guess came from somewhere else.
    guess_until_told_to_wait(&gateway, &guesser, |guess, ask| {
        elsewhere(&format!("203.0.113.{guess}"), ask)
    })
    .await;
    let right = || sign_in_form("alice", PASSWORD, "/");
    let claims_to_be_far = elsewhere("198.51.100.7", right());
    assert_eq!(guesser.send(claims_to_be_far).await.status, 429);
    // Nor does anybody wait for the name of somebody who has to.
    let claims_to_be_the_guesser = elsewhere("127.0.0.66", right());
    let other = gateway.anon().at("127.0.0.67");
    assert_eq!(other.send(claims_to_be_the_guesser).await.status, 303);
}

#[tokio::test]
async fn b02_forwarding_headers_are_written_here() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let ask = Ask::get("/public")
        .header("x-forwarded-proto", "gopher-evil")
        .header("x-forwarded-host", "evil.example")
        .header("x-forwarded-port", "evil-666")
        .header("x-forwarded-prefix", "/evil")
        .header("x-forwarded-server", "evil")
        .header("x-forwarded-uri", "/evil")
        .header("x-real-ip", "6.6.6.6")
        .header("client-ip", "6.6.6.6")
        .header("true-client-ip", "6.6.6.6")
        .header("x_client_ip", "6.6.6.6")
        .header("x-cluster-client-ip", "6.6.6.6")
        .header("cf-connecting-ip", "6.6.6.6")
        .header("fastly-client-ip", "6.6.6.6")
        .header("x-host", "evil.example")
        .header("forwarded", "for=6.6.6.6;host=evil.example;proto=http")
        .header("x-request-id", "evil-request");
    assert_eq!(gateway.anon().send(ask).await.status, 200);
    let seen = app.only();
    assert!(
        !seen.mentions("evil") && !seen.mentions("6.6.6.6"),
        "{}",
        String::from_utf8_lossy(&seen.head)
    );
    assert_eq!(seen.one("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.one("x-forwarded-host"), Some("app.test"));
    let forwarded = seen
        .one("forwarded")
        .expect("Forwarded")
        .to_ascii_lowercase();
    assert!(
        forwarded.contains("for=127.0.0.1") && forwarded.contains("proto=https"),
        "{forwarded}"
    );
    assert!(seen.one("x-request-id").is_some_and(|id| id.len() >= 8));
}

#[tokio::test]
async fn b03_policy_looks_at_the_request_and_at_no_header_about_it() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    for name in [
        "X-Forwarded-Uri",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Original-URI",
        "X-Envoy-Original-Path",
    ] {
        let ask = Ask::get("/admin")
            .header(name, "/public")
            .header("x-original-method", "OPTIONS");
        let answer = gateway.anon().send(ask.clone()).await;
        assert_eq!(answer.status, 401, "{name}");
        let bob = gateway.signed_in("bob").await;
        assert_eq!(bob.send(ask).await.status, 403, "{name}");
    }
    assert!(app.seen().is_empty());
}

#[tokio::test]
async fn b04_nobody_is_trusted_by_default_and_the_start_says_so() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let said = gateway.logs().join("\n").to_ascii_lowercase();
    assert!(
        said.contains("trusted"),
        "the start says whom it trusts: {said}"
    );
    drop(gateway);
    // Named peers are believed, and only the named ones.
    let gateway = Gateway::before(&app)
        .server("trusted_proxies = [\"127.0.0.2/32\"]")
        .run();
    let ask = Ask::get("/public").header("x-forwarded-for", "203.0.113.9");
    gateway.anon().send(ask.clone()).await;
    assert_eq!(app.last().one("x-forwarded-for"), Some("127.0.0.1"));
    gateway.anon().at("127.0.0.2").send(ask).await;
    let believed = app.last();
    let believed = believed.one("x-forwarded-for").unwrap();
    assert!(believed.starts_with("203.0.113.9"), "{believed}");
}

#[tokio::test]
async fn b05_another_host_gets_nothing_built_from_it() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    for path in ["/.auth/login?rd=/", "/.auth/me", "/", "/public"] {
        for host in [
            "evil.example",
            "app.test.evil.example",
            "evilapp.test",
            // The host is ours, the port is not where anybody of ours listens.
            "app.test:1",
        ] {
            let (status, answer) = raw(
                &gateway,
                &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\n\r\n"),
            )
            .await;
            assert!(
                matches!(status, 400 | 404 | 421),
                "{path} on {host}: {status}"
            );
            let head = answer.split("\r\n\r\n").next().unwrap_or("");
            assert!(!head.contains("evil"), "{head}");
        }
    }
    assert!(app.seen().is_empty());
    // The right host: links lead to the configured origin or stay relative.
    let answer = gateway.anon().navigate("/secret?x=1").await;
    let location = answer.header("location").unwrap();
    assert!(
        location.starts_with("/.auth/login?rd=")
            || location.starts_with(&format!("{ORIGIN}/.auth/login?rd=")),
        "{location}"
    );
}

#[tokio::test]
async fn b06_absolute_form_for_another_host_is_not_routed_as_ours() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    for target in [
        "https://evil.example/public",
        "http://evil.example/public",
        "https://app.test@evil.example/public",
    ] {
        let (status, _) = raw(&gateway, &format!("GET {target} HTTP/1.1\r\n{{host}}\r\n")).await;
        assert!(matches!(status, 400 | 404 | 421), "{target}: {status}");
    }
    assert_eq!(app.bytes(), 0);
}

#[tokio::test]
async fn b07_no_user_agent_opens_a_door() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    for agent in [
        "GoogleHC/1.0",
        "kube-probe/1.30",
        "ELB-HealthChecker/2.0",
        "Consul Health Check",
    ] {
        for path in ["/", "/admin", "/healthz", "/ping"] {
            let answer = gateway
                .anon()
                .send(Ask::get(path).header("user-agent", agent))
                .await;
            assert!(
                asks_to_sign_in(answer.status),
                "{agent} {path}: {}",
                answer.status
            );
        }
    }
    assert_eq!(app.bytes(), 0);
}

#[tokio::test]
async fn b08_the_method_is_the_method() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    for name in [
        "X-HTTP-Method-Override",
        "X-Method-Override",
        "X-HTTP-Method",
    ] {
        let ask = Ask::post("/read/x", "a=1").header(name, "GET");
        assert_eq!(gateway.anon().send(ask).await.status, 405, "{name}");
    }
    assert!(app.seen().is_empty());
    let line = gateway.until_logged(&["/read/x"]).await;
    assert!(line.contains("POST"), "{line}");
}
