//! Clients: TLS by rustls, HTTP/1.1 and HTTP/2 by hyper, and raw bytes.
//!
//! No cookies and no opinions here; `browser` adds those.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// No answer of a working gateway takes this long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Where a client comes from and whom it calls.
#[derive(Clone, Debug)]
pub struct Door {
    /// Where the gateway (or a proxy in front of it) listens.
    pub to: SocketAddr,
    /// The client's own address.
    pub from: IpAddr,
    /// SNI and `Host`.
    pub host: String,
}

impl Door {
    pub fn new(to: SocketAddr) -> Self {
        Door {
            to,
            from: Ipv4Addr::LOCALHOST.into(),
            host: super::HOST.to_owned(),
        }
    }

    pub async fn tcp(&self) -> TcpStream {
        self.try_tcp().await.expect("the gateway accepts")
    }

    async fn try_tcp(&self) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(self.from, 0)).unwrap();
        socket.connect(self.to).await
    }

    pub async fn tls(&self, alpn: &[&[u8]]) -> std::io::Result<TlsStream<TcpStream>> {
        self.tls_of(rustls::DEFAULT_VERSIONS, alpn).await
    }

    /// [`Self::tls`] with these versions of the protocol only.
    pub async fn tls_of(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        alpn: &[&[u8]],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let name = ServerName::try_from(self.host.clone()).unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, self.try_tcp().await?)
            .await
    }

    /// One request on an HTTP/1.1 connection of its own.
    pub async fn ask(&self, ask: Ask) -> Answer {
        self.try_ask(ask).await.expect("an answer")
    }

    /// [`Self::ask`], where the connection may well be cut.
    pub async fn try_ask(&self, ask: Ask) -> Result<Answer, Lost> {
        let stream = self.tls(&[b"http/1.1"]).await.map_err(|_| Lost)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|_| Lost)?;
        let running = tokio::spawn(connection.with_upgrades());
        let request = ask.into_request(&self.host, false);
        let answer = tokio::time::timeout(PATIENCE, async {
            Answer::read(sender.send_request(request).await.map_err(|_| Lost)?).await
        })
        .await
        .expect("an answer in time");
        running.abort();
        answer
    }

    /// An HTTP/2 connection to send many requests on.
    pub async fn h2(&self) -> H2 {
        self.try_h2().await.expect("an HTTP/2 connection")
    }

    /// [`Self::h2`], where nobody may be listening.
    pub async fn try_h2(&self) -> Result<H2, Lost> {
        let stream = self.tls(&[b"h2"]).await.map_err(|_| Lost)?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_| Lost)?;
        tokio::spawn(connection);
        Ok(H2 {
            sender,
            host: self.host.clone(),
        })
    }

    /// One request on an HTTP/1.1 connection of its own, whose answer flows on.
    pub async fn open(&self, ask: Ask) -> Flow {
        let stream = self.tls(&[b"http/1.1"]).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let request = ask.into_request(&self.host, false);
        Flow::of(sender.send_request(request).await.unwrap())
    }

    /// Sends bytes as they are over TLS and returns what comes back until the gateway closes, or falls silent for
    /// `quiet` after having said something.
    pub async fn raw(&self, bytes: &[u8], quiet: Duration) -> Vec<u8> {
        let mut stream = self.tls(&[b"http/1.1"]).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.flush().await.unwrap();
        let mut back = Vec::new();
        let mut buffer = [0; 16 << 10];
        loop {
            let patience = if back.is_empty() { PATIENCE } else { quiet };
            match tokio::time::timeout(patience, stream.read(&mut buffer)).await {
                Ok(Ok(0)) | Ok(Err(_)) | Err(_) => return back,
                Ok(Ok(n)) => back.extend_from_slice(&buffer[..n]),
            }
        }
    }
}

/// The connection ended before the answer did.
#[derive(Debug)]
pub struct Lost;

