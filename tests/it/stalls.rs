//! Clients that stall, and request forms that two readers take for two things: each stall ends in its configured time,
//! each form is refused before the app hears a byte of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::client::status_of;
use crate::harness::wait::{DEADLINE, until, within};
use crate::harness::{App, Ask, Gateway};

/// What a stalled party is given; long enough for what is healthy, however slow the machine.
const GIVEN: Duration = Duration::from_secs(3);
const LIMITS: &str = "handshake_timeout = \"3s\"\nheader_timeout = \"3s\"\nbody_idle_timeout = \"3s\"\nidle_timeout = \"3s\"\n";

/// Reads until the other side ends the connection, which stalls since `begin` at the earliest; what it said.
async fn ended(what: &str, begin: Instant, mut stream: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    within(what, async {
        while let Ok(n @ 1..) = stream.read(&mut buffer).await {
            said.extend_from_slice(&buffer[..n]);
        }
    })
    .await;
    let took = begin.elapsed();
    // Not before its time either: a client on a slow line gets the time it was promised.
    assert!(
        took > GIVEN - Duration::from_millis(300),
        "{what} was ended after {took:?} already"
    );
    said
}

/// A connection preface and an empty SETTINGS frame (RFC 9113 sections 3.4 and 6.5).
pub fn h2_start() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    bytes
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

