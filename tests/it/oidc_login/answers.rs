//! What the provider itself says or does not say.

use serde_json::{Value, json};

use super::is_anonymous;
use crate::harness::{App, Gateway, Person, Provider, Rogue};

#[tokio::test]
async fn e12_e07_wrong_answers_sign_nobody_in_and_leak_nothing() {
    use crate::harness::maker::Alg;
    use crate::harness::rogue::{IdToken, Reply, Signed};
    use std::time::Duration;

    let rogue = Rogue::start().await;
    let app = App::start().await;
    let gateway = Gateway::before(&app).login(&rogue.table("corp", "")).run();
    rogue.person(json!({ "sub": "p1", "email": "p@example.com", "email_verified": true }));
    let attempt = async || {
        let browser = gateway.anon();
        let back = Person::new()
            .visit(&browser.begin("corp", "/").await, "p1")
            .await;
        let answer = browser.come_back(&back).await;
        assert!(answer.status == 303 || is_anonymous(&browser));
        answer
    };
    assert_eq!(attempt().await.status, 303, "honest, it works");

    // E07, the names of the OpenID Foundation's modules for relying parties.
    let claim = |name: &'static str, value: Value| {
        move |token: &mut IdToken| match &value {
            Value::Null => {
                token.claims.as_object_mut().unwrap().remove(name);
            }
            value => token.claims[name] = value.clone(),
        }
    };
    type Twist = Box<dyn Fn(&mut IdToken) + Send + Sync>;
    let now = rogue.now();
    let twists: Vec<(&str, Twist)> = vec![
        ("nonce missing", Box::new(claim("nonce", Value::Null))),
        ("nonce wrong", Box::new(claim("nonce", json!("wrong")))),
        ("aud wrong", Box::new(claim("aud", json!("other")))),
        ("aud missing", Box::new(claim("aud", Value::Null))),
        (
            "aud several without azp",
            Box::new(claim("aud", json!(["vestibule", "other"]))),
        ),
        ("azp wrong", Box::new(claim("azp", json!("other")))),
        ("iss wrong", Box::new(claim("iss", json!("https://evil")))),
        ("iss missing", Box::new(claim("iss", Value::Null))),
        ("sub missing", Box::new(claim("sub", Value::Null))),
        ("sub empty", Box::new(claim("sub", json!("")))),
        ("iat missing", Box::new(claim("iat", Value::Null))),
        (
            "iat in the future",
            Box::new(claim("iat", json!(now + 3600))),
        ),
        ("exp missing", Box::new(claim("exp", Value::Null))),
        ("exp over", Box::new(claim("exp", json!(now - 120)))),
        (
            "at_hash wrong",
            Box::new(claim("at_hash", json!("77QmUPtjPfzWtF2AnpK9RQ"))),
        ),
        ("alg none", Box::new(|token| token.signed = Signed::Not)),
        (
            "impostor's key",
            Box::new(|token| token.signed = Signed::ByImpostor(Alg::Rs256)),
        ),
        (
            "HS256 under the client secret",
            Box::new(|token| {
                token.signed = Signed::BySecret(crate::harness::provider::CLIENT_SECRET.into());
            }),
        ),
        (
            "no token",
            Box::new(|token| token.signed = Signed::Instead("x.y".to_owned())),
        ),
        (
            "A08 line breaks",
            Box::new(claim("sub", json!("a\r\nX-Role: admin"))),
        ),
    ];
    let mut refused = 0;
    for (what, twist) in twists {
        rogue.repent();
        rogue.id_token(twist);
        let answer = attempt().await;
        assert_eq!(answer.status, 502, "{what}: {}", answer.text());
        refused += 1;
    }
    assert!(refused >= 20);

    // E12
    type Change = Box<dyn Fn(&mut Reply) + Send + Sync>;
    let elsewhere = format!("{}/elsewhere", rogue.issuer);
    let (to_one, to_two) = (elsewhere.clone(), elsewhere);
    let replies: Vec<(&str, u16, Change)> = vec![
        (
            "302",
            502,
            Box::new(move |reply| reply.redirect(302, &to_one)),
        ),
        (
            "307",
            502,
            Box::new(move |reply| reply.redirect(307, &to_two)),
        ),
        (
            "5 MB",
            503,
            Box::new(|reply| reply.body = vec![b' '; 5 << 20].into()),
        ),
        (
            "html",
            502,
            Box::new(|reply| reply.header("content-type", "text/html")),
        ),
        ("500", 503, Box::new(|reply| reply.status = 500)),
        ("429", 503, Box::new(|reply| reply.status = 429)),
        (
            "no id_token",
            502,
            Box::new(|reply| {
                reply.change(|body| {
                    body.as_object_mut().unwrap().remove("id_token");
                });
            }),
        ),
        (
            "never",
            503,
            Box::new(|reply| reply.delay = Duration::from_secs(60)),
        ),
    ];
    for (what, status, change) in replies {
        rogue.repent();
        rogue.forget();
        rogue.reply("token", change);
        let started = std::time::Instant::now();
        let answer = attempt().await;
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        assert!(started.elapsed() < Duration::from_secs(20), "{what}");
        assert_eq!(rogue.count("token"), 1, "{what}: a code is redeemed once");
        assert_eq!(rogue.count("/elsewhere"), 0, "{what}");
        assert_eq!(
            answer.header("retry-after").is_some(),
            status == 503,
            "{what}"
        );
    }
    // A refusal that repeats what was sent.
    rogue.repent();
    let repeated = "a-code-that-was-sent";
    rogue.reply("token", move |reply| {
        reply.status = 400;
        reply.body = json!({ "error": "invalid_grant", "error_description": repeated })
            .to_string()
            .into();
    });
    assert_eq!(attempt().await.status, 400);
    gateway
        .until_logged(&["nobody was signed in", "invalid_grant"])
        .await;
    // P03: nothing of all that is in the log.
    let secrets: Vec<String> = rogue
        .asked()
        .iter()
        .flat_map(|asked| asked.parameters.clone())
        .filter(|(name, _)| matches!(name.as_str(), "code" | "code_verifier" | "state" | "nonce"))
        .map(|(_, value)| value)
        .collect();
    assert!(!secrets.is_empty());
    for line in gateway.logs() {
        assert!(!line.contains(repeated), "{line}");
        assert!(
            !secrets.iter().any(|secret| line.contains(secret)),
            "{line}"
        );
        assert!(
            !line.contains(crate::harness::provider::CLIENT_SECRET),
            "{line}"
        );
    }
    rogue.repent();
    assert_eq!(attempt().await.status, 303, "honest again, it works");
}

