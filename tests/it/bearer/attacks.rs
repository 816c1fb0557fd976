//! G: bearer tokens that somebody else made, or that are right in all but one thing, under every kind of key.
//!
//! The maker is `harness::maker`: bytes by hand, signed with the issuer's own key wherever only the content is wrong.

use serde_json::{Value, json};

use super::{AUDIENCE, Bench, KEYS, Key, SECRET, bearer};
use crate::harness::forge::b64;
use crate::harness::maker::{Alg, sign_hs256};
use crate::harness::{App, Ask};

impl Bench {
    async fn status(&self, token: &str) -> u16 {
        let ask = Ask::get("/").header("authorization", bearer(token));
        self.gateway.door().ask(ask).await.status
    }

    async fn refuses(&self, key: Key, what: &str, token: &str) {
        assert_eq!(self.status(token).await, 401, "{key:?}: {what}");
        assert!(
            self.app.seen().is_empty(),
            "{key:?}: {what} reached the app"
        );
    }

    /// Signed rightly, with these claims put in (or, when null, taken out), under every key.
    async fn refuses_claims(&self, changes: Value) {
        for key in KEYS {
            let mut claims = self.claims(key, "robot");
            change(&mut claims, &changes);
            let token = self.token_of(key, &claims);
            self.refuses(key, &changes.to_string(), &token).await;
        }
    }

    /// The same for the header.
    async fn refuses_header(&self, changes: Value) {
        for key in KEYS {
            let mut header = self.header(key);
            change(&mut header, &changes);
            let payload = self.claims(key, "robot").to_string();
            let token = self.sign(key, &header.to_string(), &payload);
            self.refuses(key, &changes.to_string(), &token).await;
        }
    }

    /// The unaltered work of the maker is accepted: only so do refusals mean anything. Nothing panicked.
    async fn finish(&self) {
        self.app.forget();
        for key in KEYS {
            assert_eq!(self.status(&self.token(key, "robot")).await, 200, "{key:?}");
        }
        assert!(self.gateway.logged(&["panicked"]).is_empty());
    }
}

/// A marker for JSON null, which otherwise takes a member out.
const NULL: &str = "\u{0}null";

fn change(object: &mut Value, changes: &Value) {
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => {
                object.as_object_mut().unwrap().remove(name);
            }
            Value::String(text) if text == NULL => object[name] = Value::Null,
            value => object[name] = value.clone(),
        }
    }
}

#[tokio::test]
async fn g01_no_algorithm() {
    let bench = Bench::new().await;
    for key in KEYS {
        let genuine = bench.token(key, "robot");
        let (signed, signature) = genuine.rsplit_once('.').unwrap();
        let (_, payload) = signed.split_once('.').unwrap();
        for alg in ["none", "None", "NONE", "nOnE", ""] {
            let header = b64(json!({ "alg": alg, "typ": "JWT" }).to_string().as_bytes());
            for end in ["", signature] {
                let token = format!("{header}.{payload}.{end}");
                bench.refuses(key, alg, &token).await;
            }
        }
    }
    bench.refuses_header(json!({ "alg": null })).await;
    bench.finish().await;
}

#[tokio::test]
async fn g02_a_public_key_is_no_secret() {
    let bench = Bench::new().await;
    for key in KEYS {
        let Key::Public(alg) = key else { continue };
        let jwk = bench.maker.jwk(alg).to_string().into_bytes();
        let pem = bench.maker.pem(alg).into_bytes();
        let trimmed = pem.trim_ascii().to_vec();
        for secret in [pem, trimmed, bench.maker.spki(alg), jwk] {
            for alg in ["HS256", key.alg()] {
                let mut header = bench.header(key);
                header["alg"] = json!(alg);
                let payload = bench.claims(key, "robot").to_string();
                let token = sign_hs256(&secret, &header.to_string(), &payload);
                bench.refuses(key, "a public key as a secret", &token).await;
            }
        }
    }
    // An issuer's key says nothing about another issuer's tokens.
    for (key, other) in [
        (KEYS[0], KEYS[1]),
        (KEYS[1], KEYS[0]),
        (KEYS[4], KEYS[2]),
        (KEYS[2], KEYS[4]),
    ] {
        let token = bench.token_of(other, &bench.claims(key, "robot"));
        bench.refuses(key, "signed by another issuer", &token).await;
    }
    bench.finish().await;
}

