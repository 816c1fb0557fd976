//! What passes through passes whole: bodies, events, sockets, trailers, in both protocols.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::Message;

use crate::attacks::open_socket;
use crate::harness::app::{blob_bytes, sha256};
use crate::harness::client::status_of;
use crate::harness::wait::{until, within};
use crate::harness::{App, Ask, Gateway, HOST, ORIGIN};
use crate::stalls::{frame, h2_start};

/// More than any buffer on the way.
const BIG: usize = 48 << 20;

#[tokio::test]
async fn big_bodies_arrive_byte_for_byte_both_ways() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let alice = gateway.signed_in("alice").await;
    let upload = blob_bytes(7, 20 << 20);
    let wanted = sha256(&upload);
    let h2 = gateway.door().h2().await;
    for over_h2 in [false, true] {
        app.forget();
        let post = crate::harness::browser::as_fetch(Ask::post("/up", upload.clone()));
        let get = crate::harness::browser::as_fetch(Ask::get("/blob?size=20971520"));
        let (up, down) = if over_h2 {
            (
                alice.send_on(&h2, post).await,
                alice.send_on(&h2, get).await,
            )
        } else {
            (alice.send(post).await, alice.send(get).await)
        };
        assert_eq!((up.status, down.status), (200, 200));
        assert_eq!(app.seen()[0].body_hash, wanted);
        assert_eq!(down.body.len(), 20 << 20);
        assert_eq!(sha256(&down.body), sha256(&blob_bytes(0, 20 << 20)));
    }
}

#[tokio::test]
async fn an_upload_that_its_client_breaks_off_is_never_complete() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let stream = gateway.door().tls(&[b"h2"]).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    // The second is what a server says behind an early answer (RFC 9113 section 8.1); of a request it says nothing.
    for (n, reason) in [h2::Reason::CANCEL, h2::Reason::NO_ERROR]
        .into_iter()
        .enumerate()
    {
        let request = http::Request::post(format!("https://{HOST}/public/eager"))
            .header("origin", ORIGIN)
            .body(())
            .unwrap();
        let (answer, mut body) = client.send_request(request, false).unwrap();
        body.send_data(Bytes::from_static(b"half"), false).unwrap();
        // Its answer is under way: so is its body, by itself.
        let answer = within("the answer", answer).await.unwrap();
        body.send_reset(reason);
        until("its end", async || {
            (app.broken_off() > n || !app.seen().is_empty()).then_some(())
        })
        .await;
        assert!(app.seen().is_empty(), "{reason:?}: taken for the whole");
        drop(answer);
    }
}

#[tokio::test]
async fn a_slow_reader_slows_the_app_and_not_the_memory() {
    slow_reader_of(BIG).await;
}

#[tokio::test]
#[ignore = "long: moves 2 GiB"]
async fn a_slow_reader_of_two_gibibytes() {
    slow_reader_of(2 << 30).await;
}

async fn slow_reader_of(size: usize) {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let before = gateway.resident();
    let mut tls = gateway.door().tls(&[b"http/1.1"]).await.unwrap();
    tls.write_all(
        format!(
            "GET /public/blob?size={size} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
        )
        .as_bytes(),
    )
    .await
    .unwrap();
    until("the answer to be under way", async || {
        (app.sent() > 0).then_some(())
    })
    .await;
    // While somebody who reads gets as much as there is, this one would have got it as well.
    let quick = Ask::get(&format!("/public/blob?size={BIG}"));
    let quick = gateway.door().open(quick).await.until_over().await;
    assert_eq!(quick, BIG as u64);
    let taken = app.sent() - quick;
    assert!(
        taken < BIG as u64 / 2,
        "{taken} bytes were taken off the app while nobody read"
    );
    let grown = gateway.resident().saturating_sub(before);
    assert!(
        grown < 24 << 20,
        "the gateway holds {grown} bytes for one slow reader"
    );
    // And then everything comes.
    let mut total = 0_usize;
    let mut head = Vec::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let n = tls.read(&mut buffer).await.unwrap_or(0);
        if n == 0 {
            break;
        }
        if head.len() < 4096 {
            head.extend_from_slice(&buffer[..n.min(4096)]);
        }
        total += n;
    }
    let head_len = head.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(total - head_len, size);
}

