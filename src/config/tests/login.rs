//! `[login]`: what a deployer may write of providers, and what is said about slips.

use std::time::Duration;

use super::*;
use crate::login::oidc::Kind;
use crate::login::oidc::settings::{ClientAuth, Settings};

const BEFORE: &str = "[server]\norigin = \"https://app.example.com\"\n[tls]\nself_signed = true\n[[upstream]]\nname = \"app\"\nurl = \"http://127.0.0.1:3000\"\n[[route]]\nupstream = \"app\"\n";

/// A folder with the secrets that the examples name.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    super::private(&folder.path().join("secret"), "s3cret\n");
    super::private(&folder.path().join("empty"), "\n");
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    super::private(&folder.path().join("client.pem"), &key.serialize_pem());
    folder
}

fn load(login: &str) -> Result<Config, Report> {
    let folder = folder();
    let file = folder.path().join("gateway.toml");
    parse(&format!("{BEFORE}{login}"), file.to_str().unwrap())
}

fn providers(login: &str) -> Vec<Settings> {
    match load(login) {
        Ok(config) => config.providers,
        Err(report) => panic!("{report}"),
    }
}

/// What is wrong, errors and warnings.
fn problems(login: &str) -> Vec<String> {
    said(load(login)).iter().map(Said::to_string).collect()
}

const CORP: &str = "[login.oidc.corp]\nissuer = \"https://id.example.com\"\nclient_id = \"vestibule\"\nclient_secret_file = \"secret\"\n";
const HUB: &str = "[login.oauth2.hub]\nauthorize_url = \"https://hub.example.com/a\"\ntoken_url = \"https://hub.example.com/t\"\nuserinfo_url = \"https://hub.example.com/u\"\nclient_id = \"x\"\nclient_secret_file = \"secret\"\n";

#[test]
fn four_lines_make_a_provider() {
    let [corp] = providers(CORP).try_into().unwrap();
    let Settings {
        name,
        display_name,
        kind,
        client_auth,
        scopes,
        claims,
        ..
    } = &corp;
    assert_eq!((name.as_str(), display_name.as_str()), ("corp", "corp"));
    let issuer = "https://id.example.com".to_owned();
    assert_eq!(*kind, Kind::OpenId { issuer });
    assert!(matches!(client_auth, ClientAuth::SecretBasic(secret) if secret.expose() == b"s3cret"));
    assert_eq!(*scopes, ["openid", "profile", "email"]);
    assert_eq!(
        (claims.map.user.to_string(), claims.subject.to_string()),
        ("sub".to_owned(), "sub".to_owned())
    );
    assert_eq!(corp.provider_check, Duration::from_secs(900));
    assert_eq!(corp.provider_grace, Duration::from_secs(86_400));
    assert!(!corp.trust_email && corp.ca.is_empty() && corp.max_age.is_none());
}

#[test]
fn several_providers_stand_beside_each_other_in_the_order_of_the_file() {
    let both = format!("{HUB}{CORP}display_name = \"Corp\"\n[login.local]\n");
    let found = providers(&both);
    let names: Vec<_> = found
        .iter()
        .map(|settings| settings.name.as_str())
        .collect();
    assert_eq!(names, ["hub", "corp"]);
    assert_eq!(found[1].display_name, "Corp");
    assert_eq!(found[0].claims.subject.to_string(), "id");
    assert!(matches!(found[0].client_auth, ClientAuth::SecretPost(_)));
    assert!(load(&both).unwrap().local.is_some());
}

#[test]
fn every_key_can_be_written() {
    let text = format!(
        "{CORP}prompt = \"login consent\"\nmax_age = \"0s\"\nscopes = [\"openid\", \"offline_access\"]\n\
         allow = {{ email_domains = [\"Example.com\"], groups = [\"g\"], users = [\"u\"], emails = [\"a@b.c\"] }}\n\
         claims = {{ user = \"email\", groups = \"realm_access.roles\" }}\nextra = {{ acr_values = \"x\" }}\n\
         trust_email = true\nprovider_check = \"1m\"\nprovider_grace = \"0s\"\nlogout_return = \"https://www.example.com/bye\"\n"
    );
    let [corp] = providers(&text).try_into().unwrap();
    assert_eq!(corp.max_age, Some(Duration::ZERO));
    assert_eq!(corp.allow.email_domains, ["example.com"]);
    assert_eq!(corp.claims.map.groups.to_string(), "realm_access.roles");
    assert_eq!(corp.extra, [("acr_values".to_owned(), "x".to_owned())]);
    let key = CORP.replace(
        "client_secret_file = \"secret\"",
        "client_auth = \"private_key_jwt\"\nclient_key_file = \"client.pem\"",
    );
    let [corp] = providers(&key).try_into().unwrap();
    assert!(matches!(corp.client_auth, ClientAuth::PrivateKeyJwt(_)));
    let public = CORP.replace("client_secret_file = \"secret\"", "client_auth = \"none\"");
    let [corp] = providers(&public).try_into().unwrap();
    assert!(matches!(corp.client_auth, ClientAuth::None));
}

