//! The second listener: `/live`, `/ready`, `/metrics` and the admin API. Never public.
//!
//! Plain HTTP/1.1 for probes, scrapers and operators' programs on the same machine or network. It refuses what a browser was
//! talked into sending ([`guard`]); [`api`] does what commands do.

pub mod api;
pub mod guard;
mod token;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::body::Body;
use crate::door;
use crate::listening::ListenError;
use crate::observe::Metrics;
use crate::observe::metrics::CONTENT_TYPE;

pub use api::{Access, Api};
pub use token::Token;

/// Where the admin listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Loopback unless the deployer says otherwise.
    pub listen: SocketAddr,
    /// Who may use the API.
    pub access: Access,
}

/// What keeps a client from holding on to the listener.
#[derive(Clone, Copy)]
struct Limits {
    /// Most connections at once; probes and scrapers need two.
    connections: usize,
    /// A request's head must be there by then.
    head: Duration,
    /// A connection ends by then, whatever it does: clients come again.
    lifetime: Duration,
    /// A readiness check that takes longer is a problem by itself.
    readiness: Duration,
}

const LIMITS: Limits = Limits {
    connections: 64,
    head: Duration::from_secs(5),
    lifetime: Duration::from_secs(60),
    readiness: Duration::from_secs(3),
};

/// Says what keeps this node from serving well; empty = ready. Supplied by whoever knows store and life cycle.
pub trait Readiness: Send + Sync + 'static {
    /// Each problem in a few words for the operator, without secrets: "the store does not answer", "draining".
    fn problems(&self) -> Pin<Box<dyn Future<Output = Vec<String>> + Send + '_>>;
}

/// What the listener shows.
#[derive(Clone)]
pub struct State {
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For `/ready`.
    pub readiness: Arc<dyn Readiness>,
    /// For everything below `/api/`.
    pub api: Arc<Api>,
}

/// Takes the address, so that a start fails early and with a hint.
pub async fn bind(settings: &Settings) -> Result<TcpListener, ListenError> {
    let address = settings.listen;
    TcpListener::bind(address)
        .await
        .map_err(|source| ListenError {
            address,
            key: "[admin] listen",
            source,
        })
}

/// Serves until `shutdown`, which should come after the gateway has drained: until then probes must see "draining".
pub async fn serve(listener: TcpListener, state: State, shutdown: CancellationToken) {
    serve_within(LIMITS, listener, state, shutdown).await;
}

async fn serve_within(
    limits: Limits,
    listener: TcpListener,
    state: State,
    shutdown: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    let tasks = TaskTracker::new();
    door::each(&listener, &permits, &shutdown, |(stream, _), permit| {
        let (state, shutdown) = (state.clone(), shutdown.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                _ = tokio::time::timeout(limits.lifetime, connection(limits, stream, state)) => {}
            }
            drop(permit);
        });
        Ok(())
    })
    .await;
    tasks.close();
    tasks.wait().await;
}

async fn connection(limits: Limits, stream: TcpStream, state: State) {
    let service = hyper::service::service_fn(|request| {
        let state = &state;
        async move { Ok::<_, Infallible>(answer(limits, request, state).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an admin connection ended early");
    }
}

async fn answer(limits: Limits, request: Request<Incoming>, state: &State) -> Response<Body> {
    let mut response = if let Err(refusal) = guard::check(request.uri(), request.headers()) {
        problem(refusal.status(), refusal.detail())
    } else if request.uri().path().starts_with(api::PREFIX) {
        state.api.answer(request, limits.head).await
    } else if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD");
        response
            .headers_mut()
            .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        response
    } else {
        match request.uri().path() {
            "/live" => plain("text/plain; charset=utf-8", "live\n"),
            "/ready" => ready(limits, state).await,
            "/metrics" => plain(CONTENT_TYPE, state.metrics.encode()),
            "/openapi.json" => plain("application/json", api::OPENAPI),
            _ => problem(
                StatusCode::NOT_FOUND,
                "there is /live, /ready, /metrics, /openapi.json and what that describes",
            ),
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

async fn ready(limits: Limits, state: &State) -> Response<Body> {
    let problems = tokio::time::timeout(limits.readiness, state.readiness.problems())
        .await
        .unwrap_or_else(|_| vec!["the readiness check did not end in time".to_owned()]);
    let status = if problems.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = serde_json::json!({ "ready": problems.is_empty(), "problems": problems });
    let mut response = plain("application/json", format!("{body}\n"));
    *response.status_mut() = status;
    response
}

fn plain(content_type: &'static str, body: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::from(body.into()));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// RFC 9457.
fn problem(status: StatusCode, detail: &str) -> Response<Body> {
    let body = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("error"),
        "status": status.as_u16(),
        "detail": detail,
    });
    let mut response = plain("application/problem+json", body.to_string());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests;
