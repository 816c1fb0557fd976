//! Real apps from a package registry, unmodified, that take sign-in from a header.

mod jupyter;
mod radicale;

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::harness::gateway::{collect, signal};
use crate::harness::wait::until;

/// A third-party program; ends with the test.
pub struct Program {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
}

impl Program {
    /// Starts it and waits until it listens.
    pub async fn start(command: &mut Command, listens: SocketAddr) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        collect(child.stdout.take().unwrap(), said.clone());
        collect(child.stderr.take().unwrap(), said.clone());
        let mut program = Program { child, said };
        until("the app to listen", async || {
            let ended = program.child.try_wait().unwrap();
            assert!(
                ended.is_none(),
                "it ended: {}",
                program.said.lock().unwrap().join("\n")
            );
            tokio::net::TcpStream::connect(listens).await.ok()
        })
        .await;
        program
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Asked first, so that it can end what it started itself (kernels).
        signal("TERM", self.child.id());
        let waiting = std::time::Instant::now();
        while waiting.elapsed() < std::time::Duration::from_secs(5) {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!(
                "--- the app said:\n{}",
                self.said.lock().unwrap().join("\n")
            );
        }
    }
}
