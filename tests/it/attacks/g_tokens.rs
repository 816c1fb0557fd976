//! G: access tokens that somebody else made, or that are right in all but one thing.
//!
//! The maker is `harness::forge`: bytes by hand, signed with the gateway's own key wherever only the content is wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use serde_json::{Value, json};

use crate::harness::browser::claims;
use crate::harness::forge::{Forge, b64, random, unb64};
use crate::harness::{ACCESS, App, Ask, Gateway, ORIGIN};

/// A gateway, an app, and the content of a real token of alice's.
struct Bench {
    app: App,
    gateway: Gateway,
    forge: Forge,
    genuine: String,
    header: Value,
    claims: Value,
}

impl Bench {
    async fn new() -> Self {
        let app = App::start().await;
        let gateway = Gateway::before(&app).run();
        let alice = gateway.signed_in("alice").await;
        let genuine = alice.access().unwrap();
        let header = serde_json::from_slice(&unb64(genuine.split('.').next().unwrap())).unwrap();
        let bench = Bench {
            app,
            gateway,
            forge: Forge::insider(),
            header,
            claims: claims(&genuine),
            genuine,
        };
        // The maker is good enough that its unaltered work is accepted: only so do refusals mean anything.
        let copy = bench.forge.token(&bench.header, &bench.claims);
        assert_eq!(
            bench.try_token(&copy).await,
            200,
            "the forge's own work is refused"
        );
        bench.app.forget();
        bench
    }

    async fn try_token(&self, token: &str) -> u16 {
        let ask = Ask::get("/").header("cookie", format!("{ACCESS}={token}"));
        self.gateway.door().ask(ask).await.status
    }

    async fn refuses(&self, what: &str, token: &str) {
        assert_eq!(self.try_token(token).await, 401, "{what} was not refused");
        assert!(self.app.seen().is_empty(), "{what} reached the app");
    }

    /// Signed rightly, with these claims put in (or, when null, taken out).
    async fn refuses_claims(&self, what: &str, changes: Value) {
        let mut claims = self.claims.clone();
        change(&mut claims, &changes);
        self.refuses(what, &self.forge.token(&self.header, &claims))
            .await;
    }

    async fn refuses_header(&self, what: &str, changes: Value) {
        let mut header = self.header.clone();
        change(&mut header, &changes);
        self.refuses(what, &self.forge.token(&header, &self.claims))
            .await;
    }

    fn finish(&self) {
        assert!(self.gateway.logged(&["panicked"]).is_empty());
    }
}

fn change(object: &mut Value, changes: &Value) {
    for (name, value) in changes.as_object().unwrap() {
        if value == "REMOVED" {
            object.as_object_mut().unwrap().remove(name);
        } else {
            object[name] = value.clone();
        }
    }
}

#[tokio::test]
async fn g01_no_algorithm_is_no_token() {
    let bench = Bench::new().await;
    let payload = bench.genuine.split('.').nth(1).unwrap();
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let mut header = bench.header.clone();
        header["alg"] = json!(alg);
        let head = b64(header.to_string().as_bytes());
        let signature = bench.genuine.rsplit('.').next().unwrap();
        for token in [
            format!("{head}.{payload}."),
            format!("{head}.{payload}"),
            format!("{head}.{payload}.{signature}"),
        ] {
            bench.refuses(alg, &token).await;
        }
        bench.refuses_header(alg, json!({ "alg": alg })).await;
    }
    bench
        .refuses_header("alg removed", json!({ "alg": "REMOVED" }))
        .await;
    bench
        .refuses_header("alg null", json!({ "alg": null }))
        .await;
    bench.finish();
}

