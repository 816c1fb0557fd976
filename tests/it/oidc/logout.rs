//! A provider ends sessions: back-channel logout, judged strictly and felt on every node at once.

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::by;
use crate::attacks::{echoes, open_socket};
use crate::harness::browser::Browser;
use crate::harness::client::Answer;
use crate::harness::forge::random;
use crate::harness::maker::{Alg, unsigned};
use crate::harness::provider::CLIENT_SECRET;
use crate::harness::wait::{until, within};
use crate::harness::{ACCESS, App, Ask, Gateway, Nodes, ORIGIN, Provider, Rogue};

const PLACE: &str = "/.auth/backchannel-logout/corp";

/// As a provider posts it: no cookie, no Origin, no Fetch Metadata.
fn post(body: impl Into<String>) -> Ask {
    Ask::new("POST", PLACE)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body.into())
}

fn form(token: &str) -> Ask {
    post(format!("logout_token={token}"))
}

/// The `sid` that the rogue gave to this browser's sign-in.
async fn signed_in(gateway: &Gateway, rogue: &Rogue) -> (Browser, String) {
    let sid = random(9);
    let said = sid.clone();
    rogue.id_token(move |token| token.claims["sid"] = json!(said));
    (gateway.anon().signed_in_by("corp", "-").await, sid)
}

fn taken(answer: &Answer) {
    assert!(matches!(answer.status, 200 | 204), "{}", answer.text());
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(!answer.sets_cookies());
}

fn refused(answer: &Answer, what: &str) {
    assert_eq!(answer.status, 400, "{what}: {}", answer.text());
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
}

