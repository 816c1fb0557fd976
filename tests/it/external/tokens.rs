//! G: access tokens that the service did not make, or that are right in all but one thing.

use serde_json::{Value, json};

use super::{ACCESS, ACCESS_SECRET, REFRESH_SECRET, Service, now, signed_in};
use crate::harness::browser::{as_fetch, claims};
use crate::harness::maker::{Alg, Maker, sign_hs256, unsigned};
use crate::harness::{App, Ask, Gateway};

pub(super) const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

pub(super) fn genuine() -> Value {
    json!({
        "iss": "https://app.test", "aud": "app", "sub": "alice", "roles": ["staff"],
        "iat": now(), "exp": now() + 300,
    })
}

async fn status(gateway: &Gateway, token: &str) -> u16 {
    let ask = as_fetch(Ask::get("/other/x")).header("cookie", format!("{ACCESS}={token}"));
    gateway.door().ask(ask).await.status
}

pub(super) fn with(changes: Value) -> String {
    let mut claims = genuine();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims
                .as_object_mut()
                .unwrap()
                .insert(name.clone(), value.clone()),
        };
    }
    claims.to_string()
}

#[tokio::test]
async fn g_what_the_service_did_not_say_is_refused_under_hs256() {
    let (service, app) = (Service::start().await, App::start().await);
    let gateway = service
        .gateway("")
        .more(&format!(
            "[[upstream]]\nname = \"other\"\nurl = \"http://{}\"\n[[route]]\npath = \"/other\"\nupstream = \"other\"\n",
            app.addr
        ))
        .run();
    let secret = ACCESS_SECRET.as_bytes();
    let hs = |header: &str, payload: &str| sign_hs256(secret, header, payload);
    // The maker's own work is accepted: only so do refusals mean anything.
    assert_eq!(status(&gateway, &hs(HEADER, &with(json!({})))).await, 200);
    for good in [
        json!({ "aud": ["other", "app"] }),
        json!({ "iat": null }),
        json!({ "nbf": now() - 5 }),
        json!({ "iat": now() + 20 }),
    ] {
        assert_eq!(
            status(&gateway, &hs(HEADER, &with(good.clone()))).await,
            200,
            "{good}"
        );
    }
    app.forget();

    let good = with(json!({}));
    let mut bad: Vec<(String, String)> = Vec::new();
    let mut add = |what: &str, token: String| bad.push((what.to_owned(), token));
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let header = json!({ "alg": alg, "typ": "JWT" }).to_string();
        add("g01 alg none", unsigned(&header, &good));
        add("g01 alg none, signed", hs(&header, &good));
    }
    for alg in ["HS384", "HS512", "RS256", "hs256", "ES256"] {
        add(
            "g02 another alg",
            hs(&json!({ "alg": alg, "typ": "JWT" }).to_string(), &good),
        );
    }
    add("g03 no signature", unsigned(HEADER, &good));
    add(
        "g03 another secret",
        sign_hs256(b"somebody else's secret of 32 bytes", HEADER, &good),
    );
    add("g03 an empty secret", sign_hs256(b"", HEADER, &good));
    add(
        "g08 the refresh secret",
        sign_hs256(REFRESH_SECRET.as_bytes(), HEADER, &good),
    );
    let flipped = {
        let mut token = hs(HEADER, &good);
        let last = token.pop().unwrap();
        token.push(if last == 'A' { 'B' } else { 'A' });
        token
    };
    add("g03 a flipped bit", flipped);
    for (name, header) in [
        ("g04 jwk", r#"{"alg":"HS256","jwk":{"kty":"oct","k":"AA"}}"#),
        ("g04 jku", r#"{"alg":"HS256","jku":"http://127.0.0.1:1/"}"#),
        ("g04 x5c", r#"{"alg":"HS256","x5c":["AA"]}"#),
        ("g06 crit", r#"{"alg":"HS256","crit":["bork"],"bork":"x"}"#),
        ("g07 b64", r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#),
        ("g08 typ", r#"{"alg":"HS256","typ":"logout+jwt"}"#),
        ("g14 alg twice", r#"{"alg":"HS256","alg":"HS256"}"#),
    ] {
        add(name, hs(header, &good));
    }
    for (name, change) in [
        ("g08 a refresh token", json!({ "type": "refresh" })),
        ("g08 an ID token", json!({ "nonce": "n" })),
        ("g08 bound", json!({ "cnf": { "jkt": "x" } })),
        ("g09 no aud", json!({ "aud": null })),
        ("g09 another aud", json!({ "aud": "apps" })),
        ("g09 aud a number", json!({ "aud": 1 })),
        ("g09 aud without us", json!({ "aud": ["a", "b"] })),
        ("g10 no iss", json!({ "iss": null })),
        (
            "g10 iss with a slash",
            json!({ "iss": "https://app.test/" }),
        ),
        ("g11 no exp", json!({ "exp": null })),
        (
            "g11 exp past",
            json!({ "exp": now() - 1, "iat": now() - 300 }),
        ),
        ("g11 exp a text", json!({ "exp": "4000000000" })),
        ("g11 exp negative", json!({ "exp": -1 })),
        ("g11 exp enormous", json!({ "exp": 1e300 })),
        ("g12 nbf future", json!({ "nbf": now() + 120 })),
        ("g12 nbf a text", json!({ "nbf": "soon" })),
        (
            "g12 iat future",
            json!({ "iat": now() + 120, "exp": now() + 300 }),
        ),
        ("g13 lifetime", json!({ "exp": now() + 90_000 })),
        ("g15 no sub", json!({ "sub": null })),
        ("g15 empty sub", json!({ "sub": "" })),
        ("g15 sub a list", json!({ "sub": ["alice"] })),
        (
            "a08 sub with a line end",
            json!({ "sub": "a\r\nX-Role: admin" }),
        ),
        ("a08 a group with NUL", json!({ "roles": ["a\u{0}b"] })),
        ("a08 roles an object", json!({ "roles": { "admin": true } })),
    ] {
        add(name, hs(HEADER, &with(change)));
    }
    add(
        "g14 sub twice",
        hs(HEADER, &good.replacen('{', r#"{"sub":"bob","#, 1)),
    );
    add(
        "g16 nested",
        hs(
            HEADER,
            &good.replacen(
                '{',
                &format!(r#"{{"x":{}{},"#, "[".repeat(500), "]".repeat(500)),
                1,
            ),
        ),
    );
    add(
        "g16 large",
        hs(HEADER, &with(json!({ "x": "y".repeat(20_000) }))),
    );
    add("garbage", "a.b.c".to_owned());
    add("garbage", "....".to_owned());
    for (what, token) in &bad {
        assert_eq!(
            status(&gateway, token).await,
            401,
            "{what} was not refused: {token}"
        );
    }
    assert!(bad.len() > 45 && app.seen().is_empty());

    // The service's own refresh token is not an access token.
    let alice = signed_in(&gateway, "alice").await;
    let refresh = alice.cookie(super::REFRESH).unwrap();
    assert_eq!(claims(&refresh)["sub"], "alice");
    assert_eq!(status(&gateway, &refresh).await, 401);
    assert_eq!(service.refreshes().await, 0);
}

#[tokio::test]
async fn g02_public_keys_pin_their_algorithm_and_are_never_a_shared_secret() {
    let app = App::start().await;
    let maker = Maker::new("service");
    let folder = tempfile::tempdir().unwrap();
    let (pem, jwks) = (
        folder.path().join("key.pem"),
        folder.path().join("jwks.json"),
    );
    std::fs::write(&pem, maker.pem(Alg::Rs256)).unwrap();
    std::fs::write(&jwks, maker.jwks(&[Alg::Rs256, Alg::Es256]).to_string()).unwrap();
    let external = |algorithms: &str, source: &str| {
        Gateway::before(&app)
            .login(&format!(
                "[external]\nissuer = \"https://app.test\"\naudience = \"app\"\nalgorithms = {algorithms}\n{source}\nlogin_url = \"/public/login\"\n"
            ))
            .run()
    };
    let by_pem = external("[\"RS256\"]", &format!("public_key_file = {pem:?}"));
    let by_jwks = external("[\"RS256\", \"ES256\"]", &format!("jwks_file = {jwks:?}"));
    let payload = genuine();
    let rs = maker.token(Alg::Rs256, "JWT", &payload);
    let es = maker.token(Alg::Es256, "at+jwt", &payload);
    assert_eq!(status(&by_pem, &rs).await, 200);
    assert_eq!(status(&by_jwks, &rs).await, 200);
    assert_eq!(status(&by_jwks, &es).await, 200);
    app.forget();

    assert_eq!(status(&by_pem, &es).await, 401);
    let stranger = maker.impostor();
    for alg in [Alg::Rs256, Alg::Es256] {
        let forged = stranger.token(alg, "JWT", &payload);
        assert_eq!(status(&by_pem, &forged).await, 401);
        assert_eq!(status(&by_jwks, &forged).await, 401);
    }
    // The public key, in every form somebody might take for a secret.
    let spki = maker.spki(Alg::Rs256);
    let text = maker.pem(Alg::Rs256);
    let jwk = maker.jwk(Alg::Rs256).to_string();
    for secret in [
        &spki[..],
        text.as_bytes(),
        text.trim_end().as_bytes(),
        jwk.as_bytes(),
    ] {
        for kid in [None, Some(maker.kid(Alg::Rs256))] {
            let header = json!({ "alg": "HS256", "typ": "JWT", "kid": kid }).to_string();
            let forged = sign_hs256(
                secret,
                &header.replace(",\"kid\":null", ""),
                &payload.to_string(),
            );
            assert_eq!(status(&by_pem, &forged).await, 401);
            assert_eq!(status(&by_jwks, &forged).await, 401);
        }
    }
    assert!(app.seen().is_empty());
}

#[tokio::test]
async fn r10_keys_that_cannot_be_fetched_spend_no_refresh_token_and_sign_nobody_out() {
    let (service, app) = (Service::start().await, App::start().await);
    let maker = Maker::new("service");
    let jwks = |status: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    app.script("/jwks.json", jwks("500 Internal Server Error", ""));
    let external = service
        .external("")
        .replace("[\"HS256\"]", "[\"ES256\"]")
        .replace(
            &format!("secret_file = {:?}", service.file("hs256.key")),
            &format!("jwks_url = \"http://{}/jwks.json\"", app.addr),
        );
    let gateway = service.gateway_with(&external).run();
    let token = maker.token(Alg::Es256, "JWT", &genuine());
    let door = gateway.door();
    let ask = async |token: &str| {
        let line = format!("{ACCESS}={token}; {}=refresh", super::REFRESH);
        let ask = as_fetch(Ask::get("/notes")).header("cookie", line);
        door.ask(ask).await
    };
    let answer = ask(&token).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("retry-after").is_some() && !super::touches(&answer));
    assert_eq!(gateway.anon().get("/notes").await.status, 401);
    assert_eq!(gateway.anon().get("/open").await.status, 200);
    assert_eq!(service.refreshes().await, 0);

    let set = maker.jwks(&[Alg::Es256]).to_string();
    app.script("/jwks.json", jwks("200 OK", &set));
    crate::harness::wait::until("the keys to be there", async || {
        (ask(&token).await.status == 200).then_some(())
    })
    .await;
    let forged = maker.impostor().token(Alg::Es256, "JWT", &genuine());
    assert_eq!(ask(&forged).await.status, 401);
    assert_eq!(service.refreshes().await, 0);
    // From now on nobody needs the place they came from.
    app.script("/jwks.json", jwks("500 Internal Server Error", ""));
    let fetched = app.seen().len();
    for _ in 0..20 {
        let stranger = Maker::new("stranger").token(Alg::Es256, "JWT", &genuine());
        let line = format!("{ACCESS}={stranger}");
        let ask = as_fetch(Ask::get("/notes")).header("cookie", line);
        assert_eq!(gateway.door().ask(ask).await.status, 401);
    }
    assert!(
        app.seen().len() <= fetched + 1,
        "n04: a fetch for each unknown key"
    );
    assert_eq!(ask(&token).await.status, 200);
}
