//! What an upstream may answer, and what comes of it (attacks F05, K09, K10, R08).

use super::*;

/// An upstream that answers every request with these bytes and keeps the connection open.
async fn answering(bytes: &'static [u8]) -> Recorder {
    Recorder::start(move |_, mut conn| async move {
        while conn.head().await.is_some() {
            if conn.stream.write_all(bytes).await.is_err() {
                return;
            }
        }
    })
    .await
}

/// `None`: refused as a whole (502). Otherwise the answer, and whether its body was whole.
async fn check(bytes: &'static [u8]) -> (Option<(u16, Result<String, ()>)>, usize) {
    check_within(Duration::from_secs(60), bytes).await
}

/// The same for an upstream that may be silent in its body for `body_idle_timeout`.
async fn check_within(
    body_idle_timeout: Duration,
    bytes: &'static [u8],
) -> (Option<(u16, Result<String, ()>)>, usize) {
    let upstream = answering(bytes).await;
    let mut settings = settings(vec![upstream.endpoint()]);
    settings.body_idle_timeout = body_idle_timeout;
    let bench = Bench::with(settings);
    let mut first = None;
    for round in 0..2 {
        // POST, so that nothing is repeated.
        let sent = bench.send(request("POST", "/", &[], Body::empty())).await;
        let outcome = match sent {
            Err(error) => {
                assert!(
                    matches!(
                        error,
                        UpstreamError::Broken(_) | UpstreamError::BrokenAnswer
                    ),
                    "{error:?}"
                );
                None
            }
            Ok(response) => {
                let status = response.status().as_u16();
                let body = response.into_body().collect().await.map_err(|_| ());
                let body = body.map(|body| String::from_utf8(body.to_bytes().to_vec()).unwrap());
                Some((status, body))
            }
        };
        if round == 0 {
            first = outcome;
        } else {
            assert_eq!(first, outcome, "the second answer is like the first");
        }
    }
    (first, upstream.connections())
}

fn whole(status: u16, body: &str) -> Option<(u16, Result<String, ()>)> {
    Some((status, Ok(body.to_owned())))
}

#[tokio::test]
async fn k09_answers_that_can_be_read_two_ways_are_refused_and_their_connections_closed() {
    for bytes in [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".as_slice(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok1",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    ] {
        let (outcome, connections) = check(bytes).await;
        assert_eq!(outcome, None, "{}", bytes.escape_ascii());
        assert_eq!(connections, 2, "{}", bytes.escape_ascii());
    }
}

#[tokio::test]
async fn k09_bytes_behind_an_answer_are_never_the_next_answer() {
    for (bytes, expected) in [
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil".as_slice(),
            whole(200, "ok"),
        ),
        (b"HTTP/1.1 204 No Content\r\n\r\nevil", whole(204, "")),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil", whole(304, "")),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            whole(200, "ok"),
        ),
    ] {
        let (outcome, connections) = check(bytes).await;
        assert_eq!(outcome, expected, "{}", bytes.escape_ascii());
        assert_eq!(connections, 2, "{}", bytes.escape_ascii());
    }
}

#[tokio::test]
async fn k09_r08_a_body_that_stops_short_ends_in_an_error() {
    for bytes in [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok".as_slice(),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n",
    ] {
        // Only the silence ends the first three.
        let (outcome, connections) = check_within(Duration::from_millis(100), bytes).await;
        assert_eq!(outcome, Some((200, Err(()))), "{}", bytes.escape_ascii());
        assert_eq!(connections, 2, "{}", bytes.escape_ascii());
    }
}

#[tokio::test]
async fn k09_a_huge_head_is_refused() {
    let upstream = Recorder::start(|_, mut conn| async move {
        conn.head().await;
        let _ = conn.stream.write_all(b"HTTP/1.1 200 OK\r\nX: ").await;
        let _ = conn.stream.write_all(&vec![b'x'; 1 << 20]).await;
        let _ = conn.stream.write_all(b"\r\n\r\n").await;
    })
    .await;
    let bench = Bench::new(vec![upstream.endpoint()]);
    let error = bench
        .send(request("POST", "/", &[], Body::empty()))
        .await
        .err()
        .unwrap();
    assert!(matches!(error, UpstreamError::Broken(_)), "{error:?}");
}