#[tokio::test]
async fn l03_a_bad_logout_token_ends_nothing() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let gateway = by(&app, &rogue.table("corp", "")).run();
    let (alice, sid) = signed_in(&gateway, &rogue).await;
    let good = rogue.logout_claims(Some("alice"), Some(&sid));
    let now = rogue.now();
    let header = json!({ "alg": "RS256", "kid": "rogue-RS256", "typ": "logout+jwt" });
    let sign = |header: &Value, claims: &Value| {
        rogue
            .maker
            .sign(Alg::Rs256, &header.to_string(), &claims.to_string())
    };
    let with = |name: &str, value: Value| {
        let mut claims = rogue.logout_claims(Some("alice"), Some(&sid));
        claims[name] = value;
        sign(&header, &claims)
    };
    let without = |names: &[&str]| {
        let mut claims = rogue.logout_claims(Some("alice"), Some(&sid));
        for name in names {
            claims.as_object_mut().unwrap().remove(*name);
        }
        sign(&header, &claims)
    };
    let headed = |name: &str, value: Value| {
        let mut header = header.clone();
        header[name] = value;
        sign(&header, &rogue.logout_claims(Some("alice"), Some(&sid)))
    };
    let event = "http://schemas.openid.net/event/backchannel-logout";
    let none = json!({ "alg": "none", "typ": "logout+jwt" });
    let hs = json!({ "alg": "HS256", "typ": "logout+jwt" });
    let bad = [
        ("alg none", unsigned(&none.to_string(), &good.to_string())),
        (
            "HS256 under the client's secret",
            crate::harness::maker::sign_hs256(
                CLIENT_SECRET.as_bytes(),
                &hs.to_string(),
                &good.to_string(),
            ),
        ),
        (
            "HS256 under the public key",
            crate::harness::maker::sign_hs256(
                rogue.maker.pem(Alg::Rs256).as_bytes(),
                &hs.to_string(),
                &good.to_string(),
            ),
        ),
        (
            "somebody else's key",
            rogue
                .maker
                .impostor()
                .sign(Alg::Rs256, &header.to_string(), &good.to_string()),
        ),
        ("unknown kid", headed("kid", json!("who"))),
        ("unknown crit", headed("crit", json!(["x"]))),
        ("an access token", headed("typ", json!("at+jwt"))),
        ("an assertion", headed("typ", json!("dpop+jwt"))),
        ("iss", with("iss", json!("https://evil.example"))),
        (
            "iss with a slash",
            with("iss", json!(format!("{}/", rogue.issuer))),
        ),
        ("no iss", without(&["iss"])),
        ("aud", with("aud", json!("somebody-else"))),
        ("aud of strangers", with("aud", json!(["a", "b"]))),
        ("no aud", without(&["aud"])),
        ("no iat", without(&["iat"])),
        ("iat to come", with("iat", json!(now + 600))),
        ("iat long ago", with("iat", json!(now - 86_400))),
        ("iat as text", with("iat", json!("now"))),
        ("exp past", with("exp", json!(now - 120))),
        ("exp as text", with("exp", json!("soon"))),
        ("no jti", without(&["jti"])),
        ("jti as number", with("jti", json!(7))),
        ("jti empty", with("jti", json!(""))),
        ("no events", without(&["events"])),
        (
            "another event",
            with("events", json!({ "http://schemas.openid.net/event/x": {} })),
        ),
        ("event as list", with("events", json!([event]))),
        ("event as text", with("events", json!(event))),
        ("event with a text", with("events", json!({ event: "yes" }))),
        ("nonce", with("nonce", json!("n"))),
        ("nonce null", with("nonce", Value::Null)),
        ("nobody", without(&["sub", "sid"])),
        ("sub as number", with("sub", json!(1))),
        ("sid as list", with("sid", json!([sid]))),
        ("empty sid", with("sid", json!(""))),
        ("nonsense", "x".to_owned()),
        ("nothing", String::new()),
        ("huge", "x".repeat(100_000)),
    ];
    for (number, (what, token)) in bad.iter().enumerate() {
        // An address whose tokens are refused has to wait; each of these comes from another.
        let mut door = gateway.door();
        door.from = std::net::Ipv4Addr::new(127, 0, 1, u8::try_from(number + 1).unwrap()).into();
        let answer = door.ask(form(token)).await;
        if *what == "huge" {
            assert!(matches!(answer.status, 400 | 413), "{}", answer.status);
        } else {
            refused(&answer, what);
        }
        assert_eq!(alice.get("/").await.status, 200, "{what}");
    }
    // The token may be right, and the request wrong.
    let token = rogue.logout_token(&good);
    let wrong = [
        (
            "twice",
            post(format!("logout_token={token}&logout_token={token}")),
        ),
        (
            "twice, other",
            post(format!("logout_token={token}&logout_token=x")),
        ),
        ("another name", post(format!("token={token}"))),
        (
            "in the query",
            Ask::new("POST", &format!("{PLACE}?logout_token={token}")),
        ),
        (
            "JSON",
            Ask::new("POST", PLACE)
                .header("content-type", "application/json")
                .body(json!({ "logout_token": token }).to_string()),
        ),
    ];
    for (what, ask) in wrong {
        let answer = gateway.door().ask(ask).await;
        assert!(
            matches!(answer.status, 400 | 415),
            "{what}: {}",
            answer.status
        );
        assert_eq!(alice.get("/").await.status, 200, "{what}");
    }
    let get = gateway
        .door()
        .ask(Ask::get(&format!("{PLACE}?logout_token={token}")))
        .await;
    assert!(matches!(get.status, 404 | 405), "{}", get.status);
    let elsewhere = Ask::new("POST", "/.auth/backchannel-logout/other")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("logout_token={token}"));
    let answer = gateway.door().ask(elsewhere).await;
    assert!(matches!(answer.status, 400 | 404), "{}", answer.status);
    assert_eq!(alice.get("/").await.status, 200);
    // An ID token is no logout token, though it comes from the same hand.
    let id = json!({ "iss": rogue.issuer, "aud": "vestibule", "sub": "alice", "sid": sid, "iat": now, "exp": now + 60, "jti": "x" });
    let id = rogue.maker.token(Alg::Rs256, "JWT", &id);
    refused(&gateway.door().ask(form(&id)).await, "an ID token");
    assert_eq!(alice.get("/").await.status, 200);
    gateway.until_logged(&["audit", "corp"]).await;
    assert!(
        gateway.logged(&[&token[..60]]).is_empty(),
        "a token in the log"
    );
    // And the good one does it.
    taken(&gateway.door().ask(form(&token)).await);
    assert_eq!(alice.get("/").await.status, 401);
}

#[tokio::test]
async fn o11_a_logout_token_works_once_and_ends_nothing_that_began_after_it() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let gateway = by(&app, &rogue.table("corp", "")).run();
    let (alice, sid) = signed_in(&gateway, &rogue).await;
    let token = rogue.logout_token(&rogue.logout_claims(Some("alice"), Some(&sid)));
    taken(&gateway.door().ask(form(&token)).await);
    assert_eq!(alice.get("/").await.status, 401);
    refused(&gateway.door().ask(form(&token)).await, "again");
    // By `sub`, it must not end what begins afterwards.
    let by_sub = rogue.logout_token(&rogue.logout_claims(Some("alice"), None));
    let (before, _) = signed_in(&gateway, &rogue).await;
    taken(&gateway.door().ask(form(&by_sub)).await);
    assert_eq!(before.get("/").await.status, 401);
    let (after, _) = signed_in(&gateway, &rogue).await;
    gateway.door().ask(form(&by_sub)).await;
    assert_eq!(after.get("/").await.status, 200);
}

