//! The server on a real socket with real TLS, and a small handler that tells what it saw.

mod early;
mod framing;
mod serving;
mod stalls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use super::{Addressed, Authority, Connection, Drained, Handler, Limits, Settings, bind, tls};
use crate::body::Body;

/// No test waits longer than this for anything.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// What the handler saw of one request.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) uri: String,
    pub(super) authority: Arc<Authority>,
    pub(super) target: String,
    pub(super) cookies: Vec<String>,
}

/// Answers by path: `/echo` sends the body back, `/ignore` never reads it, `/hoard` keeps it unread, `/panic` panics, `/big` sends 64 MiB,
/// `/hang` never answers, `/upgrade` answers 101 and echoes; everything else says `hello`.
struct Probe {
    seen: mpsc::UnboundedSender<Seen>,
    tasks: tokio_util::task::TaskTracker,
}

impl Handler for Probe {
    async fn handle(
        &self,
        mut request: Request<Body>,
        addressed: Addressed,
        _: &Arc<Connection>,
    ) -> Response<Body> {
        let _ = self.seen.send(Seen {
            method: request.method().to_string(),
            uri: request.uri().to_string(),
            authority: addressed.authority,
            target: addressed.target.0.into(),
            cookies: request
                .headers()
                .get_all(http::header::COOKIE)
                .iter()
                .map(|value| value.to_str().unwrap().to_owned())
                .collect(),
        });
        match request.uri().path() {
            "/echo" => match request.into_body().collect().await {
                Ok(body) => Response::new(Body::from(body.to_bytes())),
                Err(error) => {
                    let mut response = Response::new(Body::from(error.to_string()));
                    *response.status_mut() = http::StatusCode::BAD_REQUEST;
                    response
                }
            },
            "/hoard" => {
                let body = request.into_body();
                tokio::spawn(async move {
                    std::future::pending::<()>().await;
                    drop(body);
                });
                Response::new(Body::from("hello"))
            }
            "/panic" => panic!("asked to"),
            "/big" => Response::new(Body::stream(Zeros(64 << 20))),
            "/hang" => std::future::pending().await,
            "/upgrade" => {
                let upgrade = hyper::upgrade::on(&mut request);
                self.tasks.spawn(async move {
                    let mut io = hyper_util::rt::TokioIo::new(upgrade.await.unwrap());
                    let mut bytes = [0; 64];
                    while let Ok(n @ 1..) = io.read(&mut bytes).await {
                        let _ = io.write_all(&bytes[..n]).await;
                    }
                });
                Response::builder()
                    .status(101)
                    .header("upgrade", "echo")
                    .header("connection", "upgrade")
                    .body(Body::empty())
                    .unwrap()
            }
            _ => Response::new(Body::from("hello")),
        }
    }
}

/// A body of so many zero bytes.
struct Zeros(usize);

impl http_body::Body for Zeros {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Self::Error>>> {
        let n = self.0.min(64 << 10);
        self.0 -= n;
        std::task::Poll::Ready((n > 0).then(|| Ok(http_body::Frame::data(vec![0; n].into()))))
    }
}

/// A running server.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) redirect: SocketAddr,
    pub(super) seen: mpsc::UnboundedReceiver<Seen>,
    shutdown: CancellationToken,
    running: tokio::task::JoinHandle<Drained>,
    root: CertificateDer<'static>,
}

impl Server {
    pub(super) async fn start(limits: Limits) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let settings = tls::Settings::SelfSigned { names: vec![] };
        let tls = tls::load(&settings, Some(dir.path())).unwrap();
        let root = CertificateDer::from_pem_file(dir.path().join("self-signed.pem")).unwrap();
        Self::start_with(limits, tls, root).await
    }

    pub(super) async fn start_with(
        limits: Limits,
        tls: tls::Config,
        root: CertificateDer<'static>,
    ) -> Server {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let bound = bind(&Settings {
            listen: vec![any],
            redirect_http: Some(any),
            origin: "https://app.example.com".into(),
            origins: [
                ("app.example.com", "https://app.example.com"),
                ("wiki.example.com", "https://wiki.example.com"),
            ]
            .map(|(host, origin)| (host.into(), origin.into()))
            .into(),
            limits,
            workers: 2,
        })
        .await
        .unwrap();
        let (sender, seen) = mpsc::unbounded_channel();
        let shutdown = CancellationToken::new();
        let address = bound.local_addrs()[0];
        let redirect = bound.redirect_addr().unwrap();
        let probe = Arc::new(Probe {
            seen: sender,
            tasks: bound.tasks(),
        });
        let run = bound.run(
            Arc::new(ArcSwap::from_pointee(tls)),
            probe,
            shutdown.clone(),
        );
        Server {
            address,
            redirect,
            seen,
            shutdown,
            running: tokio::spawn(async { run.await.unwrap() }),
            root,
        }
    }

    /// A TLS connection that offers `alpn` and asks for `name`.
    pub(super) async fn connect_as(&self, alpn: &str, name: &str) -> TlsStream<TcpStream> {
        let tcp = TcpStream::connect(self.address).await.unwrap();
        self.tls(tcp, alpn, name).await.unwrap()
    }

    pub(super) async fn tls(
        &self,
        tcp: TcpStream,
        alpn: &str,
        name: &str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        self.tls_and(tcp, alpn, name, b"").await
    }

    /// Sends `first` together with the end of the handshake.
    pub(super) async fn tls_and(
        &self,
        tcp: TcpStream,
        alpn: &str,
        name: &str,
        first: &[u8],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.into()];
        tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect_with(
                ServerName::try_from(name.to_owned()).unwrap(),
                tcp,
                // What is written this early is kept until it can be sent.
                |session| std::io::Write::write_all(&mut session.writer(), first).unwrap(),
            )
            .await
    }

    pub(super) async fn connect(&self) -> TlsStream<TcpStream> {
        self.connect_as("http/1.1", "localhost").await
    }

    /// Sends `bytes` on a new connection and returns everything until the server closes it.
    pub(super) async fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        read_to_close(&mut stream).await
    }

    pub(super) async fn http2(&self) -> hyper::client::conn::http2::SendRequest<Body> {
        let stream = self.connect_as("h2", "localhost").await;
        let (sender, connection) = hyper::client::conn::http2::handshake(
            hyper_util::rt::TokioExecutor::new(),
            hyper_util::rt::TokioIo::new(stream),
        )
        .await
        .unwrap();
        tokio::spawn(connection);
        sender
    }

    pub(super) fn begin_shutdown(&self) {
        self.shutdown.cancel();
    }

    pub(super) async fn stop(self) -> Drained {
        self.shutdown.cancel();
        within(self.running).await.unwrap()
    }
}

/// Everything until the peer closes, as text; panics when it never does.
pub(super) async fn read_to_close(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    // An unclean end still shows what had been received.
    let _ = within(stream.read_to_end(&mut bytes)).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads until `marker` was seen.
pub(super) async fn read_until(
    stream: &mut (impl tokio::io::AsyncRead + Unpin),
    marker: &str,
) -> String {
    let mut bytes = Vec::new();
    while !String::from_utf8_lossy(&bytes).contains(marker) {
        let mut some = [0; 4096];
        let n = within(stream.read(&mut some)).await.unwrap();
        assert!(n > 0, "closed after {:?}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&some[..n]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(super) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("nothing happened within the patience of a test")
}
