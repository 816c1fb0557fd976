//! HTTP/2 answers that do not wait for their request's body: they arrive, and what they leave unread holds nothing up.

use std::future::poll_fn;
use std::pin::pin;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Ping, PingPong, RecvStream, SendStream};
use http::Request;
use tokio::time::Instant;

use super::*;

/// More than a stream's first window, so that the server must make room for the rest.
const BODY: usize = 600 << 10;

async fn client(server: &Server) -> (SendRequest<Bytes>, PingPong) {
    let stream = server.connect_as("h2", "localhost").await;
    let (client, mut connection) = h2::client::handshake(stream).await.unwrap();
    let pings = connection.ping_pong().unwrap();
    tokio::spawn(connection);
    (client, pings)
}

/// Sends a head that announces a body, and waits for the whole answer.
async fn answered(
    client: &mut SendRequest<Bytes>,
    request: http::request::Builder,
) -> (u16, SendStream<Bytes>) {
    let (answer, body) = client
        .send_request(request.body(()).unwrap(), false)
        .unwrap();
    let answer = within(answer).await.unwrap();
    let status = answer.status().as_u16();
    read(answer.into_body()).await;
    (status, body)
}

async fn read(mut body: RecvStream) {
    while let Some(data) = within(body.data()).await {
        let length = data.unwrap().len();
        body.flow_control().release_capacity(length).unwrap();
    }
}

/// Sends a whole body; the error is that of a stream that was reset before its end.
async fn send(body: &mut SendStream<Bytes>, mut left: usize) -> Result<(), h2::Error> {
    while left > 0 {
        body.reserve_capacity(left.min(16 << 10));
        let room = match within(poll_fn(|cx| body.poll_capacity(cx))).await {
            Some(room) => room?.min(left),
            None => return Err(h2::Reason::NO_ERROR.into()),
        };
        left -= room;
        body.send_data(vec![0; room].into(), left == 0)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_body_that_nobody_wanted_can_be_sent_to_its_end_after_the_answer() {
    let server = Server::start(Limits {
        body_bytes: Some(1 << 10),
        ..Limits::default()
    })
    .await;
    let post = || Request::post("https://localhost/ignore");
    let cases = [
        ("too large", 413, post().header("content-length", BODY)),
        ("malformed", 400, post().header("host", "other")),
    ];
    for (case, status, request) in cases {
        let request = request.body(()).unwrap();
        let began = Instant::now();
        // Reading on has its time, and this machine may stand still meanwhile.
        loop {
            let (mut client, mut pings) = client(&server).await;
            let (parts, ()) = request.clone().into_parts();
            let mut again = Request::builder().method(parts.method).uri(parts.uri);
            *again.headers_mut().unwrap() = parts.headers;
            let (answer, mut body) = answered(&mut client, again).await;
            assert_eq!(answer, status, "{case}");
            // What follows the answer at once is here when the ping is back.
            within(pings.ping(Ping::opaque())).await.unwrap();
            match send(&mut body, BODY).await {
                Ok(()) => break,
                Err(error) => assert!(began.elapsed() < PATIENCE, "{case}: {error}"),
            }
        }
    }
}

#[tokio::test]
async fn a_success_that_did_not_wait_for_the_body_ends_its_stream_at_once() {
    let server = Server::start(Limits {
        body_bytes: Some(1 << 10),
        ..Limits::default()
    })
    .await;
    let began = Instant::now();
    loop {
        let (mut client, _pings) = client(&server).await;
        let large = Request::post("https://localhost/ignore").header("content-length", BODY);
        let (status, mut refused) = answered(&mut client, large).await;
        assert_eq!(status, 413);
        let request = Request::post("https://localhost/ignore");
        let (status, mut body) = answered(&mut client, request).await;
        assert_eq!(status, 200);
        let reason = within(poll_fn(|cx| body.poll_reset(cx))).await.unwrap();
        assert_eq!(reason, h2::Reason::NO_ERROR);
        // The one that was refused before is still read on, unless this machine stood still.
        if futures_util::poll!(pin!(poll_fn(|cx| refused.poll_reset(cx)))).is_pending() {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "both are read on");
    }
}

#[tokio::test]
async fn a_body_without_end_is_read_no_further_than_it_is_bounded() {
    let server = Server::start(Limits::default()).await;
    let (mut client, _pings) = client(&server).await;
    let malformed = || Request::post("https://localhost/ignore").header("host", "other");
    let (_, mut body) = answered(&mut client, malformed()).await;
    assert!(
        send(&mut body, 64 << 20).await.is_err(),
        "all of it was read"
    );
    // One that sends nothing is let go by time.
    let (_, mut body) = answered(&mut client, malformed()).await;
    let reason = within(poll_fn(|cx| body.poll_reset(cx))).await.unwrap();
    assert_eq!(reason, h2::Reason::NO_ERROR);
}

#[tokio::test]
async fn a_body_that_is_held_unread_after_the_answer_holds_no_stream() {
    let server = Server::start(Limits {
        body_idle_timeout: Duration::from_millis(300),
        ..Limits::default()
    })
    .await;
    let (mut client, _pings) = client(&server).await;
    let request = Request::post("https://localhost/hoard");
    let (status, mut body) = answered(&mut client, request).await;
    assert_eq!(status, 200);
    let reason = within(poll_fn(|cx| body.poll_reset(cx))).await.unwrap();
    assert_eq!(reason, h2::Reason::NO_ERROR);
}

#[tokio::test]
async fn bodies_that_nobody_reads_take_no_room_from_their_neighbours() {
    let server = Server::start(Limits::default()).await;
    let (mut client, _pings) = client(&server).await;
    // Together more than the connection's window, each within its own stream's, while their answers are under way.
    let mut kept = Vec::new();
    for _ in 0..8 {
        let request = Request::post("https://localhost/big").body(()).unwrap();
        let (answer, mut body) = client.send_request(request, false).unwrap();
        let answer = within(answer).await.unwrap();
        send(&mut body, 200 << 10).await.unwrap();
        kept.push((answer, body));
    }
    let (answer, mut body) = {
        let request = Request::post("https://localhost/echo").body(()).unwrap();
        client.send_request(request, false).unwrap()
    };
    send(&mut body, 300 << 10).await.unwrap();
    assert_eq!(within(answer).await.unwrap().status(), 200);
}
