//! Bearer tokens of other people's making: `jose` signs them, by keys that a certified provider publishes, and that provider's
//! own access tokens (RFC 9068).

use serde_json::{Value, json};

use super::{AUDIENCE, bearer};
use crate::harness::client::Answer;
use crate::harness::jose::{ALGORITHMS, SECRET, Spoilt};
use crate::harness::{App, Ask, Gateway, ORIGIN, Person, Provider};
use crate::oidc::the_providers::Client;

fn issuer(algorithm: &str) -> String {
    format!("https://jose.test/{algorithm}")
}

/// `[[bearer]]` for each algorithm: the keys are those that the provider publishes at the time, and a secret.
fn tables(provider: &Provider, folder: &std::path::Path) -> String {
    let secret = folder.join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    let table = |algorithm: &&str| {
        let keys = match *algorithm {
            "HS256" => format!("secret_file = {secret:?}"),
            _ => format!("jwks_url = \"{}/jwks\"", provider.issuer),
        };
        format!(
            "[[bearer]]\nissuer = {:?}\naudience = {AUDIENCE:?}\nalgorithms = [{algorithm:?}]\n{keys}\nclaims = {{ groups = \"groups\" }}\n",
            issuer(algorithm)
        )
    };
    ALGORITHMS.iter().map(table).collect()
}

/// What the answer of RFC 6750 (section 3) says of it.
fn words(how: Spoilt) -> &'static str {
    match how {
        Spoilt::Key => "the signature is wrong",
        Spoilt::Algorithm => "the algorithm is not the one of the key",
        Spoilt::Expired => "the token expired",
        Spoilt::NoExpiry => "a claim is missing or malformed",
        Spoilt::NotYet => "the token is not valid yet",
        Spoilt::Audience => "the token is not meant for this audience",
        Spoilt::Issuer => "the token is of no issuer that is accepted here",
        Spoilt::Critical => "the token has a critical header that is not understood",
        Spoilt::Kind => "the token is of another kind",
    }
}

async fn get(gateway: &Gateway, path: &str, token: &str) -> Answer {
    let ask = Ask::get(path).header("authorization", bearer(token));
    gateway.door().ask(ask).await
}

/// 401 as of RFC 6750, for this reason.
fn refused(answer: &Answer, words: &str, what: &str) {
    assert_eq!(answer.status, 401, "{what}: {}", answer.text());
    let challenge = format!(
        "Bearer realm=\"{ORIGIN}\", error=\"invalid_token\", error_description=\"{words}\""
    );
    assert_eq!(
        answer.header("www-authenticate"),
        Some(&*challenge),
        "{what}"
    );
}

/// attacks.md G under each algorithm, with a maker that shares no code and no cryptography with the gateway.
#[tokio::test]
async fn g_tokens_that_jose_makes_are_admitted_and_refused_under_each_algorithm() {
    let (app, provider) = (App::start().await, Provider::start());
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::before(&app)
        .more(&tables(&provider, folder.path()))
        .run();
    for algorithm in ALGORITHMS {
        let now = gateway.now();
        let claims = json!({
            "iss": issuer(algorithm), "aud": AUDIENCE, "sub": "robot", "iat": now, "exp": now + 3000, "groups": ["staff"],
        });
        for how in Spoilt::ALL {
            let token = provider.spoilt(algorithm, how, &claims).await;
            let answer = get(&gateway, "/report", &token).await;
            refused(&answer, words(how), &format!("{algorithm} {how:?}"));
        }
        assert!(app.seen().is_empty(), "{algorithm}");
        // The same, unspoilt, is somebody; so only the spoiling was refused.
        let token = provider.good(algorithm, &claims).await;
        let answer = get(&gateway, "/report", &token).await;
        assert_eq!(answer.status, 200, "{algorithm}: {}", answer.text());
        let seen = app.only();
        assert_eq!(seen.one("x-forwarded-user"), Some("robot"), "{algorithm}");
        assert_eq!(seen.one("x-forwarded-groups"), Some("staff"), "{algorithm}");
        assert!(seen.all("authorization").is_empty(), "{algorithm}");
        app.forget();
    }
}

/// The provider's access tokens, of a client and of a person, as RFC 9068 has them.
#[tokio::test]
async fn the_certified_providers_own_access_tokens_are_accepted_where_they_are_meant() {
    const ROUTES: &str = "[[route]]\npath = \"/api/read\"\nupstream = \"app\"\nallow = { scopes = [\"api:read\"] }\n\
         [[route]]\npath = \"/api/write\"\nupstream = \"app\"\nallow = { scopes = [\"api:write\"] }\n";
    for algorithm in ["RS256", "PS256", "ES256", "ES384", "EdDSA"] {
        let app = App::start().await;
        let provider = Provider::with()
            .set(json!({ "accessTokenAlg": algorithm }))
            .start();
        let table = format!(
            "[[bearer]]\nissuer = {:?}\naudience = {AUDIENCE:?}\nalgorithms = [{algorithm:?}]\n",
            provider.issuer
        );
        let gateway = Gateway::before(&app)
            .more(&format!("{ROUTES}{table}"))
            .run();
        let person = of_a_person(&provider).await;
        let client = provider.api_token(AUDIENCE, "api:read").await;
        for (token, user) in [(&client, "vestibule"), (&person.access, "alice")] {
            let header = header_of(token);
            assert_eq!(
                (&header["alg"], &header["typ"]),
                (&json!(algorithm), &json!("at+jwt"))
            );
            let answer = get(&gateway, "/api/read", token).await;
            assert_eq!(answer.status, 200, "{algorithm} {user}: {}", answer.text());
            assert_eq!(app.only().one("x-forwarded-user"), Some(user));
            app.forget();
            let answer = get(&gateway, "/api/write", token).await;
            assert_eq!(answer.status, 403, "{algorithm} {user}");
            let challenge = answer.header("www-authenticate").unwrap();
            assert!(
                challenge.contains("error=\"insufficient_scope\""),
                "{challenge}"
            );
        }
        // For another API, and for no API at all.
        let elsewhere = provider.api_token("https://other.test", "api:read").await;
        let answer = get(&gateway, "/api/read", &elsewhere).await;
        refused(&answer, words(Spoilt::Audience), algorithm);
        let answer = get(&gateway, "/api/read", &person.id).await;
        match algorithm {
            // What ID tokens are signed with.
            "RS256" => refused(&answer, words(Spoilt::Audience), algorithm),
            _ => assert_eq!(answer.status, 401, "{algorithm}: {}", answer.text()),
        }
        assert!(app.seen().is_empty(), "{algorithm}");
    }
}

/// What alice's program has after she has signed in.
struct Tokens {
    access: String,
    id: String,
}

async fn of_a_person(provider: &Provider) -> Tokens {
    let client = Client::of(&provider.issuer);
    let location = client.authorize_for("n", AUDIENCE).await;
    let callback = Person::new().visit(&location, "alice").await;
    let (status, tokens) = client.exchange(&callback).await;
    assert_eq!(status, 200, "{tokens}");
    let text = |name: &str| tokens[name].as_str().expect("a token").to_owned();
    Tokens {
        access: text("access_token"),
        id: text("id_token"),
    }
}

fn header_of(token: &str) -> Value {
    use base64::Engine as _;
    let header = token.split('.').next().unwrap();
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(header);
    serde_json::from_slice(&header.unwrap()).unwrap()
}