#[tokio::test]
async fn all_six_stalls_end_and_nobody_else_waits() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).limits(LIMITS).run();
    let door = gateway.door();
    let silent = async {
        let begin = Instant::now();
        ended("a silent TCP connection", begin, door.tcp().await).await;
    };
    let partial_hello = async {
        let begin = Instant::now();
        let mut tcp = door.tcp().await;
        tcp.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc])
            .await
            .unwrap();
        ended("a partial ClientHello", begin, tcp).await;
    };
    let protocols: [&[&[u8]]; 3] = [&[b"http/1.1"], &[b"h2"], &[]];
    let no_byte = join_all(protocols.map(|alpn| {
        let door = &door;
        async move {
            let begin = Instant::now();
            let tls = door.tls(alpn).await.unwrap();
            ended("TLS without a byte", begin, tls).await;
        }
    }));
    let half_a_head = async {
        let mut tls = door.tls(&[b"http/1.1"]).await.unwrap();
        let begin = Instant::now();
        tls.write_all(b"GET /public HTTP/1.1\r\nHost: app.test\r\nX-Slow")
            .await
            .unwrap();
        let said = ended("half a head", begin, tls).await;
        assert!(matches!(status_of(&said), 0 | 408));
    };
    let stalled_body = async {
        let mut tls = door.tls(&[b"http/1.1"]).await.unwrap();
        let begin = Instant::now();
        tls.write_all(b"POST /public/stalled HTTP/1.1\r\nHost: app.test\r\nOrigin: https://app.test\r\nContent-Length: 10\r\n\r\nhalf")
            .await
            .unwrap();
        let said = ended("a stalled body", begin, tls).await;
        assert!(
            matches!(status_of(&said), 0 | 408),
            "{}",
            String::from_utf8_lossy(&said)
        );
    };
    let idle_h2 = async {
        let begin = Instant::now();
        let mut tls = door.tls(&[b"h2"]).await.unwrap();
        tls.write_all(&h2_start()).await.unwrap();
        ended("idle HTTP/2 after SETTINGS", begin, tls).await;
    };
    let open_headers = async {
        let mut tls = door.tls(&[b"h2"]).await.unwrap();
        let begin = Instant::now();
        // :method GET, and no END_HEADERS.
        let both = [h2_start(), frame(1, 0, 1, &[0x82])].concat();
        tls.write_all(&both).await.unwrap();
        ended("HEADERS without END_HEADERS", begin, tls).await;
    };
    let idle_h1 = async {
        let mut tls = door.tls(&[b"http/1.1"]).await.unwrap();
        let begin = Instant::now();
        tls.write_all(b"GET /public/once HTTP/1.1\r\nHost: app.test\r\n\r\n")
            .await
            .unwrap();
        let said = ended("idle keep-alive", begin, tls).await;
        assert_eq!(status_of(&said), 200);
    };
    let over = AtomicBool::new(false);
    let stalls = async {
        tokio::join!(
            silent,
            partial_hello,
            no_byte,
            half_a_head,
            stalled_body,
            idle_h2,
            open_headers,
            idle_h1
        );
        over.store(true, Ordering::SeqCst);
    };
    let healthy = async {
        let mut took = Vec::new();
        while !over.load(Ordering::SeqCst) {
            let started = Instant::now();
            assert_eq!(gateway.anon().get("/public/healthy").await.status, 200);
            took.push(started.elapsed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        took
    };
    let ((), took) = tokio::join!(stalls, healthy);
    // The quickest: it is enough that nothing made them all wait.
    let quickest = took.iter().min().expect("some were served meanwhile");
    assert!(*quickest < Duration::from_secs(1), "{took:?}");
    // The half of a body was never taken for a whole one.
    assert!(
        app.seen()
            .iter()
            .all(|seen| seen.target != "/public/stalled")
    );
}

#[tokio::test]
async fn who_never_reads_is_not_kept() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).limits(LIMITS).run();
    let size = 64 << 20;
    for alpn in ["http/1.1", "h2"] {
        let mut tls = gateway.door().tls(&[alpn.as_bytes()]).await.unwrap();
        if alpn == "h2" {
            // As much window as there is, so that only the socket holds things up.
            let mut bytes = h2_start();
            bytes.extend(frame(8, 0, 0, &0x7fff_0000_u32.to_be_bytes()));
            let mut block = vec![0x82, 0x87];
            for (name, value) in [
                (4_u8, format!("/public/blob?size={size}")),
                (1, "app.test".to_owned()),
            ] {
                block.extend([name, u8::try_from(value.len()).unwrap()]);
                block.extend(value.as_bytes());
            }
            bytes.extend(frame(1, 5, 1, &block));
            bytes.extend(frame(8, 0, 1, &0x7fff_0000_u32.to_be_bytes()));
            tls.write_all(&bytes).await.unwrap();
        } else {
            let request =
                format!("GET /public/blob?size={size} HTTP/1.1\r\nHost: app.test\r\n\r\n");
            tls.write_all(request.as_bytes()).await.unwrap();
        }
        until(&format!("{alpn}: the answer to be under way"), async || {
            (app.sent() > 0).then_some(())
        })
        .await;
        until(
            &format!("{alpn}: the connection to be given up"),
            async || (gateway.metric("vestibule_connections", &[]).await == 0.0).then_some(()),
        )
        .await;
        assert!(
            app.sent() < size,
            "{alpn}: everything was taken for a client that reads nothing"
        );
        app.forget_sent();
        drop(tls);
    }
    assert_eq!(gateway.anon().get("/public").await.status, 200);
}

#[tokio::test]
async fn trickling_a_head_does_not_buy_time() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).limits(LIMITS).run();
    let mut tls = gateway.door().tls(&[b"http/1.1"]).await.unwrap();
    let started = Instant::now();
    tls.write_all(b"GET /public HTTP/1.1\r\n").await.unwrap();
    loop {
        let mut byte = [0; 512];
        match tokio::time::timeout(Duration::from_millis(100), tls.read(&mut byte)).await {
            Ok(Ok(0) | Err(_)) => break,
            Ok(Ok(_)) => continue,
            Err(_) => {}
        }
        if tls.write_all(b"a").await.is_err() {
            break;
        }
        assert!(
            started.elapsed() < DEADLINE,
            "a byte each 100 ms keeps it open"
        );
    }
    assert_eq!(app.bytes(), 0);
}

