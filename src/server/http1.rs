//! HTTP/1 on one connection: hyper behind the wire guard, and the service that turns what the guard let through into a
//! call of the [`Handler`].

use std::convert::Infallible;
use std::sync::Arc;

use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufRead, AsyncWrite};

use super::body::{ResponseBody, Sending};
use super::connection::{Context, Draining, handle};
use super::guard::{Exchange, Flight, Guard, Head};
use super::refusal::Refusal;
use super::timeouts::Activity;
use super::{Addressed, Handler, Protocol, RawTarget};

/// Serves until the connection closes or becomes a tunnel.
pub(super) async fn serve<H, S>(
    stream: S,
    activity: &Arc<Activity>,
    context: &Arc<Context<H>>,
) -> hyper::Result<()>
where
    H: Handler,
    S: AsyncBufRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &context.shared.limits;
    let exchange = Arc::new(Exchange::default());
    let guard = Guard::new(
        stream,
        context.connection.peer.ip(),
        Arc::clone(limits),
        Arc::clone(&exchange),
        Arc::clone(activity),
    );
    let service = service_fn(|request| {
        // Taken when hyper delivers the request, not when the answer is first polled: the guard waits for it.
        let (head, flight) = exchange.take();
        answer(
            request,
            head,
            flight,
            Arc::clone(&exchange),
            Arc::clone(context),
        )
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    // The guard has the timeouts. One buffer makes one TLS record, so writes are gathered, not vectored.
    http.header_read_timeout(None)
        .writev(false)
        .max_buf_size(limits.header_bytes.saturating_add(64 << 10));
    if limits.headers > 100 {
        http.max_headers(limits.headers);
    }
    let mut serving = std::pin::pin!(
        http.serve_connection(TokioIo::new(guard), service)
            .with_upgrades()
    );
    tokio::select! {
        biased;
        served = serving.as_mut() => return served,
        () = Draining::of(&context.shared.shutdown) => {}
    }
    serving.as_mut().graceful_shutdown();
    serving.await
}

async fn answer<H: Handler>(
    mut request: Request<Incoming>,
    head: Option<Result<Head, Refusal>>,
    flight: Flight,
    exchange: Arc<Exchange>,
    context: Arc<Context<H>>,
) -> Result<Response<ResponseBody>, Infallible> {
    // hyper delivers nothing that the guard did not announce.
    let head = head.unwrap_or(Err(Refusal::bad("the request cannot be read")));
    let upgrade = head.as_ref().is_ok_and(|head| head.upgrade);
    let mut response = match head.and_then(|head| origin_form(&mut request, head)) {
        Ok(head) => {
            let addressed = Addressed {
                authority: head.authority,
                target: RawTarget(head.target),
            };
            let (mut response, completion) = handle(request, addressed, &context, None).await;
            // What is left of the body must never be read as a request.
            if !completion.is_complete() {
                close(&mut response);
            }
            response
        }
        Err(refusal) => context.refuse(refusal),
    };
    if upgrade {
        let accepted = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        exchange.decide_tunnel(accepted);
        // The client may have spoken the other protocol already.
        if !accepted {
            close(&mut response);
        }
    }
    debug_assert_eq!(context.connection.protocol, Protocol::Http1);
    Ok(response.map(|body| ResponseBody::new(body, Sending::Http1 { _flight: flight })))
}

/// hyper leaves an absolute target as it came; handlers see path and query only.
fn origin_form(request: &mut Request<Incoming>, head: Head) -> Result<Head, Refusal> {
    if request.uri().authority().is_some() {
        *request.uri_mut() = Uri::try_from(&*head.target)
            .map_err(|_| Refusal::bad("the request target cannot be read"))?;
    }
    Ok(head)
}

fn close<B>(response: &mut Response<B>) {
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
}
