//! One request to one upstream: rewrite, take a connection, send, wait for the head, hand the answer on.
//!
//! What may be sent twice: a request of which nothing was sent (always, once, on a new connection), and a request with an
//! idempotent method and no body whose connection broke before an answer (once). Nothing else (RFC 9110 section 9.2.2).

use std::future::Future;
use std::pin::pin;
use std::task::{Poll, ready};
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;

use crate::auth::Permit;
use crate::body::{Body, BodyError};
use crate::deadline::Deadline;
use crate::headers::hop_by_hop;
use crate::upstream::body::{self, RequestBody, ResponseBody, Watch};
use crate::upstream::pool::{Lease, Pool, Taken};
use crate::upstream::{Forwarding, Settings, UpstreamError, Upstreams, rewrite, tunnel};

/// Forwards; see [`Upstreams::forward`].
pub(super) async fn forward(
    upstreams: &Upstreams,
    permit: Permit,
    request: Request<Body>,
    context: Forwarding<'_>,
) -> Result<Response<Body>, UpstreamError> {
    let plan = &upstreams.plan;
    let index = permit.upstream().0;
    let (Some(settings), Some(pool)) = (plan.settings.get(index), upstreams.pools.get(index))
    else {
        return Err(UpstreamError::Unconfigured);
    };
    let (mut parts, body) = request.into_parts();
    let client_upgrade = if parts.method == Method::GET
        && parts.version == Version::HTTP_11
        && body.is_end_stream()
        && hop_by_hop::asks_for_websocket(&parts.headers)
    {
        parts.extensions.remove::<OnUpgrade>()
    } else {
        None
    };
    rewrite::request(
        &mut parts.headers,
        &permit,
        plan,
        &context,
        client_upgrade.is_some(),
    )?;
    let target = rewrite::target(parts.uri, &permit)?;
    let headers = &mut parts.headers;
    let (body, watch) = if body.is_end_stream() {
        if matches!(parts.method, Method::POST | Method::PUT | Method::PATCH) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        } else if headers
            .get(CONTENT_LENGTH)
            .is_some_and(|length| length != "0")
        {
            // Somebody has read the body already; a length without bytes would swallow the next request.
            headers.remove(CONTENT_LENGTH);
        }
        (RequestBody::none(), None)
    } else {
        if !headers.contains_key(CONTENT_LENGTH) && body.size_hint().exact().is_none() {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let (body, watch) = RequestBody::watched(body, plan);
        (body, Some(watch))
    };
    // Extensions stay behind: they are between the client's connection and the gateway.
    let mut request = Request::new(body);
    *request.method_mut() = parts.method;
    *request.uri_mut() = Uri::from(target);
    *request.headers_mut() = parts.headers;

    match client_upgrade {
        Some(client) => {
            // Boxed: rare, and its future is part of that of every request.
            Box::pin(websocket(
                upstreams,
                settings,
                pool,
                request,
                client,
                context.session_end,
            ))
            .await
        }
        None => ordinary(upstreams, settings, pool, request, watch).await,
    }
}

async fn ordinary(
    upstreams: &Upstreams,
    settings: &Settings,
    pool: &Pool,
    mut request: Request<RequestBody>,
    watch: Option<Watch>,
) -> Result<Response<Body>, UpstreamError> {
    let tls = upstreams.plan.tls.as_ref();
    let repeatable = watch.is_none() && request.method().is_idempotent();
    let mut first_try = true;
    loop {
        let (taken, used_before) = pool.take(settings, tls, first_try).await?;
        let again = (repeatable && first_try).then(|| copy_of(&request));
        let (result, lease) = match taken {
            Taken::Http1(mut lease) => {
                let sending = lease.sender.try_send_request(request);
                let deadline = &mut lease.deadline;
                let result =
                    head(sending, settings.response_timeout, watch.as_ref(), deadline).await;
                (result, Some(lease))
            }
            Taken::Http2(mut sender, scheme) => {
                let sending = sender.try_send_request(into_http2(request, scheme)?);
                let deadline = &mut Deadline::default();
                let result =
                    head(sending, settings.response_timeout, watch.as_ref(), deadline).await;
                (result, None)
            }
        };
        request = match result {
            Ok(response) => return answer(response, lease, settings),
            Err(Failure::Unsent(unsent, _)) if first_try && used_before => from_http2(*unsent),
            Err(Failure::Unsent(_, error)) => return Err(UpstreamError::Broken(error)),
            Err(Failure::Broken(error)) => match again {
                Some(again) if !error.is_parse() => again,
                _ => return Err(UpstreamError::Broken(error)),
            },
            Err(Failure::Client(error)) => return Err(UpstreamError::RequestBody(error)),
            Err(Failure::Timeout) => return Err(UpstreamError::ResponseTimeout),
        };
        first_try = false;
    }
}

