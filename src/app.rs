//! The only place that wires: [`Config`] -> running gateway. Publishes [`Live`] (the parts that are swapped whole),
//! starts the listeners, says where to go next, drains on a signal. Must not decide anything about a request.

mod reports;
mod summary;
mod timekeeper;

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::audit::{Audit, AuditEvent};
use crate::auth::Identity;
use crate::auth::credentials::CookieNames;
use crate::auth::refresh_token::MasterKeys;
use crate::auth::route::{RouteTable, UpstreamId};
use crate::bearer::Bearers;
use crate::clock::Clock;
use crate::config::{Config, Origin};
use crate::external::External;
use crate::gateway::Gateway;
use crate::headers::cookie::CookieStyle;
use crate::headers::forwarded::TrustedProxies;
use crate::login::backchannel::Backchannel;
use crate::login::local::Local;
use crate::login::oidc::{self, Providers};
use crate::login::return_to::AllowedHosts;
use crate::observe::access::AccessLog;
use crate::observe::metrics::RouteMetrics;
use crate::observe::{Logging, LoggingError, Metrics, say};
use crate::outbound::Outbound;
use crate::server::Authority;
use crate::session::{IdentitySource, OpenError, Refreshed, Sessions, SourceUnavailable};
use crate::store::master_key::MasterKeyError;
use crate::store::{Store, StoreError};
use crate::upstream::{SetupError, Upstreams};
use crate::{admin, control, external, observe, outbound, server, session, store};

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

/// The parts of the configuration that the request path reads.
pub struct Live {
    /// All rules.
    pub routes: RouteTable,
    /// One label per route for logs and metrics, by index.
    pub route_labels: Vec<String>,
    /// The counters of each route, by index.
    pub route_metrics: Vec<RouteMetrics>,
    /// The counters of requests that no route took.
    pub unrouted_metrics: RouteMetrics,
    /// The configured origin, `https://host[:port]`.
    pub origin: String,
    /// Its host.
    pub host: String,
    /// Its port.
    port: u16,
    /// Host -> origin, for every host that is served.
    origins: BTreeMap<String, String>,
    /// Names of our cookies.
    pub cookie_names: CookieNames,
    /// How they are written.
    pub cookie_style: CookieStyle,
    /// Whose forwarding headers are believed.
    pub trusted_proxies: TrustedProxies,
    /// Where a sign-in may lead back to.
    pub return_hosts: AllowedHosts,
    /// The rotation rule's redelivery window: bounds how late an answer may carry cookies.
    pub redelivery_window: Duration,
}

