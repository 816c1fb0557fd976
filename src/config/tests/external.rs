//! `[external]`: what is accepted, and every mistake with its place.

use super::*;
use crate::auth::route::UpstreamId;
use crate::external::Refresh;

/// With the files that it names in a folder of its own.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Folder(tempfile::tempdir().unwrap());
        folder.put("hs256.key", "0123456789abcdef0123456789abcdef\n");
        folder.put("short.key", "0123456789abcdef0123456789abcde\n");
        folder.put("client", "s3cret\n");
        folder
    }

    fn put(&self, name: &str, text: &str) {
        super::private(&self.0.path().join(name), text);
    }

    fn parse(&self, text: &str) -> Result<Config, Report> {
        parse(text, self.0.path().join("gateway.toml").to_str().unwrap())
    }

    fn problems(&self, text: &str) -> Vec<String> {
        let said = said(self.parse(text));
        let lines = said
            .iter()
            .map(|one| format!("{} {}", one.line, one.message));
        lines.collect()
    }
}

const HEAD: &str = r#"[server]
origin = "https://app.example.com"
[tls]
self_signed = true
[[upstream]]
name = "app"
url = "http://127.0.0.1:3000"
[[upstream]]
name = "other"
url = "http://127.0.0.1:4000"
[[route]]
upstream = "app"
[[route]]
path = "/login"
upstream = "app"
access = "public"
[[route]]
path = "/other"
upstream = "other"
[external]
"#;

const LINES: &str = r#"issuer = "https://auth.example.com"
audience = "app"
algorithms = ["HS256"]
secret_file = "hs256.key"
refresh_url = "http://127.0.0.1:3000/auth/refresh"
login_url = "/login"
"#;

#[test]
fn the_example_of_the_contract_is_accepted_and_finds_the_service_among_the_upstreams() {
    let folder = Folder::new();
    let config = folder
        .parse(&format!(
            "{HEAD}{LINES}claims = {{ groups = \"realm_access.roles\" }}\n"
        ))
        .unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(config.warnings.warnings(), 1, "{}", config.warnings);
    let settings = config.external.unwrap().settings;
    assert_eq!(settings.cookies.access, "access_token");
    assert_eq!(settings.cookies.refresh, "refresh_token");
    assert_eq!(settings.cookies_to, [UpstreamId(0)]);
    assert_eq!(settings.claims.groups.to_string(), "realm_access.roles");
    assert_eq!(settings.claims.user.to_string(), "sub");
    assert!(!settings.claims.trust_email);
    assert_eq!(settings.replay_grace, std::time::Duration::from_secs(30));
    assert!(
        matches!(settings.refresh, Some(Refresh::Cookies { url }) if url.path() == "/auth/refresh")
    );
    assert!(config.local.is_none());
}

#[test]
fn a_token_endpoint_takes_the_place_of_a_refresh_url() {
    let folder = Folder::new();
    let endpoint = "token_endpoint = \"https://auth.example.com/token\"\nclient_id = \"gw\"\nclient_secret_file = \"client\"";
    let text = LINES.replace(
        "refresh_url = \"http://127.0.0.1:3000/auth/refresh\"",
        endpoint,
    );
    let config = folder
        .parse(&format!("{HEAD}{text}"))
        .unwrap_or_else(|report| panic!("{report}"));
    let settings = config.external.unwrap().settings;
    let Some(Refresh::TokenEndpoint {
        client_id,
        client_secret,
        ..
    }) = settings.refresh
    else {
        panic!("no token endpoint")
    };
    assert_eq!(client_id, "gw");
    assert_eq!(client_secret.unwrap().expose(), b"s3cret");
    assert!(settings.cookies_to.is_empty());
}

