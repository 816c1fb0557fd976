//! WebSockets: what opens a tunnel, what passes, and what ends it (attacks W).

use super::*;

const HANDSHAKE: [(&str, &str); 4] = [
    ("Connection", "keep-alive, Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// A gateway in miniature: hyper's server in front of the bench, on an in-memory connection.
fn serve(bench: Bench, session_end: Option<SessionEnd>) -> (tokio::io::DuplexStream, TaskTracker) {
    let (client, server) = tokio::io::duplex(1 << 16);
    let tunnels = bench.tunnels.clone();
    let bench = Arc::new(bench);
    let session_end = Arc::new(Mutex::new(session_end));
    tokio::spawn(async move {
        let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| {
            let bench = Arc::clone(&bench);
            let session_end = session_end.lock().unwrap().take();
            async move {
                bench
                    .send_as(true, request.map(Body::stream), session_end)
                    .await
            }
        });
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(hyper_util::rt::TokioIo::new(server), service)
            .with_upgrades()
            .await;
    });
    (client, tunnels)
}

fn handshake(extra: &str) -> String {
    let lines: String = HANDSHAKE
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!("GET /ws HTTP/1.1\r\nHost: app.example.com\r\n{lines}{extra}\r\n")
}

/// Agrees, then sends back every byte.
async fn echo() -> Recorder {
    Recorder::start(|_, mut conn| async move {
        conn.head().await;
        conn.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nX-Mine: 1\r\n\r\n",
        )
        .await;
        while conn.read().await > 0 {
            let bytes = std::mem::take(&mut conn.buffer);
            if conn.stream.write_all(&bytes).await.is_err() {
                return;
            }
        }
    })
    .await
}

async fn read_head(client: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn a_websocket_is_relayed_both_ways_and_ends_with_its_client() {
    let upstream = echo().await;
    let (mut client, tunnels) = serve(Bench::new(vec![upstream.endpoint()]), None);
    client
        .write_all(handshake("X-Forwarded-User: evil\r\n").as_bytes())
        .await
        .unwrap();
    let head = read_head(&mut client).await.to_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(head.contains("upgrade: websocket\r\n"), "{head}");
    assert!(head.contains("connection: upgrade\r\n"), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pp"), "{head}");
    assert!(head.contains("x-mine: 1\r\n"), "{head}");
    assert_eq!(upstream.last("x-forwarded-user"), ["alice"]);
    assert_eq!(upstream.last("upgrade"), ["websocket"]);
    assert_eq!(upstream.last("connection"), ["upgrade"]);

    client.write_all(b"\x81\x02hi").await.unwrap();
    let mut echoed = [0; 4];
    client.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"\x81\x02hi");
    assert_eq!(tunnels.len(), 1);
    drop(client);
    tunnels.close();
    tunnels.wait().await;
}

#[tokio::test]
async fn w05_a_tunnel_ends_with_its_session() {
    let upstream = echo().await;
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let session_end: SessionEnd = Box::pin(async move { ended.await.unwrap_or(()) });
    let (mut client, tunnels) = serve(Bench::new(vec![upstream.endpoint()]), Some(session_end));
    client.write_all(handshake("").as_bytes()).await.unwrap();
    read_head(&mut client).await;
    end.send(()).unwrap();
    assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
    tunnels.close();
    tunnels.wait().await;
}

#[tokio::test]
async fn w03_bytes_behind_a_refused_handshake_are_neither_sent_raw_nor_read_as_a_request() {
    let upstream = Recorder::start(|_, mut conn| async move {
        while conn.head().await.is_some() {
            conn.write(b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno")
                .await;
        }
        assert!(conn.buffer.is_empty());
    })
    .await;
    let (mut client, _) = serve(Bench::new(vec![upstream.endpoint()]), None);
    let pipelined = format!(
        "{}GET /admin HTTP/1.1\r\nHost: app.example.com\r\n\r\n",
        handshake("")
    );
    client.write_all(pipelined.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    let answer = answer.to_lowercase();
    assert!(answer.starts_with("http/1.1 426 "), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!(answer.matches("http/1.1").count(), 1, "{answer}");
    assert_eq!(upstream.heads().len(), 1);
}

#[tokio::test]
async fn w04_other_protocols_are_not_negotiated() {
    let upstream = Recorder::ok().await;
    let (mut client, _) = serve(Bench::new(vec![upstream.endpoint()]), None);
    client
        .write_all(
            b"GET / HTTP/1.1\r\nHost: app.example.com\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
              HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        )
        .await
        .unwrap();
    assert!(read_head(&mut client).await.starts_with("HTTP/1.1 200 "));
    for name in ["connection", "upgrade", "http2-settings"] {
        assert!(upstream.last(name).is_empty(), "{name}");
    }
}

#[tokio::test]
async fn an_upstream_that_switches_to_something_else_is_refused() {
    let upstream = Recorder::start(|_, mut conn| async move {
        conn.head().await;
        conn.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        )
        .await;
        while conn.read().await > 0 {}
    })
    .await;
    let (mut client, tunnels) = serve(Bench::new(vec![upstream.endpoint()]), None);
    client.write_all(handshake("").as_bytes()).await.unwrap();
    // The miniature has no error page: it closes.
    assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
    assert!(tunnels.is_empty());
}
