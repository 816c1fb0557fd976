//! The app behind the gateway: plain TCP, records every byte it receives, answers by script.
//!
//! Speaks HTTP/1.1 by hand, so that framing mistakes of the gateway show as what they are.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, broadcast};

/// A running app.
#[derive(Clone)]
pub struct App {
    pub addr: SocketAddr,
    state: Arc<State>,
}

struct State {
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    broken_off: AtomicUsize,
    bytes: AtomicU64,
    sent: AtomicU64,
    scripts: Mutex<HashMap<String, Vec<u8>>>,
    gate: Semaphore,
    events: broadcast::Sender<String>,
    stopped: tokio_util::sync::CancellationToken,
}

/// One request as it came over the wire.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Request line and headers, with the empty line.
    pub head: Vec<u8>,
    pub method: String,
    pub target: String,
    /// In order, names as written.
    pub headers: Vec<(String, String)>,
    /// The decoded body, when it is not huge.
    pub body: Vec<u8>,
    pub body_len: u64,
    pub body_hash: String,
    /// Trailers of a chunked body.
    pub trailers: Vec<(String, String)>,
}

impl Seen {
    /// Every value of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// The only value of a header.
    pub fn one(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} came more than once: {all:?}");
        all.first().copied()
    }

    /// Whether any byte of the head says so.
    pub fn mentions(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.head)
            .to_ascii_lowercase()
            .contains(&text.to_ascii_lowercase())
    }
}

/// Bodies above this are only hashed.
const KEEP: u64 = 1 << 20;

impl App {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let app = App {
            addr: listener.local_addr().unwrap(),
            state: Arc::new(State {
                seen: Mutex::default(),
                connections: AtomicUsize::new(0),
                broken_off: AtomicUsize::new(0),
                bytes: AtomicU64::new(0),
                sent: AtomicU64::new(0),
                scripts: Mutex::default(),
                gate: Semaphore::new(0),
                events: broadcast::channel(1024).0,
                stopped: tokio_util::sync::CancellationToken::new(),
            }),
        };
        let state = app.state.clone();
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    return;
                };
                state.connections.fetch_add(1, Ordering::SeqCst);
                let state = state.clone();
                tokio::spawn(async move {
                    let stopped = state.stopped.clone();
                    tokio::select! {
                        _ = serve(stream, &state) => {}
                        () = stopped.cancelled() => {}
                    }
                });
            }
        });
        app
    }

    /// What arrived since the start or the last [`Self::forget`], in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// The only request that arrived.
    pub fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(
            seen.len(),
            1,
            "the app should have seen one request: {:?}",
            seen.iter().map(|s| &s.target).collect::<Vec<_>>()
        );
        seen.into_iter().next().unwrap()
    }

    /// The newest request.
    pub fn last(&self) -> Seen {
        self.seen().pop().expect("the app saw a request")
    }

    pub fn forget(&self) {
        self.state.seen.lock().unwrap().clear();
    }

    /// How many connections were ever opened.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// How many request bodies ended before they were complete.
    pub fn broken_off(&self) -> usize {
        self.state.broken_off.load(Ordering::SeqCst)
    }

    /// How many bytes ever arrived.
    pub fn bytes(&self) -> u64 {
        self.state.bytes.load(Ordering::SeqCst)
    }

    /// How many body bytes of `/blob` were written so far.
    pub fn sent(&self) -> u64 {
        self.state.sent.load(Ordering::SeqCst)
    }

    pub fn forget_sent(&self) {
        self.state.sent.store(0, Ordering::SeqCst);
    }

    /// Answers `path` with exactly these bytes from now on; an answer without framing closes the connection, and so does one
    /// that says `Connection: close`.
    pub fn script(&self, path: &str, answer: impl AsRef<[u8]>) {
        let mut scripts = self.state.scripts.lock().unwrap();
        scripts.insert(path.to_owned(), answer.as_ref().to_vec());
    }

    /// Lets `count` requests to `/gate` or `/sink` go on.
    pub fn open_gate(&self, count: usize) {
        self.state.gate.add_permits(count);
    }

    /// Sends an event to every listener of `/events`.
    pub fn publish(&self, event: &str) {
        let _ = self.state.events.send(event.to_owned());
    }

    /// How many listen to `/events`.
    pub fn listeners(&self) -> usize {
        self.state.events.receiver_count()
    }
}