#[test]
fn each_mistake_is_reported_on_its_line() {
    let folder = Folder::new();
    let secret = "secret_file = \"hs256.key\"\n";
    let refresh = "refresh_url = \"http://127.0.0.1:3000/auth/refresh\"";
    let login = "login_url = \"/login\"";
    let algorithms = "algorithms = [\"HS256\"]";
    for (from, to, want) in [
        (
            secret,
            "",
            vec!["20 [external] has no key to verify tokens with"],
        ),
        (
            secret,
            "secret_file = \"hs256.key\"\njwks_file = \"x\"\n",
            vec!["25 [external] has both `secret_file` and `jwks_file`"],
        ),
        (
            secret,
            "secret_file = \"short.key\"\n",
            vec!["24 `external.secret_file` cannot be used: "],
        ),
        (
            secret,
            "secret_file = \"missing\"\n",
            vec!["24 the secret "],
        ),
        (
            secret,
            "public_key_file = \"hs256.key\"\n",
            vec!["23 HS256 goes with a shared secret, not with `public_key_file`"],
        ),
        (
            algorithms,
            "algorithms = [\"RS256\"]",
            vec!["23 RS256 goes with a public key, not with `secret_file`"],
        ),
        (
            algorithms,
            "algorithms = [\"none\"]",
            vec!["23 \"none\" is no algorithm that is accepted"],
        ),
        (
            algorithms,
            "algorithms = [\"HS265\"]",
            vec!["23 \"HS265\" is no algorithm that is accepted"],
        ),
        (
            algorithms,
            "algorithms = []",
            vec!["23 `external.algorithms` is empty"],
        ),
        (algorithms, "", vec!["20 `external.algorithms` is missing"]),
        (
            "issuer = \"https://auth.example.com\"\naudience = \"app\"\n",
            "",
            vec![
                "20 `external.issuer` is missing",
                "20 `external.audience` is missing",
            ],
        ),
        (
            "",
            "access_cookie = \"__Host-vestibule-access\"",
            vec!["27 the cookie \"__Host-vestibule-access\" is the gateway's own"],
        ),
        (
            "",
            "access_cookie = \"a b\"",
            vec!["27 \"a b\" is not the name of a cookie"],
        ),
        (
            "",
            "access_cookie = \"refresh_token\"",
            vec!["27 the access cookie and the refresh cookie have the same name"],
        ),
        (
            "",
            "token_endpoint = \"http://127.0.0.1:1/\"\nclient_id = \"x\"",
            vec!["27 [external] has both `refresh_url` and `token_endpoint`"],
        ),
        (
            "",
            "client_id = \"x\"",
            vec!["27 `external.client_id` belongs to a token endpoint"],
        ),
        (
            refresh,
            "token_endpoint = \"http://127.0.0.1:1/\"",
            vec!["20 `external.client_id` is missing"],
        ),
        (
            refresh,
            "refresh_url = \"/auth/refresh\"",
            vec!["25 `external.refresh_url` is not a URL that can be called"],
        ),
        (
            refresh,
            "refresh_url = \"http://u:p@127.0.0.1/\"",
            vec!["25 `external.refresh_url` is not a URL that can be called"],
        ),
        (
            refresh,
            "refresh_url = \"http://auth.example.com/refresh\"",
            vec!["25 `external.refresh_url` sends refresh tokens in clear over the network"],
        ),
        (
            login,
            "login_url = \"//evil\"",
            vec!["26 `external.login_url` is no page that people can be sent to"],
        ),
        (
            login,
            "login_url = \"javascript:x\"",
            vec!["26 `external.login_url` is no page that people can be sent to"],
        ),
        (
            login,
            "login_url = \"/signin\"",
            vec!["26 `external.login_url` is on a route that asks for a sign-in"],
        ),
        (
            login,
            "login_url = \"/.auth/login\"",
            vec!["26 `external.login_url` is the gateway's own"],
        ),
        (
            login,
            "login_url = \"https://auth.example.com/in?x=1\"",
            vec![],
        ),
        (
            "",
            "logout_url = \"logout\"",
            vec!["27 `external.logout_url` is no page that people can be sent to"],
        ),
        (
            "",
            "cookies_to = [\"ap\"]",
            vec!["27 there is no upstream \"ap\""],
        ),
        (
            "",
            "claims = { user = \".x\" }",
            vec!["27 `external.claims.user` is not the name of a claim"],
        ),
        (
            "",
            "replay_grace = \"1h\"",
            vec!["27 `external.replay_grace` is out of bounds"],
        ),
        (
            "",
            "ca_file = \"client\"",
            vec!["27 there is no certificate in it"],
        ),
        (
            "",
            "jwks_url = \"https://a/jwks.json\"",
            vec!["27 [external] has both `secret_file` and `jwks_url`"],
        ),
        (
            secret,
            "jwks_url = \"https://a/jwks.json\"\n",
            vec!["23 HS256 goes with a shared secret, not with `jwks_url`"],
        ),
        (
            "algorithms = [\"HS256\"]\nsecret_file = \"hs256.key\"\n",
            "algorithms = [\"ES256\"]\njwks_url = \"http://auth.example.com/jwks.json\"\n",
            vec!["24 the keys would be fetched from auth.example.com without TLS"],
        ),
        (
            "algorithms = [\"HS256\"]\nsecret_file = \"hs256.key\"\n",
            "algorithms = [\"ES256\"]\njwks_url = \"https://auth.example.com/jwks.json\"\n",
            vec![],
        ),
        (
            "",
            "[login.local]",
            vec!["20 both [external] and [login] are there"],
        ),
        (
            "",
            "[[route]]\npath = \"/x\"\nupstream = \"app\"\nrevocation = \"checked\"",
            vec!["30 with [external] there are no sessions here that could be checked"],
        ),
    ] {
        let text = match from {
            "" => format!("{HEAD}{LINES}{to}\n"),
            from => {
                assert!(LINES.contains(from), "{from:?}");
                format!("{HEAD}{}", LINES.replacen(from, to, 1))
            }
        };
        let found = folder.problems(&text);
        let as_wanted = found.len() == want.len()
            && found
                .iter()
                .zip(&want)
                .all(|(found, want)| found.starts_with(want));
        assert!(as_wanted, "{to:?}: found {found:#?}, not {want:#?}");
    }
}

#[test]
fn several_nodes_are_warned_that_each_renews_on_its_own() {
    let folder = Folder::new();
    let shared = "[store]\nkind = \"redis\"\nurl = \"rediss://redis.example.com\"\n[secret]\nfile = \"hs256.key\"\n";
    let found = folder.problems(&format!("{HEAD}{LINES}{shared}"));
    assert_eq!(found, ["20 each node renews [external] tokens on its own"]);
}
