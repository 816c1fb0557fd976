//! The one way in which the gateway itself calls others: providers, key sets, refresh endpoints of services.
//!
//! One request, one answer, bounded in time and size, on a connection of its own; no redirect is followed, no cookie kept,
//! no proxy of the environment asked. Must not know what is asked or what an answer means, nor put anything of a request
//! or an answer into an error: those name the host and the port, and what went wrong.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, HOST, USER_AGENT};
use http::uri::Scheme;
use http::{HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Largest head of an answer, in bytes.
const MAX_HEAD: usize = 64 << 10;

/// What calls are made with.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Certificate authorities that are believed beside the system's.
    pub ca: Vec<CertificateDer<'static>>,
}

/// What a call may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the first look-up of the name to the last byte of the answer.
    pub time: Duration,
    /// Largest body of an answer, in bytes.
    pub bytes: usize,
}

/// Why calls cannot be made at all.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// TLS cannot be configured.
    #[error("TLS for outgoing calls cannot be configured: {0}")]
    Tls(#[from] rustls::Error),
}

/// Why there is no answer. Displayed with host and port, never with a path, query, header or body.
#[derive(Debug, thiserror::Error)]
#[error("{peer}: {cause}")]
pub struct OutboundError {
    /// `host:port`.
    pub peer: String,
    /// What went wrong.
    pub cause: Cause,
}

impl OutboundError {
    /// Whether the request may have reached the other side, so that what it asks for may have happened. When not, the very
    /// same request may be sent again.
    pub fn may_have_arrived(&self) -> bool {
        match self.cause {
            Cause::Url | Cause::Resolve(_) | Cause::Connect(_) | Cause::NoRoots | Cause::Tls(_) => {
                false
            }
            Cause::Timeout { sent, .. } => sent,
            Cause::TooLarge { .. } | Cause::Protocol(_) => true,
        }
    }
}

/// What went wrong with a call.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// Not an absolute http or https URL with a host.
    #[error("not a URL that can be called")]
    Url,
    /// The name has no address.
    #[error("the name cannot be resolved")]
    Resolve(#[source] io::Error),
    /// No connection.
    #[error("cannot be connected to ({0})")]
    Connect(#[source] io::Error),
    /// https is asked for and nobody is believed.
    #[error(
        "no root certificates were found on this system (install ca-certificates, or configure a CA file)"
    )]
    NoRoots,
    /// No TLS: an unknown issuer, a certificate for another name, an old protocol.
    #[error("the TLS handshake failed ({0})")]
    Tls(#[source] io::Error),
    /// Not within [`Limits::time`].
    #[error("gave no answer within {}", crate::units::format_duration(*.limit))]
    Timeout {
        /// The limit.
        limit: Duration,
        /// Whether the request was on its way by then.
        sent: bool,
    },
    /// More than [`Limits::bytes`].
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// The connection broke, or what came was no HTTP/1.1.
    #[error("the answer broke off or is no HTTP")]
    Protocol(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Makes calls. Cheap to clone.
#[derive(Clone)]
pub struct Outbound {
    /// `None` where no root certificate is there: http works, https says why it does not.
    tls: Option<TlsConnector>,
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound").finish_non_exhaustive()
    }
}

impl Outbound {
    /// Reads the system's root certificates and adds the configured ones. That there are none is an error of the calls that
    /// need them.
    pub fn new(settings: Settings) -> Result<Self, SetupError> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        for certificate in settings.ca {
            roots.add(certificate)?;
        }
        if roots.is_empty() {
            return Ok(Outbound { tls: None });
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Outbound {
            tls: Some(TlsConnector::from(Arc::new(config))),
        })
    }

    /// Sends one request to its absolute URL and returns the whole answer, whatever its status: a redirect is an answer like
    /// any other. `Host`, `Content-Length` and `User-Agent` are written here. Whether http is good enough is for the caller to
    /// know; https is never weakened.
    pub async fn send(
        &self,
        request: Request<Bytes>,
        limits: Limits,
    ) -> Result<Response<Bytes>, OutboundError> {
        let Some(target) = Target::of(request.uri()) else {
            return Err(OutboundError {
                peer: "(no host)".to_owned(),
                cause: Cause::Url,
            });
        };
        let mut sent = false;
        let exchange = self.exchange(&target, request, limits, &mut sent);
        let answered = match tokio::time::timeout(limits.time, exchange).await {
            Ok(answered) => answered,
            Err(_) => Err(Cause::Timeout {
                limit: limits.time,
                sent,
            }),
        };
        answered.map_err(|cause| OutboundError {
            peer: target.peer(),
            cause,
        })
    }

    async fn exchange(
        &self,
        target: &Target,
        request: Request<Bytes>,
        limits: Limits,
        sent: &mut bool,
    ) -> Result<Response<Bytes>, Cause> {
        let request = target.prepare(request)?;
        let addresses: Vec<_> = tokio::net::lookup_host((&*target.host, target.port))
            .await
            .map_err(Cause::Resolve)?
            .collect();
        let stream = TcpStream::connect(&*addresses)
            .await
            .map_err(Cause::Connect)?;
        stream.set_nodelay(true).map_err(Cause::Connect)?;
        if !target.tls {
            return talk(stream, request, limits, sent).await;
        }
        let connector = self.tls.as_ref().ok_or(Cause::NoRoots)?;
        let name = ServerName::try_from(target.host.clone()).map_err(|_| Cause::Url)?;
        let stream = connector.connect(name, stream).await.map_err(Cause::Tls)?;
        talk(stream, request, limits, sent).await
    }
}

