//! One request over plain HTTP/1.1, or over TLS without asking whose certificate it is: for what stands beside the gateway.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use url::Url;

use super::client::{Answer, Ask, Door, Lost, PATIENCE};

/// One request to a whole URL on this machine.
pub async fn ask(url: &Url, ask: Ask) -> Result<Answer, Lost> {
    let host = url.host_str().expect("a URL with a host");
    let port = url.port_or_known_default().expect("a URL with a port");
    let to: SocketAddr = ([127, 0, 0, 1], port).into();
    let mut target = url.path().to_owned();
    if let Some(query) = url.query() {
        target = format!("{target}?{query}");
    }
    let ask = Ask { target, ..ask }.header("host", format!("{host}:{port}"));
    if url.scheme() == "https" {
        let mut door = Door::new(to);
        door.host = host.to_owned();
        return door.try_ask(ask).await;
    }
    send(to, ask.into_request(host, false)).await
}

async fn send(to: SocketAddr, request: http::Request<Full<Bytes>>) -> Result<Answer, Lost> {
    let stream = tokio::net::TcpStream::connect(to).await.map_err(|_| Lost)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|_| Lost)?;
    let running = tokio::spawn(connection);
    let answer = tokio::time::timeout(PATIENCE, async {
        Answer::read(sender.send_request(request).await.map_err(|_| Lost)?).await
    })
    .await
    .expect("an answer in time");
    running.abort();
    answer
}
