//! The providers that the other tests lean on do what those tests take for granted.

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};
use url::Url;

use crate::harness::browser::claims;
use crate::harness::clock::WallClock;
use crate::harness::forge::{b64, random};
use crate::harness::maker::Alg;
use crate::harness::provider::CLIENT_SECRET;
use crate::harness::rogue::Signed;
use crate::harness::{Ask, ORIGIN, Person, Provider, Rogue, plain};

/// What a client does with a provider, without any of the gateway's code.
pub struct Client<'a> {
    issuer: &'a str,
    verifier: String,
}

impl<'a> Client<'a> {
    pub fn of(issuer: &'a str) -> Self {
        Client {
            issuer,
            verifier: random(32),
        }
    }

    async fn get(&self, path: &str) -> Value {
        let url = Url::parse(&format!("{}{path}", self.issuer)).unwrap();
        plain::ask(&url, Ask::get("")).await.unwrap().json()
    }

    /// Where a person is sent to who is to let this client use an API (RFC 8707).
    pub async fn authorize_for(&self, nonce: &str, resource: &str) -> String {
        let location = Url::parse(&self.authorize(nonce).await).unwrap();
        let others = location.query_pairs().map(|(name, value)| match &*name {
            "scope" => (name, format!("{value} api:read").into()),
            _ => (name, value),
        });
        let mut to = location.clone();
        to.query_pairs_mut()
            .clear()
            .extend_pairs(others)
            .append_pair("resource", resource);
        to.into()
    }