/// One HTTP/2 connection.
#[derive(Clone)]
pub struct H2 {
    pub sender: hyper::client::conn::http2::SendRequest<Full<Bytes>>,
    host: String,
}

impl H2 {
    pub async fn ask(&self, ask: Ask) -> Answer {
        self.try_ask(ask).await.expect("an answer")
    }

    pub async fn try_ask(&self, ask: Ask) -> Result<Answer, Lost> {
        let request = ask.into_request(&self.host, true);
        let mut sender = self.sender.clone();
        tokio::time::timeout(PATIENCE, async move {
            Answer::read(sender.send_request(request).await.map_err(|_| Lost)?).await
        })
        .await
        .expect("an answer in time")
    }
}

impl H2 {
    /// A request whose answer flows on.
    pub async fn open(&self, ask: Ask) -> Flow {
        let request = ask.into_request(&self.host, true);
        Flow::of(self.sender.clone().send_request(request).await.unwrap())
    }
}

/// An answer of which only the head is there yet.
pub struct Flow {
    pub status: u16,
    body: hyper::body::Incoming,
}

impl Flow {
    fn of(response: http::Response<hyper::body::Incoming>) -> Self {
        Flow {
            status: response.status().as_u16(),
            body: response.into_body(),
        }
    }

    /// What comes next; `None` at its end, be it good or bad.
    pub async fn next(&mut self) -> Option<Bytes> {
        let frame = tokio::time::timeout(PATIENCE, self.body.frame())
            .await
            .expect("something happens in time");
        frame?.ok()?.into_data().ok()
    }

    /// Reads on until it is over; how many bytes came.
    pub async fn until_over(&mut self) -> u64 {
        let mut bytes = 0;
        while let Some(data) = self.next().await {
            bytes += data.len() as u64;
        }
        bytes
    }
}

/// A request to be.
#[derive(Clone, Debug)]
pub struct Ask {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Bytes,
}

impl Ask {
    pub fn new(method: &str, target: &str) -> Self {
        Ask {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    pub fn get(target: &str) -> Self {
        Ask::new("GET", target)
    }

    /// A POST as the origin's own pages send it.
    pub fn post(target: &str, body: impl Into<Bytes>) -> Self {
        let mut ask = Ask::new("POST", target).header("origin", super::ORIGIN);
        ask.body = body.into();
        ask
    }

    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers
            .push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub fn into_request(self, host: &str, h2: bool) -> Request<Full<Bytes>> {
        let uri: Uri = if h2 {
            format!("https://{host}{}", self.target).parse().unwrap()
        } else {
            self.target.parse().unwrap()
        };
        let mut request = Request::builder().method(self.method.as_bytes()).uri(uri);
        if !h2
            && !self
                .headers
                .iter()
                .any(|(name, _)| name.eq_ignore_ascii_case("host"))
        {
            request = request.header("host", host);
        }
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        request.body(Full::new(self.body)).unwrap()
    }
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    pub async fn read(response: http::Response<hyper::body::Incoming>) -> Result<Self, Lost> {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|_| Lost)?;
        let trailers = body.trailers().cloned();
        Ok(Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: body.to_bytes().to_vec(),
            trailers,
        })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub fn all(&self, name: &str) -> Vec<String> {
        self.headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text()))
    }

    /// Whether it changes any cookie of the gateway's.
    pub fn sets_cookies(&self) -> bool {
        self.all("set-cookie")
            .iter()
            .any(|cookie| cookie.to_ascii_lowercase().contains("vestibule-"))
    }
}

/// The status code of a raw answer; 0 for a connection closed without one.
pub fn status_of(raw: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(raw);
    text.strip_prefix("HTTP/1.1 ")
        .or_else(|| text.strip_prefix("HTTP/1.0 "))
        .and_then(|rest| rest.get(..3))
        .and_then(|code| code.parse().ok())
        .unwrap_or(0)
}

/// The tests are about sessions; whose certificate it is has tests of its own beside the TLS code.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms =
            rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms =
            rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
