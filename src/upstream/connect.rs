//! A new connection to an endpoint: TCP or unix socket, TLS where the endpoint says so, then the HTTP handshake.
//!
//! Must not choose the endpoint or keep the connection; `pool` does both.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::impatient::Impatient;
use crate::upstream::Endpoint;
use crate::upstream::body::RequestBody;

/// Largest answer head that is read.
const MAX_HEAD: usize = 256 * 1024;

/// How TLS to upstreams is spoken.
#[derive(Clone)]
pub(super) struct Tls {
    /// HTTP/2 or HTTP/1.1 by ALPN.
    any: TlsConnector,
    /// HTTP/1.1 only, for WebSockets.
    http1: TlsConnector,
}

impl Tls {
    /// Trusts `roots` and nothing else.
    pub(super) fn new(roots: RootCertStore) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let http1 = TlsConnector::from(Arc::new(config.clone()));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let any = TlsConnector::from(Arc::new(config));
        Ok(Tls { any, http1 })
    }
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Ordinary requests, one after the other or multiplexed.
    Requests,
    /// One handshake that may turn into a tunnel.
    Tunnel,
}

/// A connection that is ready for its first request.
pub(super) enum Connection {
    Http1(http1::SendRequest<RequestBody>),
    Http2(http2::SendRequest<RequestBody>),
}

/// Connects; the caller bounds the time. The connection breaks when the upstream reads nothing for `patience`.
pub(super) async fn connect(
    endpoint: &Endpoint,
    tls: Option<&Tls>,
    purpose: Purpose,
    patience: Duration,
) -> io::Result<Connection> {
    let tcp = async |host: &str, port: u16| {
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        Ok::<_, io::Error>(Impatient::new(stream, patience))
    };
    match endpoint {
        Endpoint::Http { host, port } => handshake1(tcp(host, *port).await?, purpose).await,
        Endpoint::Unix(path) => {
            let stream = UnixStream::connect(path).await?;
            handshake1(Impatient::new(stream, patience), purpose).await
        }
        Endpoint::H2c { host, port } => {
            if purpose == Purpose::Tunnel {
                // RFC 9113 has no Upgrade; extended CONNECT (RFC 8441) is not spoken to upstreams.
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "an h2c upstream takes no WebSockets",
                ));
            }
            handshake2(tcp(host, *port).await?).await
        }
        Endpoint::Https { host, port } => {
            let tls = tls.ok_or_else(|| io::Error::other("no TLS configured"))?;
            let connector = match purpose {
                Purpose::Requests => &tls.any,
                Purpose::Tunnel => &tls.http1,
            };
            let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
            let stream = connector.connect(name, tcp(host, *port).await?).await?;
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                handshake2(stream).await
            } else {
                handshake1(stream, purpose).await
            }
        }
    }
}

async fn handshake1<S>(stream: S, purpose: Purpose) -> io::Result<Connection>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_header_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    match purpose {
        Purpose::Requests => {
            tokio::spawn(async move { ended(connection.await) });
        }
        Purpose::Tunnel => {
            tokio::spawn(async move { ended(connection.with_upgrades().await) });
        }
    }
    Ok(Connection::Http1(sender))
}

async fn handshake2<S>(stream: S) -> io::Result<Connection>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .adaptive_window(true)
        .keep_alive_interval(Some(Duration::from_secs(20)))
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    tokio::spawn(async move { ended(connection.await) });
    Ok(Connection::Http2(sender))
}

/// The request on the connection has its own error; this is for who looks for the cause.
fn ended(result: Result<(), hyper::Error>) {
    if let Err(error) = result {
        tracing::debug!(%error, "upstream connection ended");
    }
}
