//! Peers that stop: every one of them is let go in time, and a healthy one is served meanwhile.

use futures_util::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use super::*;

/// The limit that a test is about.
const SHORT: Duration = Duration::from_millis(300);
/// The same where what is healthy must happen within it, too.
const LONGER: Duration = Duration::from_secs(2);

/// No limit that ends anything while a test waits: each test shortens the one that it is about, so that nothing else can
/// have ended the connection.
fn patient() -> Limits {
    let never = PATIENCE * 10;
    Limits {
        handshake_timeout: never,
        header_timeout: never,
        body_idle_timeout: never,
        idle_timeout: never,
        ..Limits::default()
    }
}

/// The connection, which stalls since `begin` at the earliest, ends (closed or reset), and not at once.
async fn ends(begin: Instant, stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let text = read_to_close(stream).await;
    let took = begin.elapsed();
    assert!(took > Duration::from_millis(200), "ended after {took:?}");
    text
}

#[tokio::test]
async fn a_silent_tcp_connection_ends() {
    let server = Server::start(Limits {
        handshake_timeout: SHORT,
        ..patient()
    })
    .await;
    let begin = Instant::now();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(ends(begin, &mut stream).await, "");
}

#[tokio::test]
async fn half_a_client_hello_ends() {
    let server = Server::start(Limits {
        handshake_timeout: SHORT,
        ..patient()
    })
    .await;
    let begin = Instant::now();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream
        .write_all(b"\x16\x03\x01\x02\x00\x01\x00")
        .await
        .unwrap();
    assert_eq!(ends(begin, &mut stream).await, "");
}

#[tokio::test]
async fn tls_without_a_request_ends() {
    let server = Server::start(Limits {
        header_timeout: SHORT,
        ..patient()
    })
    .await;
    let one_began = Instant::now();
    let mut http1 = server.connect().await;
    let two_began = Instant::now();
    let mut http2 = server.connect_as("h2", "localhost").await;
    let (one, _) = tokio::join!(ends(one_began, &mut http1), ends(two_began, &mut http2));
    assert_eq!(one, "");
}

