//! What reaches the handler over HTTP/1 and what is refused, as raw bytes.

use tokio::io::AsyncWriteExt as _;

use super::*;

const SECOND: &str = "GET /second HTTP/1.1\r\nHost: localhost\r\n\r\n";

async fn refused(server: &mut Server, bytes: &[u8], status: u16) {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
    let mut both = bytes.to_vec();
    both.extend_from_slice(SECOND.as_bytes());
    let answer = server.exchange(&both).await;
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status} ")),
        "{shown:?}: {answer}"
    );
    assert!(answer.contains("application/problem+json") && answer.contains("connection: close"));
    assert_eq!(
        answer.matches("HTTP/1.1 ").count(),
        1,
        "{shown:?}: {answer}"
    );
    assert!(
        server.seen.try_recv().is_err(),
        "{shown:?} reached the handler"
    );
}

#[tokio::test]
async fn malformed_requests_are_refused_and_nothing_after_them_is_read() {
    let mut server = Server::start(Limits::default()).await;
    for (rest, status) in [
        ("Host: localhost\nX: y", 400),
        ("Host: localhost\r\nX : y", 400),
        ("Host: localhost\r\n X: y", 400),
        ("Host: localhost\r\nX: a\0b", 400),
        ("Host: localhost\r\nX: \u{e9}", 400),
        ("Host: localhost\r\nX: a\rb", 400),
        ("Host: localhost\r\nHost: localhost", 400),
        ("Host: a, b", 400),
        ("Host: user@localhost", 400),
        ("Host: localhost/x", 400),
        ("Host: ", 400),
        ("X: y", 400),
        (
            "Host: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
            400,
        ),
        ("Host: localhost\r\nContent-Length: +5", 400),
        (
            "Host: localhost\r\nContent-Length: 5\r\nContent-Length: 5",
            400,
        ),
        ("Host: localhost\r\nTransfer-Encoding: gzip, chunked", 400),
        ("Host: localhost\r\nTransfer-Encoding:\x0bchunked", 400),
    ] {
        let text = format!("GET /first HTTP/1.1\r\n{rest}\r\n\r\n");
        refused(&mut server, text.as_bytes(), status).await;
    }
    for (line, status) in [
        ("GET /#x HTTP/1.1", 400),
        ("GET https://evil/ HTTP/1.1", 400),
        ("GET * HTTP/1.1", 400),
        ("OPTIONS * HTTP/1.1", 501),
        ("TRACE / HTTP/1.1", 501),
        ("CONNECT localhost:443 HTTP/1.1", 501),
        ("GET / HTTP/2.0", 505),
        ("PRI * HTTP/2.0", 505),
        ("GET / HTTP/1.2", 505),
    ] {
        let text = format!("{line}\r\nHost: localhost\r\n\r\n");
        refused(&mut server, text.as_bytes(), status).await;
    }
    let head = |line: &str, fields: &str| {
        format!("GET {line} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").into_bytes()
    };
    refused(&mut server, &head("/", &"X: y\r\n".repeat(200)), 431).await;
    refused(
        &mut server,
        &head("/", &format!("X: {}\r\n", "y".repeat(64 << 10))),
        431,
    )
    .await;
    refused(
        &mut server,
        &head(&format!("/{}", "a".repeat(16 << 10)), ""),
        414,
    )
    .await;
    for chunk in ["5 ", "0x5", "+5", "5;bad[=x", "5;", "fffffffffffffffff"] {
        let text = format!(
            "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}\r\nhello\r\n0\r\n\r\n"
        );
        refused(&mut server, text.as_bytes(), 400).await;
    }
}

#[tokio::test]
async fn well_formed_requests_pass_in_any_slicing() {
    let mut server = Server::start(Limits::default()).await;
    let text = "POST /echo?1 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n\
                POST /echo?2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nworld\
                GET /echo?3 HTTP/1.1\r\nHost: localhost\r\n\r\n\
                GET https://LOCALHOST:443/x?4 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    for step in [1, 7, 64, text.len()] {
        let mut stream = server.connect().await;
        for piece in text.as_bytes().chunks(step) {
            stream.write_all(piece).await.unwrap();
            stream.flush().await.unwrap();
        }
        let answer = read_to_close(&mut stream).await;
        assert_eq!(
            answer.matches("HTTP/1.1 200").count(),
            4,
            "{step}: {answer}"
        );
        assert!(answer.contains("\r\n\r\nhello") && answer.contains("\r\n\r\nworld"));
        for want in ["/echo?1", "/echo?2", "/echo?3", "/x?4"] {
            let seen = server.seen.recv().await.unwrap();
            assert_eq!((seen.uri.as_str(), seen.target.as_str()), (want, want));
        }
    }
}

#[tokio::test]
async fn a_refusal_waits_for_the_answers_before_it() {
    let mut server = Server::start(Limits::default()).await;
    let answer = server
        .exchange(
            b"GET /1 HTTP/1.1\r\nHost: localhost\r\n\r\nGET /2 HTTP/1.1\r\nHost: a, b\r\n\r\n",
        )
        .await;
    let (first, second) = answer.split_once("hello").unwrap();
    assert!(
        first.starts_with("HTTP/1.1 200") && second.starts_with("HTTP/1.1 400"),
        "{answer}"
    );
    assert_eq!(server.seen.recv().await.unwrap().target, "/1");
    assert!(server.seen.try_recv().is_err());
}