#[tokio::test]
async fn l04_each_kind_of_logout_token_ends_what_it_names() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let other = Rogue::start().await;
    let tables = format!("{}{}", rogue.table("corp", ""), other.table("other", ""));
    let gateway = by(&app, &tables).run();
    for alg in Alg::ALL {
        let (alice, sid) = signed_in(&gateway, &rogue).await;
        let claims = rogue.logout_claims(None, Some(&sid));
        let token = rogue.maker.token(alg, "logout+jwt", &claims);
        taken(&gateway.door().ask(form(&token)).await);
        assert_eq!(alice.get("/").await.status, 401, "{alg:?}");
    }
    // By sid: this sign-in and no other.
    let (phone, sid) = signed_in(&gateway, &rogue).await;
    let (desk, _) = signed_in(&gateway, &rogue).await;
    other.person(json!({ "sub": "alice" }));
    let said = sid.clone();
    other.id_token(move |token| token.claims["sid"] = json!(said));
    let elsewhere = gateway.anon().signed_in_by("other", "-").await;
    rogue.person(json!({ "sub": "bob" }));
    let (bob, _) = signed_in(&gateway, &rogue).await;
    let token = rogue.logout_token(&rogue.logout_claims(None, Some(&sid)));
    taken(&gateway.door().ask(form(&token)).await);
    assert_eq!(phone.get("/").await.status, 401);
    assert_eq!(desk.get("/").await.status, 200);
    // By sub: everything of that person there, and nobody of that name elsewhere.
    let token = rogue.logout_token(&rogue.logout_claims(Some("alice"), None));
    taken(&gateway.door().ask(form(&token)).await);
    assert_eq!(desk.get("/").await.status, 401);
    assert_eq!(elsewhere.get("/").await.status, 200);
    assert_eq!(bob.get("/").await.status, 200);
    // Somebody who is not here is not an error (section 2.7).
    let token = rogue.logout_token(&rogue.logout_claims(Some("nobody"), None));
    taken(&gateway.door().ask(form(&token)).await);
    // `typ` is what some providers leave out; an `exp` as well.
    let mut claims = rogue.logout_claims(Some("bob"), None);
    claims.as_object_mut().unwrap().remove("exp");
    let token = rogue.maker.token(Alg::Rs256, "JWT", &claims);
    taken(&gateway.door().ask(form(&token)).await);
    assert_eq!(bob.get("/").await.status, 401);
    gateway.until_logged(&["audit", "corp", "bob"]).await;
}

#[tokio::test]
async fn l04_the_real_provider_ends_sessions_on_every_node_and_closes_what_flows() {
    let app = App::start().await;
    let provider = Provider::start();
    let nodes = Nodes::three(by(&app, &provider.table("corp", ""))).await;
    provider.knows(&nodes.nodes[0]).await;
    let alice = nodes.anon().signed_in_by("corp", "alice").await;
    let bob = nodes.anon().signed_in_by("corp", "bob").await;
    let mut sockets = Vec::new();
    for node in 0..3 {
        let there = nodes.through(&alice, node);
        assert_eq!(there.get("/").await.status, 200);
        let mut socket = open_socket(&there, "/socket", ORIGIN).await.unwrap();
        echoes(&mut socket, "hello").await;
        sockets.push(socket);
    }
    assert_eq!(provider.end_sessions("alice").await, 1);
    for socket in &mut sockets {
        within("the socket is closed", async {
            while let Some(Ok(message)) = socket.next().await {
                if message.is_close() {
                    return;
                }
            }
        })
        .await;
    }
    for node in 0..3 {
        let there = nodes.through(&alice.copy(), node);
        until("the node knows", async || {
            (there.get("/").await.status == 401).then_some(())
        })
        .await;
        there.drop_cookie(ACCESS);
        assert_eq!(nodes.get(&there, node, "/").await.status, 401);
        let bob = nodes.through(&bob, node);
        assert_eq!(bob.get("/").await.status, 200);
    }
    assert_eq!(provider.count("backchannel.error").await, 0);
}

#[tokio::test]
async fn l04_a_logout_that_the_store_cannot_keep_is_not_confirmed() {
    let app = App::start().await;
    let rogue = Rogue::start().await;
    let nodes = Nodes::run(1, by(&app, &rogue.table("corp", ""))).await;
    let (alice, sid) = signed_in(&nodes.nodes[0], &rogue).await;
    let token = rogue.logout_token(&rogue.logout_claims(Some("alice"), Some(&sid)));
    nodes.networks[0].down();
    let answer = nodes.door(0).ask(form(&token)).await;
    assert!(
        matches!(answer.status, 500 | 503 | 504),
        "{}: {}",
        answer.status,
        answer.text()
    );
    nodes.networks[0].mend();
    // The provider may send the same one again: it was not used.
    until("the store is back", async || {
        let answer = nodes.door(0).ask(form(&token)).await;
        matches!(answer.status, 200 | 204).then_some(())
    })
    .await;
    assert_eq!(nodes.get(&alice, 0, "/").await.status, 401);
}
