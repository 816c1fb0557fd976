//! The admin API over its real listener. Every exchange of these tests is held against `docs/openapi.json`.

use std::process::Command;
use std::sync::Mutex;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::attacks::open_socket;
use crate::harness::client::status_of;
use crate::harness::prepared::run_with_input;
use crate::harness::python::venv;
use crate::harness::wait::DEADLINE;
use crate::harness::{App, Gateway, ORIGIN, PASSWORD};

const TOKEN: &str = "an admin token of these tests, long enough";

/// A program on the same machine, which writes down what it asked and heard.
struct Program<'a> {
    gateway: &'a Gateway,
    token: Option<&'a str>,
    exchanges: Mutex<Vec<Value>>,
}

impl<'a> Program<'a> {
    fn of(gateway: &'a Gateway) -> Self {
        Program {
            gateway,
            token: None,
            exchanges: Mutex::default(),
        }
    }

    /// Sends a request with exactly these further header lines.
    async fn raw(&self, method: &str, target: &str, lines: &[&str], body: &str) -> (u16, Value) {
        let mut stream = tokio::net::TcpStream::connect(self.gateway.admin)
            .await
            .unwrap();
        let mut head = format!("{method} {target} HTTP/1.1\r\nconnection: close\r\n");
        if !lines.iter().any(|line| line.starts_with("host:")) {
            head.push_str(&format!("host: {}\r\n", self.gateway.admin));
        }
        if let Some(token) = self.token {
            head.push_str(&format!("authorization: Bearer {token}\r\n"));
        }
        for line in lines {
            head.push_str(&format!("{line}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
        // It may answer before it has read everything.
        let _ = stream.write_all(head.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let status = status_of(&answer);
        let text = String::from_utf8(answer).unwrap();
        let (head, answered) = text.split_once("\r\n\r\n").expect("an answer");
        let header = |name: &str| {
            head.lines().find_map(|line| {
                let (key, value) = line.split_once(": ")?;
                key.eq_ignore_ascii_case(name).then(|| value.to_owned())
            })
        };
        assert_eq!(header("cache-control").as_deref(), Some("no-store"));
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query: serde_json::Map<String, Value> = url::form_urlencoded::parse(query.as_bytes())
            .map(|(name, value)| (name.into_owned(), value.into_owned().into()))
            .collect();
        self.exchanges.lock().unwrap().push(json!({
            "method": method, "path": path, "query": query, "request": body, "status": status,
            "content_type": header("content-type").unwrap_or_default(), "body": answered,
        }));
        let value = serde_json::from_str(answered).unwrap_or(Value::Null);
        (status, value)
    }

    async fn get(&self, target: &str) -> (u16, Value) {
        self.raw("GET", target, &[], "").await
    }

    async fn post(&self, target: &str, body: Value) -> (u16, Value) {
        let json = "content-type: application/json";
        self.raw("POST", target, &[json], &body.to_string()).await
    }

    /// [`Self::post`], which ends this many sessions.
    async fn ends(&self, target: &str, body: Value, sessions: u64) {
        let answer = self.post(target, body.clone()).await;
        assert_eq!(answer, (200, json!({ "ended": sessions })), "{body}");
    }

    /// The sessions of the first page.
    async fn sessions(&self, query: &str) -> Vec<Value> {
        let (status, answer) = self.get(&format!("/api/v1/sessions{query}")).await;
        assert_eq!(status, 200, "{answer}");
        answer["sessions"].as_array().unwrap().clone()
    }

    /// Every exchange is as the description says, and every operation succeeded at least once.
    fn validate(self) {
        let document = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/openapi.py");
        let exchanges = self.exchanges.into_inner().unwrap();
        assert!(exchanges.len() > 30, "only {} exchanges", exchanges.len());
        let lines: String = exchanges.iter().map(|one| format!("{one}\n")).collect();
        let mut python = Command::new(venv().join("python"));
        let output = run_with_input(python.args([script, document]), &lines);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}\n{error}");
    }
}

fn ids(sessions: &[Value]) -> Vec<String> {
    let id = |session: &Value| session["session"].as_str().unwrap().to_owned();
    sessions.iter().map(id).collect()
}

#[tokio::test]
async fn every_operation_does_what_its_description_says() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let program = Program::of(&gateway);
    for path in ["/live", "/ready", "/metrics", "/openapi.json"] {
        assert_eq!(program.get(path).await.0, 200, "{path}");
        assert_eq!(program.raw("DELETE", path, &[], "").await.0, 405, "{path}");
    }
    let (_, document) = program.get("/openapi.json").await;
    let written = include_str!("../../docs/openapi.json");
    assert_eq!(document, serde_json::from_str::<Value>(written).unwrap());

    // Lists, whole and in pages.
    let (alice, phone, bob) = (
        gateway.signed_in("alice").await,
        gateway.signed_in("alice").await,
        gateway.signed_in("bob").await,
    );
    let all = program.sessions("").await;
    assert_eq!(all.len(), 3);
    assert_eq!(all[0]["provider"], "local");
    assert_eq!(all[0]["address"], "127.0.0.1");
    assert_eq!(program.sessions("?user=alice").await.len(), 2);
    assert_eq!(program.sessions("?user=alice&provider=corp").await.len(), 0);
    let mut paged = Vec::new();
    let mut next = String::new();
    loop {
        let (_, page) = program
            .get(&format!("/api/v1/sessions?limit=1{next}"))
            .await;
        paged.extend(page["sessions"].as_array().unwrap().clone());
        match page["next"].as_str() {
            Some(id) => next = format!("&after={id}"),
            None => break,
        }
    }
    assert_eq!(ids(&paged), ids(&all));
    let (_, users) = program.get("/api/v1/users?limit=1").await;
    assert_eq!(users["users"][0]["user"], "alice");
    assert_eq!(users["users"][0]["groups"], json!(["staff", "writers"]));
    assert_eq!(users["next"], "alice");
    let (_, users) = program.get("/api/v1/users?after=alice").await;
    assert_eq!(users["users"][0]["user"], "bob");
    assert_eq!(users["next"], Value::Null);
    let text = program.get("/api/v1/users").await.1.to_string();
    assert!(!text.contains("argon2"), "{text}");

    // Revocation: one, a user's, everybody's; with what is open.
    let me = phone.get("/.auth/me").await.json();
    let revoke = "/api/v1/sessions/revoke";
    let mut socket = open_socket(&phone, "/socket", ORIGIN).await.unwrap();
    program
        .ends(revoke, json!({ "session": me["session"] }), 1)
        .await;
    let last = tokio::time::timeout(DEADLINE, futures_util::StreamExt::next(&mut socket)).await;
    assert!(!matches!(last.expect("the socket ends"), Some(Ok(message)) if message.is_text()));
    assert_eq!(phone.get("/").await.status, 401);
    assert_eq!(alice.get("/").await.status, 200);
    let again = program
        .post(revoke, json!({ "session": me["session"] }))
        .await;
    assert_eq!(again.0, 404);
    program.ends(revoke, json!({ "user": "alice" }), 1).await;
    assert_eq!(alice.get("/").await.status, 401);
    program
        .ends(revoke, json!({ "user": "bob", "provider": "corp" }), 0)
        .await;
    assert_eq!(bob.get("/").await.status, 200);
    program.ends(revoke, json!({ "all": true }), 1).await;
    assert_eq!(bob.get("/").await.status, 401);
    let line = gateway
        .until_logged(&["\"event\":\"revoked\"", "\"user\":\"bob\""])
        .await;
    assert!(line.contains("\"by\":\"admin API\""), "{line}");

    // Accounts and keys.
    let bob = gateway.signed_in("bob").await;
    program
        .ends("/api/v1/users/block", json!({ "user": "BOB" }), 1)
        .await;
    assert_eq!(bob.get("/").await.status, 401);
    assert_eq!(bob.sign_in("bob", PASSWORD, "/").await.status, 401);
    assert_eq!(
        program.get("/api/v1/users?after=alice").await.1["users"][0]["blocked"],
        true
    );
    program
        .ends("/api/v1/users/unblock", json!({ "user": "bob" }), 0)
        .await;
    gateway.anon().at("127.0.0.9").signed_in_as("bob").await;
    gateway
        .until_logged(&["account_changed", "unblocked", "\"by\":\"admin API\""])
        .await;
    let (_, rotated) = program.post("/api/v1/keys/rotate", json!({})).await;
    let (_, keys) = program.get("/api/v1/keys").await;
    let keys = keys["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[1]["kid"], rotated["kid"]);

    // What makes no sense.
    for body in [
        json!({}),
        json!({ "all": false }),
        json!({ "user": "alice", "all": true }),
        json!({ "provider": "local" }),
        json!({ "session": "short" }),
        json!({ "everybody": true }),
        json!([]),
        json!([null, null, null, true]),
    ] {
        assert_eq!(program.post(revoke, body.clone()).await.0, 400, "{body}");
    }
    for target in [
        "/api/v1/sessions?limit=0",
        "/api/v1/sessions?limit=1001",
        "/api/v1/sessions?limit=ten",
        "/api/v1/sessions?after=short",
        "/api/v1/sessions?usr=alice",
        "/api/v1/sessions?user=a&user=b",
        "/api/v1/users?user=alice",
    ] {
        assert_eq!(program.get(target).await.0, 400, "{target}");
    }
    for target in ["/api/v1/users/block", "/api/v1/users/unblock"] {
        let nobody = json!({ "user": "nobody" });
        assert_eq!(program.post(target, nobody).await.0, 404);
        assert_eq!(program.get(target).await.0, 405);
    }
    assert_eq!(program.raw("PUT", "/api/v1/keys", &[], "").await.0, 405);
    let large = json!({ "user": "x".repeat(20_000) });
    assert_eq!(program.post(revoke, large).await.0, 413);
    program.validate();
}

#[tokio::test]
async fn no_web_page_can_reach_it() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let alice = gateway.signed_in("alice").await;
    let program = Program::of(&gateway);
    let revoke = "/api/v1/sessions/revoke";
    let all = "{\"all\":true}";
    let json = "content-type: application/json";
    for (lines, status) in [
        // What a form can send.
        ([].as_slice(), 415),
        (&["content-type: text/plain"], 415),
        (&["content-type: application/x-www-form-urlencoded"], 415),
        (&["content-type: multipart/form-data"], 415),
        // What a script could, if it were let.
        (&[json, "origin: https://evil.example"], 403),
        (&[json, "origin: null"], 403),
        (&[json, "sec-fetch-site: cross-site"], 403),
        (&[json, "sec-fetch-site: same-site"], 403),
        // A name that was made to point here.
        (&[json, "host: rebound.example"], 421),
        (&[json, "host: rebound.example:9091"], 421),
    ] {
        let (found, _) = program.raw("POST", revoke, lines, all).await;
        assert_eq!(found, status, "{lines:?}");
        if status != 415 {
            let (found, answer) = program.raw("GET", "/api/v1/users", lines, "").await;
            assert_eq!(found, status, "{lines:?}");
            assert!(!answer.to_string().contains("alice"), "{answer}");
        }
    }
    // No preflight is ever granted.
    let preflight = [
        "origin: https://evil.example",
        "access-control-request-method: POST",
    ];
    assert_eq!(program.raw("OPTIONS", revoke, &preflight, "").await.0, 403);
    assert_eq!(alice.get("/").await.status, 200);
}

#[tokio::test]
async fn with_a_token_nothing_happens_without_it() {
    let app = App::start().await;
    let gateway = Gateway::before(&app)
        .admin("token_env = \"ADMIN_TOKEN\"")
        .environment("ADMIN_TOKEN", &TOKEN.replace(' ', "-"))
        .run();
    let token = TOKEN.replace(' ', "-");
    let mut program = Program::of(&gateway);
    let wrong = &token[1..];
    for shown in [None, Some(wrong), Some("")] {
        program.token = shown;
        assert_eq!(program.get("/api/v1/users").await.0, 401, "{shown:?}");
        let (status, _) = program
            .post("/api/v1/sessions/revoke", json!({ "all": true }))
            .await;
        assert_eq!(status, 401, "{shown:?}");
        assert_eq!(program.get("/live").await.0, 200);
        assert_eq!(program.get("/metrics").await.0, 200);
    }
    program.token = Some(&token);
    assert_eq!(program.get("/api/v1/users").await.0, 200);
    assert!(gateway.logged(&[&token]).is_empty());
    assert!(gateway.logged(&[wrong]).is_empty());
}
