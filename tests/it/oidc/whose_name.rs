//! One name at several providers: whom a rule admits that says whose name it means.

use serde_json::json;

use super::by;
use crate::harness::maker::sign_hs256;
use crate::harness::{App, Ask, PASSWORD, Provider, Rogue};

const SECRET: &[u8] = b"the secret with which the issuer signs tokens";

const ROUTES: &str = r#"
[[route]]
path = "/anybody"
upstream = "app"
allow = { users = ["alice"] }
[[route]]
path = "/corp"
upstream = "app"
allow = { users = ["corp:alice"] }
[[route]]
path = "/local"
upstream = "app"
allow = { users = ["local:alice"] }
[[route]]
path = "/two"
upstream = "app"
allow = { users = ["other:alice", "local:alice"] }
[[route]]
path = "/staff"
upstream = "app"
allow = { groups = ["corp:staff"] }
"#;

const PATHS: [&str; 6] = ["/anybody", "/corp", "/local", "/two", "/staff", "/token"];

#[tokio::test]
async fn a_rule_for_alice_of_one_provider_admits_no_other_alice() {
    let app = App::start().await;
    let (corp, other) = (Provider::start(), Rogue::start().await);
    other.person(json!({ "sub": "alice", "groups": ["staff", "writers"] }));
    // Programs bring tokens of the issuer by which people sign in, too.
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    let issuer = &corp.issuer;
    let tables = format!(
        "[login.local]\n{}{}[[bearer]]\nissuer = {issuer:?}\naudience = \"api\"\nsecret_file = {secret:?}\n",
        corp.table("corp", ""),
        other.table("other", "")
    );
    let routes = format!(
        "{ROUTES}[[route]]\npath = \"/token\"\nupstream = \"app\"\nallow = {{ users = [\"{issuer}:alice\"] }}\n"
    );
    let gateway = by(&app, &tables).routes(&routes).run();
    let local = gateway.anon();
    assert_eq!(local.sign_in("alice", PASSWORD, "/").await.status, 303);
    let corp = gateway.anon().signed_in_by("corp", "alice").await;
    let other = gateway.anon().signed_in_by("other", "-").await;
    for (browser, provider, admitted) in [
        (&local, "local", ["/anybody", "/local", "/two"].as_slice()),
        (&corp, "corp", &["/anybody", "/corp", "/staff"]),
        (&other, "other", &["/anybody", "/two"]),
    ] {
        let me = browser.get("/.auth/me").await.json();
        assert_eq!(
            (me["user"].as_str(), me["provider"].as_str()),
            (Some("alice"), Some(provider))
        );
        for path in PATHS {
            let status = browser.get(path).await.status;
            let want = if admitted.contains(&path) { 200 } else { 403 };
            assert_eq!(status, want, "{provider}: {path}");
        }
    }
    let now = gateway.now();
    let claims = json!({
        "iss": issuer, "aud": "api", "sub": "alice", "iat": now, "exp": now + 300, "groups": ["staff"],
    });
    let header = json!({ "alg": "HS256", "typ": "JWT" });
    let token = sign_hs256(SECRET, &header.to_string(), &claims.to_string());
    for path in PATHS {
        let ask = Ask::get(path).header("authorization", format!("Bearer {token}"));
        let status = gateway.door().ask(ask).await.status;
        let want = if ["/anybody", "/token"].contains(&path) {
            200
        } else {
            403
        };
        assert_eq!(status, want, "a token: {path}");
    }
    // The command says the same.
    for (provider, path, want) in [
        ("corp", "/corp", "forwarded with"),
        ("other", "/corp", "403"),
        ("local", "/two", "forwarded with"),
    ] {
        let output = gateway.command(&[
            "explain",
            "GET",
            path,
            "--user",
            "alice",
            "--provider",
            provider,
        ]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(want), "{provider}: {said}");
        assert!(said.contains(&format!("alice of {provider}")), "{said}");
    }
    let output = gateway.command(&[
        "explain",
        "GET",
        "/",
        "--user",
        "alice",
        "--provider",
        "crop",
    ]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("did you mean \"corp\"?"), "{said}");
}
