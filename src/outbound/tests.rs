use std::error::Error as _;
use std::net::SocketAddr;

use rcgen::{CertificateParams, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

const LIMITS: Limits = Limits {
    time: Duration::from_secs(5),
    bytes: 1000,
};

/// Answers one connection with these bytes once a whole request without a body is there, and tells what it was.
async fn answer_once(listener: TcpListener, answer: Vec<u8>) -> String {
    let (stream, _) = listener.accept().await.unwrap();
    exchange(stream, answer).await
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: Vec<u8>) -> String {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") && !seen.ends_with(b"THE END") {
        let mut piece = [0; 1024];
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => break,
            Ok(count) => seen.extend_from_slice(&piece[..count]),
        }
    }
    let _ = stream.write_all(&answer).await;
    let _ = stream.shutdown().await;
    String::from_utf8(seen).unwrap()
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn get(url: &str) -> Request<Bytes> {
    Request::get(url).body(Bytes::new()).unwrap()
}

fn outbound() -> Outbound {
    Outbound::new(Settings::default()).unwrap()
}

/// What comes back for such an answer.
async fn answered(answer: &str) -> (Result<Response<Bytes>, OutboundError>, String) {
    let (listener, address) = listen().await;
    let served = tokio::spawn(answer_once(listener, answer.as_bytes().to_vec()));
    let url = format!("http://{address}/a?code=secret-in-query");
    let result = outbound().send(get(&url), LIMITS).await;
    (result, served.await.unwrap())
}

#[tokio::test]
async fn a_request_goes_out_in_origin_form_and_the_answer_comes_back_whole() {
    let (answer, seen) = answered("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-a: b\r\n\r\nhi").await;
    let answer = answer.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["x-a"], "b");
    assert_eq!(answer.body().as_ref(), b"hi");
    assert!(
        seen.starts_with("GET /a?code=secret-in-query HTTP/1.1\r\n"),
        "{seen}"
    );
    assert!(seen.contains("\r\nhost: 127.0.0.1:"), "{seen}");
    assert!(seen.contains("\r\nconnection: close\r\n"), "{seen}");
}

#[tokio::test]
async fn a_body_is_sent_with_its_length() {
    let (listener, address) = listen().await;
    let served = tokio::spawn(answer_once(
        listener,
        b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
    ));
    let request = Request::post(format!("http://{address}/token"))
        .header("content-type", "application/x-www-form-urlencoded")
        .header("content-length", "1")
        .body(Bytes::from_static(b"a=b&THE END"))
        .unwrap();
    assert_eq!(
        outbound().send(request, LIMITS).await.unwrap().status(),
        204
    );
    let seen = served.await.unwrap();
    assert!(seen.contains("\r\ncontent-length: 11\r\n"), "{seen}");
    assert!(!seen.contains("\r\ncontent-length: 1\r\n"), "{seen}");
    assert!(seen.ends_with("\r\n\r\na=b&THE END"), "{seen}");
}

#[tokio::test]
async fn a_post_without_a_body_says_that_there_is_none() {
    for (method, says_so) in [("POST", true), ("GET", false)] {
        let (listener, address) = listen().await;
        let served = tokio::spawn(answer_once(
            listener,
            b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        ));
        let url = format!("http://{address}/auth/refresh");
        let request = Request::builder().method(method).uri(url);
        let request = request.body(Bytes::new()).unwrap();
        let answer = outbound().send(request, LIMITS).await.unwrap();
        assert_eq!(answer.status(), 204);
        let seen = served.await.unwrap();
        assert_eq!(
            seen.contains("\r\ncontent-length: 0\r\n"),
            says_so,
            "{seen}"
        );
    }
}

// attacks.md E12
#[tokio::test]
async fn e12_a_redirect_is_an_answer_and_is_not_followed() {
    let (other, elsewhere) = listen().await;
    let (answer, _) = answered(&format!(
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://{elsewhere}/\r\ncontent-length: 0\r\n\r\n"
    ))
    .await;
    assert_eq!(answer.unwrap().status(), 307);
    let nobody = tokio::time::timeout(Duration::ZERO, other.accept()).await;
    assert!(nobody.is_err(), "somebody called the redirect's target");
}

