//! The connection to the store, kept up in the background.
//!
//! Callers never wait for a dead server: while it is known to be away they are refused at once, and a task of its own tries
//! again several times a second. A command that is not answered in time counts as not done; whether it was shows the next
//! read. Must not know what is stored.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, RedisError, Value};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use super::address::Place;
use super::scripts::{Said, Script};
use super::wire::{ANSWER, Dialer, Wire};
use crate::store::StoreError;

/// Between two attempts to connect.
const RETRY: Duration = Duration::from_millis(150);
/// How often the far end is asked whether it is there.
const HEARTBEAT: Duration = Duration::from_millis(250);
/// A cluster goes on with some nodes away; only when no node at all answers for this long it is connected to anew.
const CLUSTER_SILENCE: Duration = Duration::from_secs(2);
/// How many heartbeats lie between two questions to the Sentinels.
const SENTINEL_EVERY: u32 = 4;
/// For the replicas to confirm.
const REPLICAS: Duration = Duration::from_millis(400);

#[derive(Clone)]
enum State {
    /// The first attempt after a loss is under way: worth a moment's wait.
    Connecting,
    Up(Wire, u64),
    Down(Arc<str>),
}

/// A connection that heals itself.
pub(super) struct Link {
    state: watch::Receiver<State>,
    broken: mpsc::Sender<(u64, String)>,
    keeper: tokio::task::AbortHandle,
    replicas: usize,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Link {
    /// Begins to connect, on the runtime of the caller.
    pub(super) fn start(dialer: Arc<Dialer>) -> Self {
        let (publish, state) = watch::channel(State::Connecting);
        let (broken, reports) = mpsc::channel(16);
        let replicas = dialer.replicas();
        let keeper = tokio::spawn(keep(dialer, publish, reports)).abort_handle();
        Link {
            state,
            broken,
            keeper,
            replicas,
        }
    }

    /// Waits until it is connected; why it is not when `patience` is over.
    pub(super) async fn connected(&self, patience: Duration) -> Result<(), StoreError> {
        let mut state = self.state.clone();
        let up = state.wait_for(|state| matches!(state, State::Up(..)));
        if timeout(patience, up).await.is_ok_and(|up| up.is_ok()) {
            return Ok(());
        }
        self.wire().await.map(|_| ())
    }

    /// Sends a command and waits for its answer, for [`ANSWER`] at most.
    pub(super) async fn send(&self, command: &Cmd) -> Result<Value, StoreError> {
        self.within(async |wire| wire.send(command).await).await
    }

    /// Sends a command that names no key to whom `key` belongs.
    pub(super) async fn send_beside(&self, command: &Cmd, key: &str) -> Result<Value, StoreError> {
        self.within(async |wire| wire.send_beside(command.clone(), key).await)
            .await
    }

    /// Runs a script; its two numbers.
    pub(super) async fn run(
        &self,
        script: &Script,
        keys: &[&str],
        arguments: &[&[u8]],
    ) -> Result<(i64, i64), StoreError> {
        let command = |by: &str, what: &str| {
            let mut command = redis::cmd(by);
            command.arg(what).arg(keys.len()).arg(keys).arg(arguments);
            command
        };
        let first = command("EVALSHA", &script.sha);
        let answer = self
            .within(async |wire| match wire.send(&first).await {
                // After a restart, a failover, SCRIPT FLUSH: said once in full, the server knows it again.
                Err(error) if error.code() == Some("NOSCRIPT") => {
                    wire.send(&command("EVAL", &script.code)).await
                }
                answer => answer,
            })
            .await?;
        redis::from_redis_value(answer).map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    /// Runs a script that writes, and waits for the replicas if that is asked for.
    pub(super) async fn write(
        &self,
        script: &Script,
        keys: &[&str],
        arguments: &[&[u8]],
    ) -> Result<Said, StoreError> {
        let said = Said::read(self.run(script, keys, arguments).await?);
        if said == Said::Done
            && let Some(key) = keys.first()
        {
            self.replicated(key).await?;
        }
        Ok(said)
    }

    /// Whether it is spread over several servers, of which one may be away while the others answer.
    pub(super) async fn is_spread(&self) -> Result<bool, StoreError> {
        self.wire().await.map(|(wire, _)| wire.is_cluster())
    }

    async fn replicated(&self, key: &str) -> Result<(), StoreError> {
        if self.replicas == 0 {
            return Ok(());
        }
        let mut command = redis::cmd("WAIT");
        let patience = u64::try_from(REPLICAS.as_millis()).unwrap_or(u64::MAX);
        command.arg(self.replicas).arg(patience);
        let answer = self.send_beside(&command, key).await?;
        match redis::from_redis_value::<usize>(answer) {
            Ok(confirmed) if confirmed >= self.replicas => Ok(()),
            Ok(confirmed) => Err(StoreError::Unavailable(format!(
                "{confirmed} of {} replicas confirmed the write",
                self.replicas
            ))),
            Err(error) => Err(StoreError::Unavailable(error.to_string())),
        }
    }

    async fn within<F>(&self, talk: F) -> Result<Value, StoreError>
    where
        F: AsyncFnOnce(&mut Wire) -> Result<Value, RedisError>,
    {
        let exchange = async {
            let (mut wire, number) = self.wire().await?;
            talk(&mut wire).await.map_err(|error| {
                if is_lost(&error) {
                    // A full queue holds the same news already.
                    let _ = self.broken.try_send((number, error.to_string()));
                }
                StoreError::Unavailable(match error.code() {
                    Some(NOT_PERMITTED) => format!("{error}; its user needs {RIGHTS}"),
                    _ => error.to_string(),
                })
            })
        };
        timeout(ANSWER, exchange)
            .await
            .unwrap_or_else(|_| Err(StoreError::Unavailable("it did not answer in time".into())))
    }

    async fn wire(&self) -> Result<(Wire, u64), StoreError> {
        let mut state = self.state.clone();
        let known = state.wait_for(|state| !matches!(state, State::Connecting));
        let known = timeout(ANSWER / 2, known).await;
        match known.ok().and_then(Result::ok).as_deref() {
            Some(State::Up(wire, number)) => Ok((wire.clone(), *number)),
            Some(State::Down(reason)) => Err(StoreError::Unavailable(reason.to_string())),
            Some(State::Connecting) | None => {
                Err(StoreError::Unavailable("it is being connected to".into()))
            }
        }
    }
}

/// What the gateway's user at the server needs, as `ACL SETUSER` writes it; `+info` for `check --online` alone.
pub(super) const RIGHTS: &str = "~vestibule:* +@all -@dangerous +role +info";
/// The server's word for what a user may not do.
const NOT_PERMITTED: &str = "NOPERM";

/// Whether another connection could do what this one cannot.
fn is_lost(error: &RedisError) -> bool {
    error.is_connection_dropped()
        || (error.is_io_error() && !error.is_timeout())
        || matches!(
            error.code(),
            Some("READONLY" | "NOAUTH" | "WRONGPASS" | "MASTERDOWN" | "LOADING")
        )
}

async fn keep(
    dialer: Arc<Dialer>,
    publish: watch::Sender<State>,
    mut reports: mpsc::Receiver<(u64, String)>,
) {
    let mut number = 0;
    let mut said = None;
    loop {
        let began = Instant::now();
        match dialer.connect().await {
            Ok((wire, place)) => {
                number += 1;
                if said.take().is_some() {
                    tracing::info!("the store is back");
                }
                publish.send_replace(State::Up(wire.clone(), number));
                let reason = attend(&dialer, wire, number, place, &mut reports).await;
                tracing::warn!(reason, "the connection to the store was lost");
                publish.send_replace(State::Connecting);
                said = Some(reason);
                if began.elapsed() > RETRY {
                    continue;
                }
            }
            Err(reason) => {
                if said.as_ref() != Some(&reason) {
                    tracing::error!(reason, "the store cannot be connected to; trying again");
                }
                publish.send_replace(State::Down(reason.as_str().into()));
                said = Some(reason);
            }
        }
        sleep(RETRY).await;
    }
}

/// Watches a connection until it is of no use any more; why.
async fn attend(
    dialer: &Dialer,
    mut wire: Wire,
    number: u64,
    place: Option<Place>,
    reports: &mut mpsc::Receiver<(u64, String)>,
) -> String {
    let mut heard = Instant::now();
    let mut beat = 0u32;
    loop {
        beat = beat.wrapping_add(1);
        tokio::select! {
            () = sleep(HEARTBEAT) => {}
            Some((of, reason)) = reports.recv() => {
                if of == number && !wire.is_cluster() {
                    return reason;
                }
                continue;
            }
        }
        let failed = match timeout(ANSWER, wire.ping()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("it does not answer".to_owned()),
        };
        match failed {
            None => heard = Instant::now(),
            Some(_) if wire.is_cluster() && heard.elapsed() < CLUSTER_SILENCE => {}
            Some(reason) => return reason,
        }
        // A master that was cut off from its Sentinels does not know that it is none any more.
        if let Some(place) = &place
            && beat.is_multiple_of(SENTINEL_EVERY)
            && let Ok(now) = dialer.master().await
            && now != *place
        {
            return format!("the Sentinels call {now} master now");
        }
    }
}