#[tokio::test]
async fn a_slow_app_slows_the_uploader_and_not_the_memory() {
    let app = App::start().await;
    let gateway = Gateway::before(&app)
        .limits("body_idle_timeout = \"10m\"\n")
        .run();
    let before = gateway.resident();
    let mut tls = gateway.door().tls(&[b"http/1.1"]).await.unwrap();
    let head = format!(
        "POST /public/sink HTTP/1.1\r\nHost: {HOST}\r\nOrigin: {ORIGIN}\r\nContent-Length: {BIG}\r\nConnection: close\r\n\r\n"
    );
    tls.write_all(head.as_bytes()).await.unwrap();
    let body = blob_bytes(0, BIG);
    let wanted = sha256(&body);
    let taken = Arc::new(AtomicUsize::new(0));
    let mut slow = {
        let taken = Arc::clone(&taken);
        let body = body.clone();
        tokio::spawn(async move {
            for piece in body.chunks(256 << 10) {
                tls.write_all(piece).await.unwrap();
                taken.fetch_add(piece.len(), Ordering::SeqCst);
            }
            tls.flush().await.unwrap();
            tls
        })
    };
    // While an app that reads gets as much from somebody else, this one's would have been taken as well.
    let quick = gateway.door().ask(Ask::post("/public/quick", body)).await;
    assert_eq!(quick.status, 200);
    assert_eq!(app.only().body_hash, wanted);
    app.forget();
    let written = taken.load(Ordering::SeqCst);
    assert!(
        written < BIG / 2,
        "{written} bytes were taken from the client while the app read nothing"
    );
    let grown = gateway.resident().saturating_sub(before);
    assert!(
        grown < 24 << 20,
        "the gateway holds {grown} bytes for one slow app"
    );
    app.open_gate(1);
    let mut tls = within("the rest is taken", &mut slow).await.unwrap();
    let mut back = Vec::new();
    let _ = tls.read_to_end(&mut back).await;
    assert_eq!(status_of(&back), 200);
    assert_eq!(app.only().body_hash, wanted);
}

#[tokio::test]
async fn events_come_one_by_one_while_they_happen() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let alice = gateway.signed_in("alice").await;
    for over_h2 in [false, true] {
        let request = alice.dress(Ask::get("/events").header("accept", "text/event-stream"));
        let mut body = if over_h2 {
            let h2 = gateway.door().h2().await;
            let response = h2
                .sender
                .clone()
                .send_request(request.into_request(HOST, true))
                .await
                .unwrap();
            response.into_body()
        } else {
            let stream = gateway.door().tls(&[b"http/1.1"]).await.unwrap();
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream))
                    .await
                    .unwrap();
            tokio::spawn(connection);
            sender
                .send_request(request.into_request(HOST, false))
                .await
                .unwrap()
                .into_body()
        };
        for i in 0..5 {
            until("a listener", async || (app.listeners() > 0).then_some(())).await;
            app.publish(&format!("event {i}"));
            let frame = within("the event comes now", body.frame()).await;
            assert_eq!(
                frame.unwrap().unwrap().into_data().unwrap(),
                format!("data: event {i}\n\n")
            );
        }
        // A client that leaves is noticed by the app.
        drop(body);
        until("the app to notice", async || {
            (app.listeners() == 0).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_stream_of_events_ends_with_its_session() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let alice = gateway.signed_in("alice").await;
    let request = alice.dress(Ask::get("/events"));
    let stream = gateway.door().tls(&[b"http/1.1"]).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut body = sender
        .send_request(request.into_request(HOST, false))
        .await
        .unwrap()
        .into_body();
    until("a listener", async || (app.listeners() > 0).then_some(())).await;
    app.publish("before");
    assert!(body.frame().await.unwrap().is_ok());
    alice.sign_out().await;
    let end = within("the stream ends", body.frame()).await;
    assert!(!matches!(end, Some(Ok(_))), "{end:?}");
}

#[tokio::test]
async fn a_long_download_ends_with_its_session_and_nobody_elses_does() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let alice = gateway.signed_in("alice").await;
    let bob = gateway.signed_in("bob").await;
    let h2 = gateway.door().h2().await;
    let size: u64 = 1 << 40;
    let ask = || Ask::get(&format!("/blob?size={size}"));
    // A short answer on the same connection is none of the session's streams.
    assert_eq!(alice.send_on(&h2, Ask::get("/short")).await.status, 200);
    let mut flows = [
        gateway.door().open(alice.dress(ask())).await,
        h2.open(alice.dress(ask())).await,
        h2.open(bob.dress(ask())).await,
    ];
    for flow in &mut flows {
        assert_eq!(flow.status, 200);
        let mut bytes = 0;
        while bytes < 1 << 20 {
            bytes += flow.next().await.expect("it flows").len();
        }
    }
    assert_eq!(gateway.metric("vestibule_open_streams", &[]).await, 3.0);
    alice.sign_out().await;
    let [one, two, bobs] = &mut flows;
    assert!(one.until_over().await < size);
    assert!(two.until_over().await < size);
    for _ in 0..100 {
        bobs.next().await.expect("it flows on");
    }
    assert_eq!(gateway.metric("vestibule_open_streams", &[]).await, 1.0);
}