#[tokio::test]
async fn g03_without_its_signature() {
    let bench = Bench::new().await;
    for key in KEYS {
        let genuine = bench.token(key, "robot");
        let (signed, signature) = genuine.rsplit_once('.').unwrap();
        let zeros = b64(&[0; 64]);
        let ones = b64(&[0xff; 64]);
        let cut = &signature[..signature.len() - 4];
        for end in [
            "",
            "AAAA",
            &zeros,
            &ones,
            cut,
            &format!("{signature}AAAA"),
            &format!("{signature}="),
        ] {
            bench.refuses(key, end, &format!("{signed}.{end}")).await;
        }
        bench.refuses(key, "two parts", signed).await;
        bench
            .refuses(key, "four parts", &format!("{genuine}.AAAA"))
            .await;
        let (mut changed, other) = (bench.claims(key, "robot"), bench.claims(key, "admin"));
        changed["sub"] = other["sub"].clone();
        let (header, _) = signed.split_once('.').unwrap();
        let payload = b64(changed.to_string().as_bytes());
        bench
            .refuses(
                key,
                "another payload",
                &format!("{header}.{payload}.{signature}"),
            )
            .await;
    }
    let impostor = bench.maker.impostor();
    for key in KEYS {
        let (header, payload) = (bench.header(key), bench.claims(key, "robot"));
        let token = match key {
            Key::Public(alg) => impostor.sign(alg, &header.to_string(), &payload.to_string()),
            Key::Secret => sign_hs256(
                b"another secret that is long enough",
                &header.to_string(),
                &payload.to_string(),
            ),
        };
        bench.refuses(key, "an impostor's key", &token).await;
    }
    bench.finish().await;
}

#[tokio::test]
async fn g04_no_key_comes_with_the_token() {
    let bench = Bench::new().await;
    let evil = App::start().await;
    let place = format!("http://{}/keys", evil.addr);
    let impostor = bench.maker.impostor();
    let set = impostor.jwks(&Alg::ALL).to_string();
    evil.script(
        "/keys",
        format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{set}",
            set.len()
        ),
    );
    for key in KEYS {
        let Key::Public(alg) = key else { continue };
        for (name, value) in [
            ("jku", json!(place)),
            ("x5u", json!(place)),
            ("jwk", impostor.jwk(alg)),
            ("x5c", json!([b64(&impostor.spki(alg))])),
        ] {
            let mut header = bench.header(key);
            header[name] = value;
            let payload = bench.claims(key, "robot").to_string();
            for token in [
                impostor.sign(alg, &header.to_string(), &payload),
                bench.sign(key, &header.to_string(), &payload),
            ] {
                bench.refuses(key, name, &token).await;
            }
        }
        // An issuer in the token is compared, never called.
        let mut claims = bench.claims(key, "robot");
        claims["iss"] = json!(format!("http://{}", evil.addr));
        let token = impostor.token(alg, "JWT", &claims);
        bench.refuses(key, "another issuer", &token).await;
    }
    assert_eq!(evil.connections(), 0, "somebody was called");
    bench.finish().await;
}

#[tokio::test]
async fn g05_a_strange_kid() {
    let bench = Bench::new().await;
    for kid in [
        json!(5),
        json!(NULL),
        json!(""),
        json!({}),
        json!("k".repeat(300)),
    ] {
        bench.refuses_header(json!({ "kid": kid })).await;
    }
    // Where keys have names, other names are nobody's.
    let key = KEYS[2];
    for kid in ["../../dev/null", "' OR 1=1--", "K-ES256", "k-ES384"] {
        let mut header = bench.header(key);
        header["kid"] = json!(kid);
        let payload = bench.claims(key, "robot").to_string();
        let token = bench.sign(key, &header.to_string(), &payload);
        bench.refuses(key, kid, &token).await;
    }
    let (_, metrics) = bench.gateway.admin("/metrics").await;
    assert!(!metrics.contains("OR 1=1"), "a label that a client chose");
    bench.finish().await;
}

