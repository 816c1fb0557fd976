//! Serving, hand-off, panics, drain.

use std::collections::BTreeMap;

use http::Request;
use http_body_util::BodyExt as _;
use tokio::io::AsyncWriteExt as _;

use super::*;
use crate::server::ServerError;

#[tokio::test]
async fn http1_and_http2_are_served_by_alpn() {
    let mut server = Server::start(Limits::default()).await;
    let mut stream = server.connect().await;
    for _ in 0..2 {
        stream
            .write_all(b"GET /a?b=%2f HTTP/1.1\r\nHost: LOCALHOST:8443\r\n\r\n")
            .await
            .unwrap();
        let answer = read_until(&mut stream, "hello").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let seen = server.seen.recv().await.unwrap();
        assert_eq!(
            (seen.uri.as_str(), seen.target.as_str()),
            ("/a?b=%2f", "/a?b=%2f")
        );
        assert_eq!(&*seen.authority.host, "localhost");
        assert_eq!(seen.authority.port, Some(8443));
    }
    let mut http2 = server.http2().await;
    let request = Request::get("https://localhost/x?y")
        .body(Body::empty())
        .unwrap();
    let response = within(http2.send_request(request)).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "hello"
    );
    let seen = server.seen.recv().await.unwrap();
    assert_eq!(seen.target, "/x?y");
    assert_eq!(&*seen.authority.host, "localhost");
    assert_eq!(server.stop().await, Drained { cut: 0 });
}

#[tokio::test]
async fn a_panic_costs_one_request() {
    let server = Server::start(Limits::default()).await;
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET /panic HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let answer = read_until(&mut stream, "hello").await;
    assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
}

#[tokio::test]
async fn an_address_in_use_is_named_with_its_key() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    for (listen, redirect_http, key) in [
        (address, None, "[server] listen"),
        (any, Some(address), "[server] redirect_http"),
    ] {
        let error = bind(&Settings {
            listen: vec![listen],
            redirect_http,
            origin: String::new(),
            origins: BTreeMap::new(),
            limits: Limits::default(),
            workers: 1,
        })
        .await
        .unwrap_err();
        assert!(
            matches!(&error, ServerError::Listen(at) if at.address == address && at.key == key)
        );
        let words = error.to_string();
        let begin = format!("cannot listen on {address} (`{key}`): the address is in use");
        assert!(words.starts_with(&begin), "{words}");
    }
}

#[tokio::test]
async fn shutdown_closes_idle_connections_and_lets_requests_finish() {
    let mut server = Server::start(Limits::default()).await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    read_until(&mut idle, "hello").await;
    let mut http2 = server.http2().await;
    let request = Request::get("https://localhost/")
        .body(Body::empty())
        .unwrap();
    within(http2.send_request(request)).await.unwrap();
    let mut busy = server.connect().await;
    busy.write_all(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhe")
        .await
        .unwrap();
    for _ in 0..3 {
        server.seen.recv().await.unwrap();
    }
    server.begin_shutdown();
    assert_eq!(read_to_close(&mut idle).await, "");
    busy.write_all(b"llo").await.unwrap();
    let answer = read_to_close(&mut busy).await;
    assert!(
        answer.ends_with("hello") && answer.contains("connection: close"),
        "{answer}"
    );
    assert_eq!(server.stop().await, Drained { cut: 0 });
}

#[tokio::test]
async fn what_outlives_the_grace_is_cut() {
    let limits = Limits {
        // What has ended already must be seen to have within it.
        shutdown_grace: std::time::Duration::from_secs(2),
        ..Limits::default()
    };
    let mut server = Server::start(limits).await;
    let mut hanging = server.connect().await;
    hanging
        .write_all(b"GET /hang HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    server.seen.recv().await.unwrap();
    let mut tunnel = server.connect().await;
    tunnel
        .write_all(b"GET /upgrade HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        .await
        .unwrap();
    read_until(&mut tunnel, "\r\n\r\n").await;
    // Connections are counted, whatever each of them carries.
    let mut http2 = server.http2().await;
    let streams: Vec<_> = (0..3)
        .map(|_| {
            let ask = Request::get("https://localhost/hang").body(Body::empty());
            tokio::spawn(http2.send_request(ask.unwrap()))
        })
        .collect();
    // The tunnel's request and the streams'.
    for _ in 0..4 {
        within(server.seen.recv()).await.unwrap();
    }
    assert_eq!(server.stop().await, Drained { cut: 3 });
    for stream in streams {
        assert!(within(stream).await.unwrap().is_err());
    }
    assert_eq!(read_to_close(&mut tunnel).await, "");
}

#[tokio::test]
async fn a_client_that_expects_it_is_told_to_continue() {
    let server = Server::start(Limits::default()).await;
    let mut stream = server.connect().await;
    stream
        .write_all(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        .await
        .unwrap();
    assert!(
        read_until(&mut stream, "\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 100")
    );
    stream.write_all(b"hello").await.unwrap();
    let answer = read_until(&mut stream, "hello").await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && !answer.contains("close"),
        "{answer}"
    );
}

#[tokio::test]
async fn an_ipv6_and_an_ipv4_listener_share_a_port() {
    let port = std::net::TcpListener::bind("0.0.0.0:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let bound = bind(&Settings {
        listen: vec![
            SocketAddr::new("::".parse().unwrap(), port),
            SocketAddr::new("0.0.0.0".parse().unwrap(), port),
        ],
        redirect_http: None,
        origin: String::new(),
        origins: BTreeMap::new(),
        limits: Limits::default(),
        workers: 1,
    })
    .await
    .unwrap();
    assert_eq!(bound.local_addrs().len(), 2);
    assert_eq!(bound.redirect_addr(), None);
}

#[tokio::test]
async fn a_large_answer_and_a_large_body_arrive_whole() {
    let server = Server::start(Limits::default()).await;
    let body = vec![b'x'; 3 << 20];
    let mut stream = server.connect().await;
    let head = format!(
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
    let answer = read_to_close(&mut stream).await;
    assert!(answer.split_once("\r\n\r\n").unwrap().1.as_bytes() == body);
    let mut http2 = server.http2().await;
    let request = Request::post("https://localhost/echo")
        .body(Body::from(body.clone()))
        .unwrap();
    let response = within(http2.send_request(request)).await.unwrap();
    assert!(
        within(response.into_body().collect())
            .await
            .unwrap()
            .to_bytes()
            == body
    );
    let request = Request::get("https://localhost/big")
        .body(Body::empty())
        .unwrap();
    let response = within(http2.send_request(request)).await.unwrap();
    assert_eq!(
        within(response.into_body().collect())
            .await
            .unwrap()
            .to_bytes()
            .len(),
        64 << 20
    );
}