#[tokio::test]
async fn sockets_carry_text_and_large_binary_messages() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let alice = gateway.signed_in("alice").await;
    let mut socket = open_socket(&alice, "/socket?room=1", ORIGIN).await.unwrap();
    assert_eq!(app.only().target, "/socket?room=1");
    for message in [
        Message::text("hello"),
        Message::binary(blob_bytes(3, 1 << 20)),
        Message::text("안녕"),
    ] {
        socket.send(message.clone()).await.unwrap();
        let back = within("the echo", socket.next()).await;
        assert!(back.unwrap().unwrap() == message);
    }
    socket.close(None).await.unwrap();
}

#[tokio::test]
async fn a_silent_socket_outlives_what_else_is_silent() {
    let app = App::start().await;
    let gateway = Gateway::before(&app)
        .limits("idle_timeout = \"1s\"\nbody_idle_timeout = \"1s\"\n")
        .run();
    let alice = gateway.signed_in("alice").await;
    let mut socket = open_socket(&alice, "/socket", ORIGIN).await.unwrap();
    // Both begin to be silent after it, and are ended for it.
    for (what, bytes) in [
        (
            "an idle connection",
            "GET /public HTTP/1.1\r\nHost: app.test\r\n\r\n",
        ),
        (
            "a body",
            "POST /public/half HTTP/1.1\r\nHost: app.test\r\nOrigin: https://app.test\r\nContent-Length: 10\r\n\r\nhalf",
        ),
    ] {
        let mut other = gateway.door().tls(&[b"http/1.1"]).await.unwrap();
        other.write_all(bytes.as_bytes()).await.unwrap();
        let mut said = Vec::new();
        // Whichever way it ends.
        let _ = within(what, other.read_to_end(&mut said)).await;
    }
    socket.send(Message::text("still here")).await.unwrap();
    assert_eq!(
        socket.next().await.unwrap().unwrap(),
        Message::text("still here")
    );
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    // Down: HTTP/2 always shows them, HTTP/1.1 when the client said it wants them.
    let h2 = gateway.door().h2().await;
    let answer = h2
        .ask(Ask::get("/public/trailers").header("te", "trailers"))
        .await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    let trailers = answer.trailers.expect("trailers");
    assert_eq!(trailers["x-checksum"], "abc123");
    assert!(
        answer.headers.get("x-checksum").is_none(),
        "a trailer is no header"
    );
    // Up.
    let stream = gateway.door().tls(&[b"h2"]).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-checksum", "up-456".parse().unwrap());
    trailers.insert("x-forwarded-user", "root".parse().unwrap());
    let frames = [
        Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from("part"))),
        Ok(Frame::trailers(trailers)),
    ];
    let request = http::Request::post(format!("https://{HOST}/public/echo"))
        .header("origin", ORIGIN)
        .header("trailer", "x-checksum")
        .body(StreamBody::new(futures_util::stream::iter(frames)))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let seen = app.last();
    assert_eq!(seen.body, b"part");
    assert!(
        seen.trailers
            .iter()
            .any(|(name, value)| name.eq_ignore_ascii_case("x-checksum") && value == "up-456"),
        "{:?}",
        seen.trailers
    );
    assert!(
        !seen
            .trailers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("x-forwarded-user")),
        "an identity header came in by a trailer"
    );
}