#[tokio::test]
async fn the_rest_of_an_unread_body_is_never_a_request() {
    let mut server = Server::start(Limits::default()).await;
    let mut text =
        b"POST /ignore HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048576\r\n\r\n".to_vec();
    let body = SECOND.repeat((1 << 20) / SECOND.len() + 1);
    text.extend_from_slice(&body.as_bytes()[..1 << 20]);
    text.extend_from_slice(SECOND.as_bytes());
    let answer = server.exchange(&text).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"),
        "{answer}"
    );
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1);
    assert_eq!(server.seen.recv().await.unwrap().target, "/ignore");
    assert!(server.seen.try_recv().is_err());
}

#[tokio::test]
async fn a_declared_body_of_a_get_is_consumed_exactly() {
    let mut server = Server::start(Limits::default()).await;
    let answer = server
        .exchange(
            b"GET /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nGET GET /second HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        )
        .await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 2, "{answer}");
    assert_eq!(server.seen.recv().await.unwrap().target, "/echo");
    assert_eq!(server.seen.recv().await.unwrap().target, "/second");
}

#[tokio::test]
async fn a_chunk_that_breaks_later_breaks_the_body_and_the_connection() {
    let mut server = Server::start(Limits::default()).await;
    let mut stream = server.connect().await;
    stream
        .write_all(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        .await
        .unwrap();
    assert_eq!(server.seen.recv().await.unwrap().target, "/echo");
    stream.write_all(b"5 \r\nhello\r\n0\r\n\r\n").await.unwrap();
    stream.write_all(SECOND.as_bytes()).await.unwrap();
    let answer = read_to_close(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1);
    assert!(server.seen.try_recv().is_err());
}

#[tokio::test]
async fn bytes_behind_an_upgrade_are_a_tunnel_or_nothing() {
    let mut server = Server::start(Limits::default()).await;
    let upgrade = |path: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n{SECOND}"
        )
    };
    let answer = server.exchange(upgrade("/plain").as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"),
        "{answer}"
    );
    assert_eq!(server.seen.recv().await.unwrap().target, "/plain");

    let mut stream = server.connect().await;
    stream
        .write_all(upgrade("/upgrade").as_bytes())
        .await
        .unwrap();
    let answer = read_until(&mut stream, "localhost\r\n\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 101") && answer.contains(SECOND),
        "{answer}"
    );
    assert_eq!(server.seen.recv().await.unwrap().target, "/upgrade");
    stream.write_all(b"\x00\x01 anything\n").await.unwrap();
    read_until(&mut stream, "anything\n").await;
    assert!(server.seen.try_recv().is_err());
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_early_or_broken_off() {
    let limits = Limits {
        body_bytes: Some(10),
        ..Limits::default()
    };
    let mut server = Server::start(limits).await;
    let text = format!(
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 11\r\n\r\n{}",
        "x".repeat(11)
    );
    refused(&mut server, text.as_bytes(), 413).await;
    let chunked = "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n0\r\n\r\n";
    let answer = server.exchange(chunked.as_bytes()).await;
    assert!(
        answer.contains("larger than this server accepts"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_host_of_another_certificate_is_misdirected() {
    let dir = tempfile::tempdir().unwrap();
    let files = |name: &str| {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let cert = rcgen::CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let files = tls::CertificateFiles {
            cert: dir.path().join(format!("{name}.pem")),
            key: dir.path().join(format!("{name}.key")),
        };
        std::fs::write(&files.cert, cert.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    };
    let (a, b) = (files("a.example"), files("b.example"));
    let root = CertificateDer::from_pem_file(&a.cert).unwrap();
    let tls = tls::load(&tls::Settings::Files(vec![a, b]), None).unwrap();
    let server = Server::start_with(Limits::default(), tls, root).await;
    let mut stream = server.connect_as("http/1.1", "a.example").await;
    let text = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
    stream.write_all(&text("a.example")).await.unwrap();
    read_until(&mut stream, "hello").await;
    stream.write_all(&text("b.example")).await.unwrap();
    let answer = read_to_close(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
}

#[tokio::test]
async fn http2_requests_are_held_to_the_same_rules() {
    let mut server = Server::start(Limits::default()).await;
    let mut http2 = server.http2().await;
    let mut status = async |name: &str, value: &[u8]| {
        let request = Request::get("https://localhost/x")
            .header(name, value)
            .body(Body::empty());
        within(http2.send_request(request.unwrap()))
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!(status("host", b"other").await, 400);
    assert_eq!(status("x", b"\xff").await, 400);
    assert!(server.seen.try_recv().is_err());
    assert_eq!(status("host", b"localhost").await, 200);
    server.seen.recv().await.unwrap();
    let request = Request::post("https://localhost/")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(Body::empty())
        .unwrap();
    within(http2.send_request(request)).await.unwrap();
    let seen = server.seen.recv().await.unwrap();
    assert_eq!(
        (seen.method.as_str(), seen.cookies),
        ("POST", vec!["a=1; b=2".to_owned()])
    );
}

#[tokio::test]
async fn plain_http_is_redirected_to_the_configured_origin() {
    let server = Server::start(Limits::default()).await;
    let mut stream = TcpStream::connect(server.redirect).await.unwrap();
    stream
        .write_all(b"GET /a?b HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        .await
        .unwrap();
    let answer = read_to_close(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
    assert!(
        answer.contains("\r\nLocation: https://app.example.com/a?b\r\n"),
        "{answer}"
    );
    assert!(!answer.contains("evil"));
}
