//! A new connection to an endpoint: TCP or unix socket, TLS where the endpoint says so, then the HTTP handshake.
//!
//! Must not choose the endpoint or keep the connection; `pool` does both.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

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

/// Connects; the caller bounds the time.
pub(super) async fn connect(
    endpoint: &Endpoint,
    tls: Option<&Tls>,
    purpose: Purpose,
) -> io::Result<Connection> {
    match endpoint {
        Endpoint::Http { host, port } => handshake1(tcp(host, *port).await?, purpose).await,
        Endpoint::Unix(path) => handshake1(UnixStream::connect(path).await?, purpose).await,
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

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn handshake1<S>(stream: S, purpose: Purpose) -> io::Result<Connection>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_header_size(MAX_HEAD)
        .handshake(TokioIo::new(OneByOne(stream)))
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
        .keep_alive_interval(Some(std::time::Duration::from_secs(20)))
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

/// A stream on which a write of one piece, which is what a request without a body is, goes by the system call that costs
/// less than a vectored one.
struct OneByOne<S>(S);

impl<S: AsyncRead + Unpin> AsyncRead for OneByOne<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for OneByOne<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match pieces {
            [piece] => Pin::new(&mut self.0).poll_write(cx, piece),
            _ => Pin::new(&mut self.0).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