/// Forms that must be refused: an answer of 4xx or 5xx, or a closed connection, and the app saw no byte.
async fn all_refused(forms: &[(&str, &[u8])]) {
    let app = App::start().await;
    let gateway = Gateway::before(&app)
        .limits("header_timeout = \"2s\"\nbody_idle_timeout = \"2s\"\nidle_timeout = \"2s\"\n")
        .run();
    assert!(!forms.is_empty());
    for (what, bytes) in forms {
        let back = gateway.door().raw(bytes, Duration::from_secs(5)).await;
        let status = status_of(&back);
        assert!(
            status == 0 || (400..600).contains(&status),
            "{what}: {}",
            String::from_utf8_lossy(&back)
        );
        let answers = String::from_utf8_lossy(&back).matches("HTTP/1.1 ").count();
        assert!(answers <= 1, "{what}: {answers} answers");
        assert_eq!(app.bytes(), 0, "{what} reached the app");
    }
    assert_eq!(gateway.anon().get("/public").await.status, 200);
    assert_eq!(app.seen().len(), 1);
    assert!(gateway.logged(&["panicked"]).is_empty());
}

#[tokio::test]
async fn forms_of_host_and_target_that_nobody_should_accept() {
    all_refused(&[
        (
            "userinfo in Host",
            b"GET /public HTTP/1.1\r\nHost: user@app.test\r\n\r\n",
        ),
        (
            "path in Host",
            b"GET /public HTTP/1.1\r\nHost: app.test/path\r\n\r\n",
        ),
        (
            "list in Host",
            b"GET /public HTTP/1.1\r\nHost: app.test, app.test\r\n\r\n",
        ),
        ("empty Host", b"GET /public HTTP/1.1\r\nHost:\r\n\r\n"),
        ("no Host", b"GET /public HTTP/1.1\r\n\r\n"),
        (
            "two Hosts",
            b"GET /public HTTP/1.1\r\nHost: app.test\r\nHost: app.test\r\n\r\n",
        ),
        (
            "port overflow",
            b"GET /public HTTP/1.1\r\nHost: app.test:99999\r\n\r\n",
        ),
        (
            "port of letters",
            b"GET /public HTTP/1.1\r\nHost: app.test:x\r\n\r\n",
        ),
        (
            "space in Host",
            b"GET /public HTTP/1.1\r\nHost: app.test evil\r\n\r\n",
        ),
        ("asterisk", b"GET * HTTP/1.1\r\nHost: app.test\r\n\r\n"),
        (
            "OPTIONS asterisk",
            b"OPTIONS * HTTP/1.1\r\nHost: app.test\r\n\r\n",
        ),
        (
            "absolute form elsewhere",
            b"GET http://evil.example/public HTTP/1.1\r\nHost: app.test\r\n\r\n",
        ),
        (
            "fragment",
            b"GET /public#frag HTTP/1.1\r\nHost: app.test\r\n\r\n",
        ),
        ("no slash", b"GET public HTTP/1.1\r\nHost: app.test\r\n\r\n"),
        (
            "byte above 0x7f in target",
            b"GET /public/\xff HTTP/1.1\r\nHost: app.test\r\n\r\n",
        ),
        ("bare LF lines", b"GET /public HTTP/1.1\nHost: app.test\n\n"),
        (
            "one bare LF",
            b"GET /public HTTP/1.1\r\nHost: app.test\nX: y\r\n\r\n",
        ),
        ("HTTP/1.0 without Host", b"GET /public HTTP/1.0\r\n\r\n"),
        (
            "HTTP/2.0 in clear words",
            b"GET /public HTTP/2.0\r\nHost: app.test\r\n\r\n",
        ),
        (
            "HTTP/1.2",
            b"GET /public HTTP/1.2\r\nHost: app.test\r\n\r\n",
        ),
        ("no version", b"GET /public\r\nHost: app.test\r\n\r\n"),
        (
            "two spaces",
            b"GET  /public HTTP/1.1\r\nHost: app.test\r\n\r\n",
        ),
        (
            "obs-text in a value",
            b"GET /public HTTP/1.1\r\nHost: app.test\r\nX-Name: caf\xe9\r\n\r\n",
        ),
    ])
    .await;
}