#[tokio::test]
async fn g02_a_public_key_is_not_a_shared_secret() {
    let bench = Bench::new().await;
    let public = bench.forge.public_key();
    let der = [
        &[
            0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
        ][..],
        &public,
    ]
    .concat();
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(&der);
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n");
    let jwks = bench.gateway.anon().get("/.auth/jwks.json").await;
    let jwk = jwks.json()["keys"][0].to_string();
    for secret in [
        public.clone(),
        der,
        pem.clone().into_bytes(),
        pem.trim_end().as_bytes().to_vec(),
        b64(&public).into_bytes(),
        jwk.into_bytes(),
    ] {
        for (alg, digest) in [
            ("HS256", hmac::HMAC_SHA256),
            ("HS384", hmac::HMAC_SHA384),
            ("HS512", hmac::HMAC_SHA512),
        ] {
            let mut header = bench.header.clone();
            header["alg"] = json!(alg);
            let signed = format!(
                "{}.{}",
                b64(header.to_string().as_bytes()),
                b64(bench.claims.to_string().as_bytes())
            );
            let mac = hmac::sign(&hmac::Key::new(digest, &secret), signed.as_bytes());
            bench
                .refuses(alg, &format!("{signed}.{}", b64(mac.as_ref())))
                .await;
        }
    }
    bench.finish();
}

#[tokio::test]
async fn g03_the_signature_is_checked_whole() {
    let bench = Bench::new().await;
    let parts: Vec<&str> = bench.genuine.split('.').collect();
    let signature = unb64(parts[2]);
    let with = |signature: &[u8]| format!("{}.{}.{}", parts[0], parts[1], b64(signature));
    for (what, bytes) in [
        ("empty", vec![]),
        ("zeros", vec![0; 64]),
        ("short", signature[..63].to_vec()),
        ("long", [&signature[..], &[0]].concat()),
        ("one bit", {
            let mut s = signature.clone();
            s[10] ^= 1;
            s
        }),
        (
            "r = s = 0 in DER",
            vec![0x30, 0x06, 0x02, 0x01, 0x00, 0x02, 0x01, 0x00],
        ),
    ] {
        bench.refuses(what, &with(&bytes)).await;
    }
    bench
        .refuses("missing", &format!("{}.{}", parts[0], parts[1]))
        .await;
    bench
        .refuses("four parts", &format!("{}.x", bench.genuine))
        .await;
    bench
        .refuses("padding", &format!("{}==", bench.genuine))
        .await;
    bench
        .refuses("a space", &bench.genuine.replace('.', ". "))
        .await;
    // base64url has one spelling: the unused bits of the last symbol are zero.
    let last = parts[2].chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let next = alphabet
        .chars()
        .nth(alphabet.find(last).unwrap() + 1)
        .unwrap();
    let respelled = format!("{}{next}", &bench.genuine[..bench.genuine.len() - 1]);
    bench
        .refuses("another spelling of the signature", &respelled)
        .await;
    let stranger = Forge::stranger();
    bench
        .refuses(
            "another key under our key id",
            &stranger.token(&bench.header, &bench.claims),
        )
        .await;
    bench.finish();
}

#[tokio::test]
async fn g04_a_token_does_not_bring_its_own_key() {
    let bench = Bench::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let stranger = Forge::stranger();
    let jwk =
        json!({ "kty": "OKP", "crv": "Ed25519", "x": b64(&stranger.public_key()), "kid": "mine" });
    for extra in [
        json!({ "jwk": jwk }),
        json!({ "jwk": jwk, "kid": "mine" }),
        json!({ "jku": url, "kid": "mine" }),
        json!({ "jku": url }),
        json!({ "x5u": url }),
        json!({ "x5c": [b64(b"certificate")] }),
    ] {
        let mut header = bench.header.clone();
        change(&mut header, &extra);
        bench
            .refuses(&extra.to_string(), &stranger.token(&header, &bench.claims))
            .await;
    }
    assert_eq!(calls.load(Ordering::SeqCst), 0, "the gateway went to look");
    bench.finish();
}

