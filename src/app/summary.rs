//! The start-up summary: short, honest, and ending with where to go next. Must not print a secret.

use std::path::PathBuf;

use super::Running;
use crate::config::Config;
use crate::external;
use crate::observe::say;
use crate::server::tls;
use crate::store;
use crate::units::{count, format_duration};

/// What is said at start, taken from the configuration before it is consumed.
pub(super) struct Summary {
    lines: Vec<String>,
    origin: String,
    source: PathBuf,
    local: bool,
}

impl Summary {
    pub(super) fn of(config: &Config) -> Self {
        let mut lines = Vec::new();
        lines.push(match &config.tls {
            tls::Settings::SelfSigned { .. } => {
                "tls       self-signed: for development only, browsers will warn".to_owned()
            }
            tls::Settings::Files(files) => {
                format!("tls       {} from files", count(files.len(), "certificate"))
            }
        });
        lines.push(match &config.external {
            None => format!(
                "sessions  access token {}, ends after {} unused, {} in any case",
                format_duration(config.session.access_ttl),
                format_duration(config.session.windows.idle_ttl),
                format_duration(config.session.absolute_ttl),
            ),
            Some(external) => of_service(&external.settings),
        });
        lines.push(match &config.store.kind {
            store::Kind::Embedded => format!("store     embedded, {}", config.store.path.display()),
            store::Kind::Redis(settings) => format!("store     shared, {}", settings.address),
        });
        lines.push(match config.trusted_proxies.len() {
            0 => "proxies   none trusted: client addresses come from the socket, X-Forwarded-* of clients are dropped".to_owned(),
            n => format!(
                "proxies   {}: their X-Forwarded-For is believed",
                count(n, "trusted network")
            ),
        });
        let mut ways: Vec<String> = (config.local.iter())
            .map(|_| "built-in accounts".to_owned())
            .chain(config.providers.iter().map(|one| one.name.clone()))
            .collect();
        if let Some(external) = &config.external {
            let page = &external.settings.login_url;
            ways.push(format!("by a service of yours, at {page}"));
        }
        let bearers = config.bearers.iter().map(|one| one.issuer.as_str());
        let bearers = bearers.collect::<Vec<_>>().join(", ");
        lines.push(match (ways.is_empty(), bearers.is_empty()) {
            (false, _) => format!("sign-in   {}", ways.join(", ")),
            (true, true) => "sign-in   none configured: only public routes can be used".to_owned(),
            (true, false) => {
                "sign-in   none configured: public routes, and the others with a bearer token"
                    .to_owned()
            }
        });
        if !bearers.is_empty() {
            lines.push(format!("bearer    tokens of {bearers}"));
        }
        for route in &config.routes {
            // `config::load` has checked that each route's upstream exists.
            let upstream = config
                .upstreams
                .get(route.upstream.0)
                .map_or("?", |upstream| upstream.name.as_str());
            lines.push(format!("route     {route} -> {upstream}"));
        }
        Summary {
            lines,
            origin: config.origin.to_string(),
            source: config.source.clone(),
            local: config.local.is_some(),
        }
    }

    /// Prints to stderr; the `listening on` lines are stable for scripts.
    pub(super) async fn print(&self, running: &Running) {
        say!(
            "vestibule {} with {}",
            env!("CARGO_PKG_VERSION"),
            self.source.display()
        );
        for line in &self.lines {
            say!("  {line}");
        }
        for address in &running.addresses {
            say!("listening on https://{address}");
        }
        if let Some(address) = running.redirect {
            say!("redirecting http://{address} to {}", self.origin);
        }
        if let Some(address) = running.admin {
            say!("admin on http://{address}");
        }
        say!("open {}", self.origin);
        // A hint for the first start alone; a store that cannot be read now says so elsewhere.
        let nobody = running.app.store.accounts().await;
        if self.local && nobody.is_ok_and(|accounts| accounts.is_empty()) {
            say!(
                "nobody has an account yet; add people with: vestibule user add NAME --email E -c {}",
                self.source.display()
            );
        }
    }
}

/// How long what a service of the deployer's issues counts here.
fn of_service(settings: &external::Settings) -> String {
    let life = format_duration(settings.max_access_life);
    let renewal = match settings.refresh {
        Some(_) => {
            let grace = format_duration(settings.replay_grace);
            format!("renewed there; an outcome is remembered for {grace}")
        }
        None => "not renewed here".to_owned(),
    };
    format!("sessions  the service's own: access token as it says, {life} at most, {renewal}")
}
