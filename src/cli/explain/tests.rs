//! Requests of everybody to everything, as they are explained.

use std::sync::Arc;

use clap::Parser;
use http::Method;

use super::asker::{Asker, Options, by_session};
use super::explain;
use crate::auth::{Identity, Subject};
use crate::clock::Timestamp;

const FILE: &str = r#"
[server]
origin = "https://app.example.com"
[tls]
self_signed = true
[login.local]
[[upstream]]
name = "app"
url = "http://127.0.0.1:3000"
headers = "remote"
assertion = true
[[route]]
upstream = "app"
[[route]]
path = "/admin"
methods = ["GET", "POST"]
upstream = "app"
allow.groups = ["staff"]
[[route]]
path = "/health"
access = "public"
upstream = "app"
"#;

fn somebody(subject: Subject) -> Asker {
    Asker::somebody(Arc::new(subject), false)
}

fn person(groups: &[&str]) -> Asker {
    somebody(by_session(Identity {
        user: "ana".to_owned(),
        email: Some("ana@example.com".to_owned()),
        name: None,
        preferred_username: None,
        groups: groups.iter().map(|group| group.to_string()).collect(),
        provider: "local".to_owned(),
        auth_time: Timestamp::EPOCH,
        amr: Vec::new(),
    }))
}

#[test]
fn outcomes() {
    let config = crate::config::parse(FILE, "g").unwrap();
    let check = |method: Method, url: &str, who: Asker, want: &str| {
        let explanation = explain(&config, &method, url, who).unwrap();
        assert!(
            explanation.outcome.starts_with(want),
            "{url}: {explanation}"
        );
    };
    check(Method::GET, "/", Asker::nobody(), "303");
    check(Method::POST, "/", Asker::nobody(), "401");
    check(Method::GET, "/", person(&[]), "forwarded with");
    check(
        Method::POST,
        "https://app.example.com/x?y",
        person(&[]),
        "forwarded with",
    );
    check(Method::GET, "/admin/x", person(&["dev"]), "403");
    check(
        Method::GET,
        "/admin/x",
        person(&["staff"]),
        "forwarded with",
    );
    check(Method::DELETE, "/admin", person(&["staff"]), "405");
    check(Method::GET, "/health", Asker::nobody(), "forwarded without");
    check(Method::GET, "/a/../admin", person(&[]), "400");
    check(Method::GET, "/a%2fb", person(&[]), "400");
    check(
        Method::GET,
        "https://other.example.com/",
        person(&[]),
        "421",
    );
    check(
        Method::GET,
        "https://app.example.com:8443/",
        person(&[]),
        "421",
    );
    check(
        Method::GET,
        "https://other.example.com/.auth/login",
        Asker::nobody(),
        "421",
    );
    check(
        Method::GET,
        "/.auth/me",
        Asker::nobody(),
        "answered by the gateway",
    );
    assert!(explain(&config, &Method::GET, "app.example.com", Asker::nobody()).is_err());
    assert!(
        explain(
            &config,
            &Method::GET,
            "http://app.example.com/",
            Asker::nobody()
        )
        .is_err()
    );
}

#[test]
fn what_a_route_does_not_do_is_said() {
    let file = FILE.replace("https://app.example.com", "https://app.example.com:8443")
        + r#"
[[bearer]]
issuer = "https://id.example.com"
audience = "api"
[[route]]
path = "/api"
upstream = "app"
allow.scopes = ["read", "write"]
preflight = "forward"
"#;
    let config = crate::config::parse(&file, "g").unwrap();
    let check = |method: Method, url: &str, who: Asker, want: &[&str]| {
        let text = explain(&config, &method, url, who).unwrap().to_string();
        for words in want {
            assert!(text.contains(words), "{url}: {words}: {text}");
        }
    };
    check(
        Method::GET,
        "/api",
        person(&["staff"]),
        &["403: no session is let in here, only bearer tokens with one of the scopes read, write"],
    );
    check(
        Method::GET,
        "/admin",
        person(&[]),
        &["403: signed in, but `allow`"],
    );
    check(
        Method::OPTIONS,
        "/api",
        Asker::nobody(),
        &["a CORS preflight (with Origin and Access-Control-Request-Method) is forwarded"],
    );
    check(
        Method::OPTIONS,
        "/",
        Asker::nobody(),
        &[
            "a CORS preflight has no cookies: 401",
            "preflight = \"forward\"",
        ],
    );
    check(
        Method::OPTIONS,
        "/health",
        Asker::nobody(),
        &["a CORS preflight has no cookies: it is forwarded"],
    );
    // As the gateway, to which a `Host` without a port is the origin's.
    check(
        Method::GET,
        "https://app.example.com/",
        Asker::nobody(),
        &["303 to the sign-in page", "taken for 8443"],
    );
    check(
        Method::GET,
        "https://app.example.com:9443/",
        Asker::nobody(),
        &["421: the port is 9443"],
    );
}

