//! A worker: one OS thread with a runtime of its own, so that a connection never moves between cores.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Handler, Limits, connection, tls};

/// How many tasks run, as long as there are any, before sockets are looked at again. A request runs five. What is sent in
/// one turn wakes its receivers once, so that longer turns cost less; a millisecond is nothing to who waits for a busy core.
const TURN: u32 = 256;

/// What every connection of every worker needs.
pub(super) struct Shared<H> {
    pub(super) handler: Arc<H>,
    pub(super) tls: Arc<ArcSwap<tls::Config>>,
    pub(super) limits: Arc<Limits>,
    /// Finish what is in flight.
    pub(super) shutdown: CancellationToken,
    /// Drop everything.
    pub(super) cut: CancellationToken,
    pub(super) tasks: TaskTracker,
}

/// An accepted connection with its permit, which it holds until it ends.
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) permit: OwnedSemaphorePermit,
}

/// Starts worker `index`. It ends when `cut` is cancelled, dropping what still runs.
pub(super) fn spawn<H: Handler>(
    index: usize,
    shared: &Shared<H>,
) -> io::Result<(mpsc::UnboundedSender<Accepted>, JoinHandle<()>)> {
    // Bounded by the connection permits.
    let (sender, mut receiver) = mpsc::unbounded_channel::<Accepted>();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .event_interval(TURN)
        .enable_all()
        .build()?;
    // A token of its own: every connection asks it at every wake-up, and workers should not meet there.
    let shared = Arc::new(Shared {
        handler: Arc::clone(&shared.handler),
        tls: Arc::clone(&shared.tls),
        limits: Arc::clone(&shared.limits),
        shutdown: shared.shutdown.child_token(),
        cut: shared.cut.clone(),
        tasks: shared.tasks.clone(),
    });
    let thread = std::thread::Builder::new()
        .name(format!("worker-{index}"))
        .spawn(move || {
            runtime.block_on(async {
                let serve = async {
                    while let Some(accepted) = receiver.recv().await {
                        let shared = Arc::clone(&shared);
                        let tasks = shared.tasks.clone();
                        tasks.spawn(connection::serve(accepted, index, shared));
                    }
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    () = serve => {}
                    () = shared.cut.cancelled() => {}
                }
            });
            // Without waiting for a name lookup or the like that still blocks somewhere.
            runtime.shutdown_background();
        })?;
    Ok((sender, thread))
}