async fn serve(stream: TcpStream, state: &Arc<State>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let Some(mut seen) = read_head(&mut stream, state).await? else {
            return Ok(());
        };
        let path = seen.target.split('?').next().unwrap_or("").to_owned();
        let place = path.rsplit('/').next().unwrap_or("").to_owned();
        let header = |name: &str| seen.one(name).unwrap_or("").to_ascii_lowercase();
        let (expect, length, chunked) = (
            header("expect"),
            header("content-length"),
            header("transfer-encoding").contains("chunked"),
        );
        if place == "sink" {
            state.gate.acquire().await.unwrap().forget();
        }
        if expect == "100-continue" {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        if seen
            .one("upgrade")
            .is_some_and(|u| u.eq_ignore_ascii_case("websocket"))
            && place == "socket"
        {
            let key = seen.one("sec-websocket-key").unwrap_or("").to_owned();
            state.seen.lock().unwrap().push(seen);
            return socket(stream, &key).await;
        }
        if place == "early" {
            state.seen.lock().unwrap().push(seen);
            let answer =
                "HTTP/1.1 403 Forbidden\r\ncontent-length: 5\r\nconnection: close\r\n\r\nearly";
            stream.write_all(answer.as_bytes()).await?;
            return Ok(());
        }
        if place == "eager" {
            let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\neager\r\n";
            stream.write_all(answer.as_bytes()).await?;
        }
        let length = length.parse().unwrap_or(0);
        if let Err(error) = read_body(&mut stream, state, &mut seen, length, chunked).await {
            state.broken_off.fetch_add(1, Ordering::SeqCst);
            return Err(error);
        }
        let script = state.scripts.lock().unwrap().get(&path).cloned();
        let head_only = seen.method == "HEAD";
        let (target, body) = (seen.target.clone(), seen.body.clone());
        let user = seen.one("x-forwarded-user").map(str::to_owned);
        let wants_close = seen
            .all("connection")
            .iter()
            .any(|c| c.eq_ignore_ascii_case("close"));
        state.seen.lock().unwrap().push(seen);
        if let Some(raw) = script {
            stream.write_all(&raw).await?;
            stream.flush().await?;
            let text = String::from_utf8_lossy(&raw).to_ascii_lowercase();
            let framed = text.contains("content-length:")
                || text.contains("transfer-encoding:")
                || text.contains(" 204 ");
            if !framed || text.contains("connection: close") {
                return Ok(());
            }
            continue;
        }
        match place.as_str() {
            "echo" => plain(&mut stream, "application/octet-stream", &body, head_only).await?,
            "gate" => {
                state.gate.acquire().await.unwrap().forget();
                plain(&mut stream, "text/plain", b"gate passed", head_only).await?;
            }
            "eager" => stream.write_all(b"0\r\n\r\n").await?,
            "events" => return events(stream, state).await,
            "trailers" => {
                let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-checksum\r\n\r\n\
                              5\r\nhello\r\n0\r\nx-checksum: abc123\r\n\r\n";
                stream.write_all(answer.as_bytes()).await?;
            }
            "whoami" => {
                let user = user.as_deref().unwrap_or("nobody");
                plain(&mut stream, "text/plain", user.as_bytes(), head_only).await?;
            }
            "blob" => blob(&mut stream, state, &target).await?,
            "page" => {
                plain(
                    &mut stream,
                    "text/html",
                    super::webdriver::PAGE.as_bytes(),
                    head_only,
                )
                .await?;
            }
            _ => plain(&mut stream, "text/plain", b"hello from the app", head_only).await?,
        }
        if wants_close {
            return Ok(());
        }
    }
}

