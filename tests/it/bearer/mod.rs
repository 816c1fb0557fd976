//! API clients: `Authorization: Bearer` of configured issuers, one for each kind of key.

mod attacks;
mod independent;
mod keys;

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::harness::client::Answer;
use crate::harness::gateway::{Setup, inspect};
use crate::harness::maker::{self, Alg, Maker};
use crate::harness::{App, Ask, Browser, Gateway, HOST, ORIGIN};

/// What the tokens of these tests are meant for.
const AUDIENCE: &str = "https://api.test";

/// A kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Public(Alg),
    Secret,
}

const KEYS: [Key; 5] = [
    Key::Public(Alg::Rs256),
    Key::Public(Alg::Ps256),
    Key::Public(Alg::Es256),
    Key::Public(Alg::EdDsa),
    Key::Secret,
];

impl Key {
    fn alg(self) -> &'static str {
        match self {
            Key::Public(alg) => alg.name(),
            Key::Secret => "HS256",
        }
    }

    /// Exactly what its issuer calls itself.
    fn issuer(self) -> String {
        format!("https://id.test/{}", self.alg())
    }
}

const SECRET: &[u8] = b"the secret of the issuer with HS256, long enough";

/// Routes that ask for scopes, beside those of every test.
const ROUTES: &str = r#"
[[route]]
path = "/reports"
upstream = "app"
allow = { scopes = ["reports:read", "reports:write"] }

[[route]]
path = "/staff-reports"
upstream = "app"
allow = { groups = ["staff"], scopes = ["reports:read"] }
"#;

/// A gateway that knows five issuers, and their keys.
struct Bench {
    app: App,
    gateway: Gateway,
    maker: Maker,
    _folder: tempfile::TempDir,
}

/// `[[bearer]]` for each issuer, with key files in this folder.
fn tables(maker: &Maker, folder: &Path) -> String {
    let mut text = String::new();
    for key in KEYS {
        let (name, bytes) = match key {
            // Both sources of public keys.
            Key::Public(alg @ (Alg::Rs256 | Alg::EdDsa)) => {
                ("public_key_file", maker.pem(alg).into_bytes())
            }
            Key::Public(alg) => ("jwks_file", maker.jwks(&[alg]).to_string().into_bytes()),
            Key::Secret => ("secret_file", SECRET.to_vec()),
        };
        let file = folder.join(key.alg());
        std::fs::write(&file, bytes).unwrap();
        text.push_str(&format!(
            "[[bearer]]\nissuer = {:?}\naudience = {AUDIENCE:?}\n{name} = {file:?}\nmax_lifetime = \"1h\"\n\
             claims = {{ groups = \"realm.roles\" }}\nalgorithms = [{:?}]\n",
            key.issuer(),
            key.alg()
        ));
    }
    text
}

impl Bench {
    async fn new() -> Self {
        Self::with(|setup| setup).await
    }

    async fn with(more: impl FnOnce(Setup) -> Setup) -> Self {
        let app = App::start().await;
        let maker = Maker::new("k");
        let folder = tempfile::tempdir().unwrap();
        let tables = tables(&maker, folder.path());
        let setup = Gateway::before(&app).more(&format!("{ROUTES}{tables}"));
        let gateway = more(setup).run();
        Bench {
            app,
            gateway,
            maker,
            _folder: folder,
        }
    }

    /// Claims of somebody, good for five minutes.
    fn claims(&self, key: Key, user: &str) -> Value {
        let now = self.gateway.now();
        json!({
            "iss": key.issuer(), "aud": AUDIENCE, "sub": user, "iat": now, "exp": now + 300,
            "email": format!("{user}@example.com"), "email_verified": true, "realm": { "roles": ["staff"] }, "scope": "reports:read other",
        })
    }

    fn sign(&self, key: Key, header: &str, payload: &str) -> String {
        match key {
            Key::Public(alg) => self.maker.sign(alg, header, payload),
            Key::Secret => maker::sign_hs256(SECRET, header, payload),
        }
    }

    fn header(&self, key: Key) -> Value {
        match key {
            Key::Public(alg) => {
                json!({ "alg": alg.name(), "typ": "JWT", "kid": self.maker.kid(alg) })
            }
            Key::Secret => json!({ "alg": "HS256", "typ": "JWT" }),
        }
    }

    fn token_of(&self, key: Key, claims: &Value) -> String {
        self.sign(key, &self.header(key).to_string(), &claims.to_string())
    }

