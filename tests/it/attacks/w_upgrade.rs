//! W: connections that stop being HTTP.

use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::raw;
use crate::harness::app::websocket_key;
use crate::harness::browser::Browser;
use crate::harness::wait::within;
use crate::harness::{App, Gateway, HOST, ORIGIN};

/// A WebSocket through the gateway.
pub type Socket = WebSocketStream<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>;

/// A WebSocket through the gateway, with this browser's cookies.
pub async fn open(browser: &Browser, path: &str, origin: &str) -> Result<Socket, u16> {
    use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
    let mut request = format!("wss://{HOST}{path}").into_client_request().unwrap();
    request
        .headers_mut()
        .insert("origin", origin.parse().unwrap());
    if let Some(cookies) = browser.cookie_line() {
        request
            .headers_mut()
            .insert("cookie", cookies.parse().unwrap());
    }
    let stream = browser.door.tls(&[b"http/1.1"]).await.unwrap();
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
            Err(response.status().as_u16())
        }
        Err(error) => panic!("{error}"),
    }
}

pub async fn echoes(socket: &mut Socket, text: &str) {
    socket.send(Message::text(text)).await.unwrap();
    let back = within("the echo", socket.next()).await;
    assert_eq!(back.unwrap().unwrap(), Message::text(text));
}

#[tokio::test]
async fn w01_nobody_upgrades() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    assert_eq!(
        open(&gateway.anon(), "/socket", ORIGIN).await.err(),
        Some(401)
    );
    assert_eq!(
        open(&gateway.forged(), "/socket", ORIGIN).await.err(),
        Some(401)
    );
    assert_eq!(app.connections(), 0);
    let alice = gateway.signed_in("alice").await;
    let mut socket = open(&alice, "/socket", ORIGIN).await.unwrap();
    echoes(&mut socket, "hello").await;
    let seen = app.only();
    assert_eq!(seen.one("x-forwarded-user"), Some("alice"));
    assert!(!seen.mentions("vestibule-"));
}

#[tokio::test]
async fn w02_another_sites_page_opens_no_socket() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let alice = gateway.signed_in("alice").await;
    for origin in [
        "https://evil.example",
        "https://app.test.evil.example",
        "http://app.test",
        "null",
        "https://app.test:8443",
    ] {
        assert_eq!(
            open(&alice, "/socket", origin).await.err(),
            Some(403),
            "{origin}"
        );
    }
    let cookies = alice.cookie_line().unwrap();
    let handshake = format!(
        "GET /socket HTTP/1.1\r\n{{host}}Cookie: {cookies}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {}\r\n",
        websocket_key()
    );
    // No Origin at all is no browser of ours; two are one too many.
    for extra in [
        "",
        "Origin: https://app.test\r\nOrigin: https://evil.example\r\n",
        "Sec-Fetch-Site: cross-site\r\nOrigin: https://app.test\r\n",
    ] {
        assert_eq!(
            raw(&gateway, &format!("{handshake}{extra}\r\n")).await.0,
            403,
            "{extra}"
        );
    }
    assert_eq!(app.connections(), 0);
}

#[tokio::test]
async fn w03_bytes_behind_a_handshake_are_no_request_to_the_app() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let cookies = gateway.signed_in("alice").await.cookie_line().unwrap();
    for (path, answer) in [
        (
            "/refuses",
            "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n",
        ),
        ("/ignores", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ] {
        app.script(path, answer);
        app.forget();
        let handshake = format!(
            "GET {path} HTTP/1.1\r\n{{host}}Cookie: {cookies}\r\nOrigin: {ORIGIN}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n\r\nGET /admin/smuggled HTTP/1.1\r\nHost: app.test\r\nX-Forwarded-User: root\r\n\r\n",
            websocket_key()
        );
        let (status, _) = raw(&gateway, &handshake).await;
        assert!(matches!(status, 200 | 426 | 400), "{status}");
        for seen in app.seen() {
            assert_eq!(seen.target, path, "smuggled");
            assert!(!seen.mentions("root"));
        }
        // The connection to the app is clean for the next request.
        app.forget();
        assert_eq!(gateway.anon().get("/public/next").await.status, 200);
        assert_eq!(app.only().target, "/public/next");
    }
}

#[tokio::test]
async fn w04_h2c_is_not_negotiated() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    for connection in [
        "Upgrade, HTTP2-Settings",
        "HTTP2-Settings, Upgrade, close",
        "Upgrade",
    ] {
        app.forget();
        let (status, answer) = raw(
            &gateway,
            &format!(
                "GET /public HTTP/1.1\r\n{{host}}Connection: {connection}\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
            ),
        )
        .await;
        assert!(matches!(status, 200 | 400), "{answer}");
        for seen in app.seen() {
            assert!(
                seen.all("upgrade").is_empty() && !seen.mentions("h2c"),
                "{}",
                String::from_utf8_lossy(&seen.head)
            );
            if connection.contains("HTTP2-Settings") {
                assert!(seen.all("http2-settings").is_empty());
            }
        }
    }
}

#[tokio::test]
async fn w05_a_socket_ends_with_its_session() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let alice = gateway.signed_in("alice").await;
    let bob = gateway.signed_in("bob").await;
    let mut hers = open(&alice, "/socket", ORIGIN).await.unwrap();
    let mut his = open(&bob, "/socket", ORIGIN).await.unwrap();
    echoes(&mut hers, "before").await;
    echoes(&mut his, "before").await;
    alice.sign_out().await;
    // Bound of the contract: one second, which `nodes/latency.rs` measures; the machine that runs this is busy with other tests.
    let end = within("the socket ends", hers.next()).await;
    assert!(
        matches!(end, None | Some(Err(_) | Ok(Message::Close(_)))),
        "{end:?}"
    );
    echoes(&mut his, "after").await;
    // An operator's hand ends one as well, and so it does events.
    let revoked = gateway.command(&["session", "revoke", "--user", "bob"]);
    assert!(
        revoked.status.success(),
        "{}",
        String::from_utf8_lossy(&revoked.stderr)
    );
    let end = within("the socket ends", his.next()).await;
    assert!(
        matches!(end, None | Some(Err(_) | Ok(Message::Close(_)))),
        "{end:?}"
    );
}