/// Whether what is sent there can be read on its way: http to anywhere but this machine.
pub(crate) fn is_in_clear(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default();
    let here = host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    url.scheme() == Some(&Scheme::HTTP) && !here
}

/// Where a request goes.
struct Target {
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
    tls: bool,
}

impl Target {
    fn of(uri: &Uri) -> Option<Self> {
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return None,
        };
        let authority = uri.authority()?;
        // Credentials in a URL would have to be sent as something; nobody asked for it.
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return None;
        }
        let host = authority.host();
        let host = host
            .strip_prefix('[')
            .and_then(|inner| inner.strip_suffix(']'))
            .unwrap_or(host);
        Some(Target {
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            tls,
        })
    }

    fn peer(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// The request in origin form with the headers that belong to the connection.
    fn prepare(&self, request: Request<Bytes>) -> Result<Request<Full<Bytes>>, Cause> {
        let (mut parts, body) = request.into_parts();
        let authority = parts.uri.authority().ok_or(Cause::Url)?.as_str();
        let host = HeaderValue::try_from(authority).map_err(|_| Cause::Url)?;
        parts.headers.insert(HOST, host);
        parts.headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("vestibule/", env!("CARGO_PKG_VERSION"))),
        );
        parts
            .headers
            .insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        parts
            .headers
            .insert(CONNECTION, HeaderValue::from_static("close"));
        parts.headers.remove(CONTENT_LENGTH);
        // RFC 9110 section 8.6: a method that expects content says so when there is none, and some servers insist on it (411).
        if body.is_empty() && parts.method == Method::POST {
            parts
                .headers
                .insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let path = match parts.uri.path_and_query() {
            Some(path) => path.as_str().to_owned(),
            None => "/".to_owned(),
        };
        parts.uri = Uri::try_from(path).map_err(|_| Cause::Url)?;
        Ok(Request::from_parts(parts, Full::new(body)))
    }
}

/// One exchange on a connection of its own, which ends with it.
async fn talk<S>(
    stream: S,
    request: Request<Full<Bytes>>,
    limits: Limits,
    sent: &mut bool,
) -> Result<Response<Bytes>, Cause>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| Cause::Protocol(error.into());
    let (mut sender, connection) = http1::Builder::new()
        .max_header_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    // Polled here and not spawned: when the caller's time is over, the connection is gone with it.
    let mut connection = std::pin::pin!(connection);
    *sent = true;
    let answering = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, limits.bytes)
            .collect()
            .await
            .map_err(|error| match error.is::<LengthLimitError>() {
                true => Cause::TooLarge {
                    limit: limits.bytes,
                },
                false => Cause::Protocol(error),
            })?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    };
    let mut answering = std::pin::pin!(answering);
    tokio::select! {
        answered = &mut answering => return answered,
        ended = &mut connection => {
            if let Err(error) = ended {
                return Err(broken(error));
            }
        }
    }
    // The connection has handed over everything that came.
    answering.await
}

#[cfg(test)]
mod tests;
