//! `vestibule check --online`: what deployers are told about those whom their configuration names, before anybody signs in.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::harness::gateway::{Setup, free_port};
use crate::harness::prepared::vestibule;
use crate::harness::provider::CLIENT_SECRET;
use crate::harness::redis::{REDIS_PASSWORD, RedisOptions, RedisServer};
use crate::harness::{App, Gateway, Provider, Rogue};

/// What the command found.
pub struct Found {
    output: Output,
    json: Value,
    pub words: String,
}

/// Asks twice: for people and for scripts. Neither may show a secret, or more of an address than its path.
pub async fn asked(setup: &Setup) -> Found {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("secret"),
        "a master key of the tests, 32 bytes",
    )
    .unwrap();
    let file = folder.path().join("gateway.toml");
    std::fs::write(&file, setup.text(&folder.path().join("data"))).unwrap();
    let run = |more: &'static [&'static str], file: &Path| {
        let file = file.to_str().unwrap().to_owned();
        // The lying provider lives in this process: it must go on meanwhile.
        tokio::task::spawn_blocking(move || {
            let mut arguments = vec!["check", "--online", "-c", &file];
            arguments.extend(more);
            vestibule(&arguments, "")
        })
    };
    let output = run(&[], &file).await.unwrap();
    let listed = run(&["--json"], &file).await.unwrap();
    let words = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(output.stdout.is_empty(), "{words}");
    assert_eq!(output.status.code(), listed.status.code(), "{words}");
    let json = String::from_utf8(listed.stdout).unwrap();
    for text in [&words, &json] {
        assert!(!text.contains("panicked"), "{text}");
        for secret in [CLIENT_SECRET, REDIS_PASSWORD, "state=", "code_challenge"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
    assert!(
        !folder.path().join("data/store.redb").exists(),
        "looking makes no store"
    );
    Found {
        json: serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}")),
        output,
        words,
    }
}

impl Found {
    pub fn code(&self) -> i32 {
        self.output.status.code().unwrap()
    }

    fn section(&self, about: &str) -> &Value {
        let sections = self.json["online"].as_array().unwrap();
        let found = sections.iter().find(|one| one["about"] == about);
        found.unwrap_or_else(|| panic!("no {about} in {}", self.json))
    }

    /// The one finding of a section that has these words, as `verdict text -> mend`.
    fn finding(&self, about: &str, words: &str) -> String {
        let section = self.section(about);
        let all = section["findings"].as_array().unwrap().iter();
        let found: Vec<&Value> = all
            .filter(|one| one["text"].as_str().unwrap().contains(words))
            .collect();
        assert_eq!(found.len(), 1, "{words}: {section}");
        let text = |name: &str| found[0][name].as_str().unwrap_or("").to_owned();
        assert!(self.words.contains(&text("text")), "{}", self.words);
        format!("{} {} -> {}", text("verdict"), text("text"), text("mend"))
    }

    pub fn tells(&self, about: &str, verdict: &str, words: &[&str]) {
        let finding = self.finding(about, words[0]);
        assert!(finding.starts_with(verdict), "{finding}");
        for word in words {
            assert!(finding.contains(word), "no {word}: {finding}");
        }
    }

    pub fn problems(&self) -> usize {
        let sections = self.json["online"].as_array().unwrap().iter();
        let all = sections.flat_map(|one| one["findings"].as_array().unwrap());
        all.filter(|one| one["verdict"] == "problem").count()
    }
}

const CORP: &str = "[login.oidc.corp]";

