//! `[[bearer]]` as deployers meet it.

use super::super::*;
use super::{MINIMAL, problems};
use crate::auth::foreign_keys::Algorithm;
use crate::auth::test_support::foreign::{Maker, jwks};
use crate::bearer::Keys;
use crate::issuer::Location;

/// The minimal file with this instead of built-in accounts, in a folder with key files.
fn with(text: &str) -> (String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    let rsa = Maker::new(Algorithm::RS256);
    put("key.pem", rsa.pem().as_bytes());
    put(
        "jwks.json",
        &jwks(&[
            rsa.jwk(r#""kid":"a""#),
            Maker::new(Algorithm::HS256).jwk(""),
        ]),
    );
    put("secret", &[b's'; 32]);
    put("short", &[b's'; 31]);
    (MINIMAL.replace("[login.local]", text), folder)
}

fn read(text: &str) -> Result<Config, Vec<String>> {
    let (text, folder) = with(text);
    let name = folder.path().join("gateway.toml").display().to_string();
    parse(&text, &name).map_err(|report| {
        let errors = report.problems().iter();
        let errors = errors.filter(|problem| problem.severity == report::Severity::Error);
        errors.map(|problem| problem.message.clone()).collect()
    })
}

const BASE: &str = "[[bearer]]\nissuer = \"https://id.example.com/a\"\naudience = \"api\"\n";

#[test]
fn keys_come_from_one_place() {
    let keys = |more: &str| {
        read(&format!("{BASE}{more}"))
            .unwrap()
            .bearers
            .remove(0)
            .keys
    };
    let Keys::Remote {
        location,
        algorithms,
        ..
    } = keys("")
    else {
        panic!("not discovered")
    };
    assert_eq!(
        (location, &*algorithms),
        (Location::Discovered, Algorithm::ASYMMETRIC)
    );
    let Keys::Remote {
        location,
        algorithms,
        ..
    } = keys("jwks_url = \"https://id.example.com/keys\"\nalgorithms = [\"ES256\"]")
    else {
        panic!("not fetched")
    };
    assert_eq!(
        location,
        Location::Url("https://id.example.com/keys".parse().unwrap())
    );
    assert_eq!(algorithms, [Algorithm::ES256]);
    for (more, want) in [
        ("jwks_file = \"jwks.json\"", Algorithm::RS256),
        (
            "public_key_file = \"key.pem\"\nalgorithms = [\"PS256\"]",
            Algorithm::PS256,
        ),
        ("secret_file = \"secret\"", Algorithm::HS256),
    ] {
        let Keys::Fixed(keys) = keys(more) else {
            panic!("not read: {more}")
        };
        let found: Vec<_> = keys.describe().map(|(_, algorithm)| algorithm).collect();
        assert_eq!(found, [want], "{more}");
    }
    let local = BASE.replace("https://id.example.com", "http://127.0.0.1:3000");
    assert!(read(&local).is_ok(), "http on this machine");
    // Nothing is called: the issuer need be no URL.
    let named = BASE.replace("https://id.example.com/a", "accounts");
    assert!(read(&format!("{named}jwks_file = \"jwks.json\"")).is_ok());
}

#[test]
fn an_address_of_which_nothing_is_said_counts_only_when_that_is_configured() {
    for (line, want) in [("", false), ("trust_email = true", true)] {
        let config = read(&format!("{BASE}{line}")).unwrap();
        assert_eq!(config.bearers[0].claims.trust_email, want);
    }
}

#[test]
fn a_file_of_public_keys_may_be_as_large_as_a_set_that_is_fetched() {
    let (text, folder) = with(&format!("{BASE}jwks_file = \"jwks.json\""));
    let (file, name) = (
        folder.path().join("jwks.json"),
        folder.path().join("gateway.toml"),
    );
    let keys = std::fs::read(&file).unwrap();
    let errors = |bytes: usize| {
        let mut padded = keys.clone();
        padded.resize(bytes, b' ');
        std::fs::write(&file, padded).unwrap();
        let read = parse(&text, &name.display().to_string());
        read.map(|_| ()).map_err(|report| report.to_string())
    };
    assert_eq!(errors(512 << 10), Ok(()));
    let error = errors((512 << 10) + 1).unwrap_err();
    assert!(error.contains("larger than 512 KiB"), "{error}");
    assert!(!error.contains("secret"), "{error}");
}

#[test]
fn what_is_wrong_is_said() {
    let check = |text: &str, want: &[&str]| {
        let found = read(text).map(|_| ()).unwrap_err();
        assert_eq!(found, want, "{text}");
    };
    let base = |more: &str| format!("{BASE}{more}");
    check(
        "[[bearer]]",
        &["`bearer.issuer` is missing", "`bearer.audience` is missing"],
    );
    check(
        &format!("{BASE}{BASE}"),
        &["two [[bearer]] for the issuer \"https://id.example.com/a\""],
    );
    check(
        &base("jwks_file = \"jwks.json\"\nsecret_file = \"secret\""),
        &["a [[bearer]] has both `secret_file` and `jwks_file`"],
    );
    check(
        &base("algorithms = [\"none\"]"),
        &["\"none\" is no algorithm that is accepted"],
    );
    check(&base("algorithms = []"), &["`bearer.algorithms` is empty"]);
    check(
        &base("algorithms = [\"HS256\"]"),
        &["HS256 needs a shared secret"],
    );
    check(
        &base("secret_file = \"secret\"\nalgorithms = [\"RS256\"]"),
        &["RS256 goes with a public key, not with `secret_file`"],
    );
    check(
        &base("secret_file = \"short\""),
        &[
            "`bearer.secret_file` cannot be used: the secret is too short: HS256 needs at least 32 random bytes",
        ],
    );
    check(
        &base("public_key_file = \"secret\""),
        &[
            "`bearer.public_key_file` cannot be used: not PEM: a block \"BEGIN PUBLIC KEY\" or \"BEGIN CERTIFICATE\" is expected",
        ],
    );
    check(
        &base("jwks_file = \"jwks.json\"\nalgorithms = [\"ES256\"]"),
        &[
            "`bearer.jwks_file` cannot be used: none of the keys can be used with the configured algorithms",
        ],
    );
    check(
        &base("jwks_url = \"http://id.example.com/keys\""),
        &["the keys would be fetched from id.example.com without TLS"],
    );
    check(
        &base("jwks_url = \"ftp://h/\""),
        &["`bearer.jwks_url` is not a URL that can be called"],
    );
    check(
        &base("jwks_url = \"https://u@h/\""),
        &["`bearer.jwks_url` is not a URL that can be called"],
    );
    check(
        &BASE.replace("https://id.example.com/a", "accounts"),
        &["`bearer.issuer` is not a URL that can be called"],
    );
    check(
        &base("ca_file = \"key.pem\""),
        &["there is no certificate in it"],
    );
    check(
        &base("claims = { user = \".x\" }"),
        &["`bearer.claims.user` is not the name of a claim"],
    );
    check(
        &base("max_lifetime = \"10y\""),
        &["`bearer.max_lifetime` is not a duration"],
    );
}

#[test]
fn scopes_belong_to_bearer_tokens() {
    let scoped = |scopes: &str| {
        let (text, _folder) = with(BASE);
        let route = format!("[[route]]\nallow = {{ scopes = [{scopes}] }}");
        problems(&text.replace("[[route]]", &route))
    };
    assert_eq!(scoped(r#""read", "write""#), Vec::<String>::new());
    assert!(scoped(r#""read write""#)[0].contains("is not a scope"));
    assert!(scoped(r#""""#)[0].contains("is not a scope"));
    let without = MINIMAL.replace("[[route]]", "[[route]]\nallow = { scopes = [\"read\"] }");
    assert!(problems(&without)[0].contains("`route.allow.scopes` without any [[bearer]]"));
}