    fn token(&self, key: Key, user: &str) -> String {
        self.token_of(key, &self.claims(key, user))
    }

    async fn get(&self, path: &str, token: &str) -> Answer {
        let ask = Ask::get(path).header("authorization", format!("Bearer {token}"));
        self.gateway.door().ask(ask).await
    }
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// Asks with this browser's cookies and whatever else the request has.
async fn with_cookies(browser: &Browser, ask: Ask) -> Answer {
    let cookies = browser.cookie_line().unwrap();
    browser.door.ask(ask.header("cookie", cookies)).await
}

#[tokio::test]
async fn a_token_of_each_kind_of_key_is_somebody_and_stays_at_the_gateway() {
    let bench = Bench::with(|setup| setup.upstream("assertion = true")).await;
    for key in KEYS {
        // Verified, and then remembered.
        for _ in 0..2 {
            let answer = bench.get("/report", &bench.token(key, "robot")).await;
            assert_eq!(answer.status, 200, "{key:?}: {}", answer.text());
            assert!(!answer.sets_cookies());
            let seen = bench.app.only();
            assert_eq!(seen.one("x-forwarded-user"), Some("robot"));
            assert_eq!(seen.one("x-forwarded-email"), Some("robot@example.com"));
            assert_eq!(seen.one("x-forwarded-groups"), Some("staff"));
            assert!(seen.all("authorization").is_empty(), "{key:?}");
            let assertion = seen.one("x-vestibule-assertion").unwrap();
            let said = crate::harness::browser::claims(assertion);
            assert_eq!(
                (&said["sub"], &said["sid"]),
                (&json!("robot"), &Value::Null)
            );
            assert_eq!(said["provider"], key.issuer());
            bench.app.forget();
        }
        // An address that nobody vouches for is none.
        let mut claims = bench.claims(key, "robot");
        claims.as_object_mut().unwrap().remove("email_verified");
        let token = bench.token_of(key, &claims);
        assert_eq!(bench.get("/report", &token).await.status, 200);
        assert_eq!(bench.app.only().one("x-forwarded-email"), None, "{key:?}");
        bench.app.forget();
        // The scheme has no case (RFC 9110 section 11.1), and a state-changing request needs no origin.
        let token = bench.token(key, "robot");
        let post = Ask::post("/x", "body").header("authorization", format!("bearer {token}"));
        assert_eq!(bench.gateway.door().ask(post).await.status, 200);
        assert_eq!(bench.app.only().body, b"body");
        bench.app.forget();
    }
    let token = bench.token(KEYS[0], "robot");
    for _ in 0..3 {
        assert_eq!(bench.get("/again", &token).await.status, 200);
    }
    for (outcome, least) in [("remembered", 2.0), ("verified", 5.0)] {
        let labels = [&*format!("outcome=\"{outcome}\"")];
        let counted = bench
            .gateway
            .metric("vestibule_bearer_tokens_total", &labels);
        assert!(counted.await >= least, "{outcome}");
    }
    // Who it was stands in the access line; the token stands nowhere.
    bench.gateway.until_logged(&["\"user\":\"robot\""]).await;
    let signature = token.rsplit('.').next().unwrap();
    assert!(bench.gateway.logged(&[signature]).is_empty());
}

#[tokio::test]
async fn a_token_and_cookies_are_never_mixed() {
    let bench = Bench::with(Setup::with_clock).await;
    let key = KEYS[2];
    let alice = bench.gateway.signed_in("alice").await;
    // A token of a configured issuer is judged alone.
    let ask = Ask::get("/").header("authorization", bearer(&bench.token(key, "robot")));
    assert_eq!(with_cookies(&alice, ask).await.status, 200);
    assert_eq!(bench.app.only().one("x-forwarded-user"), Some("robot"));
    bench.app.forget();
    // Also when it is no good: alice's cookies do not stand in, are not renewed and not cleared.
    let mut old = bench.claims(key, "robot");
    old["iat"] = json!(bench.gateway.now() - 600);
    old["exp"] = json!(bench.gateway.now() - 300);
    let old = bench.token_of(key, &old);
    bench.gateway.outlive_access_token();
    for path in ["/", "/optional"] {
        let ask = Ask::get(path)
            .header("authorization", bearer(&old))
            .header("sec-fetch-mode", "navigate");
        let answer = with_cookies(&alice, ask).await;
        assert_eq!(answer.status, 401, "{path}");
        assert!(!answer.sets_cookies(), "{path}");
    }
    assert!(bench.app.seen().is_empty());
    // One of nobody we know is the app's business: the cookies count, and it arrives.
    let stranger = "Bearer an-opaque-token-of-the-app";
    let alice = bench.gateway.signed_in("alice").await;
    let ask = Ask::get("/").header("authorization", stranger);
    assert_eq!(with_cookies(&alice, ask).await.status, 200);
    let seen = bench.app.only();
    assert_eq!(seen.one("x-forwarded-user"), Some("alice"));
    assert_eq!(seen.one("authorization"), Some(stranger));
    bench.app.forget();
    for (path, value) in [
        ("/public", bearer(&bench.token(key, "robot"))),
        ("/public", bearer(&old)),
        ("/optional", stranger.to_owned()),
        ("/optional", "Basic dTpw".to_owned()),
    ] {
        let ask = Ask::get(path).header("authorization", &value);
        assert_eq!(bench.gateway.door().ask(ask).await.status, 200, "{path}");
        let seen = bench.app.only();
        assert_eq!(seen.one("authorization"), Some(&*value), "{path}");
        assert_eq!(seen.one("x-forwarded-user"), None, "{path}");
        bench.app.forget();
    }
}

#[tokio::test]
async fn refusals_are_those_of_rfc6750() {
    let bench = Bench::new().await;
    let key = KEYS[3];
    let challenge = |answer: &Answer| answer.header("www-authenticate").unwrap().to_owned();
    // Nothing sent: no error code, as always.
    let nothing = bench.gateway.door().ask(Ask::get("/")).await;
    assert_eq!(nothing.status, 401);
    assert_eq!(challenge(&nothing), format!("Bearer realm=\"{ORIGIN}\""));
    // A token that is no good: never a redirect, also for what looks like a browser.
    let mut claims = bench.claims(key, "robot");
    claims["aud"] = json!("https://other.test");
    let token = bench.token_of(key, &claims);
    let ask = Ask::get("/")
        .header("authorization", bearer(&token))
        .header("accept", "text/html");
    let answer = bench.gateway.door().ask(ask).await;
    assert_eq!(answer.status, 401);
    assert_eq!(
        challenge(&answer),
        format!(
            "Bearer realm=\"{ORIGIN}\", error=\"invalid_token\", error_description=\"the token is not meant for this audience\""
        )
    );
    assert_eq!(
        answer.json()["type"],
        "urn:vestibule:problem:bearer-refused"
    );
    // The reason stands in the access line too.
    bench
        .gateway
        .until_logged(&["the token is not meant for this audience", "\"status\":401"])
        .await;
    let stranger = bench.get("/", "opaque").await;
    assert!(challenge(&stranger).contains("error=\"invalid_token\""));
    // Too little scope.
    for (path, scope, status) in [
        ("/reports", "reports:read", 200),
        ("/reports", "x reports:write", 200),
        ("/reports", "reports", 403),
        ("/staff-reports", "reports:read", 200),
        ("/staff-reports", "reports:write", 403),
    ] {
        let mut claims = bench.claims(key, "robot");
        claims["scope"] = json!(scope);
        let answer = bench.get(path, &bench.token_of(key, &claims)).await;
        assert_eq!(answer.status, status, "{path} {scope}");
        if status == 403 {
            let said = challenge(&answer);
            assert!(said.contains("error=\"insufficient_scope\""), "{said}");
            assert!(said.contains("scope=\"reports:read"), "{said}");
        }
    }
    let mut claims = bench.claims(key, "robot");
    claims["realm"] = json!({ "roles": ["dev"] });
    let answer = bench
        .get("/staff-reports", &bench.token_of(key, &claims))
        .await;
    assert_eq!(
        (answer.status, answer.header("www-authenticate")),
        (403, None)
    );
    // A session has no scope to show, and is admitted by who it is.
    let alice = bench.gateway.signed_in("alice").await;
    assert_eq!(alice.get("/reports").await.status, 403);
    assert_eq!(alice.get("/staff-reports").await.status, 200);
    // Two lines, one of them of a configured issuer: nobody could say which one the app would take.
    bench.app.forget();
    let good = bench.token(key, "robot");
    for (first, second) in [
        (bearer(&good), "Basic dTpw".to_owned()),
        ("Bearer opaque".to_owned(), bearer(&good)),
        (bearer(&good), bearer(&good)),
    ] {
        let ask = Ask::get("/")
            .header("authorization", first)
            .header("authorization", second);
        let answer = bench.gateway.door().ask(ask).await;
        assert_eq!(answer.status, 400);
        assert!(challenge(&answer).contains("error=\"invalid_request\""));
    }
    // gRPC reads its own status.
    let ask = Ask::post("/svc/Method", "")
        .header("content-type", "application/grpc")
        .header("authorization", bearer(&token));
    let answer = bench.gateway.door().ask(ask).await;
    assert_eq!(answer.header("grpc-status"), Some("16"));
    assert!(bench.app.seen().is_empty());
}

#[tokio::test]
async fn streams_and_sockets_end_with_the_token() {
    let bench = Bench::new().await;
    let key = KEYS[2];
    // Clocks may differ by 30 s: three seconds are left.
    let short = || {
        let mut claims = bench.claims(key, "robot");
        claims["iat"] = json!(bench.gateway.now() - 300);
        claims["exp"] = json!(bench.gateway.now() - 27);
        bearer(&bench.token_of(key, &claims))
    };
    let events = Ask::get("/events").header("authorization", short());
    let mut events = bench.gateway.door().open(events).await;
    let mut request = format!("wss://{HOST}/socket")
        .into_client_request()
        .unwrap();
    let headers = request.headers_mut();
    headers.insert("authorization", short().parse().unwrap());
    let stream = bench.gateway.door().tls(&[b"http/1.1"]).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream)
        .await
        .unwrap();
    let over = async {
        events.until_over().await;
        while let Some(Ok(_)) = socket.next().await {}
    };
    tokio::time::timeout(Duration::from_secs(30), over)
        .await
        .expect("the stream and the socket end");
}

