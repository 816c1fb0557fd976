//! A gateway that runs: everything made and started in order, and drained on a signal.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::signals::Signals;
use super::{App, Live, Show, StartError, reports, timekeeper};
use crate::audit::{Audit, AuditEvent};
use crate::auth::Identity;
use crate::auth::refresh_token::MasterKeys;
use crate::bearer::Bearers;
use crate::clock::Clock;
use crate::config::Config;
use crate::external::External;
use crate::gateway::Gateway;
use crate::login::backchannel::Backchannel;
use crate::login::local::{self, Local};
use crate::login::oidc::Providers;
use crate::observe::{Logging, Metrics, say};
use crate::outbound::Outbound;
use crate::session::{IdentitySource, Refreshed, Sessions, SourceUnavailable};
use crate::upstream::Upstreams;
use crate::{admin, control, external, server, session, store};

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
        // Whatever comes first into it finds it there, and closed to others.
        let folder = &config.store.path;
        store::folder::make(folder).map_err(|source| StartError::Folder {
            folder: folder.clone(),
            source,
        })?;
        let tls = server::tls::load(&config.tls, Some(folder))?;
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
        let others = (
            Arc::clone(&providers),
            external.as_ref().map(Arc::downgrade),
        );
        metrics.before_scrape(move |metrics| {
            if let Some(sessions) = counted.0.upgrade() {
                reports::refresh(metrics, &sessions);
            }
            if let Some(bearers) = &counted.1 {
                reports::refresh_bearers(metrics, bearers);
            }
            reports::refresh_providers(metrics, &others.0);
            if let Some(external) = others.1.as_ref().and_then(Weak::upgrade) {
                reports::refresh_external(metrics, &external);
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
        let built_in = config.local.iter().map(|_| local::PROVIDER.to_owned());
        let providers = config.providers.iter().map(|one| one.name.clone());
        let operator = control::Operator::online(
            Arc::clone(&kept),
            sessions,
            Some(Arc::clone(&audit)),
            app.clock.clone(),
            built_in.chain(providers).collect(),
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
