//! What is sent, how often, and over which connection (attacks R08, R09).

use futures_util::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::sync::mpsc;

use super::*;

/// A body of these frames, of unknown length.
fn frames(frames: Vec<Result<Frame<Bytes>, BodyError>>) -> Body {
    Body::stream(StreamBody::new(stream::iter(frames)))
}

fn data(text: &'static str) -> Result<Frame<Bytes>, BodyError> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

/// A body, and what it is made of: piece by piece.
fn fed() -> (mpsc::Sender<Result<Frame<Bytes>, BodyError>>, Body) {
    let (sender, receiver) = mpsc::channel(1);
    let pieces = stream::unfold(receiver, |mut receiver: mpsc::Receiver<_>| async move {
        receiver.recv().await.map(|frame| (frame, receiver))
    });
    (sender, Body::stream(StreamBody::new(pieces)))
}

#[tokio::test]
async fn the_target_is_forwarded_byte_for_byte() {
    let upstream = Recorder::ok().await;
    let bench = Bench::new(vec![upstream.endpoint()]);
    for target in [
        "/",
        "/?",
        "/a%20b/%e2%82%ac?x=/../%2F&y=%2e",
        "/A%7eb;p=1?q?r=?",
        "/*",
    ] {
        let uri = target.parse::<http::Uri>().unwrap();
        let mut request = get("/");
        *request.uri_mut() = uri;
        bench.send(request).await.unwrap();
        let head = upstream.heads().pop().unwrap();
        assert!(
            head.starts_with(&format!("GET {target} HTTP/1.1\r\n")),
            "{head}"
        );
    }
}

#[tokio::test]
async fn connections_are_reused_when_the_answer_was_read_to_its_end() {
    let upstream = Recorder::ok().await;
    let bench = Bench::new(vec![upstream.endpoint()]);
    for _ in 0..5 {
        assert_eq!(bench.fetch(get("/")).await, (200, "ok".into()));
    }
    assert_eq!(upstream.connections(), 1);
    let unread = bench.send(get("/")).await.unwrap();
    assert_eq!(bench.fetch(get("/")).await.0, 200);
    assert_eq!(upstream.connections(), 2);
    drop(unread);
}

#[tokio::test]
async fn siblings_have_connections_of_their_own() {
    let upstream = Recorder::ok().await;
    let mut bench = Bench::new(vec![upstream.endpoint()]);
    bench.fetch(get("/")).await;
    bench.upstreams = bench.upstreams.sibling();
    bench.fetch(get("/")).await;
    assert_eq!(upstream.connections(), 2);
}

#[tokio::test]
async fn endpoints_take_turns_and_a_dead_one_is_passed_over() {
    let (a, b) = (Recorder::ok().await, Recorder::ok().await);
    let dead = DeadPort::new();
    let bench = Bench::new(vec![a.endpoint(), dead.endpoint(), b.endpoint()]);
    for _ in 0..12 {
        let (status, _) = bench
            .fetch(request("POST", "/", &[], Body::from("x")))
            .await;
        assert_eq!(status, 200);
    }
    assert!(a.heads().len() >= 4 && b.heads().len() >= 4);
    assert_eq!(a.heads().len() + b.heads().len(), 12);
}

#[tokio::test]
async fn refused_and_silent_upstreams_are_told_apart() {
    let dead = DeadPort::new();
    let bench = Bench::new(vec![dead.endpoint()]);
    let error = bench.send(get("/")).await.err().unwrap();
    assert!(matches!(error, UpstreamError::Connect(_)), "{error:?}");

    let silent = Recorder::start(|_, mut conn| async move {
        conn.head().await;
        std::future::pending().await
    })
    .await;
    let mut settings = settings(vec![silent.endpoint()]);
    // Long enough for a slow machine to send the request.
    settings.response_timeout = Duration::from_secs(1);
    let bench = Bench::with(settings);
    let error = bench.send(get("/")).await.err().unwrap();
    assert!(matches!(error, UpstreamError::ResponseTimeout), "{error:?}");
    while silent.heads().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(silent.heads().len(), 1, "a timeout is not repeated");
    assert_eq!(silent.connections(), 1, "a timeout is not repeated");
}

#[tokio::test]
async fn r08_endless_interim_answers_end_in_time() {
    let upstream = Recorder::start(|_, mut conn| async move {
        conn.head().await;
        while conn
            .stream
            .write_all(b"HTTP/1.1 102 Processing\r\n\r\n")
            .await
            .is_ok()
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let mut settings = settings(vec![upstream.endpoint()]);
    settings.response_timeout = Duration::from_millis(100);
    let error = Bench::with(settings).send(get("/")).await.err().unwrap();
    assert!(matches!(error, UpstreamError::ResponseTimeout), "{error:?}");
}

/// The first connection answers once and closes while the next request is on its way; the second is well.
async fn closes_after_one_answer(close_on_request: bool) -> Recorder {
    Recorder::start(move |number, mut conn| async move {
        conn.head().await;
        conn.ok().await;
        if number == 0 {
            if close_on_request {
                conn.head().await;
            }
            return;
        }
        while conn.head().await.is_some() {
            conn.ok().await;
        }
    })
    .await
}

#[tokio::test]
async fn r09_a_connection_that_died_in_the_pool_is_replaced_for_every_method() {
    let upstream = closes_after_one_answer(false).await;
    let bench = Bench::new(vec![upstream.endpoint()]);
    assert_eq!(bench.fetch(get("/")).await.0, 200);
    // The gateway sees the end of the connection as soon as the runtime polls it.
    while upstream.connections() < 2 {
        let post = request("POST", "/", &[], Body::from("x"));
        match bench.send(post).await {
            Ok(response) => assert_eq!(text(response).await.0, 200),
            // The close was still on its way: something may have been sent, so nothing was repeated.
            Err(error) => assert!(matches!(error, UpstreamError::Broken(_)), "{error:?}"),
        }
    }
}

#[tokio::test]
async fn r09_an_idempotent_request_without_body_is_repeated_once() {
    let upstream = closes_after_one_answer(true).await;
    let bench = Bench::new(vec![upstream.endpoint()]);
    assert_eq!(bench.fetch(get("/1")).await.0, 200);
    assert_eq!(bench.fetch(get("/2")).await, (200, "ok".into()));
    let heads = upstream.heads();
    assert_eq!(heads.len(), 3);
    assert_eq!(heads[1], heads[2], "the very same request");
}

#[tokio::test]
async fn r08_what_may_have_been_acted_on_is_not_repeated() {
    for (method, body) in [("POST", ""), ("POST", "x"), ("PUT", "x")] {
        let upstream = closes_after_one_answer(true).await;
        let bench = Bench::new(vec![upstream.endpoint()]);
        assert_eq!(bench.fetch(get("/1")).await.0, 200);
        let error = bench
            .send(request(method, "/2", &[], Body::from(body)))
            .await
            .err()
            .unwrap();
        assert!(matches!(error, UpstreamError::Broken(_)), "{error:?}");
        assert_eq!(upstream.heads().len(), 2);
    }
}

#[tokio::test]
async fn r08_an_upstream_that_always_hangs_up_is_asked_twice_at_most() {
    let upstream = Recorder::start(|_, mut conn| async move {
        conn.head().await;
    })
    .await;
    let bench = Bench::new(vec![upstream.endpoint()]);
    let error = bench.send(get("/")).await.err().unwrap();
    assert!(matches!(error, UpstreamError::Broken(_)), "{error:?}");
    assert_eq!(upstream.heads().len(), 2);
}

#[tokio::test]
async fn bodies_stream_with_their_length_or_in_chunks() {
    let upstream = Recorder::start(|_, mut conn| async move {
        while let Some(head) = conn.head().await {
            let end: &[u8] = if head.contains("chunked") {
                b"0\r\n\r\n"
            } else {
                b"end"
            };
            let body = conn.until(end).await;
            conn.seen
                .lock()
                .unwrap()
                .push(String::from_utf8(body).unwrap());
            conn.ok().await;
        }
    })
    .await;
    let bench = Bench::new(vec![upstream.endpoint()]);
    bench
        .fetch(request("POST", "/", &[], Body::from("the end")))
        .await;
    let sized = &[("content-length", "6")];
    bench
        .fetch(request(
            "PUT",
            "/",
            sized,
            frames(vec![data("my "), data("end")]),
        ))
        .await;
    // A GET with a body keeps it: dropping it would change the request.
    bench
        .fetch(request(
            "GET",
            "/",
            &[],
            frames(vec![data("ab"), data("c")]),
        ))
        .await;
    let seen = upstream.heads();
    assert!(seen[0].contains("content-length: 7\r\n"), "{}", seen[0]);
    assert_eq!(seen[1], "the end");
    assert!(seen[2].contains("content-length: 6\r\n"), "{}", seen[2]);
    assert!(!seen[2].contains("chunked"));
    assert_eq!(seen[3], "my end");
    assert!(seen[4].contains("transfer-encoding: chunked\r\n"));
    assert_eq!(seen[5], "2\r\nab\r\n1\r\nc\r\n0\r\n\r\n");
}

#[tokio::test]
async fn a_post_without_body_says_so() {
    let upstream = Recorder::ok().await;
    let bench = Bench::new(vec![upstream.endpoint()]);
    bench.fetch(request("POST", "/", &[], Body::empty())).await;
    assert_eq!(upstream.last("content-length"), ["0"]);
    bench
        .fetch(request(
            "DELETE",
            "/",
            &[("content-length", "5")],
            Body::empty(),
        ))
        .await;
    assert!(upstream.last("content-length").is_empty());
    bench.fetch(get("/")).await;
    assert!(upstream.last("content-length").is_empty());
    assert!(upstream.last("transfer-encoding").is_empty());
}

#[tokio::test]
async fn request_trailers_pass_except_guarded_ones() {
    let upstream = Recorder::start(|_, mut conn| async move {
        conn.head().await;
        let body = conn.until(b"\r\n\r\n").await;
        conn.seen
            .lock()
            .unwrap()
            .push(String::from_utf8(body).unwrap());
        conn.ok().await;
    })
    .await;
    let bench = Bench::new(vec![upstream.endpoint()]);
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", "7".parse().unwrap());
    trailers.insert("x-forwarded-user", "evil".parse().unwrap());
    let body = frames(vec![data("hi"), Ok(Frame::trailers(trailers))]);
    let announced = &[("trailer", "x-sum, x-forwarded-user"), ("te", "trailers")];
    bench.fetch(request("POST", "/", announced, body)).await;
    let seen = upstream.heads();
    assert!(seen[0].contains("te: trailers\r\n"));
    assert!(seen[0].contains("connection: te\r\n"));
    assert_eq!(seen[1], "2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n");
}

#[tokio::test]
async fn a_broken_client_body_is_the_clients_fault_and_never_looks_complete() {
    #[derive(Debug, thiserror::Error)]
    #[error("too large")]
    struct TooLarge;
    let (ended, mut end) = mpsc::channel(1);
    let upstream = Recorder::start(move |_, mut conn| {
        let ended = ended.clone();
        async move {
            conn.head().await;
            while conn.read().await > 0 {}
            ended.send(conn.buffer).await.unwrap();
        }
    })
    .await;
    let bench = Bench::new(vec![upstream.endpoint()]);
    let body = frames(vec![data("hi"), Err(Box::new(TooLarge))]);
    let error = bench
        .send(request("POST", "/", &[], body))
        .await
        .err()
        .unwrap();
    let UpstreamError::RequestBody(cause) = error else {
        panic!("{error:?}")
    };
    assert!(cause.is::<TooLarge>());
    let rest = end.recv().await.unwrap();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "{}", rest.escape_ascii());
}

#[tokio::test]
async fn a_long_upload_that_moves_outlives_the_response_timeout() {
    let upstream = Recorder::start(|_, mut conn| async move {
        conn.head().await;
        conn.until(b"0\r\n\r\n").await;
        conn.ok().await;
    })
    .await;
    let mut settings = settings(vec![upstream.endpoint()]);
    // A piece every 20 ms, and a machine may stand still for a hundred times that.
    let timeout = Duration::from_secs(2);
    settings.response_timeout = timeout;
    let bench = Bench::with(settings);
    let (sender, body) = fed();
    let uploading = tokio::spawn(async move {
        let began = tokio::time::Instant::now();
        while began.elapsed() < timeout + timeout / 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            sender.send(data("x")).await.unwrap();
        }
    });
    assert_eq!(bench.fetch(request("POST", "/", &[], body)).await.0, 200);
    uploading.await.unwrap();
}

#[tokio::test]
async fn an_upstream_that_has_answered_and_reads_no_more_keeps_no_upload() {
    let upstream = Recorder::start(|_, mut conn| async move {
        conn.head().await;
        conn.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly")
            .await;
        // Neither reads nor closes.
        std::future::pending::<()>().await;
    })
    .await;
    let mut settings = settings(vec![upstream.endpoint()]);
    settings.body_idle_timeout = Duration::from_millis(100);
    settings.response_timeout = Duration::from_secs(2);
    let bench = Bench::with(settings);
    let (sender, body) = fed();
    let uploading = tokio::spawn(async move {
        let piece = Bytes::from(vec![b'x'; 64 << 10]);
        while sender.send(Ok(Frame::data(piece.clone()))).await.is_ok() {}
    });
    let answer = bench.fetch(request("POST", "/", &[], body)).await;
    assert_eq!(answer, (200, "early".into()));
    tokio::time::timeout(Duration::from_secs(60), uploading)
        .await
        .expect("the upload ends")
        .unwrap();
}