#[test]
fn slips_are_explained() {
    let check = |text: String, want: &str| {
        let found = problems(&text);
        assert_eq!(found.len(), 1, "{text}\n{found:#?}");
        assert!(found[0].contains(want), "{text}\n{found:#?}");
    };
    let corp = |more: &str| format!("{CORP}{more}\n");
    let issuer = |issuer: &str| CORP.replace("https://id.example.com", issuer);
    for tenant in ["common", "organizations", "consumers"] {
        let entra = format!("https://login.microsoftonline.com/{tenant}/v2.0");
        check(issuer(&entra), "TENANT-ID");
    }
    check(
        issuer("https://login.microsoftonline.com/{tenantid}/v2.0"),
        "many tenants",
    );
    check(
        issuer("https://id.example.com/.well-known/openid-configuration"),
        "not an issuer",
    );
    check(issuer("id.example.com"), "write it whole");
    check(issuer("https://u:p@id.example.com"), "no user");
    check(issuer("https://id.example.com?x"), "query");
    check(issuer("ftp://id.example.com"), "begins with https://");
    check(issuer("http://id.example.com"), "not over TLS");
    assert!(
        load(&issuer("http://id.example.com")).is_err(),
        "no warning"
    );
    assert!(problems(&issuer("http://127.0.0.1:4000")).is_empty());
    check(CORP.replace("corp]", "local]"), "built-in accounts");
    check(CORP.replace("corp]", "Corp]"), "lower-case");
    check(
        format!("{CORP}{}", HUB.replace("hub]", "corp]")),
        "two providers called",
    );
    // By the name that the file has.
    check(
        CORP.replace("issuer = \"https://id.example.com\"\n", ""),
        "`login.oidc.corp.issuer` is missing",
    );
    check(corp("prompts = \"x\""), "in [login.oidc.corp]");
    check(corp("prompt = 1"), "`login.oidc.corp.prompt` must be");
    check(
        CORP.replace("client_secret_file = \"secret\"\n", ""),
        "client_auth = \"none\"",
    );
    check(CORP.replace("\"secret\"", "\"empty\""), "empty or no text");
    check(
        corp("client_auth = \"none\""),
        "a client secret is there, but",
    );
    check(
        corp("client_secret_env = \"X\""),
        "[login.oidc.corp] has both",
    );
    check(
        CORP.replace(
            "client_secret_file = \"secret\"",
            "client_auth = \"private_key_jwt\"\nclient_key_file = \"secret\"",
        ),
        "no private key that can sign",
    );
    check(corp("scopes = [\"email\"]"), "has no \"openid\"");
    check(
        corp("scopes = [\"openid email\"]").replace("openid email", "openid\", \"a b"),
        "not a scope",
    );
    check(
        corp("allow = { email_domains = [\"@example.com\"] }"),
        "the domain alone",
    );
    check(corp("allow = { email_domains = [] }"), "is empty");
    check(corp("allow = { emails = [\"bo\"] }"), "has an @");
    check(
        corp("allow = { group = [\"a\"] }"),
        "did you mean `groups`?",
    );
    check(
        corp("claims = { user = \".b\" }"),
        "not the name of a claim",
    );
    check(corp("prompt = \"none\""), "cannot be \"none\"");
    check(corp("extra = { state = \"x\" }"), "the gateway's own");
    check(corp("extra = { hd = 1 }"), "not a text");
    check(corp("display_name = \" \""), "no text for a button");
    check(corp("logout_return = \"//evil\""), "leads nowhere");
    check(corp("logout_return = \"http://a\""), "leads nowhere");
    check(corp("ca_file = \"secret\""), "no certificate");
    check(
        HUB.replace("client_id", "client_auth = \"private_key_jwt\"\nclient_id"),
        "cannot be \"private_key_jwt\"",
    );
    check(
        "[login]\noidc = 1\n[login.local]\n".to_owned(),
        "[login.oidc.NAME]",
    );
    check(
        "[login.oidc]\nissuer = \"https://id.example.com\"\n[login.local]\n".to_owned(),
        "with a name of your choice",
    );
}

#[test]
fn the_annotated_examples_of_providers_can_be_used() {
    let text = include_str!("../../../gateway.toml");
    let block: String = text
        .lines()
        .skip_while(|line| !line.starts_with("# [login.oidc."))
        .take_while(|line| !line.starts_with("# API clients"))
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| line.starts_with('[') || line.contains(" = ") && !line.starts_with(' '))
        .filter(|line| {
            !line.starts_with("client_secret_env")
                && !line.starts_with("client_key_")
                && !line.starts_with("ca_file")
                && !line.starts_with("claims = ")
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let block = block
        .replace("/run/secrets/oidc", "secret")
        .replace("/run/secrets/github", "secret");
    let found = providers(&block);
    assert_eq!(found.len(), 2, "{block}");
}