impl Live {
    /// `https://host[:port]` of a host that is served here; `None` for any other.
    /// A port that is named must be the one that users see: it would reach the app in `Host` otherwise.
    pub fn origin_of(&self, authority: &Authority) -> Option<&str> {
        match authority.port {
            Some(port) if port != self.port => None,
            _ => self.origins.get(&*authority.host).map(String::as_str),
        }
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
    Admin(#[from] admin::AdminError),
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

/// A started gateway.
pub struct Running {
    /// Where it listens.
    pub addresses: Vec<SocketAddr>,
    /// Where the admin listener listens.
    pub admin: Option<SocketAddr>,
    /// Where plain HTTP is redirected.
    pub redirect: Option<SocketAddr>,
    /// What requests reach.
    pub app: Arc<App>,
    /// Ends the drain's beginning: no new connections.
    draining: CancellationToken,
    /// Ends what must outlive the drain: probes and the control socket.
    stopped: CancellationToken,
    served: tokio::task::JoinHandle<Result<server::Drained, server::ServerError>>,
    grace: Duration,
    signals: Option<Signals>,
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
            // A certificate that cannot be used is a fault of the configuration, like a bad key in the file.
            ExitCode::from(if matches!(error, StartError::Tls(_)) {
                2
            } else {
                1
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

impl Running {
    /// Wires and starts everything; returns once every listener accepts.
    pub async fn start(
        config: Config,
        clock: Clock,
        logging: &Logging,
        show: Show,
    ) -> Result<Self, StartError> {
        // First of all: whoever sees this gateway listen may tell it to end.
        let signals = Signals::new();
        let tls = server::tls::load(&config.tls, Some(&config.store.path))?;
        let master = match &config.store.master {
            Some(given) => given.clone(),
            None => store::master_key(&config.store.path)?,
        };
        let previous = &config.store.previous;
        let kept = store::open(
            &config.store.kind,
            &config.store.path,
            &master,
            previous,
            &clock,
        )
        .await?;
        let providers = Arc::new(Providers::start(
            config.providers.clone(),
            &master,
            previous,
            clock.clone(),
            &Handle::current(),
        )?);
        let asked = session::Providers::new(Arc::clone(&providers) as _, &master, previous);
        let master = MasterKeys::new(&master, previous);

        let metrics = Arc::new(Metrics::new(logging.lines().dropped()));
        let audit = Arc::new(Audit::new(
            Arc::clone(logging.lines()),
            logging.format(),
            clock.clone(),
        ));
        let local = config
            .local
            .clone()
            .map(|settings| Arc::new(Local::new(Arc::clone(&kept), settings, clock.clone())));
        let accounts: Arc<dyn IdentitySource> = match &local {
            Some(local) => Arc::clone(local) as Arc<dyn IdentitySource>,
            None => Arc::new(NobodySignsIn),
        };
        let source = session::Sources {
            accounts,
            providers: asked,
        };
        let reports = Arc::new(reports::Reports::new(
            Arc::clone(&metrics),
            Arc::clone(&audit),
            show,
        ));
        let external = match &config.external {
            Some(configured) => Some(External::new(
                configured.settings.clone(),
                Outbound::new(configured.outbound.clone())?,
                clock.clone(),
                Arc::clone(&reports) as Arc<dyn external::Observer>,
                Handle::current(),
            )),
            None => None,
        };
        let sessions = Sessions::open(
            config.session.clone(),
            Arc::clone(&kept),
            master,
            source,
            clock.clone(),
            reports,
            Handle::current(),
        )
        .await?;

        tokio::spawn(timekeeper::work(
            Arc::downgrade(&sessions),
            Arc::clone(&kept),
            clock.clone(),
            Arc::clone(&metrics),
            Arc::clone(&audit),
        ));
        let bearers = match config.bearers.is_empty() {
            true => None,
            false => {
                let started = Bearers::start(config.bearers.clone(), &Handle::current())?;
                Some(Arc::new(started))
            }
        };
        let counted = (Arc::downgrade(&sessions), bearers.clone());
        metrics.before_scrape(move |metrics| {
            if let Some(sessions) = counted.0.upgrade() {
                reports::refresh(metrics, &sessions);
            }
            if let Some(bearers) = &counted.1 {
                reports::refresh_bearers(metrics, bearers);
            }
        });

        let bound = server::bind(&config.server).await?;
        let first = Upstreams::new(
            config.upstreams.clone().into(),
            config.origin.to_string(),
            bound.tasks(),
        )?;
        let mut upstreams: Vec<Upstreams> = (1..config.server.workers)
            .map(|_| first.sibling())
            .collect();
        upstreams.push(first);
        let app = Arc::new(App {
            live: ArcSwap::from_pointee(Live::of(&config, &metrics)),
            sessions: Arc::clone(&sessions),
            external,
            local,
            providers,
            backchannel: Backchannel::default(),
            bearers,
            metrics: Arc::clone(&metrics),
            audit: Arc::clone(&audit),
            clock,
            access_log: logging.access(),
            store: Arc::clone(&kept),
            upstreams,
            upstream_names: config
                .upstreams
                .iter()
                .map(|upstream| upstream.name.clone())
                .collect(),
        });

        let (draining, stopped) = (CancellationToken::new(), CancellationToken::new());
        let readiness = reports::StoreReadiness::new(
            Arc::clone(&kept),
            Arc::clone(&sessions),
            draining.clone(),
        );
        let operator = control::Operator::online(
            Arc::clone(&kept),
            sessions,
            Some(Arc::clone(&audit)),
            app.clock.clone(),
        );
        let mut admin_address = None;
        if let Some(settings) = &config.admin {
            let listener = admin::bind(settings).await?;
            admin_address = listener.local_addr().ok();
            let state = admin::State {
                metrics,
                readiness: Arc::new(readiness),
                api: Arc::new(admin::Api::new(
                    Arc::clone(&operator),
                    settings.access.clone(),
                )),
            };
            tokio::spawn(admin::serve(listener, state, stopped.clone()));
        }
        control::server::start(&config.store.path, operator, stopped.clone()).await?;
        audit.record(&AuditEvent::ConfigurationLoaded {
            file: &config.source.display().to_string(),
        });

        let (addresses, redirect) = (bound.local_addrs(), bound.redirect_addr());
        let gateway = Arc::new(Gateway::new(Arc::clone(&app)));
        let tls = Arc::new(ArcSwap::from_pointee(tls));
        let served = tokio::spawn(bound.run(tls, gateway, draining.clone()));
        let grace = config.server.limits.shutdown_grace;
        Ok(Running {
            addresses,
            admin: admin_address,
            redirect,
            app,
            draining,
            stopped,
            served,
            grace,
            signals,
        })
    }

    /// Waits for SIGTERM, SIGINT or the end of the terminal, then drains: in-flight requests may end, nothing new is
    /// accepted.
    pub async fn until_told(mut self) {
        let Some(mut signals) = self.signals.take() else {
            // Without handlers the default action ends the process, which is all that can be done.
            return std::future::pending().await;
        };
        let told = tokio::select! {
            told = signals.end() => told,
            ended = &mut self.served => {
                tracing::error!(?ended, "the listeners ended by themselves");
                return;
            }
        };
        say!(
            "{told}: letting requests in flight end, for {} at most; once more ends at once",
            crate::units::format_duration(self.grace)
        );
        self.draining.cancel();
        let served = tokio::select! {
            served = &mut self.served => Some(served),
            again = signals.end() => {
                say!("{again}: ending at once; what was in flight is cut");
                None
            }
        };
        match served {
            Some(Ok(Ok(drained))) if drained.cut == 0 => say!("stopped"),
            Some(Ok(Ok(drained))) => say!(
                "stopped; {} connection(s) were cut when the grace was over",
                drained.cut
            ),
            Some(Ok(Err(error))) => tracing::error!(%error, "the listeners did not end cleanly"),
            Some(Err(error)) => tracing::error!(%error, "the listeners did not end cleanly"),
            None => {}
        }
        self.app.sessions.settled().await;
        self.app.sessions.answers_kept().await;
        self.stopped.cancel();
    }
}

/// What the system tells a process to do.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// A terminal that is closed ends what was started in it. Elsewhere SIGHUP is somebody's wish to reload, which must not
    /// end a gateway that people use.
    in_terminal: bool,
}

impl Signals {
    fn new() -> Option<Self> {
        Some(Signals {
            terminate: signal(SignalKind::terminate()).ok()?,
            interrupt: signal(SignalKind::interrupt()).ok()?,
            hangup: signal(SignalKind::hangup()).ok()?,
            in_terminal: std::io::stdin().is_terminal() || std::io::stderr().is_terminal(),
        })
    }

    /// Waits until one says that it is time to end.
    async fn end(&mut self) -> &'static str {
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

impl Live {
    fn of(config: &Config, metrics: &Metrics) -> Self {
        let mut origins = BTreeMap::from([(config.origin.host.clone(), config.origin.to_string())]);
        for route in &config.routes {
            let origin = Origin {
                host: route.host.clone(),
                port: config.origin.port,
            };
            origins
                .entry(route.host.clone())
                .or_insert_with(|| origin.to_string());
        }
        let route_labels: Vec<String> = config
            .routes
            .iter()
            .map(|route| format!("{}{}", route.host, route.path))
            .collect();
        Live {
            // `config::load` has refused ambiguous tables with file and line; an empty table forwards nothing.
            routes: RouteTable::build(config.routes.clone()).unwrap_or_default(),
            route_metrics: route_labels
                .iter()
                .map(|label| metrics.route(label))
                .collect(),
            unrouted_metrics: metrics.route("none"),
            route_labels,
            origin: config.origin.to_string(),
            host: config.origin.host.clone(),
            port: config.origin.port,
            return_hosts: match config.cookies.domain {
                Some(_) => AllowedHosts::new(origins.keys(), config.origin.port),
                None => AllowedHosts::none(),
            },
            origins,
            cookie_names: CookieNames::new(config.cookies.domain.is_some()),
            cookie_style: config.cookies.clone(),
            trusted_proxies: TrustedProxies::new(config.trusted_proxies.iter().copied()),
            redelivery_window: config.session.windows.redelivery,
        }
    }
}

/// The identity source of a gateway without built-in accounts: a session that has none and no provider ends at its next
/// renewal.
struct NobodySignsIn;

impl IdentitySource for NobodySignsIn {
    fn refresh<'a>(
        &'a self,
        _: &'a Identity,
    ) -> Pin<Box<dyn Future<Output = Result<Refreshed, SourceUnavailable>> + Send + 'a>> {
        Box::pin(std::future::ready(Ok(Refreshed::Closed)))
    }
}