#[tokio::test]
async fn expect_100_continue_asks_before_it_sends() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let mut tls = gateway.door().tls(&[b"http/1.1"]).await.unwrap();
    let head = format!(
        "POST /public/echo HTTP/1.1\r\nHost: {HOST}\r\nOrigin: {ORIGIN}\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    );
    tls.write_all(head.as_bytes()).await.unwrap();
    let mut back = vec![0; 1024];
    let n = within("an answer", tls.read(&mut back)).await.unwrap();
    assert!(
        back[..n].starts_with(b"HTTP/1.1 100 "),
        "{}",
        String::from_utf8_lossy(&back[..n])
    );
    tls.write_all(b"hello").await.unwrap();
    let mut rest = Vec::new();
    let _ = tls.read_to_end(&mut rest).await;
    assert_eq!(status_of(&rest), 200);
    assert_eq!(app.only().body, b"hello");
    // Who may not send is told so without having sent.
    let mut tls = gateway.door().tls(&[b"http/1.1"]).await.unwrap();
    let head = format!(
        "POST /secret HTTP/1.1\r\nHost: {HOST}\r\nOrigin: {ORIGIN}\r\nContent-Length: 500000\r\nExpect: 100-continue\r\n\r\n"
    );
    tls.write_all(head.as_bytes()).await.unwrap();
    let n = within("an answer", tls.read(&mut back)).await.unwrap();
    assert_eq!(
        status_of(&back[..n]),
        401,
        "{}",
        String::from_utf8_lossy(&back[..n])
    );
}

#[tokio::test]
async fn head_has_no_body_and_the_headers_of_get() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let h2 = gateway.door().h2().await;
    for answer in [
        gateway.door().ask(Ask::new("HEAD", "/public/page")).await,
        h2.ask(Ask::new("HEAD", "/public/page")).await,
    ] {
        assert_eq!(answer.status, 200);
        assert!(answer.body.is_empty());
        assert_eq!(
            answer.header("content-length"),
            Some(crate::harness::webdriver::PAGE.len().to_string().as_str())
        );
    }
    assert!(app.seen().iter().all(|seen| seen.method == "HEAD"));
    assert_eq!(app.seen().len(), 2);
    // The gateway's own answers as well.
    let answer = gateway.door().ask(Ask::new("HEAD", "/.auth/login")).await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    let answer = gateway
        .door()
        .ask(Ask::new("HEAD", "/secret").header("accept", "*/*"))
        .await;
    assert_eq!((answer.status, answer.body.len()), (401, 0));
}

#[tokio::test]
async fn answers_pass_as_they_are() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    for (path, raw, status, body) in [
        (
            "/public/204",
            "HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n",
            204,
            "",
        ),
        (
            "/public/304",
            "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 0\r\n\r\n",
            304,
            "",
        ),
        (
            "/public/teapot",
            "HTTP/1.1 418 I'm a teapot\r\nContent-Length: 3\r\nX-A: b\r\nX-A: c\r\n\r\ntea",
            418,
            "tea",
        ),
        (
            "/public/chunked",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            200,
            "abcde",
        ),
        (
            "/public/unframed",
            "HTTP/1.1 200 OK\r\nX-A: b\r\n\r\nuntil the end",
            200,
            "until the end",
        ),
        ("/public/early", "", 403, "early"),
    ] {
        if !raw.is_empty() {
            app.script(path, raw);
        }
        let h2 = gateway.door().h2().await;
        for answer in [
            gateway.door().ask(Ask::get(path)).await,
            h2.ask(Ask::get(path)).await,
        ] {
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (status, body),
                "{path}"
            );
        }
    }
    let teapot = gateway.door().ask(Ask::get("/public/teapot")).await;
    assert_eq!(teapot.all("x-a"), ["b", "c"]);
}

#[tokio::test]
async fn interim_answers_of_the_app_end_at_the_gateway() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    for interim in [
        "HTTP/1.1 100 Continue\r\nX-Interim: 1\r\n\r\n",
        "HTTP/1.1 102 Processing\r\nX-Interim: 1\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nX-Interim: 1\r\n\r\n",
    ] {
        let last = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        app.script("/public/interim", format!("{interim}{interim}{last}"));
        let request =
            format!("GET /public/interim HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
        let mut tls = gateway.door().tls(&[b"http/1.1"]).await.unwrap();
        tls.write_all(request.as_bytes()).await.unwrap();
        let mut back = Vec::new();
        let _ = within("an answer", tls.read_to_end(&mut back)).await;
        let back = String::from_utf8(back).unwrap();
        assert!(back.starts_with("HTTP/1.1 200 "), "{back}");
        assert!(back.ends_with("\r\n\r\nok"), "{back}");
        assert_eq!(back.matches("HTTP/1.1 ").count(), 1, "{back}");
        assert!(!back.to_ascii_lowercase().contains("x-interim"), "{back}");

        let kinds = h2_answer(&gateway, "/public/interim").await;
        let heads = kinds.iter().filter(|kind| **kind == HEADERS).count();
        assert_eq!(heads, 1, "{kinds:?}");
    }
}

const HEADERS: u8 = 1;