#[tokio::test]
async fn a_provider_that_is_set_up_well_is_good_and_what_to_register_is_told() {
    let app = App::start().await;
    for auth in [
        "client_secret_basic",
        "client_secret_post",
        "private_key_jwt",
        "none",
    ] {
        let provider = Provider::with().client_auth(auth).start();
        let found = asked(&Gateway::before(&app).login(&provider.table("corp", ""))).await;
        assert_eq!(found.code(), 0, "{auth}: {}", found.words);
        found.tells(CORP, "good", &["discovery", &provider.issuer]);
        found.tells(
            CORP,
            "good",
            &["keys: 4 keys", "ES256, ES384, EdDSA, RS256"],
        );
        found.tells(
            CORP,
            "good",
            &[
                "client: ",
                "\"vestibule\" is accepted",
                auth.trim_start_matches("client_"),
                "invalid_grant",
            ],
        );
        found.tells(
            CORP,
            "good",
            &["sent back", "https://app.test/.auth/callback/corp"],
        );
        found.tells("[[upstream]] app", "good", &["takes connections"]);
        // Nobody was asked for more than that, and nothing was left behind.
        assert_eq!(provider.refreshes().await, 0);
        assert_eq!(
            found.section(CORP)["register"],
            json!([
                { "what": "redirect URI", "url": "https://app.test/.auth/callback/corp" },
                { "what": "post-logout redirect URI", "url": "https://app.test/.auth/logout" },
                { "what": "back-channel logout URI", "url": "https://app.test/.auth/backchannel-logout/corp" },
            ])
        );
        for line in [
            "back-channel logout URI",
            "asked [login.oidc.corp]",
            "good, online too",
        ] {
            assert!(found.words.contains(line), "{line}: {}", found.words);
        }
    }
}