#[tokio::test]
async fn g06_and_g07_critical_extensions() {
    let bench = Bench::new().await;
    for changes in [
        json!({ "crit": ["bork"], "bork": "x" }),
        json!({ "crit": [] }),
        json!({ "crit": ["exp"] }),
        json!({ "crit": ["b64"], "b64": false }),
        json!({ "b64": false }),
        json!({ "b64": true }),
        json!({ "zip": "DEF" }),
        json!({ "cty": "JWT" }),
    ] {
        bench.refuses_header(changes).await;
    }
    bench.finish().await;
}

#[tokio::test]
async fn g08_other_kinds_of_token() {
    let bench = Bench::new().await;
    for typ in [
        json!("logout+jwt"),
        json!("dbsc+jwt"),
        json!("secevent+jwt"),
        json!("dpop+jwt"),
        json!("vestibule-assertion+jwt"),
        json!(""),
        json!(5),
        json!(NULL),
    ] {
        bench.refuses_header(json!({ "typ": typ })).await;
    }
    // at+jwt promises what RFC 9068 asks for.
    bench.refuses_header(json!({ "typ": "at+jwt" })).await;
    for changes in [
        json!({ "nonce": "n" }),
        json!({ "at_hash": "h" }),
        json!({ "events": { "http://schemas.openid.net/event/backchannel-logout": {} } }),
        json!({ "typ": "Refresh" }),
        json!({ "typ": "ID" }),
        json!({ "token_use": "id" }),
        json!({ "type": "refresh" }),
        json!({ "token_type": "refresh" }),
        json!({ "cnf": { "jkt": "x" } }),
    ] {
        bench.refuses_claims(changes).await;
    }
    // The gateway's own tokens are no bearer tokens, nor the other way round.
    let alice = bench.gateway.signed_in("alice").await;
    let own = alice.access().unwrap();
    bench
        .refuses(KEYS[0], "an access token of ours", &own)
        .await;
    for key in KEYS {
        let cookie = format!("{}={}", crate::harness::ACCESS, bench.token(key, "robot"));
        let answer = bench
            .gateway
            .door()
            .ask(Ask::get("/").header("cookie", cookie))
            .await;
        assert_eq!(answer.status, 401, "{key:?} as a cookie");
    }
    // With everything that RFC 9068 asks for, at+jwt is good.
    for key in KEYS {
        let mut header = bench.header(key);
        header["typ"] = json!("at+jwt");
        let mut claims = bench.claims(key, "robot");
        change(&mut claims, &json!({ "client_id": "c", "jti": "j" }));
        let token = bench.sign(key, &header.to_string(), &claims.to_string());
        assert_eq!(bench.status(&token).await, 200, "{key:?}");
    }
    bench.finish().await;
}

#[tokio::test]
async fn g09_the_audience() {
    let bench = Bench::new().await;
    for aud in [
        Value::Null,
        json!(NULL),
        json!("https://other.test"),
        json!(format!("{AUDIENCE}/")),
        json!(5),
        json!({ AUDIENCE: 1 }),
        json!([]),
        json!(["https://other.test"]),
        json!([AUDIENCE, 5]),
    ] {
        bench.refuses_claims(json!({ "aud": aud })).await;
    }
    let mut claims = bench.claims(KEYS[2], "robot");
    claims["aud"] = json!(["https://other.test", AUDIENCE]);
    assert_eq!(bench.status(&bench.token_of(KEYS[2], &claims)).await, 200);
    bench.finish().await;
}

#[tokio::test]
async fn g10_the_issuer() {
    let bench = Bench::new().await;
    for key in KEYS {
        for iss in [
            Value::Null,
            json!(NULL),
            json!("https://evil.test"),
            json!(format!("{}/", key.issuer())),
            json!(key.issuer().to_uppercase()),
            json!([key.issuer()]),
            json!(5),
        ] {
            let mut claims = bench.claims(key, "robot");
            change(&mut claims, &json!({ "iss": iss }));
            bench
                .refuses(key, "issuer", &bench.token_of(key, &claims))
                .await;
        }
    }
    bench.finish().await;
}

