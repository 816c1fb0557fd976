//! The only place that wires: [`Config`] -> running gateway ([`Running`]). Publishes [`Live`], the parts that are swapped
//! whole. Must not decide anything about a request.

mod live;
mod reports;
mod running;
mod signals;
mod summary;
mod timekeeper;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::runtime::{Builder, Runtime};

use crate::audit::Audit;
use crate::auth::route::UpstreamId;
use crate::bearer::Bearers;
use crate::clock::Clock;
use crate::config::Config;
use crate::external::External;
use crate::listening::ListenError;
use crate::login::backchannel::Backchannel;
use crate::login::local::Local;
use crate::login::oidc::{self, Providers};
use crate::observe::access::AccessLog;
use crate::observe::{LoggingError, Metrics, say};
use crate::session::{OpenError, Sessions};
use crate::store::master_key::MasterKeyError;
use crate::store::{Store, StoreError};
use crate::upstream::{SetupError, Upstreams};
use crate::{control, observe, outbound, server};

pub use live::Live;
pub use running::Running;

/// Everything a request can reach. Made once; what changes while running is inside [`Live`] or an engine.
pub struct App {
    /// Swapped whole; a request takes one snapshot.
    pub live: ArcSwap<Live>,
    /// The session engine.
    pub sessions: Arc<Sessions>,
    /// The service that issues the tokens instead of us, when `[external]` is configured.
    pub external: Option<Arc<External>>,
    /// Built-in accounts, when `[login.local]` is configured.
    pub local: Option<Arc<Local>>,
    /// OpenID providers and OAuth 2 services, as configured; perhaps none.
    pub providers: Arc<Providers>,
    /// What their servers may say.
    pub backchannel: Backchannel,
    /// Bearer tokens, when there is a `[[bearer]]`.
    pub bearers: Option<Arc<Bearers>>,
    /// Counters and histograms.
    pub metrics: Arc<Metrics>,
    /// The audit stream.
    pub audit: Arc<Audit>,
    /// Where "now" comes from.
    pub clock: Clock,
    /// Where access lines go; `None` when they are switched off.
    pub access_log: Option<AccessLog>,
    /// Where everything is kept.
    pub store: Arc<dyn Store>,
    upstreams: Vec<Upstreams>,
    upstream_names: Vec<String>,
}

impl App {
    /// The upstream pools of one worker.
    #[allow(
        clippy::indexing_slicing,
        reason = "the remainder is below the length, and there is one for each worker"
    )]
    pub fn upstreams_of(&self, worker: usize) -> &Upstreams {
        &self.upstreams[worker % self.upstreams.len()]
    }

    /// An upstream's configured name, for logs and metrics.
    pub fn upstream_name(&self, upstream: UpstreamId) -> String {
        self.upstream_names
            .get(upstream.0)
            .cloned()
            .unwrap_or_default()
    }
}

/// Why the gateway did not start; each message says where and how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A runtime thread could not be made.
    #[error("cannot start a runtime: {0}")]
    Runtime(#[source] std::io::Error),
    /// The log.
    #[error(transparent)]
    Logging(#[from] LoggingError),
    /// The node's own folder.
    #[error("cannot make the folder {} (`store.path`): {source}", folder.display())]
    Folder {
        /// As configured.
        folder: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The master key file.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    /// Providers.
    #[error(transparent)]
    Providers(#[from] oidc::SetupError),
    /// The session engine.
    #[error(transparent)]
    Sessions(#[from] OpenError),
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] server::tls::TlsError),
    /// Listeners.
    #[error(transparent)]
    Server(#[from] server::ServerError),
    /// The admin listener.
    #[error(transparent)]
    Admin(#[from] ListenError),
    /// The control socket.
    #[error(transparent)]
    Control(#[from] control::ControlError),
    /// Upstream connections.
    #[error(transparent)]
    Upstream(#[from] SetupError),
    /// Calls of the gateway itself.
    #[error(transparent)]
    Outbound(#[from] outbound::SetupError),
}

/// Things that differ between `run` and `demo`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Show {
    /// Print a line for each renewal.
    pub renewals: bool,
}

/// `vestibule run`: starts, serves until told to stop, drains.
pub fn run(config: Config) -> ExitCode {
    let outcome = observe::init_logging(&config.log)
        .map_err(StartError::from)
        .and_then(|logging| {
            let runtime = runtime()?;
            runtime.block_on(async {
                let summary = summary::Summary::of(&config);
                let clock = Clock::node(config.session.outlived());
                let running = Running::start(config, clock, &logging, Show::default()).await?;
                summary.print(&running).await;
                running.until_told().await;
                Ok(())
            })
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say!("vestibule: {error}");
            // What the file names and cannot be used is a fault of the configuration, like a bad key in the file.
            ExitCode::from(match error {
                // A disk may work again; nothing else about a key mends itself.
                StartError::MasterKey(MasterKeyError::Io { .. } | MasterKeyError::Random) => 1,
                StartError::Tls(_) | StartError::MasterKey(_) => 2,
                _ => 1,
            })
        }
    }
}

/// The control runtime: acceptor, store, password hashing, admin; requests have worker runtimes of their own.
pub fn runtime() -> Result<Runtime, StartError> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(StartError::Runtime)
}
