//! Access tokens that `jose` made: admitted, refused, and renewed by a service that answers with the next of them.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{ACCESS, REFRESH};
use crate::harness::browser::as_fetch;
use crate::harness::client::Answer;
use crate::harness::jose::{SECRET, Spoilt};
use crate::harness::{App, Ask, Gateway, Provider};

const ISSUER: &str = "https://auth.test";

/// A gateway whose people sign in at the app, which renews at `/auth/refresh`; the provider publishes the keys.
fn gateway(app: &App, provider: &Provider, algorithm: &str, secret: &std::path::Path) -> Gateway {
    let keys = match algorithm {
        "HS256" => format!("secret_file = {secret:?}"),
        _ => format!("jwks_url = \"{}/jwks\"", provider.issuer),
    };
    Gateway::before(app)
        .login(&format!(
            "[external]\nissuer = {ISSUER:?}\naudience = \"app\"\nalgorithms = [{algorithm:?}]\n{keys}\n\
             refresh_url = \"http://{}/auth/refresh\"\nlogin_url = \"/public/login\"\n",
            app.addr
        ))
        .run()
}

/// As `fetch()`, with these cookies.
async fn get(gateway: &Gateway, access: &str, refresh: Option<&str>) -> Answer {
    let mut line = format!("{ACCESS}={access}");
    if let Some(refresh) = refresh {
        line.push_str(&format!("; {REFRESH}={refresh}"));
    }
    let ask = as_fetch(Ask::get("/notes")).header("cookie", line);
    gateway.door().ask(ask).await
}

/// What the service answers to the next refresh calls.
fn renews_with(app: &App, access: &str, refresh: &str) {
    app.script(
        "/auth/refresh",
        format!(
            "HTTP/1.1 204 No Content\r\nset-cookie: {ACCESS}={access}; Path=/; Secure; HttpOnly\r\n\
             set-cookie: {REFRESH}={refresh}; Path=/; Secure; HttpOnly\r\n\r\n"
        ),
    );
}

fn asked(app: &App, target: &str) -> usize {
    app.seen()
        .iter()
        .filter(|seen| seen.target == target)
        .count()
}

fn claims(now: i64, user: &str) -> Value {
    json!({ "iss": ISSUER, "aud": "app", "sub": user, "iat": now, "exp": now + 3000 })
}

/// attacks.md G, with a maker that shares no code and no cryptography with the gateway.
#[tokio::test]
async fn g_a_service_that_signs_with_jose_is_understood_and_its_spoilt_tokens_are_not() {
    let provider = Provider::start();
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    for algorithm in ["RS256", "ES256", "HS256"] {
        let app = App::start().await;
        let gateway = gateway(&app, &provider, algorithm, &secret);
        let now = gateway.now();
        let claims = claims(now, "alice");
        for how in Spoilt::ALL {
            let token = provider.spoilt(algorithm, how, &claims).await;
            let answer = get(&gateway, &token, None).await;
            assert_eq!(answer.status, 401, "{algorithm} {how:?}");
        }
        assert!(app.seen().is_empty(), "{algorithm}");
        let good = provider.good(algorithm, &claims).await;
        let answer = get(&gateway, &good, None).await;
        assert_eq!(answer.status, 200, "{algorithm}: {}", answer.text());
        assert_eq!(app.only().one("x-forwarded-user"), Some("alice"));
        app.forget();

        // Renewed: one call for all who come with the spent token, and the next token is believed.
        let expired = provider.spoilt(algorithm, Spoilt::Expired, &claims).await;
        renews_with(&app, &good, "second");
        let answers = join_all((0..10).map(|_| get(&gateway, &expired, Some("first")))).await;
        for answer in &answers {
            assert_eq!(answer.status, 200, "{algorithm}: {}", answer.text());
            let line = &answer.all("set-cookie")[0];
            assert!(line.starts_with(&format!("{ACCESS}={good};")), "{line}");
        }
        assert_eq!(asked(&app, "/auth/refresh"), 1, "{algorithm}");
        assert_eq!(asked(&app, "/notes"), 10, "{algorithm}");
        assert_eq!(app.last().one("x-forwarded-user"), Some("alice"));

        // What a service hands out is checked like what a browser brings.
        for (n, how) in Spoilt::ALL.into_iter().enumerate() {
            app.forget();
            let next = provider.spoilt(algorithm, how, &claims).await;
            renews_with(&app, &next, "unused");
            let spent = format!("spent-{n}");
            let answer = get(&gateway, &expired, Some(&spent)).await;
            assert_eq!(answer.status, 503, "{algorithm} {how:?}");
            assert!(!super::touches(&answer), "{algorithm} {how:?}");
            assert_eq!(
                (asked(&app, "/auth/refresh"), asked(&app, "/notes")),
                (1, 0),
                "{algorithm} {how:?}"
            );
        }
    }
}
