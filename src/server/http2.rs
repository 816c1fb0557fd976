//! HTTP/2 on one connection: hyper behind the frame watcher, one task per stream, GOAWAY when idle or shutting down.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::TaskTracker;

use super::body::{Handed, ResponseBody, Sending};
use super::connection::{Context, handle};
use super::h2_watch::Watch;
use super::refusal::Refusal;
use super::target::{Authorities, check_http2};
use super::timeouts::Activity;
use super::unread::Rest;
use super::{Addressed, Handler};

const STREAMS: u32 = 128;
/// Request bodies in memory: per stream, per connection.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Answer bodies in memory, per stream.
const SEND_BUFFER: usize = 64 << 10;
/// After GOAWAY and with no stream open: how long the peer has to close.
const FAREWELL: Duration = Duration::from_secs(2);

tokio::task_local! {
    /// The stream that the current task serves: hyper gives its service no other way to know.
    static STREAM: Arc<Handed>;
}

/// Serves until the connection closes.
pub(super) async fn serve<H, S>(
    stream: S,
    activity: &Arc<Activity>,
    context: &Arc<Context<H>>,
) -> hyper::Result<()>
where
    H: Handler,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &context.shared.limits;
    let authorities = Mutex::new(Authorities::new(context.connection.peer.ip()));
    let service = service_fn(|mut request| {
        // Checked as soon as hyper delivers it; only what follows is a task of its own.
        let checked = check_http2(
            &mut request,
            &mut authorities.lock().unwrap_or_else(PoisonError::into_inner),
            &context.shared.limits,
        );
        answer(request, checked, Arc::clone(context))
    });
    let mut http = hyper::server::conn::http2::Builder::new(Streams {
        tasks: context.shared.tasks.clone(),
        activity: Arc::clone(activity),
        patience: limits.body_idle_timeout,
    });
    http.timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        // A peer that vanished while a stream is open.
        .keep_alive_interval(limits.idle_timeout)
        .keep_alive_timeout(limits.header_timeout);
    let stream = Watch::new(stream, limits.header_timeout);
    let mut serving = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        biased;
        served = serving.as_mut() => return served,
        () = context.shared.shutdown.cancelled() => {}
        () = activity.idle(limits.idle_timeout) => {}
    }
    serving.as_mut().graceful_shutdown();
    tokio::select! {
        biased;
        served = serving.as_mut() => served,
        () = activity.idle(FAREWELL) => Ok(()),
    }
}

async fn answer<H: Handler>(
    request: Request<Incoming>,
    checked: Result<Addressed, Refusal>,
    context: Arc<Context<H>>,
) -> Result<Response<ResponseBody>, Infallible> {
    let stream = STREAM.try_with(Arc::clone).ok();
    let response = match checked {
        Ok(addressed) => {
            handle(request, addressed, &context, stream.as_ref())
                .await
                .0
        }
        Err(refusal) => {
            if let Some(stream) = &stream {
                stream.unread.leave(Some(request.into_body()));
            }
            context.refuse(refusal)
        }
    };
    if let Some(stream) = &stream {
        stream.unread.answered(response.status());
    }
    let sending = stream.map_or(Sending::Unwatched, Sending::Http2);
    Ok(response.map(|body| ResponseBody::new(body, sending)))
}

/// Runs the streams of one connection; one whose peer makes no room for its answer is reset. One whose answer refuses it
/// before its whole request body has come is kept for a moment, so that the answer arrives.
#[derive(Clone)]
struct Streams {
    tasks: TaskTracker,
    activity: Arc<Activity>,
    patience: Duration,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let open = self.activity.request();
        let patience = self.patience;
        self.tasks.spawn(async move {
            let handed = Arc::new(Handed::default());
            let mut rest = Rest::of(&handed.unread);
            tokio::select! {
                biased;
                () = STREAM.scope(Arc::clone(&handed), stream) => rest.read_on(patience).await,
                () = handed.stalled(patience) => tracing::debug!("a stream's peer does not read"),
                () = rest.read() => {}
            }
            drop(open);
        });
    }
}