// attacks.md E12
#[tokio::test]
async fn e12_size_is_bounded_with_and_without_a_stated_length() {
    let body = "x".repeat(1001);
    for answer in [
        format!("HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n{body}"),
        format!("HTTP/1.1 200 OK\r\n\r\n{body}"),
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3e9\r\n{body}\r\n0\r\n\r\n"),
    ] {
        let (refused, _) = answered(&answer).await;
        let refused = refused.unwrap_err();
        assert!(
            matches!(refused.cause, Cause::TooLarge { limit: 1000 }),
            "{refused:?}"
        );
        assert!(refused.may_have_arrived());
    }
    let body = "x".repeat(1000);
    let (good, _) = answered(&format!("HTTP/1.1 200 OK\r\n\r\n{body}")).await;
    assert_eq!(good.unwrap().body().len(), 1000);
    let head = "x".repeat(MAX_HEAD);
    let (refused, _) = answered(&format!("HTTP/1.1 200 OK\r\nx: {head}\r\n\r\n")).await;
    assert!(matches!(refused.unwrap_err().cause, Cause::Protocol(_)));
}

#[tokio::test]
async fn a_broken_answer_is_an_error_without_its_content() {
    for answer in [
        "",
        "secret-in-answer",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nsec",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let (refused, _) = answered(answer).await;
        let refused = refused.unwrap_err();
        assert!(matches!(refused.cause, Cause::Protocol(_)), "{answer:?}");
        assert!(refused.may_have_arrived());
        let mut text = refused.to_string();
        let mut source = refused.source();
        while let Some(inner) = source {
            text.push_str(&inner.to_string());
            source = inner.source();
        }
        assert!(!text.contains("secret"), "{text}");
        assert!(text.starts_with("127.0.0.1:"), "{text}");
    }
}

#[tokio::test]
async fn silence_ends_with_the_time() {
    let (listener, address) = listen().await;
    let held = tokio::spawn(async move { listener.accept().await });
    let limits = Limits {
        time: Duration::from_millis(50),
        ..LIMITS
    };
    let refused = outbound()
        .send(get(&format!("http://{address}/")), limits)
        .await
        .unwrap_err();
    assert!(
        matches!(refused.cause, Cause::Timeout { sent: true, .. }),
        "{refused:?}"
    );
    assert!(refused.to_string().contains("within 50ms"));
    drop(held);
}

#[tokio::test]
async fn what_cannot_be_reached_has_not_received_anything() {
    let (listener, address) = listen().await;
    drop(listener);
    let refused = outbound()
        .send(get(&format!("http://{address}/")), LIMITS)
        .await;
    let refused = refused.unwrap_err();
    assert!(matches!(refused.cause, Cause::Connect(_)), "{refused:?}");
    assert!(!refused.may_have_arrived());
    let refused = outbound()
        .send(get("http://does-not-exist.invalid/"), LIMITS)
        .await;
    let refused = refused.unwrap_err();
    assert!(matches!(refused.cause, Cause::Resolve(_)), "{refused:?}");
    assert_eq!(refused.peer, "does-not-exist.invalid:80");
    assert!(!refused.may_have_arrived());
}

#[tokio::test]
async fn only_absolute_http_urls_without_credentials_are_called() {
    for bad in ["/path", "ftp://h/", "http://user:pw@h/", "https://user@h/"] {
        let refused = outbound().send(get(bad), LIMITS).await.unwrap_err();
        assert!(matches!(refused.cause, Cause::Url), "{bad}");
        assert!(!refused.to_string().contains("pw"));
    }
}

#[tokio::test]
async fn https_is_for_the_right_name_by_a_believed_authority() {
    let pair = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .self_signed(&pair)
        .unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(
        vec![certificate.der().clone()],
        pair.serialize_der().try_into().unwrap(),
    )
    .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (listener, address) = listen().await;
    let served = tokio::spawn(async move {
        let mut requests = 0;
        for _ in 0..3 {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(stream) = acceptor.accept(stream).await {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi".to_vec();
                if !exchange(stream, answer).await.is_empty() {
                    requests += 1;
                }
            }
        }
        requests
    });
    let believing = Outbound::new(Settings {
        ca: vec![certificate.der().clone()],
    })
    .unwrap();
    let port = address.port();
    let good = believing
        .send(get(&format!("https://localhost:{port}/")), LIMITS)
        .await;
    assert_eq!(good.unwrap().body().as_ref(), b"hi");
    let other_name = believing
        .send(get(&format!("https://127.0.0.1:{port}/")), LIMITS)
        .await;
    let stranger = outbound()
        .send(get(&format!("https://localhost:{port}/")), LIMITS)
        .await;
    for refused in [other_name.unwrap_err(), stranger.unwrap_err()] {
        assert!(
            matches!(refused.cause, Cause::Tls(_) | Cause::NoRoots),
            "{refused:?}"
        );
        assert!(!refused.may_have_arrived());
    }
    assert_eq!(served.await.unwrap(), 1);
}
