//! What an operator sees: one access line per request, the audit stream, metrics, liveness; and no more than that.

use serde_json::Value;

use crate::harness::{App, Ask, Gateway};

fn lines(gateway: &Gateway, target: &str) -> Vec<Value> {
    gateway
        .logs()
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["target"] == target)
        .collect()
}

#[tokio::test]
async fn each_request_has_one_line_and_one_id_everywhere() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let alice = gateway.signed_in("alice").await;
    let answer = alice.get("/notes/7?secret=1").await;
    let id = answer.header("x-request-id").expect("an id").to_owned();
    assert_eq!(
        app.only().one("x-request-id"),
        Some(id.as_str()),
        "the app knows it by the same id"
    );
    gateway.until_logged(&["access", &id]).await;
    let ours: Vec<Value> = lines(&gateway, "access")
        .into_iter()
        .filter(|line| line["request_id"] == id.as_str())
        .collect();
    assert_eq!(ours.len(), 1, "{ours:?}");
    let line = &ours[0];
    assert_eq!(
        (
            line["method"].as_str(),
            line["status"].as_u64(),
            line["user"].as_str(),
            line["client"].as_str()
        ),
        (Some("GET"), Some(200), Some("alice"), Some("127.0.0.1"))
    );
    assert_eq!(line["path"], "/notes/7", "without the query");
    assert!(
        line["route"].is_string() && line["outcome"].is_string() && line["total_ms"].is_number()
    );
    // Refusals of every kind as well, and every answer of the gateway's own carries its id.
    for (ask, status) in [
        (Ask::get("/nowhere/../x"), 400),
        (Ask::get("/.auth/nothing"), 404),
        (Ask::get("/secret"), 401),
        (Ask::new("POST", "/read"), 405),
    ] {
        let answer = gateway.anon().send(ask).await;
        assert_eq!(answer.status, status);
        let id = answer.header("x-request-id").expect("an id").to_owned();
        gateway.until_logged(&["access", &id]).await;
    }
}

#[tokio::test]
async fn the_audit_stream_tells_who_came_and_who_was_refused() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let alice = gateway.signed_in("alice").await;
    let session = alice.session();
    gateway
        .anon()
        .at("127.0.0.9")
        .sign_in("alice", "wrong", "/")
        .await;
    alice.sign_out().await;
    gateway
        .until_logged(&["audit", "signed_out", "\"user\":\"alice\"", &session])
        .await;
    let events: Vec<(String, String)> = lines(&gateway, "audit")
        .into_iter()
        .map(|line| {
            (
                line["event"].as_str().unwrap().to_owned(),
                line["client"].as_str().unwrap_or("").to_owned(),
            )
        })
        .collect();
    let has = |event: &str, client: &str| events.iter().any(|(e, c)| e == event && c == client);
    assert!(has("configuration_loaded", ""), "{events:?}");
    assert!(has("sign_in", "127.0.0.1"), "{events:?}");
    assert!(has("sign_in_refused", "127.0.0.9"), "{events:?}");
    assert!(has("signed_out", "127.0.0.1"), "{events:?}");
}

#[tokio::test]
async fn metrics_count_and_name_nobody() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let before = gateway.metric("vestibule_requests_total", &[]).await;
    let alice = gateway.signed_in("alice").await;
    for i in 0..5 {
        assert_eq!(alice.get(&format!("/private-page-{i}")).await.status, 200);
    }
    let after = gateway.metric("vestibule_requests_total", &[]).await;
    assert_eq!(after - before, 6.0, "five pages and a sign-in");
    let (status, text) = gateway.admin("/metrics").await;
    assert_eq!(status, 200);
    let mut samples = 0;
    for line in text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        assert!(line.starts_with("vestibule_"), "{line}");
        samples += 1;
    }
    assert!(samples > 10);
    for private in ["alice", "private-page", "127.0.0.1", &alice.session()] {
        assert!(!text.contains(private), "{private} is in the metrics");
    }
}