#[tokio::test]
async fn g05_a_key_id_is_only_looked_up() {
    let bench = Bench::new().await;
    let before = bench.gateway.admin("/metrics").await.1.lines().count();
    let huge = "k".repeat(30_000);
    for kid in [
        json!("../../dev/null"),
        json!("' OR 1=1--"),
        json!(huge),
        json!(7),
        json!(null),
        json!(["a"]),
        json!("\u{0}"),
        json!(""),
    ] {
        let mut header = bench.header.clone();
        header["kid"] = kid.clone();
        let token = bench.forge.token(&header, &bench.claims);
        let status = bench.try_token(&token).await;
        assert!(
            matches!(status, 401 | 431),
            "{}: {status}",
            &kid.to_string()[..kid.to_string().len().min(40)]
        );
    }
    for i in 0..200 {
        let mut header = bench.header.clone();
        header["kid"] = json!(format!("kid-{i}"));
        assert_eq!(
            bench
                .try_token(&bench.forge.token(&header, &bench.claims))
                .await,
            401
        );
    }
    bench
        .refuses_header("kid removed", json!({ "kid": "REMOVED" }))
        .await;
    let after = bench.gateway.admin("/metrics").await.1;
    assert!(
        !after.contains("kid-1") && after.lines().count() < before + 50,
        "key ids became metric labels"
    );
    bench.finish();
}

#[tokio::test]
async fn g06_unknown_critical_headers() {
    let bench = Bench::new().await;
    for crit in [
        json!(["bork"]),
        json!("bork"),
        json!([]),
        json!(["bork", "bork"]),
        json!(["alg"]),
        json!(["absent"]),
        json!(null),
        json!({}),
    ] {
        bench
            .refuses_header(&crit.to_string(), json!({ "crit": crit, "bork": "x" }))
            .await;
    }
    bench.finish();
}

#[tokio::test]
async fn g07_unencoded_payloads() {
    let bench = Bench::new().await;
    bench
        .refuses_header("b64 with crit", json!({ "b64": false, "crit": ["b64"] }))
        .await;
    let mut header = bench.header.clone();
    change(&mut header, &json!({ "b64": false, "crit": ["b64"] }));
    let head = b64(header.to_string().as_bytes());
    bench
        .refuses(
            "raw payload",
            &format!(
                "{head}.{}.{}",
                bench.claims.to_string().replace(['"', ',', ' ', ';'], "_"),
                random(64)
            ),
        )
        .await;
    bench.finish();
}

#[tokio::test]
async fn g08_other_kinds_of_token_are_not_access_tokens() {
    let bench = Bench::new().await;
    for kind in [
        "JWT",
        "jwt",
        "logout+jwt",
        "dbsc+jwt",
        "vestibule-assertion+jwt",
        "at+JWTx",
        "",
        "rt+jwt",
        "secevent+jwt",
        "at",
    ] {
        bench.refuses_header(kind, json!({ "typ": kind })).await;
    }
    bench
        .refuses_header("no typ", json!({ "typ": "REMOVED" }))
        .await;
    bench
        .refuses_header("typ of a wrong type", json!({ "typ": ["at+jwt"] }))
        .await;
    let alice = bench.gateway.signed_in("alice").await;
    bench
        .refuses("a refresh token", &alice.refresh().unwrap())
        .await;
    // And the other way round.
    let thief = bench.gateway.anon();
    thief.put_cookie(crate::harness::REFRESH, &alice.access().unwrap());
    assert_eq!(thief.get("/").await.status, 401);
    // An id_token and the token of another service, signed by the same key.
    bench
        .refuses_claims(
            "an id_token",
            json!({ "aud": "client", "nonce": "n", "sid": "REMOVED", "gen": "REMOVED" }),
        )
        .await;
    bench
        .refuses_claims(
            "another service's",
            json!({ "iss": "https://other.example" }),
        )
        .await;
    bench.finish();
}

#[tokio::test]
async fn g09_audience() {
    let bench = Bench::new().await;
    for aud in [
        json!("REMOVED"),
        json!("https://other.test"),
        json!(7),
        json!([]),
        json!(["https://other.test"]),
        json!(null),
        json!({}),
        json!(format!("{ORIGIN}/")),
        json!([7]),
    ] {
        bench
            .refuses_claims(&format!("aud {aud}"), json!({ "aud": aud }))
            .await;
    }
    bench.finish();
}