#[tokio::test]
async fn good_answers_without_a_body_keep_their_connection() {
    let upstream = Recorder::start(|_, mut conn| async move {
        while let Some(head) = conn.head().await {
            let answer: &[u8] = if head.starts_with("HEAD") {
                b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"
            } else if head.contains("/304") {
                b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n"
            } else if head.contains("/100") {
                b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
            } else {
                b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"
            };
            conn.write(answer).await;
        }
    })
    .await;
    let bench = Bench::new(vec![upstream.endpoint()]);
    let head = bench
        .send(request("HEAD", "/", &[], Body::empty()))
        .await
        .unwrap();
    assert_eq!(head.headers()["content-length"], "1234");
    assert_eq!(text(head).await, (200, String::new()));
    assert_eq!(bench.fetch(get("/304")).await.0, 304);
    assert_eq!(bench.fetch(get("/100")).await.0, 200);
    let none = bench.send(get("/204")).await.unwrap();
    assert!(!none.headers().contains_key("content-length"));
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn f05_hop_by_hop_fields_and_our_cookies_stay_behind() {
    let upstream = answering(
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
          Set-Cookie: __Host-vestibule-access=evil; Secure; Path=/\r\nSet-Cookie: app=1\r\nUpgrade: h2c\r\n\r\n",
    )
    .await;
    let bench = Bench::new(vec![upstream.endpoint()]);
    let response = bench.send(get("/")).await.unwrap();
    let names: Vec<&str> = response.headers().keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["content-length", "set-cookie"]);
    assert_eq!(response.headers()["set-cookie"], "app=1");
}

#[tokio::test]
async fn events_arrive_when_they_are_sent_and_trailers_at_the_end() {
    let (go, mut gate) = tokio::sync::mpsc::channel::<()>(1);
    let gate = Arc::new(Mutex::new(Some({
        let upstream_gate = async move { gate.recv().await };
        Box::pin(upstream_gate) as std::pin::Pin<Box<dyn Future<Output = Option<()>> + Send>>
    })));
    let upstream = Recorder::start(move |_, mut conn| {
        let gate = gate.lock().unwrap().take();
        async move {
            conn.head().await;
            conn.write(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n3\r\none\r\n",
            )
            .await;
            gate.unwrap().await;
            conn.write(b"3\r\ntwo\r\n0\r\nx-sum: 6\r\nSet-Cookie: __Host-vestibule-access=x\r\n\r\n")
                .await;
        }
    })
    .await;
    let bench = Bench::new(vec![upstream.endpoint()]);
    let mut body = bench.send(get("/")).await.unwrap().into_body();
    let first = body.frame().await.unwrap().unwrap();
    assert_eq!(first.data_ref().unwrap(), "one");
    go.send(()).await.unwrap();
    let second = body.frame().await.unwrap().unwrap();
    assert_eq!(second.data_ref().unwrap(), "two");
    let trailers = body
        .frame()
        .await
        .unwrap()
        .unwrap()
        .into_trailers()
        .unwrap();
    assert_eq!(trailers.len(), 1);
    assert_eq!(trailers["x-sum"], "6");
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn back_pressure_reaches_the_upstream() {
    const PIECE: usize = 1 << 20;
    let written = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&written);
    let upstream = Recorder::start(move |_, mut conn| {
        let counter = Arc::clone(&counter);
        async move {
            conn.head().await;
            conn.write(b"HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n")
                .await;
            let piece = vec![0; PIECE];
            for _ in 0..64 {
                conn.write(&piece).await;
                counter.fetch_add(PIECE, Ordering::SeqCst);
            }
        }
    })
    .await;
    let bench = Bench::new(vec![upstream.endpoint()]);
    let mut body = bench.send(get("/")).await.unwrap().into_body();
    let mut read = body
        .frame()
        .await
        .unwrap()
        .unwrap()
        .into_data()
        .unwrap()
        .len();
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
    let ahead = written.load(Ordering::SeqCst);
    assert!(ahead < 32 * PIECE, "{ahead} bytes were taken unread");
    while let Some(frame) = body.frame().await {
        read += frame.unwrap().into_data().unwrap().len();
    }
    assert_eq!(read, 64 * PIECE);
}

#[tokio::test]
async fn an_early_answer_to_an_upload_is_passed_on() {
    let upstream = Recorder::start(|_, mut conn| async move {
        conn.head().await;
        conn.write(
            b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig",
        )
        .await;
        while conn.read().await > 0 {}
    })
    .await;
    let bench = Bench::new(vec![upstream.endpoint()]);
    let endless = futures_util::stream::pending::<Result<http_body::Frame<Bytes>, BodyError>>();
    let body = Body::stream(http_body_util::StreamBody::new(endless));
    let answer = bench.fetch(request("POST", "/", &[], body)).await;
    assert_eq!(answer, (413, "big".into()));
}

#[tokio::test]
async fn server_sent_events_may_be_silent() {
    let upstream = Recorder::start(|_, mut conn| async move {
        conn.head().await;
        conn.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n",
        )
        .await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        conn.write(b"2\r\n:\n\r\n0\r\n\r\n").await;
    })
    .await;
    let mut settings = settings(vec![upstream.endpoint()]);
    settings.body_idle_timeout = Duration::from_millis(20);
    assert_eq!(
        Bench::with(settings).fetch(get("/")).await,
        (200, ":\n".into())
    );
}
