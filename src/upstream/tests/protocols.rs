//! The other ways to reach an upstream: unix sockets, HTTP/2 with and without TLS, verified certificates.

use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::RootCertStore;
use rustls_pki_types::PrivateKeyDer;
use tokio::net::UnixListener;
use tokio_rustls::TlsAcceptor;

use super::*;

/// Answers with what it received: method, URI, `te`, user, body, trailers.
async fn mirror(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?;
    let trailer = body
        .trailers()
        .and_then(|trailers| trailers.get("x-sum"))
        .cloned();
    let header = |name: &str| {
        let value = parts.headers.get(name);
        value
            .map_or("-", |value| value.to_str().unwrap())
            .to_owned()
    };
    let text = format!(
        "{} {} {:?} host={} te={} conn={} user={} body={} sum={}",
        parts.method,
        parts.uri,
        parts.version,
        header("host"),
        header("te"),
        header("connection"),
        header("x-forwarded-user"),
        String::from_utf8_lossy(&body.to_bytes()),
        trailer.map_or("-".into(), |sum| sum.to_str().unwrap().to_owned()),
    );
    Ok(Response::new(Full::from(text)))
}

async fn serve2<S>(stream: S)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service_fn(mirror))
        .await;
}

async fn serve1<S>(stream: S)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service_fn(mirror))
        .await;
}

#[tokio::test]
async fn h2c_multiplexes_on_one_connection_and_carries_trailers() {
    let upstream = Recorder::start(|_, conn| serve2(conn.stream)).await;
    let bench = Bench::new(vec![Endpoint::H2c {
        host: "127.0.0.1".into(),
        port: upstream.port,
    }]);
    let (_, text) = bench
        .fetch(request("GET", "/a?b", &[("te", "trailers")], Body::empty()))
        .await;
    assert_eq!(
        text,
        "GET http://app.example.com/a?b HTTP/2.0 host=- te=trailers conn=- user=alice body= sum=-"
    );
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", "7".parse().unwrap());
    let frames: Vec<Result<_, BodyError>> = vec![
        Ok(http_body::Frame::data(Bytes::from_static(b"hi"))),
        Ok(http_body::Frame::trailers(trailers)),
    ];
    let body = Body::stream(StreamBody::new(futures_util::stream::iter(frames)));
    let (status, text) = bench.fetch(request("POST", "/", &[], body)).await;
    assert_eq!(status, 200);
    assert!(text.ends_with("body=hi sum=7"), "{text}");
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn an_h2c_connection_that_ended_is_replaced() {
    let leave = Arc::new(tokio::sync::Notify::new());
    let told = Arc::clone(&leave);
    let upstream = Recorder::start(move |number, conn| {
        let told = Arc::clone(&told);
        async move {
            if number > 0 {
                return serve2(conn.stream).await;
            }
            // Serves until it is told to leave, then says goodbye.
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(conn.stream), service_fn(mirror));
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => {}
                () = told.notified() => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        }
    })
    .await;
    let bench = Bench::new(vec![Endpoint::H2c {
        host: "127.0.0.1".into(),
        port: upstream.port,
    }]);
    assert_eq!(bench.fetch(get("/")).await.0, 200);
    leave.notify_one();
    while upstream.connections() < 2 {
        assert_eq!(bench.fetch(get("/")).await.0, 200);
    }
}

#[tokio::test]
async fn an_h2c_answer_that_is_broken_off_is_never_complete() {
    for reason in [h2::Reason::INTERNAL_ERROR, h2::Reason::NO_ERROR] {
        let arrived = Arc::new(tokio::sync::Notify::new());
        let told = Arc::clone(&arrived);
        let upstream = Recorder::start(move |_, conn| {
            let told = Arc::clone(&told);
            async move {
                let mut connection = h2::server::handshake(conn.stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let mut body = respond.send_response(Response::new(()), false).unwrap();
                    body.send_data(Bytes::from_static(b"half"), false).unwrap();
                    let told = Arc::clone(&told);
                    tokio::spawn(async move {
                        told.notified().await;
                        body.send_reset(reason);
                    });
                }
            }
        })
        .await;
        let bench = Bench::new(vec![Endpoint::H2c {
            host: "127.0.0.1".into(),
            port: upstream.port,
        }]);
        let mut body = bench.send(get("/")).await.unwrap().into_body();
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "half");
        arrived.notify_one();
        let end = body.frame().await;
        assert!(matches!(end, Some(Err(_))), "{reason:?}: {end:?}");
    }
}

#[tokio::test]
async fn unix_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve1(stream));
        }
    });
    let bench = Bench::new(vec![Endpoint::Unix(path)]);
    for _ in 0..2 {
        let (_, text) = bench.fetch(get("/a")).await;
        assert!(
            text.starts_with("GET /a HTTP/1.1 host=app.example.com "),
            "{text}"
        );
    }
}

/// A TLS upstream for `localhost`, and the roots that trust it.
async fn tls_upstream(alpn: &'static [u8]) -> (Recorder, RootCertStore) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let upstream = Recorder::start(move |_, conn| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(conn.stream).await {
                if alpn == b"h2" {
                    serve2(stream).await;
                } else {
                    serve1(stream).await;
                }
            }
        }
    })
    .await;
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    (upstream, roots)
}

fn trusting(roots: RootCertStore, host: &str, port: u16) -> Bench {
    let settings = settings(vec![Endpoint::Https {
        host: host.into(),
        port,
    }]);
    let mut bench = Bench::with(settings.clone());
    bench.upstreams = Upstreams::with_roots(
        Arc::new([settings]),
        ORIGIN.into(),
        TaskTracker::new(),
        Some(roots),
    )
    .unwrap();
    bench
}

#[tokio::test]
async fn https_takes_the_protocol_that_alpn_gives() {
    for (alpn, version) in [(b"h2".as_slice(), "HTTP/2.0"), (b"http/1.1", "HTTP/1.1")] {
        let (upstream, roots) = tls_upstream(alpn).await;
        let bench = trusting(roots, "localhost", upstream.port);
        for _ in 0..2 {
            let (status, text) = bench.fetch(get("/")).await;
            assert_eq!(status, 200);
            assert!(text.contains(version), "{text}");
        }
        // `localhost` may be two addresses, of which one refuses; what counts is that the second request opened nothing.
        assert_eq!(upstream.connections(), 1);
    }
}

#[tokio::test]
async fn https_certificates_are_verified() {
    let (upstream, _) = tls_upstream(b"http/1.1").await;
    let (_, foreign) = tls_upstream(b"http/1.1").await;
    let error = trusting(foreign, "localhost", upstream.port)
        .send(get("/"))
        .await
        .err()
        .unwrap();
    assert!(matches!(error, UpstreamError::Connect(_)), "{error:?}");
    let (upstream, roots) = tls_upstream(b"http/1.1").await;
    let error = trusting(roots, "127.0.0.1", upstream.port)
        .send(get("/"))
        .await
        .err()
        .unwrap();
    assert!(matches!(error, UpstreamError::Connect(_)), "{error:?}");
}
