//! A token of the service in an operator's hand: what `token inspect` and `explain --token` say of it is what the gateway does.

use std::process::Output;

use serde_json::{Value, json};

use super::tokens::{HEADER, genuine, with};
use super::{ACCESS, ACCESS_SECRET, REFRESH, Service, now, signed_in};
use crate::harness::client::Answer;
use crate::harness::maker::{Alg, Maker, sign_hs256};
use crate::harness::prepared::vestibule;
use crate::harness::wait::until;
use crate::harness::{App, Gateway};

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A command on this gateway's file with a token on stdin. Whoever publishes keys lives in this process and must go on meanwhile.
async fn run(gateway: &Gateway, command: &[&str], token: &str) -> Output {
    let file = gateway.file().to_str().unwrap().to_owned();
    let mut arguments: Vec<String> = command.iter().map(|one| (*one).to_owned()).collect();
    arguments.extend(["-c".to_owned(), file]);
    let input = token.to_owned();
    let ran = tokio::task::spawn_blocking(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        vestibule(&arguments, &input)
    });
    let output = ran.await.unwrap();
    assert_secret(&words(&output), token);
    output
}

/// `vestibule token inspect`.
async fn inspect(gateway: &Gateway, token: &str) -> (Option<i32>, String) {
    let output = run(gateway, &["token", "inspect"], token).await;
    (output.status.code(), words(&output))
}