/// The types of the frames of one answer over HTTP/2, in order: no client library shows interim answers.
async fn h2_answer(gateway: &Gateway, path: &str) -> Vec<u8> {
    let mut tls = gateway.door().tls(&[b"h2"]).await.unwrap();
    let mut bytes = h2_start();
    // GET, https; path and authority as literals.
    let mut block = vec![0x82, 0x87];
    for (name, value) in [(4_u8, path), (1, HOST)] {
        block.extend([name, u8::try_from(value.len()).unwrap()]);
        block.extend(value.as_bytes());
    }
    bytes.extend(frame(HEADERS, 5, 1, &block));
    tls.write_all(&bytes).await.unwrap();
    let mut kinds = Vec::new();
    within("the end of the answer", async {
        loop {
            let mut head = [0; 9];
            tls.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            tls.read_exact(&mut payload).await.unwrap();
            let (kind, flags, stream) = (head[3], head[4], head[8]);
            if stream == 1 {
                kinds.push(kind);
                // END_STREAM, of HEADERS or DATA.
                if kind <= HEADERS && flags & 1 == 1 {
                    return;
                }
            }
        }
    })
    .await;
    kinds
}

#[tokio::test]
async fn connections_to_the_app_are_used_again() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let h2 = gateway.door().h2().await;
    for _ in 0..40 {
        assert_eq!(h2.ask(Ask::get("/public")).await.status, 200);
    }
    assert_eq!(app.seen().len(), 40);
    assert!(
        app.connections() <= 4,
        "{} connections for 40 requests in a row",
        app.connections()
    );
}

#[tokio::test]
async fn an_app_that_is_not_there_is_a_502_and_no_logout() {
    let app = App::start().await;
    let gateway = Gateway::at(crate::harness::gateway::free_port()).run();
    let alice = gateway.signed_in("alice").await;
    let answer = alice.get("/").await;
    assert_eq!(answer.status, 502);
    assert!(!answer.sets_cookies());
    assert_eq!(
        answer
            .header("content-type")
            .map(|t| t.split(';').next().unwrap()),
        Some("application/problem+json")
    );
    let page = alice.navigate("/").await;
    assert_eq!(page.status, 502);
    assert!(
        page.header("content-type")
            .unwrap()
            .starts_with("text/html")
    );
    drop(app);
    // One that says nothing is a 504.
    let app = App::start().await;
    let gateway = Gateway::before(&app)
        .upstream("response_timeout = \"1s\"")
        .run();
    assert_eq!(gateway.anon().get("/public/gate").await.status, 504);
}

#[tokio::test]
async fn who_is_not_signed_in_is_asked_in_their_own_way() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let anon = gateway.anon();
    let page = anon.navigate("/notes?a=1&b=2").await;
    assert_eq!(page.status, 303);
    let location = page.header("location").unwrap();
    let rd = url::Url::parse(ORIGIN).unwrap().join(location).unwrap();
    assert_eq!(rd.path(), "/.auth/login");
    assert_eq!(
        rd.query_pairs().find(|(k, _)| k == "rd").unwrap().1,
        "/notes?a=1&b=2"
    );
    let api = anon.get("/notes").await;
    assert_eq!(api.status, 401);
    assert_eq!(
        api.header("content-type")
            .map(|t| t.split(';').next().unwrap()),
        Some("application/problem+json")
    );
    assert!(api.header("www-authenticate").is_some());
    assert!(
        api.json()["login_url"]
            .as_str()
            .unwrap()
            .contains("/.auth/login")
    );
    assert!(api.header("x-request-id").is_some());
    let grpc = gateway
        .door()
        .h2()
        .await
        .ask(
            Ask::new("POST", "/pkg.Service/Call")
                .header("content-type", "application/grpc")
                .header("te", "trailers"),
        )
        .await;
    let status = grpc.header("grpc-status").map(str::to_owned).or_else(|| {
        grpc.trailers
            .as_ref()
            .and_then(|t| t.get("grpc-status"))
            .map(|v| v.to_str().unwrap().to_owned())
    });
    assert_eq!(status.as_deref(), Some("16"));
    let bob = gateway.signed_in("bob").await;
    assert_eq!(bob.get("/staff").await.status, 403);
    let page = bob.navigate("/staff").await;
    assert_eq!(page.status, 403);
    assert!(
        page.header("content-type")
            .unwrap()
            .starts_with("text/html")
    );
    assert!(app.seen().is_empty());
    let alice = gateway.signed_in("alice").await;
    assert_eq!(alice.get("/staff").await.status, 200);
}