async fn websocket(
    upstreams: &Upstreams,
    settings: &Settings,
    pool: &Pool,
    request: Request<RequestBody>,
    client: OnUpgrade,
    session_end: Option<tunnel::SessionEnd>,
) -> Result<Response<Body>, UpstreamError> {
    let tls = upstreams.plan.tls.as_ref();
    let mut sender = pool.take_for_tunnel(settings, tls).await?;
    let sending = sender.try_send_request(request);
    let deadline = &mut Deadline::default();
    let mut response = match head(sending, settings.response_timeout, None, deadline).await {
        Ok(response) => response,
        Err(Failure::Unsent(_, error) | Failure::Broken(error)) => {
            return Err(UpstreamError::Broken(error));
        }
        Err(Failure::Client(error)) => return Err(UpstreamError::RequestBody(error)),
        Err(Failure::Timeout) => return Err(UpstreamError::ResponseTimeout),
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        // What the client sent behind its handshake was meant for the other protocol: it must not be read as a request.
        let mut response = answer(response, None, settings)?;
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
        return Ok(response);
    }
    if !hop_by_hop::asks_for_websocket(response.headers()) {
        return Err(UpstreamError::BrokenAnswer);
    }
    let upstream = hyper::upgrade::on(&mut response);
    tunnel::open(&upstreams.tunnels, client, upstream, session_end);
    let (mut parts, _) = response.into_parts();
    rewrite::answer(parts.status, &mut parts.headers);
    rewrite::switching(&mut parts.headers);
    parts.extensions.clear();
    Ok(Response::from_parts(parts, Body::empty()))
}

/// Why there is no answer.
enum Failure {
    /// Nothing was sent; here is the request.
    Unsent(Box<Request<RequestBody>>, hyper::Error),
    /// The connection or the answer broke.
    Broken(hyper::Error),
    /// The client's body broke.
    Client(BodyError),
    /// No head in time.
    Timeout,
}

/// Waits for the head of the answer. The time counts from the last movement of the request's body.
async fn head(
    sending: impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>>,
    timeout: Duration,
    watch: Option<&Watch>,
    deadline: &mut Deadline,
) -> Result<Response<Incoming>, Failure> {
    let mut sending = pin!(sending);
    let mut at = Instant::now() + timeout;
    let sent = std::future::poll_fn(|cx| {
        if let Poll::Ready(sent) = sending.as_mut().poll(cx) {
            return Poll::Ready(Ok(sent));
        }
        loop {
            ready!(deadline.poll_at(at, cx));
            match watch.map(|watch| body::moved_at(watch) + timeout) {
                Some(later) if later > at => at = later,
                _ => return Poll::Ready(Err(Failure::Timeout)),
            }
        }
    })
    .await?;
    sent.map_err(|mut error| {
        if let Some(failure) = watch.and_then(body::take_failure) {
            return Failure::Client(failure);
        }
        match error.take_message() {
            Some(request) => Failure::Unsent(Box::new(request), error.into_error()),
            None => Failure::Broken(error.into_error()),
        }
    })
}

/// The answer as the client gets it; `lease` goes back to its pool when the body has ended.
fn answer(
    response: Response<Incoming>,
    lease: Option<Lease>,
    settings: &Settings,
) -> Result<Response<Body>, UpstreamError> {
    let (mut parts, body) = response.into_parts();
    if parts.status == StatusCode::SWITCHING_PROTOCOLS
        || !rewrite::answer_is_sound(parts.status, &parts.headers)
    {
        return Err(UpstreamError::BrokenAnswer);
    }
    let refused = rewrite::answer(parts.status, &mut parts.headers);
    if refused > 0 {
        tracing::warn!(upstream = %settings.name, refused, "the upstream tried to set cookies of the gateway");
    }
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    let idle_timeout =
        (!rewrite::may_be_silent(&parts.headers)).then_some(settings.body_idle_timeout);
    let body = ResponseBody::new(body, lease, idle_timeout);
    let body = if body.is_end_stream() {
        Body::empty()
    } else {
        Body::Stream(Box::pin(body))
    };
    Ok(Response::from_parts(parts, body))
}

/// The same request once more; only for requests without a body.
fn copy_of(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::none());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// `Host` becomes `:authority`, and what HTTP/2 has no place for goes (RFC 9113 section 8.2.2).
fn into_http2(
    mut request: Request<RequestBody>,
    scheme: &'static str,
) -> Result<Request<RequestBody>, UpstreamError> {
    let headers = request.headers_mut();
    headers.remove(TRANSFER_ENCODING);
    headers.remove(CONNECTION);
    let host = headers.remove(HOST).ok_or(UpstreamError::Target)?;
    let authority = Authority::try_from(host.as_bytes()).map_err(|_| UpstreamError::Target)?;
    let mut uri = std::mem::take(request.uri_mut()).into_parts();
    uri.scheme = Some(if scheme == "https" {
        Scheme::HTTPS
    } else {
        Scheme::HTTP
    });
    uri.authority = Some(authority);
    *request.uri_mut() = Uri::from_parts(uri).map_err(|_| UpstreamError::Target)?;
    *request.version_mut() = Version::HTTP_2;
    Ok(request)
}

/// Undoes [`into_http2`] for a request that comes back unsent; leaves others alone.
fn from_http2(mut request: Request<RequestBody>) -> Request<RequestBody> {
    if request.version() != Version::HTTP_2 {
        return request;
    }
    let uri = std::mem::take(request.uri_mut()).into_parts();
    if let Some(target) = uri.path_and_query {
        *request.uri_mut() = Uri::from(target);
    }
    if let Some(host) = uri
        .authority
        .and_then(|authority| HeaderValue::from_str(authority.as_str()).ok())
    {
        request.headers_mut().insert(HOST, host);
    }
    if !request.body().is_end_stream() && !request.headers().contains_key(CONTENT_LENGTH) {
        request
            .headers_mut()
            .insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    *request.version_mut() = Version::HTTP_11;
    request
}
