//! Against an upstream on loopback that records the raw bytes it receives and answers raw bytes.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::task::TaskTracker;

use super::*;
use crate::auth::Subject;
use crate::auth::allow::Allow;
use crate::auth::decision::{Action, AnonymousReason, Decision, act};
use crate::auth::keyset::KeySet;
use crate::auth::path::CanonicalTarget;
use crate::auth::route::{Access, Preflight, Revocation, Route, UpstreamId};
use crate::auth::test_support::{NOW, ORIGIN, claims, keys};

mod answers;
mod identity;
mod protocols;
mod requests;
mod tunnels;

/// One connection to the recording upstream.
struct Conn {
    stream: TcpStream,
    buffer: Vec<u8>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Conn {
    /// The head of the next request; `None` when the gateway has closed the connection.
    async fn head(&mut self) -> Option<String> {
        let end = loop {
            if let Some(at) = self
                .buffer
                .windows(4)
                .position(|window| window == b"\r\n\r\n")
            {
                break at + 4;
            }
            if self.read().await == 0 {
                return None;
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let head = String::from_utf8(head).unwrap();
        self.seen.lock().unwrap().push(head.clone());
        Some(head)
    }

    async fn read(&mut self) -> usize {
        let mut chunk = [0; 4096];
        let read = self.stream.read(&mut chunk).await.unwrap_or(0);
        self.buffer.extend_from_slice(&chunk[..read]);
        read
    }

    /// Reads until the bytes so far end with `end`, and takes them.
    async fn until(&mut self, end: &[u8]) -> Vec<u8> {
        while !self.buffer.ends_with(end) {
            assert_ne!(self.read().await, 0, "closed before {end:?}");
        }
        std::mem::take(&mut self.buffer)
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn ok(&mut self) {
        self.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .await;
    }
}

/// The recording upstream.
struct Recorder {
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

impl Recorder {
    /// Serves every connection with `serve`, which is told its number.
    async fn start<F>(serve: impl Fn(usize, Conn) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let (recorded, counted) = (Arc::clone(&seen), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = counted.fetch_add(1, Ordering::SeqCst);
                let seen = Arc::clone(&recorded);
                let buffer = Vec::new();
                tokio::spawn(serve(
                    number,
                    Conn {
                        stream,
                        buffer,
                        seen,
                    },
                ));
            }
        });
        Recorder {
            port,
            seen,
            connections,
        }
    }

    /// Answers every request with `200 ok`.
    async fn ok() -> Self {
        Self::start(|_, mut conn| async move {
            while conn.head().await.is_some() {
                conn.ok().await
            }
        })
        .await
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn heads(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// The values of `name` in the last request, as they came.
    fn last(&self, name: &str) -> Vec<String> {
        let heads = self.heads();
        let head = heads.last().unwrap();
        head.lines()
            .filter_map(|line| line.split_once(": "))
            .filter(|(line, _)| line.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.to_owned())
            .collect()
    }

    fn endpoint(&self) -> Endpoint {
        http_endpoint(self.port)
    }
}

fn http_endpoint(port: u16) -> Endpoint {
    Endpoint::Http {
        host: "127.0.0.1".into(),
        port,
    }
}

/// A port on which nobody listens, and nobody else can while this is kept: it is bound.
struct DeadPort(TcpSocket);

impl DeadPort {
    fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        DeadPort(socket)
    }

    fn endpoint(&self) -> Endpoint {
        http_endpoint(self.0.local_addr().unwrap().port())
    }
}

/// A gateway's worth of upstream engine around some endpoints.
struct Bench {
    upstreams: Upstreams,
    keys: KeySet,
    tunnels: TaskTracker,
    subject: Arc<Subject>,
    trusted_peer: bool,
}

/// Limits that no exchange reaches, however slow the machine; a test of one of them shortens that one.
fn settings(endpoints: Vec<Endpoint>) -> Settings {
    Settings {
        name: "app".into(),
        endpoints,
        connect_timeout: Duration::from_secs(60),
        response_timeout: Duration::from_secs(60),
        body_idle_timeout: Duration::from_secs(60),
        assertion: true,
        headers: HeaderMapping(vec![
            (HeaderName::from_static("x-forwarded-user"), Claim::User),
            (HeaderName::from_static("x-forwarded-email"), Claim::Email),
            (HeaderName::from_static("x-forwarded-groups"), Claim::Groups),
        ]),
    }
}

impl Bench {
    fn new(endpoints: Vec<Endpoint>) -> Self {
        Self::with(settings(endpoints))
    }

    fn with(settings: Settings) -> Self {
        let tunnels = TaskTracker::new();
        let upstreams =
            Upstreams::with_roots(Arc::new([settings]), ORIGIN.into(), tunnels.clone(), None)
                .unwrap();
        Bench {
            upstreams,
            keys: keys().1,
            tunnels,
            subject: Arc::new(Subject::new(claims())),
            trusted_peer: false,
        }
    }

    fn permit(&self, signed_in: bool, request: &Request<Body>) -> Permit {
        let route = Route {
            host: "app.example.com".into(),
            path: "/".into(),
            methods: vec![],
            upstream: UpstreamId(0),
            access: Access::Optional,
            allow: Allow::default(),
            preflight: Preflight::Deny,
            revocation: Revocation::Pushed,
        };
        let decision = if signed_in {
            Decision::SignedIn(Arc::clone(&self.subject))
        } else {
            Decision::Anonymous(AnonymousReason::NoCredentials)
        };
        let target = request.uri().path_and_query().unwrap().as_str();
        let target = CanonicalTarget::parse(target).unwrap();
        // The CSRF rule is not what is tested here.
        let headers = http::HeaderMap::new();
        match act(&decision, &route, target, &Method::GET, &headers, ORIGIN) {
            Action::Forward(permit) => permit,
            other => panic!("{other:?}"),
        }
    }

    async fn send_as(
        &self,
        signed_in: bool,
        mut request: Request<Body>,
        session_end: Option<SessionEnd>,
    ) -> Result<Response<Body>, UpstreamError> {
        let permit = self.permit(signed_in, &request);
        let context = Forwarding {
            trusted_peer: self.trusted_peer,
            hop: &Hop::new(IpAddr::from([192, 0, 2, 7]), "app.example.com"),
            request_id: &HeaderValue::from_static("req-1"),
            keys: &self.keys,
            now: NOW,
        };
        let session_end = |_: &Arc<Subject>| -> SessionEnd {
            session_end.unwrap_or_else(|| Box::pin(std::future::pending()))
        };
        fn is_send<T: Send>(future: T) -> T {
            future
        }
        let forwarding =
            is_send(
                self.upstreams
                    .forward(permit, &mut request, context, session_end),
            );
        // It is moved for every request: what is rare and large belongs in a box of its own.
        let size = std::mem::size_of_val(&forwarding);
        assert!(size < 4096, "the future of a request grew to {size} bytes");
        forwarding.await
    }

    /// As a signed-in person.
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, UpstreamError> {
        self.send_as(true, request, None).await
    }

    /// As a signed-in person; the whole answer as text.
    async fn fetch(&self, request: Request<Body>) -> (u16, String) {
        text(self.send(request).await.unwrap()).await
    }
}

async fn text(response: Response<Body>) -> (u16, String) {
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

fn get(path: &str) -> Request<Body> {
    request("GET", path, &[], Body::empty())
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = method.parse().unwrap();
    *request.uri_mut() = path.parse().unwrap();
    for (name, value) in headers {
        request.headers_mut().append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    request
}