#[tokio::test]
async fn header_lines_that_nobody_should_accept() {
    all_refused(&[
        (
            "space before colon",
            b"GET /public HTTP/1.1\r\nHost: app.test\r\nX-A : b\r\n\r\n",
        ),
        (
            "empty name",
            b"GET /public HTTP/1.1\r\nHost: app.test\r\n: b\r\n\r\n",
        ),
        (
            "NUL in value",
            b"GET /public HTTP/1.1\r\nHost: app.test\r\nX-A: b\x00c\r\n\r\n",
        ),
        (
            "NUL in name",
            b"GET /public HTTP/1.1\r\nHost: app.test\r\nX\x00A: b\r\n\r\n",
        ),
        (
            "bare CR in value",
            b"GET /public HTTP/1.1\r\nHost: app.test\r\nX-A: b\rX-Forwarded-User: root\r\n\r\n",
        ),
        (
            "folding",
            b"GET /public HTTP/1.1\r\nHost: app.test\r\nX-A: b\r\n c\r\n\r\n",
        ),
        (
            "folding at once",
            b"GET /public HTTP/1.1\r\n Host: app.test\r\n\r\n",
        ),
        (
            "no colon",
            b"GET /public HTTP/1.1\r\nHost: app.test\r\nX-A\r\n\r\n",
        ),
        (
            "vertical tab",
            b"GET /public HTTP/1.1\r\nHost: app.test\r\nX-A: \x0bb\r\n\r\n",
        ),
    ])
    .await;
}

#[tokio::test]
async fn framing_that_two_readers_read_twice() {
    let head = "POST /public HTTP/1.1\r\nHost: app.test\r\nOrigin: https://app.test\r\n";
    let smuggled = "0\r\n\r\nGET /admin HTTP/1.1\r\nHost: app.test\r\n\r\n";
    let mut forms: Vec<(String, Vec<u8>)> = Vec::new();
    for encoding in [
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: \tchunked, identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding:",
        "Transfer-Encoding: chunked;q=1",
    ] {
        forms.push((
            encoding.to_owned(),
            format!("{head}{encoding}\r\n\r\n{smuggled}").into_bytes(),
        ));
    }
    for length in [
        "+5",
        "-0",
        "0x5",
        "5,10",
        "1_0",
        "5 5",
        "",
        "99999999999999999999",
        "5\r\nContent-Length: 6",
        "5, 6",
        " ",
    ] {
        forms.push((
            format!("Content-Length {length:?}"),
            format!("{head}Content-Length: {length}\r\n\r\nhello world").into_bytes(),
        ));
    }
    forms.push((
        "CL.TE".into(),
        format!("{head}Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n{smuggled}")
            .into_bytes(),
    ));
    forms.push((
        "TE.CL".into(),
        format!("{head}Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n{smuggled}")
            .into_bytes(),
    ));
    forms.push((
        "HTTP/1.0 with TE".into(),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n{smuggled}")
            .replace("/1.1\r\nHost", "/1.0\r\nHost")
            .into_bytes(),
    ));
    let borrowed: Vec<(&str, &[u8])> = forms
        .iter()
        .map(|(what, bytes)| (what.as_str(), bytes.as_slice()))
        .collect();
    all_refused(&borrowed).await;
}

