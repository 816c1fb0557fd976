//! WebSockets: once the upstream has agreed, bytes are relayed as they are until one side or the session ends.
//!
//! Must not read what passes: extensions such as compression are negotiated between the two ends.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio_util::task::TaskTracker;

/// Resolves when the session that opened a tunnel is over.
pub type SessionEnd = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The client has this long to take the `101`.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(30);
/// Saying goodbye may take this long.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes buffered in each direction.
const BUFFER: usize = 16 * 1024;

/// Relays between both sides on the current runtime, as a task that `tunnels` knows.
pub(super) fn open(
    tunnels: &TaskTracker,
    client: OnUpgrade,
    upstream: OnUpgrade,
    session_end: Option<SessionEnd>,
) {
    tunnels.spawn(async move {
        let both = async { tokio::try_join!(client, upstream) };
        match tokio::time::timeout(UPGRADE_TIMEOUT, both).await {
            Ok(Ok((client, upstream))) => relay(client, upstream, session_end).await,
            Ok(Err(error)) => tracing::debug!(%error, "upgrade failed"),
            Err(_) => tracing::debug!("upgrade timed out"),
        }
    });
}

async fn relay(client: Upgraded, upstream: Upgraded, session_end: Option<SessionEnd>) {
    let mut client = TokioIo::new(client);
    let mut upstream = TokioIo::new(upstream);
    let session_end = async {
        match session_end {
            Some(end) => end.await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER) => {
            if let Err(error) = ended {
                tracing::debug!(%error, "tunnel broke");
            }
        }
        () = session_end => tracing::debug!("tunnel closed with its session"),
    }
    let goodbye = async {
        let _ = tokio::join!(client.shutdown(), upstream.shutdown());
    };
    let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, goodbye).await;
}
