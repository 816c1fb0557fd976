//! One connection: TLS handshake within its time, HTTP/1 or HTTP/2 by ALPN, and the call of the [`Handler`] that both
//! share.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, Waker};

use futures_util::FutureExt as _;
use http::{Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use super::body::{Completion, Handed, request_body};
use super::refusal::Refusal;
use super::timeouts::{Activity, Socket};
use super::worker::{Accepted, Shared};
use super::{Addressed, Connection, Handler, Happening, Protocol, RefusedHead, http1, http2, tls};
use crate::body::Body;

/// What the service of one connection needs.
pub(super) struct Context<H> {
    pub(super) shared: Arc<Shared<H>>,
    pub(super) connection: Arc<Connection>,
    tls: Arc<tls::Config>,
}

/// Tells the handler that a connection is over, also when its task is dropped.
struct Counted<H: Handler>(Arc<H>);

impl<H: Handler> Counted<H> {
    fn new(handler: &Arc<H>) -> Self {
        handler.happened(Happening::Accepted);
        Counted(Arc::clone(handler))
    }
}

impl<H: Handler> Drop for Counted<H> {
    fn drop(&mut self) {
        self.0.happened(Happening::Ended);
    }
}

/// Serves one accepted socket to its end.
pub(super) async fn serve<H: Handler>(accepted: Accepted, worker: usize, shared: Arc<Shared<H>>) {
    let peer = accepted.peer;
    let counted = Counted::new(&shared.handler);
    let Ok(stream) = TcpStream::from_std(accepted.stream) else {
        return;
    };
    let activity = Activity::new();
    let socket = Socket::new(
        stream,
        shared.limits.body_idle_timeout,
        Arc::clone(&activity),
        accepted.permit,
    );
    let tls = shared.tls.load_full();
    let handshake = TlsAcceptor::from(Arc::clone(&tls.rustls)).accept(socket);
    let stream = tokio::select! {
        biased;
        stream = tokio::time::timeout(shared.limits.handshake_timeout, handshake) => match stream {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                counted.0.happened(Happening::HandshakeFailed);
                return tracing::debug!(%peer, %error, "TLS handshake failed");
            }
            Err(_) => {
                counted.0.happened(Happening::HandshakeTimedOut);
                return tracing::debug!(%peer, "TLS handshake took too long");
            }
        },
        () = shared.shutdown.cancelled() => return,
    };
    let (_, session) = stream.get_ref();
    let protocol = match session.alpn_protocol() {
        Some(b"h2") => Protocol::Http2,
        _ => Protocol::Http1,
    };
    let connection = Arc::new(Connection {
        peer,
        server_name: session
            .server_name()
            .map(|name| name.to_ascii_lowercase().into()),
        protocol,
        worker,
    });
    let context = Arc::new(Context {
        shared,
        connection,
        tls,
    });
    let served = match protocol {
        Protocol::Http1 => http1::serve(stream, &activity, &context).await,
        Protocol::Http2 => http2::serve(stream, &activity, &context).await,
    };
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "connection ended early");
    }
}

/// Resolves when the server drains. A connection polls this at every wake, so it asks the token in full only once per task
/// and afterwards by the one question that is cheap.
pub(super) struct Draining<'a> {
    token: &'a CancellationToken,
    cancelled: Pin<Box<WaitForCancellationFuture<'a>>>,
    registered: Option<Waker>,
}

impl<'a> Draining<'a> {
    pub(super) fn of(token: &'a CancellationToken) -> Self {
        Draining {
            token,
            cancelled: Box::pin(token.cancelled()),
            registered: None,
        }
    }
}

impl Future for Draining<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<()> {
        let registered = self.registered.as_ref();
        if registered.is_some_and(|waker| waker.will_wake(cx.waker())) && !self.token.is_cancelled()
        {
            return Poll::Pending;
        }
        self.registered = Some(cx.waker().clone());
        self.cancelled.as_mut().poll(cx)
    }
}

impl<H: Handler> Context<H> {
    /// The answer to a request that the handler never sees.
    pub(super) fn refuse(&self, refusal: Refusal) -> Response<Body> {
        self.refuse_known(refusal, None)
    }

    /// The same for a request whose head was well-formed.
    fn refuse_known(&self, refusal: Refusal, head: Option<RefusedHead<'_>>) -> Response<Body> {
        let request_id = self.tell_of(refusal, head);
        refusal.last_response(self.connection.protocol, &request_id)
    }

    /// Lets the handler hear of a refusal; the id that its answer carries.
    fn tell_of(&self, refusal: Refusal, head: Option<RefusedHead<'_>>) -> String {
        let request_id = uuid::Uuid::now_v7().as_simple().to_string();
        let handler = &self.shared.handler;
        handler.refused(
            refusal.status,
            refusal.reason,
            &request_id,
            head,
            &self.connection,
        );
        request_id
    }
}

/// Hands one well-formed request to the handler, unless its host or size is wrong; a panic becomes a 500.
pub(super) async fn handle<H: Handler>(
    request: Request<Incoming>,
    addressed: Addressed,
    context: &Context<H>,
    stream: Option<&Arc<Handed>>,
) -> (Response<Body>, Completion) {
    let limits = &context.shared.limits;
    let misdirected = context
        .connection
        .server_name
        .as_deref()
        .is_some_and(|name| !context.tls.covers(name, &addressed.authority.host));
    let length = request.body().size_hint().exact();
    let too_large =
        matches!((length, limits.body_bytes), (Some(length), Some(limit)) if length > limit);
    let (parts, body) = request.into_parts();
    let (body, completion) =
        request_body(body, limits.body_bytes, limits.body_idle_timeout, stream);
    if misdirected || too_large {
        let refusal = match misdirected {
            true => Refusal::MISDIRECTED,
            false => Refusal::TOO_LARGE,
        };
        let head = RefusedHead {
            method: parts.method.as_str(),
            host: &addressed.authority.host,
            path: parts.uri.path(),
        };
        return (context.refuse_known(refusal, Some(head)), completion);
    }
    let request = Request::from_parts(parts, body);
    // Called in the very expression that waits: a variable would hold the future a second time.
    let response = match AssertUnwindSafe(context.shared.handler.handle(
        request,
        addressed,
        &context.connection,
    ))
    .catch_unwind()
    .await
    {
        Ok(response) => response,
        Err(_) => {
            context.shared.handler.happened(Happening::Panicked);
            tracing::error!(peer = %context.connection.peer, "a request handler panicked");
            // The request itself was well-formed: the next one on this connection can be served.
            let request_id = context.tell_of(Refusal::BROKE, None);
            Refusal::BROKE.response(&request_id)
        }
    };
    (response, completion)
}
