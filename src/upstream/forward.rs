//! One request to one upstream: rewrite, take a connection, send, wait for the head, hand the answer on.
//!
//! What may be sent twice: a request of which nothing was sent (always, once, on a new connection), and a request with an
//! idempotent method and no body whose connection broke before an answer (once). Nothing else (RFC 9110 section 9.2.2).

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, ready};

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;

use crate::auth::{Permit, Subject};
use crate::body::{Body, BodyError};
use crate::deadline::Deadline;
use crate::headers::hop_by_hop;
use crate::upstream::body::{self, RequestBody, ResponseBody, Watch};
use crate::upstream::pool::{Lease, Pool, Taken};
use crate::upstream::{Forwarding, Plan, Settings, UpstreamError, Upstreams, rewrite, tunnel};

/// Forwards; see [`Upstreams::forward`].
pub(super) async fn forward(
    upstreams: &Upstreams,
    permit: Permit,
    request: &mut Request<Body>,
    context: Forwarding<'_>,
    session_end: impl FnOnce(&Arc<Subject>) -> tunnel::SessionEnd,
) -> Result<Response<Body>, UpstreamError> {
    let plan = &upstreams.plan;
    let index = permit.upstream().0;
    let (Some(settings), Some(pool)) = (plan.settings.get(index), upstreams.pools.get(index))
    else {
        return Err(UpstreamError::Unconfigured);
    };
    // Only an upgrade request has the extension, so that others are not searched for more.
    let client_upgrade = if request.extensions().get::<OnUpgrade>().is_some()
        && *request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && request.body().is_end_stream()
        && hop_by_hop::asks_for_websocket(request.headers())
    {
        request.extensions_mut().remove::<OnUpgrade>()
    } else {
        None
    };
    let body = std::mem::take(request.body_mut());
    let mut headers = std::mem::take(request.headers_mut());
    let (method, uri) = (request.method(), request.uri());
    let cleaned = rewrite::clean(&mut headers, plan, &context);
    let (body, watch) = if body.is_end_stream() {
        if matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
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
    let outgoing = Outgoing {
        plan,
        permit: &permit,
        context: &context,
        cleaned,
        method,
        uri,
    };
    match client_upgrade {
        Some(client) => {
            let session_end = permit.subject().map(session_end);
            let request = outgoing.with(headers, body, true)?;
            // Boxed: rare, and its future is part of that of every request.
            Box::pin(websocket(
                upstreams,
                settings,
                pool,
                request,
                client,
                session_end,
            ))
            .await
        }
        None => ordinary(upstreams, settings, pool, &outgoing, headers, body, watch).await,
    }
}

/// What every try of one request has in common.
struct Outgoing<'a> {
    plan: &'a Plan,
    permit: &'a Permit,
    context: &'a Forwarding<'a>,
    cleaned: rewrite::Cleaned,
    method: &'a Method,
    /// As the client sent it.
    uri: &'a Uri,
}

impl Outgoing<'_> {
    /// The request as the upstream sees it, from what the client sent. Extensions stay behind: they are between the client's
    /// connection and the gateway.
    fn with(
        &self,
        mut headers: HeaderMap,
        body: RequestBody,
        websocket: bool,
    ) -> Result<Request<RequestBody>, UpstreamError> {
        rewrite::write(
            &mut headers,
            &self.cleaned,
            self.permit,
            self.plan,
            self.context,
            websocket,
        )?;
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from(rewrite::target(self.uri, self.permit)?);
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// `headers` = the client's, cleaned: what the gateway adds is cheaper to write a second time than to copy every time.
async fn ordinary(
    upstreams: &Upstreams,
    settings: &Settings,
    pool: &Pool,
    outgoing: &Outgoing<'_>,
    headers: HeaderMap,
    body: RequestBody,
    watch: Option<Watch>,
) -> Result<Response<Body>, UpstreamError> {
    let tls = upstreams.plan.tls.as_ref();
    let repeatable = watch.is_none() && outgoing.method.is_idempotent();
    let kept = repeatable.then(|| headers.clone());
    let mut request = outgoing.with(headers, body, false)?;
    let (taken, used_before) = pool.take(settings, tls, true).await?;
    let failure = match send(taken, request, settings, watch.as_ref()).await? {
        Ok(response) => return Ok(response),
        Err(failure) => failure,
    };
    request = match (failure, kept) {
        (Failure::Unsent(unsent, _), _) if used_before => from_http2(*unsent),
        (Failure::Broken(error), Some(headers)) if !error.is_parse() => {
            outgoing.with(headers, RequestBody::none(), false)?
        }
        (failure, _) => return Err(failure.into()),
    };
    // Rare: a second and last time, on a new connection.
    Box::pin(async {
        let (taken, _) = pool.take(settings, tls, false).await?;
        send(taken, request, settings, watch.as_ref())
            .await?
            .map_err(UpstreamError::from)
    })
    .await
}

/// Sends on this connection and waits for the head of the answer. The inner failure may be one that another try mends.
async fn send(
    taken: Taken,
    request: Request<RequestBody>,
    settings: &Settings,
    watch: Option<&Watch>,
) -> Result<Result<Response<Body>, Failure>, UpstreamError> {
    let (result, lease) = match taken {
        Taken::Http1(mut lease) => {
            let sending = lease.sender.try_send_request(request);
            let at = lease.taken_at + settings.response_timeout;
            let deadline = &mut lease.deadline;
            let result = head(sending, at, settings, watch, deadline).await;
            (result, Some(lease))
        }
        Taken::Http2(mut sender, scheme) => {
            let sending = sender.try_send_request(into_http2(request, scheme)?);
            let at = Instant::now() + settings.response_timeout;
            let deadline = &mut Deadline::default();
            let result = head(sending, at, settings, watch, deadline).await;
            (result, None)
        }
    };
    match result {
        Ok(response) => answer(response, lease, settings).map(Ok),
        Err(failure) => Ok(Err(failure)),
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
    let at = Instant::now() + settings.response_timeout;
    let mut response = head(sending, at, settings, None, &mut Deadline::default()).await?;
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

impl From<Failure> for UpstreamError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unsent(_, error) | Failure::Broken(error) => UpstreamError::Broken(error),
            Failure::Client(error) => UpstreamError::RequestBody(error),
            Failure::Timeout => UpstreamError::ResponseTimeout,
        }
    }
}

/// Waits for the head of the answer until `at`, or longer: the time counts from the last movement of the request's body.
async fn head(
    sending: impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>>,
    mut at: Instant,
    settings: &Settings,
    watch: Option<&Watch>,
    deadline: &mut Deadline,
) -> Result<Response<Incoming>, Failure> {
    let mut sending = pin!(sending);
    let sent = std::future::poll_fn(|cx| {
        if let Poll::Ready(sent) = sending.as_mut().poll(cx) {
            return Poll::Ready(Ok(sent));
        }
        loop {
            ready!(deadline.poll_at(at, cx));
            match watch.map(|watch| body::moved_at(watch) + settings.response_timeout) {
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
    let http2 = std::mem::replace(&mut parts.version, Version::HTTP_11) == Version::HTTP_2;
    parts.extensions.clear();
    let idle_timeout =
        (!rewrite::may_be_silent(&parts.headers)).then_some(settings.body_idle_timeout);
    let body = ResponseBody::new(body, http2, lease, idle_timeout);
    let body = if body.is_end_stream() {
        Body::empty()
    } else {
        Body::Stream(Box::pin(body))
    };
    Ok(Response::from_parts(parts, body))
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