/// Without how long ago or ahead a time is, which is another a second later.
fn timeless(text: &str) -> String {
    let ages = |line: &str| line.ends_with(" ago)") || line.contains("Z (in ");
    text.lines()
        .map(|line| match line.rsplit_once(" (") {
            Some((time, _)) if ages(line) => time,
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// `vestibule explain GET PATH --token`.
async fn explain(gateway: &Gateway, path: &str, token: &str) -> String {
    let output = run(gateway, &["explain", "GET", path, "--token"], token).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    words(&output)
}

/// Nothing of a token that could be used is shown.
fn assert_secret(text: &str, token: &str) {
    let signature = token.trim().rsplit('.').next().unwrap();
    if signature.len() > 10 {
        assert!(!text.contains(signature), "{text}");
    }
}

fn hs(payload: &str) -> String {
    sign_hs256(ACCESS_SECRET.as_bytes(), HEADER, payload)
}

/// As a browser that has this cookie alone.
async fn navigated(gateway: &Gateway, path: &str, token: &str) -> Answer {
    let browser = gateway.anon();
    browser.put_cookie(ACCESS, token);
    browser.navigate(path).await
}

#[tokio::test]
async fn what_is_said_of_a_token_is_what_the_gateway_does_with_it() {
    let service = Service::start().await;
    let gateway = service.gateway("").run();
    let said = gateway.until_logged(&["  sessions  "]).await;
    assert!(
        said.contains("the service's own: access token as it says, 1d at most, renewed there; an outcome is remembered for 30s"),
        "{said}"
    );
    let alice = signed_in(&gateway, "alice").await;
    let listed = gateway.command(&["session", "list"]);
    assert_eq!((listed.status.code(), &*listed.stdout), (Some(0), &b""[..]));
    assert_eq!(
        String::from_utf8_lossy(&listed.stderr),
        "who is signed in by [external] is not listed: those sessions are kept by its service alone\n"
    );
    let access = alice.cookie(ACCESS).unwrap();
    let (code, text) = inspect(&gateway, &access).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("the access token of [external] for the user alice <alice@example.com>, groups staff, writers"),
        "{text}"
    );
    assert!(text.contains("token of the external service"), "{text}");
    // As it stands in a browser's request.
    let line = format!("Cookie: theme=dark; {}\n", alice.cookie_line().unwrap());
    let (same_code, same_text) = inspect(&gateway, &line).await;
    assert_eq!((same_code, timeless(&same_text)), (code, timeless(&text)));
    let text = explain(&gateway, "/staff", &line).await;
    for words in [
        "who       alice <alice@example.com>, groups staff, writers, by the access cookie of [external]",
        "outcome   forwarded with the identity",
        "x-forwarded-user: alice",
        "x-forwarded-groups: staff,writers",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(navigated(&gateway, "/staff", &access).await.status, 200);
    let bob = signed_in(&gateway, "bob").await.cookie(ACCESS).unwrap();
    let text = explain(&gateway, "/staff", &bob).await;
    assert!(text.contains("outcome   403"), "{text}");
    assert_eq!(navigated(&gateway, "/staff", &bob).await.status, 403);
    assert!(
        explain(&gateway, "/open", &bob)
            .await
            .contains("forwarded without an identity")
    );

    let refresh = alice.cookie(REFRESH).unwrap();
    let another = sign_hs256(
        b"somebody else's secret of 32 bytes",
        HEADER,
        &with(json!({})),
    );
    let hs512 = sign_hs256(
        ACCESS_SECRET.as_bytes(),
        r#"{"alg":"HS512"}"#,
        &with(json!({})),
    );
    let cases: &[(String, &str)] = &[
        (another, "wrong signature"),
        (
            hs512,
            "the algorithm is not the key's; the keys here: HS256",
        ),
        (
            hs(&with(json!({ "iss": "https://app.test/" }))),
            "wrong or missing issuer (iss); it must be exactly https://app.test",
        ),
        (
            hs(&with(json!({ "aud": "apps" }))),
            "wrong or missing audience (aud); it must name app",
        ),
        (
            hs(&with(json!({ "exp": null }))),
            "the claim \"exp\" is missing or malformed",
        ),
        (
            hs(&with(json!({ "sub": null }))),
            "the claim \"sub\" (for user) is missing",
        ),
        (
            hs(&with(json!({ "roles": { "admin": true } }))),
            "the claim \"roles\" (for groups) has the wrong type",
        ),
        (refresh, "wrong signature"),
    ];
    for (token, why) in cases {
        let (code, text) = inspect(&gateway, token).await;
        assert_eq!(code, Some(1), "{why}: {text}");
        assert!(
            text.contains(&format!("refused as the access token of [external]: {why}")),
            "{why}: {text}"
        );
        assert_secret(&text, token);
        let text = explain(&gateway, "/notes?tab=2", token).await;
        assert!(text.contains("who       not signed in: refused"), "{text}");
        assert!(text.contains("outcome   303 to /login"), "{why}: {text}");
        let answer = navigated(&gateway, "/notes?tab=2", token).await;
        assert_eq!(answer.status, 303, "{why}");
        assert_eq!(
            answer.header("location"),
            Some("/login?rd=/notes%3Ftab%3D2")
        );
    }

    // What is over, or is no token, is renewed by whoever has the other cookie.
    let over = hs(&with(json!({ "iat": now() - 600, "exp": now() - 300 })));
    let browser = alice.copy();
    for (token, why) in [
        (
            over.as_str(),
            "expired (exp); a browser that has refresh_token too gets a new one",
        ),
        (
            "opaque",
            "not a signed JWT; of a refresh token only the service can say",
        ),
    ] {
        let (_, text) = inspect(&gateway, token).await;
        assert!(text.contains(why), "{text}");
        let text = explain(&gateway, "/notes", token).await;
        assert!(
            text.contains("outcome   the refresh cookie is spent first"),
            "{text}"
        );
        assert_eq!(navigated(&gateway, "/notes", token).await.status, 303);
        browser.put_cookie(ACCESS, token);
        assert_eq!(browser.navigate("/notes").await.status, 200, "{why}");
    }
    let output = run(&gateway, &["token", "inspect", "--json"], &access).await;
    let json: Value = serde_json::from_str(&words(&output)).unwrap();
    assert_eq!(
        (&json["valid"], &json["kind"]),
        (&json!(true), &json!("token of the external service"))
    );
}

#[tokio::test]
async fn keys_that_are_fetched_are_fetched_for_it_and_bearer_tokens_are_told_apart() {
    let app = App::start().await;
    let maker = Maker::new("service");
    let jwks = |status: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let pem = folder.path().join("key.pem");
    std::fs::write(&pem, maker.pem(Alg::Rs256)).unwrap();
    let gateway = Gateway::before(&app)
        .login(&format!(
            "[external]\nissuer = \"https://app.test\"\naudience = \"app\"\nalgorithms = [\"ES256\"]\n\
             jwks_url = \"http://{}/jwks.json\"\nlogin_url = \"/public/login\"\n\
             [[bearer]]\nissuer = \"https://id.test\"\naudience = \"api\"\nalgorithms = [\"RS256\"]\npublic_key_file = {pem:?}\n",
            app.addr
        ))
        .run();
    let token = maker.token(Alg::Es256, "JWT", &genuine());
    app.script("/jwks.json", jwks("500 Internal Server Error", ""));
    let (code, text) = inspect(&gateway, &token).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("the service's keys cannot be fetched"),
        "{text}"
    );
    let text = explain(&gateway, "/notes", &token).await;
    assert!(text.contains("outcome   503"), "{text}");
    let labels = [
        "table=\"external\"",
        "issuer=\"https://app.test\"",
        "failed",
    ];
    until("the gateway, too, has failed to fetch them", async || {
        let failed = gateway.metric("vestibule_issuer_fetches_total", &labels);
        (failed.await > 0.0).then_some(())
    })
    .await;
    app.script(
        "/jwks.json",
        jwks("200 OK", &maker.jwks(&[Alg::Es256]).to_string()),
    );
    let (code, text) = inspect(&gateway, &token).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(
        explain(&gateway, "/notes", &token)
            .await
            .contains("forwarded with the identity")
    );

    let mut claims = genuine();
    claims["iss"] = json!("https://id.test");
    claims["aud"] = json!("api");
    let bearer = maker.token(Alg::Rs256, "JWT", &claims);
    let (_, text) = inspect(&gateway, &bearer).await;
    assert!(
        text.contains("a bearer token of https://id.test for the user alice"),
        "{text}"
    );
    assert!(!text.contains("[external]"), "{text}");
    let text = explain(
        &gateway,
        "/notes",
        &format!("Authorization: Bearer {bearer}"),
    )
    .await;
    assert!(text.contains("by a bearer token without scopes"), "{text}");
    assert!(text.contains("forwarded with the identity"), "{text}");
    claims["aud"] = json!("another");
    let refused = maker.token(Alg::Rs256, "JWT", &claims);
    let text = explain(&gateway, "/notes", &refused).await;
    assert!(text.contains("it must name api"), "{text}");
    assert!(
        text.contains("outcome   401: the token is not meant for this audience"),
        "{text}"
    );
}