#[tokio::test]
async fn g10_issuer() {
    let bench = Bench::new().await;
    for iss in [
        json!("REMOVED"),
        json!("https://other.test"),
        json!(format!("{ORIGIN}/")),
        json!("HTTPS://app.test"),
        json!("http://app.test"),
        json!([ORIGIN]),
        json!(null),
        json!(""),
    ] {
        bench
            .refuses_claims(&format!("iss {iss}"), json!({ "iss": iss }))
            .await;
    }
    bench.finish();
}

#[tokio::test]
async fn g11_expiry() {
    let bench = Bench::new().await;
    let now = bench.gateway.now();
    for exp in [
        json!("REMOVED"),
        json!(now - 1),
        json!((now + 60).to_string()),
        json!(null),
        json!(-1),
        json!(0),
        json!([now + 60]),
        json!(true),
    ] {
        bench
            .refuses_claims(&format!("exp {exp}"), json!({ "exp": exp }))
            .await;
    }
    // Right in everything, over for a second; and its like with a second to spare, as the proof that this was the reason.
    let ages_ago = json!({ "iat": now - 100, "exp": now - 1, "jti": random(16) });
    bench.refuses_claims("just expired", ages_ago).await;
    let mut alive = bench.claims.clone();
    change(
        &mut alive,
        &json!({ "iat": now - 100, "exp": now + 60, "jti": random(16) }),
    );
    assert_eq!(
        bench
            .try_token(&bench.forge.token(&bench.header, &alive))
            .await,
        200
    );
    bench.app.forget();
    for number in [
        "1e300",
        "18446744073709551616",
        "1e400",
        "-1e300",
        "9223372036854775807",
    ] {
        let claims = bench.claims.to_string();
        let exp = bench.claims["exp"].to_string();
        let text = claims.replace(&format!("\"exp\":{exp}"), &format!("\"exp\":{number}"));
        assert_ne!(text, claims);
        bench
            .refuses(number, &bench.forge.sign(&bench.header.to_string(), &text))
            .await;
    }
    bench.finish();
}

#[tokio::test]
async fn g12_not_yet() {
    let bench = Bench::new().await;
    let now = bench.gateway.now();
    for nbf in [json!(now + 120), json!("soon"), json!(null), json!([])] {
        bench
            .refuses_claims(&format!("nbf {nbf}"), json!({ "nbf": nbf }))
            .await;
    }
    for iat in [
        json!("REMOVED"),
        json!(now + 120),
        json!((now - 1).to_string()),
        json!(null),
    ] {
        bench
            .refuses_claims(
                &format!("iat {iat}"),
                json!({ "iat": iat, "exp": now + 200 }),
            )
            .await;
    }
    bench.finish();
}

#[tokio::test]
async fn g13_longer_than_we_issue() {
    let bench = Bench::new().await;
    let now = bench.gateway.now();
    bench
        .refuses_claims("a day", json!({ "iat": now - 1, "exp": now + 86_400 }))
        .await;
    bench
        .refuses_claims(
            "one second more",
            json!({ "iat": now - 1, "exp": now + 300 }),
        )
        .await;
    bench
        .refuses_claims("for ever", json!({ "iat": 0, "exp": now + 60 }))
        .await;
    bench.finish();
}

#[tokio::test]
async fn g14_duplicate_members() {
    let bench = Bench::new().await;
    let (header, claims) = (bench.header.to_string(), bench.claims.to_string());
    for (name, value) in [
        ("sub", "\"root\""),
        ("exp", "9999999999"),
        ("iss", "\"x\""),
        ("sid", "\"x\""),
        ("sub", "\"alice\""),
    ] {
        let last = format!("{},\"{name}\":{value}}}", claims.strip_suffix('}').unwrap());
        let first = format!("{{\"{name}\":{value},{}", claims.strip_prefix('{').unwrap());
        bench.refuses(name, &bench.forge.sign(&header, &last)).await;
        bench
            .refuses(name, &bench.forge.sign(&header, &first))
            .await;
    }
    for (name, value) in [
        ("alg", "\"none\""),
        ("kid", "\"x\""),
        ("typ", "\"JWT\""),
        ("alg", "\"EdDSA\""),
    ] {
        let last = format!("{},\"{name}\":{value}}}", header.strip_suffix('}').unwrap());
        bench.refuses(name, &bench.forge.sign(&last, &claims)).await;
    }
    bench.finish();
}