#[tokio::test]
async fn every_client_authentication_works() {
    let app = App::start().await;
    for method in [
        "client_secret_basic",
        "client_secret_post",
        "private_key_jwt",
        "none",
    ] {
        let provider = Provider::with().client_auth(method).start();
        let gateway = Gateway::before(&app)
            .login(&provider.table("corp", ""))
            .run();
        gateway.anon().signed_in_by("corp", "alice").await;
        let calls = provider.calls().await;
        let auth: Vec<&str> = calls
            .iter()
            .filter(|call| call.endpoint() == "token")
            .map(|call| call.auth())
            .collect();
        assert_eq!(auth, [method]);
    }
}

#[tokio::test]
async fn a_provider_that_is_away_is_a_page_with_retry_after_and_harms_no_session() {
    let provider = Provider::start();
    let app = App::start().await;
    let tables = format!("[login.local]\n{}", provider.table("corp", ""));
    let gateway = Gateway::before(&app).login(&tables).run();
    let alice = gateway.anon().signed_in_by("corp", "alice").await;
    let labels = [
        "table=\"login.oidc.corp\"",
        &*format!("issuer=\"{}\"", provider.issuer),
    ];
    assert!(gateway.metric("vestibule_issuer_keys", &labels).await > 0.0);
    let begun = gateway.anon();
    let back = Person::new()
        .visit(&begun.begin("corp", "/").await, "bob")
        .await;
    provider.goes_away().await;
    let answer = begun.come_back(&back).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    assert_eq!(alice.get("/").await.status, 200);

    // One that was never there.
    let away = provider
        .table("corp", "")
        .replace(&provider.issuer, "http://127.0.0.1:9");
    let gateway = Gateway::before(&app).login(&away).run();
    // Seen before anybody tries to sign in.
    let never =
        "vestibule_issuer_keys{table=\"login.oidc.corp\",issuer=\"http://127.0.0.1:9\"} 0\n";
    let (_, text) = gateway.admin("/metrics").await;
    assert!(text.contains(never), "{text}");
    assert!(
        !text.contains("vestibule_issuer_keys_age_seconds{"),
        "{text}"
    );
    let answer = gateway.anon().navigate("/.auth/login").await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    assert_eq!(gateway.anon().get("/public").await.status, 200);
}