#[test]
fn the_whole_text() {
    let config = crate::config::parse(FILE, "g").unwrap();
    let explanation = explain(&config, &Method::GET, "/admin/x?y=1", person(&["staff"])).unwrap();
    assert_eq!(
        explanation.to_string(),
        "\
request   GET https://app.example.com/admin/x?y=1
who       ana <ana@example.com>, groups staff
path      /admin/x
rule      route 2: app.example.com/admin [GET, POST]: authenticated, groups staff
upstream  app (http://127.0.0.1:3000)
outcome   forwarded with the identity
headers   remote-user: ana
          remote-email: ana@example.com
          remote-groups: staff
          x-vestibule-assertion: (a signed JWT that proves the identity, 60 s)
note      every request also carries X-Forwarded-For, -Proto, -Host, Forwarded, X-Request-Id and Via
"
    );
}

/// The options alone.
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    asker: Options,
}

#[test]
fn whose_name_it_is_decides_and_is_said() {
    const WAYS: &str = r#"
[login.oidc.corp]
issuer = "https://id.example.com"
client_id = "vestibule"
client_auth = "none"
[[bearer]]
issuer = "https://id.example.com"
audience = "https://app.example.com"
[[route]]
path = "/corp"
upstream = "app"
allow = { users = ["corp:alice"], groups = ["corp:staff"] }
[[route]]
path = "/both"
upstream = "app"
allow = { users = ["corp:alice", "https://id.example.com:alice"] }
"#;
    let config = crate::config::parse(&format!("{FILE}{WAYS}"), "g").unwrap();
    let explained = |options: &[&str], path: &str| {
        let line = std::iter::once(&"explain").chain(options);
        let asker = Line::try_parse_from(line).unwrap().asker;
        let asker = asker.resolve(&config).unwrap();
        explain(&config, &Method::GET, path, asker).unwrap()
    };
    let check = |options: &[&str], path: &str, want: &str, notes: &[&str]| {
        let said = explained(options, path);
        assert!(said.outcome.starts_with(want), "{options:?}: {said}");
        for note in notes {
            let found = said.notes.iter().any(|one| one.contains(note));
            assert!(found, "{options:?}: {note}: {said}");
        }
    };
    let alice = ["--user", "alice", "--provider", "corp"];
    check(&alice, "/corp", "forwarded with", &[]);
    check(
        &["--user", "alice"],
        "/corp",
        "403",
        &["taken for somebody of local; with --provider for one of: local, corp"],
    );
    // A token of the same issuer is not that way of signing in.
    check(&["--user", "alice", "--bearer"], "/corp", "403", &[]);
    check(
        &["--user", "alice", "--bearer"],
        "/both",
        "forwarded with",
        &[],
    );
    check(
        &alice,
        "/both",
        "forwarded with",
        &["by [[bearer]], a token of https://id.example.com may be presented here instead"],
    );
    // Groups and people are called as they are there, not as rules call them.
    let bob = ["--user", "bob", "--provider", "corp", "--group"];
    check(
        &[&bob[..], &["staff"]].concat(),
        "/corp",
        "forwarded with",
        &[],
    );
    check(
        &[&bob[..], &["corp:staff"]].concat(),
        "/corp",
        "403",
        &["\"corp:staff\" is taken for the whole name"],
    );
    assert!(
        !explained(&alice, "/corp")
            .to_string()
            .contains("the whole name")
    );
}
