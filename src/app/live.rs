//! What the configuration says about requests, as one value.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::auth::credentials::CookieNames;
use crate::auth::route::RouteTable;
use crate::config::Config;
use crate::headers::cookie::CookieStyle;
use crate::headers::forwarded::TrustedProxies;
use crate::login::return_to::AllowedHosts;
use crate::observe::Metrics;
use crate::observe::metrics::RouteMetrics;
use crate::server::Authority;

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

    pub(super) fn of(config: &Config, metrics: &Metrics) -> Self {
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
                Some(_) => AllowedHosts::new(config.server.origins.keys(), config.origin.port),
                None => AllowedHosts::none(),
            },
            origins: config.server.origins.clone(),
            cookie_names: CookieNames::new(config.cookies.domain.is_some()),
            cookie_style: config.cookies.clone(),
            trusted_proxies: TrustedProxies::new(config.trusted_proxies.iter().copied()),
            redelivery_window: config.session.windows.redelivery,
        }
    }
}
