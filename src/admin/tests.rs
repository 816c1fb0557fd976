//! The listener over a real socket.

use std::sync::Mutex;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

#[derive(Default)]
struct Problems(Mutex<Vec<String>>);

impl Readiness for Problems {
    fn problems(&self) -> Pin<Box<dyn Future<Output = Vec<String>> + Send + '_>> {
        let problems = self.0.lock().unwrap().clone();
        Box::pin(async move { problems })
    }
}

struct Stuck;

impl Readiness for Stuck {
    fn problems(&self) -> Pin<Box<dyn Future<Output = Vec<String>> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}

fn settings(listen: SocketAddr) -> Settings {
    Settings {
        listen,
        access: Access::Nobody,
    }
}

/// The API on an empty store.
async fn api(folder: &std::path::Path) -> Arc<Api> {
    let settings = crate::session::Settings {
        origin: "https://app.example.com".to_owned(),
        access_ttl: Duration::from_secs(300),
        absolute_ttl: Duration::from_secs(86_400),
        windows: crate::auth::rotation::Windows {
            redelivery: Duration::from_secs(30),
            replay_grace: Duration::from_secs(30),
            idle_ttl: Duration::from_secs(3600),
        },
        cache_entries: 100,
    };
    let operator = crate::control::Operator::offline(
        &crate::store::Kind::Embedded,
        folder,
        &crate::units::Secret::new([1; 32]),
        &[],
        settings,
        crate::clock::Clock::System,
    )
    .await
    .unwrap();
    Arc::new(Api::new(operator, Access::Nobody))
}

async fn start(limits: Limits, readiness: Arc<dyn Readiness>) -> (SocketAddr, CancellationToken) {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = bind(&settings(listen)).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let api = api(folder.path()).await;
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let state = State {
        metrics: Arc::new(Metrics::default()),
        readiness,
        api,
    };
    tokio::spawn(serve_within(limits, listener, state, shutdown.clone()));
    (address, shutdown)
}

async fn ask(address: SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

#[tokio::test]
async fn live_ready_and_metrics_answer_and_nothing_else_does() {
    let problems = Arc::new(Problems::default());
    let (address, _shutdown) = start(LIMITS, problems.clone()).await;
    assert!(
        ask(address, &get("/live"))
            .await
            .starts_with("HTTP/1.1 200 ")
    );
    let metrics = ask(address, &get("/metrics")).await;
    assert!(
        metrics.contains("application/openmetrics-text"),
        "{metrics}"
    );
    assert!(metrics.ends_with("# EOF\n"));

    let ready = ask(address, &get("/ready")).await;
    assert!(ready.starts_with("HTTP/1.1 200 "), "{ready}");
    problems.0.lock().unwrap().push("draining".to_owned());
    let ready = ask(address, &get("/ready")).await;
    assert!(ready.starts_with("HTTP/1.1 503 "), "{ready}");
    assert!(ready.contains("\"problems\":[\"draining\"]"), "{ready}");

    let unknown = ask(address, &get("/debug")).await;
    assert!(unknown.starts_with("HTTP/1.1 404 "), "{unknown}");
    assert!(unknown.contains("application/problem+json"), "{unknown}");
    let post = get("/live").replace("GET", "POST");
    let refused = ask(address, &post).await;
    assert!(refused.starts_with("HTTP/1.1 405 "), "{refused}");
}

#[tokio::test]
async fn a_rebound_name_gets_nothing() {
    let (address, _shutdown) = start(LIMITS, Arc::new(Problems::default())).await;
    let answer = ask(
        address,
        &get("/metrics").replace("localhost", "evil.example"),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
    assert!(!answer.contains("vestibule_"), "{answer}");
}

#[tokio::test]
async fn a_head_that_never_ends_and_a_check_that_never_ends_both_end() {
    let short = Duration::from_millis(50);
    let check = Limits {
        readiness: short,
        ..LIMITS
    };
    let (address, _shutdown) = start(check, Arc::new(Stuck)).await;
    let ready = ask(address, &get("/ready")).await;
    assert!(ready.starts_with("HTTP/1.1 503 "), "{ready}");

    let head = Limits {
        head: short,
        ..LIMITS
    };
    let (address, _shutdown) = start(head, Arc::new(Problems::default())).await;
    // The listener closes these connections; were it not to, reading would never end.
    ask(address, "GET /live HTTP/1.1\r\nHost: local").await;
    ask(address, "").await;
}

#[tokio::test]
async fn a_connection_has_a_lifetime_and_makes_room_for_the_next() {
    let narrow = Limits {
        connections: 1,
        // The second one's exchange is within it.
        lifetime: Duration::from_secs(2),
        ..LIMITS
    };
    let (address, _shutdown) = start(narrow, Arc::new(Problems::default())).await;
    let _idle = TcpStream::connect(address).await.unwrap();
    let live = ask(address, &get("/live")).await;
    assert!(live.starts_with("HTTP/1.1 200 "), "{live}");
}

#[tokio::test]
async fn shutdown_ends_it_even_with_an_idle_connection() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(SocketAddr::from(([127, 0, 0, 1], 0)));
    let listener = bind(&settings).await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let state = State {
        metrics: Arc::new(Metrics::default()),
        readiness: Arc::new(Problems::default()),
        api: api(folder.path()).await,
    };
    let served = tokio::spawn(serve(listener, state, shutdown.clone()));
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut byte = [0; 1];
    idle.read_exact(&mut byte).await.unwrap();
    shutdown.cancel();
    served.await.unwrap();
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = taken.local_addr().unwrap();
    let error = bind(&settings(listen)).await.unwrap_err().to_string();
    assert!(error.contains(&listen.to_string()), "{error}");
    assert!(error.contains("[admin] listen"), "{error}");
    assert!(
        error.contains("the address is in use; stop the other program"),
        "{error}"
    );
    assert!(!error.contains("os error"), "{error}");
}

#[test]
fn the_description_lists_every_operation_and_no_other() {
    let document: serde_json::Value = serde_json::from_str(super::api::OPENAPI).unwrap();
    let mut described: Vec<String> = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            described.push(format!("{} {path}", method.to_uppercase()));
        }
    }
    let mut there: Vec<String> = super::api::OPERATIONS
        .iter()
        .map(|(method, path, _)| format!("{method} {path}"))
        .collect();
    there
        .extend(["/live", "/ready", "/metrics", "/openapi.json"].map(|path| format!("GET {path}")));
    described.sort();
    there.sort();
    assert_eq!(described, there);
}

#[tokio::test]
async fn the_api_is_closed_where_other_machines_reach_it_without_a_token() {
    let (address, _shutdown) = start(LIMITS, Arc::<Problems>::default()).await;
    let answer = ask(address, &get("/api/v1/sessions")).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(answer.contains("token_file"), "{answer}");
    let answer = ask(address, &get("/openapi.json")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}