#[tokio::test]
async fn g15_subject() {
    let bench = Bench::new().await;
    for sub in [
        json!("REMOVED"),
        json!(7),
        json!(""),
        json!("a\r\nX-Role: admin"),
        json!("a\u{0}"),
        json!(null),
        json!(["alice"]),
        json!({ "name": "alice" }),
    ] {
        bench
            .refuses_claims(&format!("sub {sub}"), json!({ "sub": sub }))
            .await;
    }
    for sid in [
        json!("REMOVED"),
        json!(7),
        json!(""),
        json!("short"),
        json!("not base64url!!"),
    ] {
        bench
            .refuses_claims(&format!("sid {sid}"), json!({ "sid": sid }))
            .await;
    }
    for generation in [
        json!("REMOVED"),
        json!(-1),
        json!("0"),
        json!(1.5),
        json!(1e20),
    ] {
        bench
            .refuses_claims(&format!("gen {generation}"), json!({ "gen": generation }))
            .await;
    }
    bench.finish();
}

#[tokio::test]
async fn g16_size_and_depth() {
    let bench = Bench::new().await;
    let (header, claims) = (bench.header.to_string(), bench.claims.to_string());
    let nested = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let deep = format!("{},\"x\":{nested}}}", claims.strip_suffix('}').unwrap());
    let fat = format!(
        "{},\"x\":\"{}\"}}",
        claims.strip_suffix('}').unwrap(),
        "x".repeat(16_000)
    );
    for (what, token) in [
        ("deep claims", bench.forge.sign(&header, &deep)),
        ("deep header", bench.forge.sign(&nested, &claims)),
        ("fat", bench.forge.sign(&header, &fat)),
        ("dots", ".".repeat(16_000)),
        ("letters", "A".repeat(16_000)),
    ] {
        let mut took = Vec::new();
        // Far above what it takes, and far below what a quadratic reader would need; this machine may be doing other work.
        while took.iter().all(|took| *took >= Duration::from_secs(2)) {
            assert!(took.len() < 10, "{what} took {took:?}");
            let started = Instant::now();
            let status = bench.try_token(&token).await;
            took.push(started.elapsed());
            assert!(matches!(status, 401 | 431), "{what}: {status}");
        }
    }
    assert!(bench.app.seen().is_empty());
    bench.finish();
}

#[tokio::test]
async fn g17_the_edge_of_expiry() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).with_clock().run();
    let alice = gateway.signed_in("alice").await;
    let token = alice.access().unwrap();
    let left = claims(&token)["exp"].as_i64().unwrap() - gateway.now();
    assert!(
        (290..=300).contains(&left),
        "the default life is 5 minutes, {left} s are left"
    );
    let ask = || Ask::get("/").header("cookie", format!("{ACCESS}={token}"));
    gateway
        .clock()
        .advance(Duration::from_secs(u64::try_from(left).unwrap() - 10));
    assert_eq!(gateway.door().ask(ask()).await.status, 200);
    gateway.clock().advance(Duration::from_secs(11));
    assert_eq!(gateway.door().ask(ask()).await.status, 401);
}

#[tokio::test]
async fn g18_a_revoked_session_is_over_before_its_token_is() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let alice = gateway.signed_in("alice").await;
    let stolen = alice.copy();
    stolen.drop_cookie(crate::harness::REFRESH);
    assert_eq!(stolen.get("/").await.status, 200);
    alice.sign_out().await;
    assert_eq!(stolen.get("/").await.status, 401);
}
