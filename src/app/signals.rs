//! What the system tells the process to do.

use std::io::IsTerminal as _;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What the system tells a process to do.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// A terminal that is closed ends what was started in it. Elsewhere SIGHUP is somebody's wish to reload, which must not
    /// end a gateway that people use.
    in_terminal: bool,
}

impl Signals {
    pub(super) fn new() -> Option<Self> {
        Some(Signals {
            terminate: signal(SignalKind::terminate()).ok()?,
            interrupt: signal(SignalKind::interrupt()).ok()?,
            hangup: signal(SignalKind::hangup()).ok()?,
            in_terminal: std::io::stdin().is_terminal() || std::io::stderr().is_terminal(),
        })
    }

    /// Waits until one says that it is time to end.
    pub(super) async fn end(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => {
                    if self.in_terminal {
                        return "SIGHUP";
                    }
                    tracing::warn!("SIGHUP: this version cannot reload; nothing was changed, restart instead");
                }
            }
        }
    }
}