#[tokio::test]
async fn broken_chunks_never_become_a_whole_request() {
    let app = App::start().await;
    let gateway = Gateway::before(&app)
        .limits("body_idle_timeout = \"2s\"\nidle_timeout = \"2s\"\nheader_timeout = \"2s\"\n")
        .run();
    for chunk in [
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-1\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5;bad[=x\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\nhello\n0\n\n",
        "5\r\nhello\r\n0\r\n",
    ] {
        let head = "POST /public/chunk HTTP/1.1\r\nHost: app.test\r\nOrigin: https://app.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        let back = gateway
            .door()
            .raw(format!("{head}{chunk}").as_bytes(), Duration::from_secs(8))
            .await;
        let status = status_of(&back);
        assert!(
            status == 0 || (400..600).contains(&status),
            "{chunk:?}: {}",
            String::from_utf8_lossy(&back)
        );
        assert!(
            app.seen().is_empty(),
            "{chunk:?} arrived as a whole request"
        );
    }
    assert_eq!(gateway.anon().get("/public").await.status, 200);
}

#[tokio::test]
async fn leftovers_of_a_refused_body_are_no_request() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let hidden = "GET /public/smuggled HTTP/1.1\r\nHost: app.test\r\n\r\n";
    for (method, path) in [
        ("POST", "/secret"),
        ("GET", "/secret"),
        ("OPTIONS", "/nothing/here"),
        ("POST", "/.auth/nothing"),
        ("POST", "/public/../x"),
    ] {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: app.test\r\nOrigin: https://app.test\r\nContent-Length: {}\r\n\r\n{hidden}",
            hidden.len()
        );
        let back = gateway
            .door()
            .raw(request.as_bytes(), Duration::from_millis(500))
            .await;
        assert!(
            status_of(&back) >= 300,
            "{}",
            String::from_utf8_lossy(&back)
        );
        assert_eq!(
            app.bytes(),
            0,
            "{method} {path}: the body was taken for a request"
        );
    }
    // Exactly the declared bytes are consumed: the next request on the connection is the next request.
    let pair = format!(
        "POST /public/a HTTP/1.1\r\nHost: app.test\r\nOrigin: https://app.test\r\nContent-Length: 5\r\n\r\nhello{hidden}"
    );
    gateway
        .door()
        .raw(pair.as_bytes(), Duration::from_millis(500))
        .await;
    until("both requests to arrive", async || {
        (app.seen().len() >= 2).then_some(())
    })
    .await;
    let seen: Vec<_> = app
        .seen()
        .into_iter()
        .map(|seen| (seen.target, seen.body))
        .collect();
    assert_eq!(
        seen,
        [
            ("/public/a".to_owned(), b"hello".to_vec()),
            ("/public/smuggled".to_owned(), vec![])
        ]
    );
}

#[tokio::test]
async fn sizes_have_limits_and_the_right_answer() {
    let app = App::start().await;
    let gateway = Gateway::before(&app)
        .limits("body_bytes = \"64KiB\"\n")
        .run();
    let raw = async |request: String| {
        status_of(
            &gateway
                .door()
                .raw(request.as_bytes(), Duration::from_millis(500))
                .await,
        )
    };
    let host = "Host: app.test\r\n";
    assert_eq!(
        raw(format!(
            "GET /public HTTP/1.1\r\n{host}X: {}\r\n\r\n",
            "x".repeat(70 << 10)
        ))
        .await,
        431
    );
    let many = (0..200).fold(String::new(), |all, i| format!("{all}X-{i}: y\r\n"));
    assert_eq!(
        raw(format!("GET /public HTTP/1.1\r\n{host}{many}\r\n")).await,
        431
    );
    assert_eq!(
        raw(format!(
            "GET /public/{} HTTP/1.1\r\n{host}\r\n",
            "x".repeat(16 << 10)
        ))
        .await,
        414
    );
    assert_eq!(app.bytes(), 0);
    let over = Ask::post("/public", vec![b'x'; 65 << 10]);
    if let Ok(answer) = gateway.door().try_ask(over).await {
        assert_eq!(answer.status, 413);
    }
    assert!(app.seen().is_empty(), "a body over the limit arrived");
    // Its head was read, and the access line says what it was for; with a length or without.
    gateway
        .until_logged(&[
            "access",
            "\"POST\"",
            "\"app.test\"",
            "\"/public\"",
            "413",
            "malformed",
        ])
        .await;
    let chunk = format!("10400\r\n{}\r\n0\r\n\r\n", "x".repeat(0x10400));
    let chunked =
        format!("POST /public/chunked HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n{chunk}");
    assert_eq!(raw(chunked).await, 413);
    let line = gateway.until_logged(&["access", "/public/chunked"]).await;
    assert!(line.contains("413") && line.contains("malformed"), "{line}");
    app.forget();
    assert_eq!(
        gateway
            .door()
            .ask(Ask::post("/public", vec![b'x'; 64 << 10]))
            .await
            .status,
        200
    );
    assert_eq!(app.only().body_len, 64 << 10);
}