    async fn authorize(&self, nonce: &str) -> String {
        let metadata = self.get("/.well-known/openid-configuration").await;
        assert_eq!(metadata["issuer"], self.issuer);
        let endpoint = metadata["authorization_endpoint"].as_str().unwrap();
        let challenge = b64(digest(&SHA256, self.verifier.as_bytes()).as_ref());
        let callback = format!("{ORIGIN}/.auth/callback/corp");
        let parameters = [
            ("client_id", "vestibule"),
            ("response_type", "code"),
            ("redirect_uri", &callback),
            ("scope", "openid email profile groups"),
            ("state", "s"),
            ("nonce", nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        Url::parse_with_params(endpoint, parameters).unwrap().into()
    }

    async fn token(&self, parameters: &[(&str, &str)]) -> (u16, Value) {
        let metadata = self.get("/.well-known/openid-configuration").await;
        let url = Url::parse(metadata["token_endpoint"].as_str().unwrap()).unwrap();
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(parameters)
            .finish();
        let encode = |text: &str| -> String {
            url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
        };
        let secret = format!("vestibule:{}", encode(CLIENT_SECRET));
        use base64::Engine as _;
        let secret = base64::engine::general_purpose::STANDARD.encode(secret);
        let ask = Ask::new("POST", "")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("authorization", format!("Basic {secret}"))
            .body(form);
        let answer = plain::ask(&url, ask).await.unwrap();
        (answer.status, answer.json())
    }

    pub async fn exchange(&self, callback: &str) -> (u16, Value) {
        let url = Url::parse(callback).unwrap();
        let code = url.query_pairs().find(|(name, _)| name == "code");
        let code = code.unwrap_or_else(|| panic!("no code: {callback}")).1;
        let callback = format!("{ORIGIN}/.auth/callback/corp");
        self.token(&[
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", &callback),
            ("code_verifier", &self.verifier),
        ])
        .await
    }

    async fn refresh(&self, token: &Value) -> (u16, Value) {
        let token = token["refresh_token"].as_str().expect("a refresh token");
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", token)])
            .await
    }
}

#[tokio::test]
async fn the_real_provider_signs_people_in_and_rotates_refresh_tokens() {
    let provider = Provider::start();
    let client = Client::of(&provider.issuer);
    let location = client.authorize("a nonce").await;
    let callback = Person::new().visit(&location, "alice").await;
    assert!(callback.contains("&iss=") && callback.contains("state=s"));
    let (status, first) = client.exchange(&callback).await;
    assert_eq!(status, 200, "{first}");
    let id = claims(first["id_token"].as_str().unwrap());
    assert_eq!(id["iss"], provider.issuer);
    assert_eq!(id["nonce"], "a nonce");
    assert_eq!(id["sub"], "alice");
    assert_eq!(id["groups"], json!(["staff", "writers"]));
    assert_eq!(id["realm_access"]["roles"][1], "admins");
    assert_eq!(id["email_verified"], true);
    assert!(id["sid"].is_string(), "{id}");
    assert_eq!(provider.sids("alice").await, [id["sid"].as_str().unwrap()]);

    // What is known of her changes, and the next refresh tells.
    let changed = json!({ "alice": { "groups": ["movers"] } });
    provider.set_accounts(changed).await;
    let (status, second) = client.refresh(&first).await;
    assert_eq!(status, 200, "{second}");
    let id = claims(second["id_token"].as_str().unwrap());
    assert_eq!(id["groups"], json!(["movers"]));
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    assert_eq!(provider.refreshes().await, 1);
    // A spent one takes the whole grant with it.
    let (status, said) = client.refresh(&first).await;
    assert_eq!(
        (status, said["error"].as_str()),
        (400, Some("invalid_grant"))
    );
    assert_eq!(client.refresh(&second).await.0, 400);
    let auths: Vec<_> = provider.calls().await;
    let tokens: Vec<_> = auths.iter().filter(|c| c.endpoint() == "token").collect();
    assert_eq!(tokens.len(), 4);
    assert!(tokens.iter().all(|c| c.auth() == "client_secret_basic"));
}

#[tokio::test]
async fn the_real_provider_fails_as_it_is_told() {
    let provider = Provider::start();
    let client = Client::of(&provider.issuer);
    let person = Person::new();
    let location = client.authorize("n").await;
    let (_, token) = client.exchange(&person.visit(&location, "bob").await).await;
    provider
        .faults(json!({ "token": { "status": 503, "body": "{\"error\":\"x\"}", "times": 1 } }))
        .await;
    assert_eq!(client.refresh(&token).await.0, 503);
    // That call never reached it: the token is still good.
    let (status, token) = client.refresh(&token).await;
    assert_eq!(status, 200, "{token}");
    provider.revoke("bob").await;
    assert_eq!(client.refresh(&token).await.0, 400);

    // Its keys change, and the address refuses while it is away.
    let before = client.get("/jwks").await;
    let kids = provider.rotate_keys(true).await;
    assert_eq!(kids.len(), 8);
    assert_eq!(
        client.get("/jwks").await["keys"].as_array().unwrap().len(),
        8
    );
    provider.rotate_keys(false).await;
    let after = client.get("/jwks").await;
    assert_eq!(after["keys"].as_array().unwrap().len(), 4);
    assert!(
        !after
            .to_string()
            .contains(before["keys"][0]["kid"].as_str().unwrap())
    );
    provider.goes_away().await;
    let url = Url::parse(&format!("{}/jwks", provider.issuer)).unwrap();
    assert!(plain::ask(&url, Ask::get("")).await.is_err());
    provider.comes_back().await;
    assert!(plain::ask(&url, Ask::get("")).await.is_ok());
    // Sessions survived all of that.
    let client = Client::of(&provider.issuer);
    let callback = person.visit(&client.authorize("n2").await, "nobody").await;
    assert_eq!(client.exchange(&callback).await.0, 200);
    // And who cancels says so.
    let client = Client::of(&provider.issuer);
    let cancelled = Person::new().cancel(&client.authorize("n3").await).await;
    assert!(cancelled.contains("error=access_denied"), "{cancelled}");
}

#[tokio::test]
async fn the_real_provider_has_many_faces() {
    // Under a clock of the test, over https, below a path, and from before RFC 9207.
    let clock = WallClock::shared();
    let provider = Provider::with()
        .https()
        .clock(&clock)
        .set(json!({ "path": "/realms/corp", "issParameter": false, "claimsInIdToken": false }))
        .start();
    assert!(provider.issuer.starts_with("https://localhost:"));
    assert!(provider.issuer.ends_with("/realms/corp"));
    clock.advance(std::time::Duration::from_secs(86_400));
    let client = Client::of(&provider.issuer);
    let metadata = client.get("/.well-known/openid-configuration").await;
    assert!(metadata["authorization_response_iss_parameter_supported"].is_null());
    let location = client.authorize("n").await;
    let callback = Person::new().visit(&location, "alice").await;
    assert!(!callback.contains("iss="), "{callback}");
    let (status, token) = client.exchange(&callback).await;
    assert_eq!(status, 200, "{token}");
    let id = claims(token["id_token"].as_str().unwrap());
    assert!((id["iat"].as_i64().unwrap() - clock.now()).abs() < 60);
    assert!(id["email"].is_null(), "{id}");

    // Tokens for an API, and anything else signed by it.
    let api = provider.api_token("https://api.test", "api:read").await;
    assert_eq!(claims(&api)["aud"], "https://api.test");
    let signed = provider
        .sign(json!({ "alg": "PS256", "typ": "x" }), json!({ "any": 1 }))
        .await;
    assert_eq!(claims(&signed), json!({ "any": 1 }));
}

#[tokio::test]
async fn the_rogue_is_honest_and_strict_by_itself() {
    let rogue = Rogue::start().await;
    let client = Client::of(&rogue.issuer);
    let person = Person::new();
    for alg in Alg::ALL {
        rogue.signs_with(alg);
        let location = client.authorize("a nonce").await;
        let (status, first) = client.exchange(&person.visit(&location, "-").await).await;
        assert_eq!(status, 200, "{first}");
        let token = first["id_token"].as_str().unwrap();
        let id = claims(token);
        assert_eq!(id["nonce"], "a nonce");
        let access = first["access_token"].as_str().unwrap();
        assert_eq!(id["at_hash"], alg.half_hash(access));
        // Checked by other people's code, from the set that it publishes.
        let jwks = client.get("/jwks").await;
        independently_valid(token, &jwks, alg.name());
        let (status, second) = client.refresh(&first).await;
        assert_eq!(status, 200, "{second}");
        assert_eq!(client.refresh(&first).await.0, 400);
    }
    // A verifier of something else, and a code that is spent.
    let other = Client::of(&rogue.issuer);
    let callback = person.visit(&client.authorize("n").await, "-").await;
    assert_eq!(other.exchange(&callback).await.0, 400);
    assert_eq!(client.exchange(&callback).await.0, 400);
}

#[tokio::test]
async fn the_rogue_lies_as_it_is_told() {
    let rogue = Rogue::start().await;
    let client = Client::of(&rogue.issuer);
    let person = Person::new();
    rogue.id_token(|token| {
        token.claims["iss"] = json!("https://evil.example");
        token.signed = Signed::Not;
    });
    rogue.callback(|parameters| parameters.retain(|(name, _)| name != "iss"));
    let callback = person.visit(&client.authorize("n").await, "-").await;
    assert!(!callback.contains("iss="), "{callback}");
    let (_, token) = client.exchange(&callback).await;
    let token = token["id_token"].as_str().unwrap();
    assert_eq!(claims(token)["iss"], "https://evil.example");
    assert!(token.ends_with('.'));
    rogue.says("jwks", |jwks| jwks["keys"] = json!([]));
    assert_eq!(client.get("/jwks").await, json!({ "keys": [] }));
    rogue.reply("token", |reply| reply.redirect(307, "http://127.0.0.1:9/"));
    let url = Url::parse(&format!("{}/token", rogue.issuer)).unwrap();
    let answer = plain::ask(&url, Ask::new("POST", "")).await.unwrap();
    assert_eq!(answer.header("location"), Some("http://127.0.0.1:9/"));
    assert_eq!(rogue.count("token"), 2);
    rogue.repent();
    let (status, token) = client
        .exchange(&person.visit(&client.authorize("n").await, "-").await)
        .await;
    assert_eq!(status, 200, "{token}");
}

/// Checks a token with jsonwebtoken, whose way to a key is not ours.
fn independently_valid(token: &str, jwks: &Value, alg: &str) {
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
    let header = decode_header(token).unwrap();
    let set: JwkSet = serde_json::from_value(jwks.clone()).unwrap();
    let jwk = set.find(&header.kid.unwrap()).expect("a key of that id");
    let mut validation = Validation::new(alg.parse::<Algorithm>().unwrap());
    validation.set_audience(&["vestibule"]);
    let key = DecodingKey::from_jwk(jwk).unwrap();
    decode::<Value>(token, &key, &validation).unwrap();
}