#[tokio::test]
async fn inspect_says_why_a_token_is_refused_here() {
    let bench = Bench::new().await;
    let key = KEYS[1];
    let check = |token: &str, code: i32, words: &str| {
        let output = inspect(&bench.gateway, token);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(words), "{text}");
        assert!(!text.contains(token.rsplit('.').next().unwrap()), "{text}");
    };
    check(
        &bench.token(key, "robot"),
        0,
        "a bearer token of https://id.test/PS256 for the user robot, with the scopes reports:read other",
    );
    let with = |name: &str, value: Value| {
        let mut claims = bench.claims(key, "robot");
        claims[name] = value;
        bench.token_of(key, &claims)
    };
    check(
        &with("aud", json!("x")),
        1,
        "wrong or missing audience (aud)",
    );
    check(
        &with("exp", json!(1)),
        1,
        "expires before it is issued (exp, iat)",
    );
    check(
        &with("exp", Value::Null),
        1,
        "the claim \"exp\" is missing or malformed",
    );
    let later = bench.gateway.now() + 7200;
    check(
        &with("exp", json!(later)),
        1,
        "its lifetime is longer than configured; max_lifetime of this [[bearer]] is 1h",
    );
    for (verified, said) in [
        (
            None,
            "nothing says that it is verified (email_verified, or trust_email)",
        ),
        (Some(false), "email_verified denies it"),
    ] {
        let mut claims = bench.claims(key, "robot");
        claims["email"] = json!("robot@example.com");
        match verified {
            Some(verified) => claims["email_verified"] = json!(verified),
            None => drop(claims.as_object_mut().unwrap().remove("email_verified")),
        }
        let token = bench.token_of(key, &claims);
        check(
            &token,
            0,
            &format!("; its e-mail address is left out: {said}"),
        );
    }
    check(
        &with("cnf", json!({})),
        1,
        "bound to a key of its sender (cnf)",
    );
    check(
        &with("sub", Value::Null),
        1,
        "the claim \"sub\" is missing or malformed",
    );
    check(
        &with("realm", json!({ "roles": 5 })),
        1,
        "the claim \"realm.roles\" (for groups) has the wrong type",
    );
    check(
        &with("iss", json!("https://id.test/PS256/")),
        1,
        "its issuer https://id.test/PS256/ is none of [[bearer]]",
    );
    check(
        &bench
            .maker
            .impostor()
            .token(Alg::Ps256, "JWT", &bench.claims(key, "robot")),
        1,
        "wrong signature",
    );
}