#[tokio::test]
async fn g11_g12_g13_and_g17_times() {
    let bench = Bench::new().await;
    let now = bench.gateway.now();
    for exp in [
        Value::Null,
        json!(NULL),
        json!(now - 60),
        json!((now + 60).to_string()),
        json!(1e300),
        json!(u64::MAX),
        json!(-1),
        json!(true),
    ] {
        bench.refuses_claims(json!({ "exp": exp })).await;
    }
    for (name, value) in [
        ("nbf", json!(now + 300)),
        ("nbf", json!((now - 60).to_string())),
        ("nbf", json!(NULL)),
        ("iat", json!(now + 200)),
        ("iat", json!("x")),
        ("exp", json!(now + 7200)),
    ] {
        bench.refuses_claims(json!({ name: value })).await;
    }
    // Clocks may differ by 30 s, either way: with room for the time that the test takes.
    bench
        .refuses_claims(json!({ "iat": now - 300, "exp": now - 31 }))
        .await;
    let later = bench.gateway.now();
    for key in KEYS {
        let mut claims = bench.claims(key, "robot");
        change(
            &mut claims,
            &json!({ "iat": later - 300, "exp": later - 15, "nbf": later + 15 }),
        );
        assert_eq!(
            bench.status(&bench.token_of(key, &claims)).await,
            200,
            "{key:?}"
        );
    }
    bench.finish().await;
}

#[tokio::test]
async fn g14_and_g15_duplicates_and_subjects() {
    let bench = Bench::new().await;
    for key in KEYS {
        let claims = bench.claims(key, "robot").to_string();
        let doubled = claims.replacen('{', r#"{"sub":"admin","#, 1);
        let token = bench.sign(key, &bench.header(key).to_string(), &doubled);
        bench.refuses(key, "two subjects", &token).await;
        let header = bench.header(key).to_string();
        let doubled = header.replacen('{', r#"{"alg":"none","#, 1);
        let token = bench.sign(key, &doubled, &claims);
        bench.refuses(key, "two algorithms", &token).await;
    }
    for sub in [
        Value::Null,
        json!(NULL),
        json!(5),
        json!(""),
        json!("a\r\nX-Role: admin"),
        json!("a\u{0}b"),
        json!(["robot"]),
        json!("x".repeat(2000)),
    ] {
        bench.refuses_claims(json!({ "sub": sub })).await;
    }
    // A08: what else becomes a header.
    for changes in [
        json!({ "email": "a@b\r\nX-Role: admin" }),
        json!({ "name": 5 }),
        json!({ "realm": { "roles": ["ok", "a\nb"] } }),
        json!({ "realm": { "roles": (0..40).map(|n| format!("{n:0>100}")).collect::<Vec<_>>() } }),
    ] {
        bench.refuses_claims(changes).await;
    }
    bench.finish().await;
}

#[tokio::test]
async fn g16_size_and_depth() {
    let bench = Bench::new().await;
    bench
        .refuses_claims(json!({ "pad": "x".repeat(16 << 10) }))
        .await;
    for key in KEYS {
        let claims = bench.claims(key, "robot").to_string();
        let deep = format!(r#"{{"deep":{}{},"#, "[".repeat(4000), "]".repeat(4000));
        let token = bench.sign(
            key,
            &bench.header(key).to_string(),
            &claims.replacen('{', &deep, 1),
        );
        bench.refuses(key, "deep", &token).await;
        // One as large as some providers make them is good.
        let mut claims = bench.claims(key, "robot");
        claims["pad"] = json!("x".repeat(9 << 10));
        assert_eq!(
            bench.status(&bench.token_of(key, &claims)).await,
            200,
            "{key:?}"
        );
        bench.app.forget();
    }
    for text in [
        "",
        ".",
        "..",
        "a.b.c",
        "====.====.====",
        "\"",
        "e30.e30.",
        &"a".repeat(20_000),
    ] {
        bench.refuses(KEYS[0], text, text).await;
    }
    assert!(SECRET.len() >= 32);
    bench.finish().await;
}
