//! The loop around a listening socket: a permit first, so that connections beyond the limit wait in the kernel; what fails is
//! tried again, and told once until it works again.
//!
//! A leaf for every listener. Must not read a byte of a connection, or know what it is for.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// How long to wait when the process or the system is out of file descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(100);

/// A listening socket of either kind.
pub(crate) trait Socket {
    /// One connection.
    type Arrival;

    /// Waits for the next one.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Arrival>> + Send;

    /// What it is called in the log.
    fn place(&self) -> String;
}

impl Socket for TcpListener {
    type Arrival = (TcpStream, SocketAddr);

    fn accept(&self) -> impl Future<Output = io::Result<Self::Arrival>> + Send {
        TcpListener::accept(self)
    }

    fn place(&self) -> String {
        self.local_addr()
            .map_or_else(|_| "?".to_owned(), |address| address.to_string())
    }
}

impl Socket for UnixListener {
    type Arrival = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        UnixListener::accept(self).await.map(|(stream, _)| stream)
    }

    fn place(&self) -> String {
        "the control socket".to_owned()
    }
}

/// Hands over every connection with its permit, until `shutdown`. An error of `take` counts as one of accepting.
pub(crate) async fn each<S: Socket>(
    socket: &S,
    permits: &Arc<Semaphore>,
    shutdown: &CancellationToken,
    mut take: impl FnMut(S::Arrival, OwnedSemaphorePermit) -> io::Result<()>,
) {
    let mut failing = false;
    loop {
        let one = async {
            let permit = Arc::clone(permits).acquire_owned().await.ok()?;
            Some((permit, socket.accept().await))
        };
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            accepted = one => accepted,
        };
        let Some((permit, accepted)) = accepted else {
            return;
        };
        match accepted.and_then(|arrival| take(arrival, permit)) {
            Ok(()) => failing = false,
            Err(error) if of_one_connection(&error) => {}
            Err(error) => {
                if !failing {
                    failing = true;
                    let address = socket.place();
                    tracing::error!(%error, address, "cannot accept connections; trying again");
                }
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(BACK_OFF) => {}
                }
            }
        }
    }
}

/// Errors that concern the connection that was about to be accepted, not the listener.
fn of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
            | io::ErrorKind::NotConnected
            | io::ErrorKind::InvalidInput
    )
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn what_fails_is_tried_again_and_nobody_comes_in_without_a_permit() {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let permits = Arc::new(Semaphore::new(1));
        let shutdown = CancellationToken::new();
        let (sender, mut taken) = mpsc::unbounded_channel();
        let door = tokio::spawn({
            let (permits, shutdown) = (Arc::clone(&permits), shutdown.clone());
            let mut errors = vec![
                io::ErrorKind::OutOfMemory.into(),
                io::Error::other("no more descriptors"),
                io::ErrorKind::ConnectionAborted.into(),
            ];
            async move {
                each(&socket, &permits, &shutdown, |(stream, peer), permit| {
                    sender.send((stream, peer, permit)).unwrap();
                    errors.pop().map_or(Ok(()), Err)
                })
                .await;
            }
        });
        for _ in 0..6 {
            let client = TcpStream::connect(address).await.unwrap();
            let (stream, peer, permit) = soon(taken.recv()).await.unwrap();
            assert_eq!(peer, client.local_addr().unwrap());
            assert_eq!(permits.available_permits(), 0);
            // The next one waits for it.
            let _next = TcpStream::connect(address).await.unwrap();
            assert!(taken.try_recv().is_err());
            drop((stream, permit));
            drop(soon(taken.recv()).await.unwrap());
        }
        shutdown.cancel();
        soon(door).await.unwrap();
    }

    async fn soon<T>(what: impl Future<Output = T>) -> T {
        let patience = Duration::from_secs(60);
        tokio::time::timeout(patience, what).await.expect("soon")
    }
}