#[tokio::test]
async fn what_the_app_answers_wrongly_does_not_pass_for_right() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    for (path, answer) in [
        (
            "/public/two-lengths",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        ),
        (
            "/public/bare-cr",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: b\rSet-Cookie: evil=1\r\n\r\nok",
        ),
        ("/public/nonsense", "SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        ("/public/no-head", "\r\n\r\n"),
    ] {
        app.script(path, answer);
        let answer = gateway.door().try_ask(Ask::get(path)).await;
        if let Ok(answer) = answer {
            assert_eq!(answer.status, 502, "{path}: {}", answer.text());
            assert!(!answer.text().contains("OpenSSH"), "a 502 shows its cause");
        }
    }
    // Bytes behind an answer are not the next answer.
    app.script("/public/more", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
    assert_eq!(gateway.anon().get("/public/more").await.text(), "ok");
    assert_eq!(
        gateway.anon().get("/public/after").await.text(),
        "hello from the app"
    );
    // An answer that is cut short is cut short for the client.
    app.script(
        "/public/short",
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\nshort",
    );
    for alpn in ["http/1.1", "h2"] {
        let ask = Ask::get("/public/short");
        let cut = match alpn {
            "h2" => gateway.door().h2().await.try_ask(ask).await,
            _ => gateway.door().try_ask(ask).await,
        };
        assert!(
            cut.is_err(),
            "half an answer was passed on as a whole one over {alpn}"
        );
    }
}

#[tokio::test]
async fn a_refused_request_has_its_access_line_too() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let request = format!(
        "GET / HTTP/1.1\r\n{}X y: secret\r\n\r\n",
        crate::harness::gateway::host_line()
    );
    let answer = gateway
        .door()
        .raw(request.as_bytes(), Duration::from_millis(300))
        .await;
    let answer = String::from_utf8_lossy(&answer);
    let id = answer
        .lines()
        .find_map(|line| line.strip_prefix("x-request-id: "))
        .expect("a refusal carries a request id");
    let line = gateway.until_logged(&["access", id]).await;
    assert!(line.contains("\"status\":400"), "{line}");
    assert!(line.contains("malformed"), "{line}");
    assert!(!line.contains("secret"), "{line}");
    assert_eq!(gateway.logged(&["access", id]).len(), 1);
}

#[tokio::test]
async fn r15_silent_connections_leave_descriptors_for_the_admin_listener() {
    let app = App::start().await;
    let gateway = Gateway::before(&app)
        .under(&["prlimit", "--nofile=256:256"])
        .run();
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(gateway.door().tcp().await);
    }
    let open = format!("/proc/{}/fd", gateway.pid());
    until("the gateway to have taken what it takes", async || {
        let taken = std::fs::read_dir(&open).unwrap().count();
        (taken >= 192).then_some(())
    })
    .await;
    // Without a reserve neither a probe nor an upstream could be served until the silent ones time out.
    assert_eq!(gateway.admin("/live").await.0, 200);
    let (_, metrics) = gateway.admin("/metrics").await;
    assert!(metrics.contains("vestibule_connections "), "{metrics}");
    assert!(gateway.logged(&["cannot accept connections"]).is_empty());
    assert_eq!(gateway.logged(&["raise the limit of open files"]).len(), 1);
    drop(silent);
    assert_eq!(gateway.anon().get("/public").await.status, 200);
}