#[tokio::test]
async fn a_head_that_drips_is_answered_408() {
    let server = Server::start(Limits {
        // The first byte must come within it.
        header_timeout: LONGER,
        ..patient()
    })
    .await;
    let begin = Instant::now();
    let (mut read, mut write) = tokio::io::split(server.connect().await);
    let drip = async {
        // One byte well within any silence limit: only the limit on the whole head can end this.
        for byte in b"GET / HTTP/1.1\r\nHost: localhost\r\n".iter().cycle() {
            if write.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let answer = tokio::select! {
        answer = ends(begin, &mut read) => answer,
        () = drip => panic!("the server never answered"),
    };
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test]
async fn a_stalled_http1_body_ends() {
    let server = Server::start(Limits {
        body_idle_timeout: SHORT,
        ..patient()
    })
    .await;
    let mut stream = server.connect().await;
    let begin = Instant::now();
    stream
        .write_all(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhello")
        .await
        .unwrap();
    let answer = ends(begin, &mut stream).await;
    assert!(answer.contains("the request body stalled"), "{answer}");
}

#[tokio::test]
async fn a_stalled_http2_body_ends() {
    let server = Server::start(Limits {
        body_idle_timeout: SHORT,
        ..patient()
    })
    .await;
    let mut http2 = server.http2().await;
    let hello = Ok::<_, std::convert::Infallible>(http_body::Frame::data("hello".into()));
    let stalled = futures_util::stream::iter([hello]).chain(futures_util::stream::pending());
    let request = Request::post("https://localhost/echo")
        .body(Body::stream(http_body_util::StreamBody::new(stalled)))
        .unwrap();
    let response = within(http2.send_request(request)).await.unwrap();
    let text = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(text, "the request body stalled");
}

#[tokio::test]
async fn an_idle_connection_ends_after_its_last_answer() {
    let server = Server::start(Limits {
        idle_timeout: SHORT,
        ..patient()
    })
    .await;
    let mut http1 = server.connect().await;
    let begin = Instant::now();
    http1
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    read_until(&mut http1, "hello").await;
    assert_eq!(ends(begin, &mut http1).await, "");
}

#[tokio::test]
async fn a_client_whose_request_came_with_its_handshake_is_idle_like_any_other() {
    let server = Server::start(Limits {
        idle_timeout: SHORT,
        ..patient()
    })
    .await;
    let begin = Instant::now();
    let tcp = TcpStream::connect(server.address).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut http1 = server
        .tls_and(tcp, "http/1.1", "localhost", request)
        .await
        .unwrap();
    read_until(&mut http1, "hello").await;
    assert_eq!(ends(begin, &mut http1).await, "");
}

/// HTTP/2 by hand: preface and empty SETTINGS.
const OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[tokio::test]
async fn an_idle_http2_connection_ends_with_goaway() {
    let server = Server::start(Limits {
        // The handshake counts.
        idle_timeout: LONGER,
        ..patient()
    })
    .await;
    let mut stream = server.connect_as("h2", "localhost").await;
    stream.write_all(OPENING).await.unwrap();
    let mut bytes = Vec::new();
    let _ = within(stream.read_to_end(&mut bytes)).await;
    const GOAWAY: &[u8] = b"\0\0\x08\x07\0\0\0\0\0";
    assert!(
        bytes.windows(GOAWAY.len()).any(|frame| frame == GOAWAY),
        "{bytes:?}"
    );
}

#[tokio::test]
async fn a_header_block_without_end_ends() {
    let server = Server::start(Limits {
        header_timeout: SHORT,
        ..patient()
    })
    .await;
    // :method GET, no END_HEADERS; and a HEADERS frame whose payload never comes.
    for tail in [
        &b"\0\0\x01\x01\x01\0\0\0\x01\x82"[..],
        b"\0\0\x40\x01\x05\0\0\0\x01",
    ] {
        let begin = Instant::now();
        let tcp = TcpStream::connect(server.address).await.unwrap();
        let both = [OPENING, tail].concat();
        // Together with the handshake, so that they come in time.
        let mut stream = server.tls_and(tcp, "h2", "localhost", &both).await.unwrap();
        ends(begin, &mut stream).await;
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_let_go() {
    let server = Server::start(Limits {
        body_idle_timeout: SHORT,
        ..patient()
    })
    .await;
    // HTTP/1: the socket fills up.
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    // HTTP/2: the socket is read, the stream's window is never opened.
    let mut http2 = server.http2().await;
    let request = Request::get("https://localhost/big")
        .body(Body::empty())
        .unwrap();
    let begin = Instant::now();
    let mut body = within(http2.send_request(request))
        .await
        .unwrap()
        .into_body();
    // Nothing is cut by the end of the grace: both have ended before.
    assert_eq!(server.stop().await, Drained { cut: 0 });
    assert!(begin.elapsed() > Duration::from_millis(200));
    let ended = async {
        while let Some(frame) = body.frame().await {
            frame?;
        }
        Ok::<_, hyper::Error>(())
    };
    assert!(
        within(ended).await.is_err(),
        "the stream should have been reset"
    );
    let mut bytes = Vec::new();
    let _ = within(stream.read_to_end(&mut bytes)).await;
    assert!(bytes.len() < 64 << 20);
}

#[tokio::test]
async fn stalled_connections_do_not_stop_a_healthy_one() {
    let server = Server::start(patient()).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    let answer = server
        .exchange(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await;
    assert!(answer.contains("hello"));
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_one_to_end() {
    let server = Server::start(Limits {
        connections: 1,
        // Ends the first one, and is nothing that the second one could meet.
        body_idle_timeout: SHORT,
        ..patient()
    })
    .await;
    let mut first = server.connect().await;
    let begin = Instant::now();
    first
        .write_all(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhello")
        .await
        .unwrap();
    let answer = server
        .exchange(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await;
    assert!(answer.contains("hello"));
    assert!(begin.elapsed() > Duration::from_millis(200));
}