async fn read_head(
    stream: &mut BufReader<TcpStream>,
    state: &State,
) -> std::io::Result<Option<Seen>> {
    let mut head = Vec::new();
    loop {
        let start = head.len();
        let n = stream.read_until(b'\n', &mut head).await?;
        state.bytes.fetch_add(n as u64, Ordering::SeqCst);
        if n == 0 {
            return Ok(None);
        }
        if start > 0 && matches!(&head[start..], b"\r\n" | b"\n") {
            break;
        }
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut lines = text.split("\r\n");
    let mut first = lines.next().unwrap_or("").splitn(3, ' ');
    let (method, target) = (
        first.next().unwrap_or("").to_owned(),
        first.next().unwrap_or("").to_owned(),
    );
    Ok(Some(Seen {
        method,
        target,
        headers: lines.filter_map(header_line).collect(),
        head,
        body: Vec::new(),
        body_len: 0,
        body_hash: String::new(),
        trailers: Vec::new(),
    }))
}

fn header_line(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    Some((name.to_owned(), value.trim().to_owned()))
}

async fn read_body(
    stream: &mut BufReader<TcpStream>,
    state: &State,
    seen: &mut Seen,
    length: u64,
    chunked: bool,
) -> std::io::Result<()> {
    let mut hash = Context::new(&SHA256);
    if chunked {
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let size = u64::from_str_radix(line.trim().split(';').next().unwrap_or(""), 16)
                .map_err(|_| std::io::ErrorKind::InvalidData)?;
            if size == 0 {
                break;
            }
            read_part(stream, state, seen, &mut hash, size).await?;
            stream.read_line(&mut line).await?;
        }
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            match header_line(line.trim_end()) {
                Some(trailer) => seen.trailers.push(trailer),
                None => break,
            }
        }
    } else {
        read_part(stream, state, seen, &mut hash, length).await?;
    }
    seen.body_hash = hex(hash.finish().as_ref());
    Ok(())
}

async fn read_part(
    stream: &mut BufReader<TcpStream>,
    state: &State,
    seen: &mut Seen,
    hash: &mut Context,
    mut left: u64,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    while left > 0 {
        let want = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let n = stream.read(&mut buffer[..want]).await?;
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        state.bytes.fetch_add(n as u64, Ordering::SeqCst);
        hash.update(&buffer[..n]);
        seen.body_len += n as u64;
        if seen.body_len <= KEEP {
            seen.body.extend_from_slice(&buffer[..n]);
        }
        left -= n as u64;
    }
    Ok(())
}

async fn plain(
    stream: &mut BufReader<TcpStream>,
    kind: &str,
    body: &[u8],
    head_only: bool,
) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    if !head_only {
        stream.write_all(body).await?;
    }
    stream.flush().await
}

/// The bytes of `/blob`: cheap to make, different everywhere, the same each time.
pub fn blob_bytes(offset: u64, len: usize) -> Vec<u8> {
    (offset..offset + len as u64)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

async fn blob(
    stream: &mut BufReader<TcpStream>,
    state: &State,
    target: &str,
) -> std::io::Result<()> {
    let size: u64 = target
        .split_once("size=")
        .and_then(|(_, size)| size.parse().ok())
        .unwrap_or(0);
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut offset = 0;
    while offset < size {
        let len = usize::try_from((size - offset).min(64 << 10)).unwrap();
        stream.write_all(&blob_bytes(offset, len)).await?;
        offset += len as u64;
        state.sent.fetch_add(len as u64, Ordering::SeqCst);
    }
    stream.flush().await
}

async fn events(mut stream: BufReader<TcpStream>, state: &State) -> std::io::Result<()> {
    let mut events = state.events.subscribe();
    stream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        .await?;
    stream.flush().await?;
    let mut byte = [0];
    loop {
        tokio::select! {
            event = events.recv() => {
                let Ok(event) = event else { return Ok(()) };
                let text = format!("data: {event}\n\n");
                stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await?;
                stream.flush().await?;
            }
            _ = stream.read(&mut byte) => return Ok(()),
        }
    }
}

async fn socket(mut stream: BufReader<TcpStream>, key: &str) -> std::io::Result<()> {
    use futures_util::{SinkExt as _, StreamExt as _};
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
    use tokio_tungstenite::tungstenite::protocol::Role;
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    stream.write_all(head.as_bytes()).await?;
    stream.flush().await?;
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    while let Some(Ok(message)) = socket.next().await {
        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
            break;
        }
    }
    Ok(())
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(aws_lc_rs::digest::digest(&SHA256, bytes).as_ref())
}

/// A nonce for a WebSocket handshake written by hand.
pub fn websocket_key() -> String {
    base64::engine::general_purpose::STANDARD.encode(b"sixteen bytes ok")
}

impl Drop for State {
    fn drop(&mut self) {
        self.stopped.cancel();
    }
}