#[tokio::test]
async fn a_client_that_is_registered_otherwise_is_told_so() {
    let app = App::start().await;
    let provider = Provider::with().known_as(&["other"]).start();
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("wrong");
    std::fs::write(&wrong, "another secret than the provider's").unwrap();
    let table = provider.table("corp", "");
    let secret = table
        .lines()
        .find(|line| line.starts_with("client_secret_file"));
    let table = table.replace(secret.unwrap(), &format!("client_secret_file = {wrong:?}"));
    let found = asked(&Gateway::before(&app).login(&table)).await;
    assert_eq!(found.code(), 2, "{}", found.words);
    assert_eq!(found.problems(), 2, "{}", found.words);
    found.tells(
        CORP,
        "problem",
        &[
            "client: ",
            "\"vestibule\" is not accepted",
            "invalid_client",
            "-> compare client_id",
        ],
    );
    found.tells(
        CORP,
        "problem",
        &[
            "authorization request",
            "https://app.test/.auth/callback/corp",
            "status 400",
            "-> register that redirect URI",
        ],
    );
    assert!(found.words.contains("2 problems"), "{}", found.words);

    // The redirect URI is known, and what is asked for is not granted.
    let scopes = provider.table("other", "scopes = [\"openid\", \"nonsense\"]");
    let found = asked(&Gateway::before(&app).login(&scopes)).await;
    found.tells("[login.oidc.other]", "warning", &["nonsense", "scopes"]);
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_or_believed_is_told_in_words() {
    let app = App::start().await;
    let provider = Provider::with().https().start();
    let table = provider.table("corp", "");
    let good = asked(&Gateway::before(&app).login(&table)).await;
    assert_eq!(good.code(), 0, "{}", good.words);
    // The same provider, whose authority nobody named.
    let ca = table
        .lines()
        .find(|line| line.starts_with("ca_file"))
        .unwrap();
    let found = asked(&Gateway::before(&app).login(&table.replace(ca, ""))).await;
    assert_eq!(found.code(), 2, "{}", found.words);
    found.tells(
        CORP,
        "problem",
        &[
            "discovery",
            "localhost:",
            "TLS",
            "name that authority's PEM file as ca_file",
        ],
    );
    // By a path below which there is nothing.
    let issuer = format!("issuer = \"{}\"", provider.issuer);
    let below = table.replace(
        &issuer,
        &format!("issuer = \"{}/realms/none\"", provider.issuer),
    );
    let found = asked(&Gateway::before(&app).login(&below)).await;
    found.tells(
        CORP,
        "problem",
        &["discovery", "status 404", "-> compare `issuer`"],
    );

    provider.goes_away().await;
    let found = asked(&Gateway::before(&app).login(&table)).await;
    assert_eq!((found.code(), found.problems()), (2, 1), "{}", found.words);
    found.tells(
        CORP,
        "problem",
        &["discovery", "cannot be connected to", "-> is it running"],
    );
    // What has to be registered is told all the same.
    assert!(
        found.words.contains("https://app.test/.auth/callback/corp"),
        "{}",
        found.words
    );
}

#[tokio::test]
async fn a_provider_that_answers_nonsense_is_told_so() {
    let app = App::start().await;
    let rogue = Rogue::start().await;
    let setup = Gateway::before(&app).login(&rogue.table("corp", ""));
    let found = asked(&setup).await;
    assert_eq!(found.code(), 0, "{}", found.words);

    // O10: somebody else's name, which is shown to be compared.
    rogue.says("discovery", |document| {
        document["issuer"] = json!("https://id.test/realms/corp?s3cret")
    });
    let found = asked(&setup).await;
    assert_eq!(found.code(), 2, "{}", found.words);
    found.tells(
        CORP,
        "problem",
        &["discovery", "calls itself \"https://id.test/realms/corp\""],
    );
    assert!(!found.words.contains("s3cret"), "{}", found.words);

    rogue.repent();
    rogue.says("jwks", |jwks| {
        jwks["keys"] = json!([{ "kty": "oct", "k": "c2VjcmV0" }])
    });
    let found = asked(&setup).await;
    assert_eq!((found.code(), found.problems()), (2, 1), "{}", found.words);
    found.tells(CORP, "problem", &["keys: ", "none of the keys can be used"]);

    rogue.repent();
    rogue.reply("jwks", |reply| reply.body = "<html>".into());
    found_problem(&setup, &["keys: ", "not a JWK Set"]).await;

    rogue.repent();
    rogue.reply("token", |reply| {
        reply.redirect(307, "http://127.0.0.1:9/?token=s3cret")
    });
    let found = asked(&setup).await;
    assert_eq!(found.code(), 0, "{}", found.words);
    found.tells(
        CORP,
        "warning",
        &["client: could not tell", "no redirect is followed"],
    );

    rogue.repent();
    rogue.says("discovery", |document| {
        document["code_challenge_methods_supported"] = json!(["plain"]);
        document["backchannel_logout_supported"] = json!(false);
        document
            .as_object_mut()
            .unwrap()
            .remove("end_session_endpoint");
    });
    let found = asked(&setup).await;
    assert_eq!(found.code(), 0, "{}", found.words);
    found.tells(CORP, "warning", &["but not S256"]);
    found.tells(CORP, "note", &["back-channel logout"]);
    found.tells(CORP, "note", &["end_session_endpoint"]);
    // What it cannot do needs no registration.
    let register = found.section(CORP)["register"].as_array().unwrap();
    assert_eq!(register.len(), 1, "{register:?}");
}

async fn found_problem(setup: &Setup, words: &[&str]) {
    let found = asked(setup).await;
    assert_eq!((found.code(), found.problems()), (2, 1), "{}", found.words);
    found.tells(CORP, "problem", words);
}

#[tokio::test]
async fn a_provider_that_never_answers_takes_its_time_and_no_more() {
    let app = App::start().await;
    let rogue = Rogue::start().await;
    rogue.reply("token", |reply| {
        reply.ending = crate::harness::rogue::Ending::NeverBegun
    });
    let found = asked(&Gateway::before(&app).login(&rogue.table("corp", ""))).await;
    assert_eq!((found.code(), found.problems()), (2, 1), "{}", found.words);
    found.tells(CORP, "problem", &["client: ", "gave no answer within 10s"]);
    found.tells(CORP, "good", &["keys: "]);
}

#[tokio::test]
async fn each_host_has_a_redirect_uri_of_its_own_unless_one_sign_in_serves_all() {
    let app = App::start().await;
    let rogue = Rogue::start().await;
    let routes =
        "[[route]]\nupstream = \"app\"\n[[route]]\nhost = \"wiki.app.test\"\nupstream = \"app\"\n";
    let setup = || {
        Gateway::before(&app)
            .login(&rogue.table("corp", ""))
            .routes(routes)
    };
    let callbacks = |found: &Found| -> Vec<String> {
        let register = found.section(CORP)["register"].as_array().unwrap().iter();
        let callbacks = register.filter(|one| one["what"] == "redirect URI");
        callbacks
            .map(|one| one["url"].as_str().unwrap().to_owned())
            .collect()
    };
    let apart = asked(&setup()).await;
    assert_eq!(
        callbacks(&apart),
        [
            "https://app.test/.auth/callback/corp",
            "https://wiki.app.test/.auth/callback/corp"
        ]
    );
    // This provider does not know the second.
    apart.tells(
        CORP,
        "problem",
        &["https://wiki.app.test/.auth/callback/corp", "status 400"],
    );
    let together = asked(&setup().session("cookie_domain = \"app.test\"")).await;
    assert_eq!(
        callbacks(&together),
        ["https://app.test/.auth/callback/corp"]
    );
    assert_eq!(together.code(), 0, "{}", together.words);
}

#[tokio::test]
async fn issuers_of_tokens_are_asked_for_their_keys_and_nobody_is_asked_for_a_file() {
    let app = App::start().await;
    let rogue = Rogue::start().await;
    let bearer = |issuer: &str, more: &str| {
        format!("[[bearer]]\nissuer = \"{issuer}\"\naudience = \"https://app.test\"\n{more}\n")
    };
    let nobody = free_port();
    let tables = [
        bearer(&rogue.issuer, ""),
        bearer(
            "https://else.test",
            &format!("jwks_url = \"{}/nothing?key=s3cret\"", rogue.issuer),
        ),
        bearer(
            "https://gone.test",
            &format!("jwks_url = \"http://{nobody}/jwks\""),
        ),
    ];
    let found = asked(&Gateway::before(&app).more(&tables.concat())).await;
    assert_eq!((found.code(), found.problems()), (2, 2), "{}", found.words);
    found.tells(
        &format!("[[bearer]] {}", rogue.issuer),
        "good",
        &["keys: 5 keys"],
    );
    found.tells(
        "[[bearer]] https://else.test",
        "problem",
        &["keys: ", "status 404"],
    );
    found.tells(
        "[[bearer]] https://gone.test",
        "problem",
        &["keys: ", "cannot be connected to"],
    );
    assert!(!found.words.contains("s3cret"), "{}", found.words);
}

#[tokio::test]
async fn a_shared_store_and_upstreams_are_looked_at() {
    let app = App::start().await;
    let server = RedisServer::with(RedisOptions {
        secured: true,
        lines: "maxmemory 100mb\nmaxmemory-policy allkeys-lru\n".to_owned(),
        ..RedisOptions::default()
    });
    // The user that docs/several-nodes.md names.
    let setup = Gateway::before(&app).store(&server.store_lines());
    let found = asked(&setup).await;
    assert_eq!(found.code(), 0, "{}", found.words);
    found.tells("[store]", "good", &["rediss://", "answers: Redis "]);
    server.cli(&["ACL", "SETUSER", "vestibule", "-info"]);
    let found = asked(&setup).await;
    assert_eq!(found.code(), 0, "{}", found.words);
    found.tells("[store]", "note", &["rediss://", "answers", "+info"]);
    server.cli(&["ACL", "SETUSER", "vestibule", "resetkeys"]);
    let found = asked(&setup).await;
    assert_eq!((found.code(), found.problems()), (2, 1), "{}", found.words);
    let rights = "~vestibule:* +@all -@dangerous +role +info";
    found.tells(
        "[store]",
        "problem",
        &["no permissions", rights, "docs/several-nodes.md"],
    );
    let quiet = RedisServer::with(RedisOptions {
        lines: "maxmemory 100mb\nmaxmemory-policy allkeys-lru\n".to_owned(),
        ..RedisOptions::default()
    });
    let nobody = free_port();
    let setup = Gateway::at(nobody).store(&quiet.store_lines());
    let found = asked(&setup).await;
    assert_eq!(found.code(), 0, "{}", found.words);
    found.tells(
        "[store]",
        "warning",
        &[
            "throws sessions",
            "allkeys-lru",
            "-> set maxmemory-policy noeviction",
        ],
    );
    // An app that is not up yet does not stop the gateway.
    found.tells(
        "[[upstream]] app",
        "warning",
        &["cannot be connected to", &nobody.to_string()],
    );
    quiet.cli(&["SET", "untouched", "1"]);
    assert_eq!(quiet.cli(&["DBSIZE"]).trim(), "1", "nothing was written");

    let gone = format!("kind = \"redis\"\nurl = \"redis://{nobody}\"\n");
    let found = asked(&Gateway::before(&app).store(&gone)).await;
    assert_eq!((found.code(), found.problems()), (2, 1), "{}", found.words);
    found.tells("[store]", "problem", &[&nobody.to_string()]);
}

#[tokio::test]
async fn a_file_with_problems_is_mended_before_anybody_is_asked() {
    let app = App::start().await;
    let rogue = Rogue::start().await;
    let setup = Gateway::before(&app).login(&rogue.table("corp", "prompts = \"login\""));
    let found = asked(&setup).await;
    assert_eq!(found.code(), 2, "{}", found.words);
    assert!(found.words.contains("nobody was asked"), "{}", found.words);
    assert!(found.json["online"].is_null());
    assert!(rogue.asked().is_empty());
}
