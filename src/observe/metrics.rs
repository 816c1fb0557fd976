//! The metrics of `/metrics`: names `vestibule_*`, base units, and no user data in any label.
//!
//! Label values come from closed lists (an enum each) or from the configuration (routes, upstreams), so that nobody outside
//! can make the registry grow. Handles are plain fields: on the request path a metric costs one atomic addition.

mod cells;
mod labels;
mod names;

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

pub use cells::{Counts, Durations, Held};
pub use labels::{
    BearerOutcome, Class, ClockChange, HandshakeFailure, Label, Outcome, ProviderCheck,
    RenewalOutcome, SignInOutcome, Stream,
};

/// The counters of one route; made once per configuration and kept beside the route.
#[derive(Clone, Debug)]
pub struct RouteMetrics(Box<[Counter]>);

impl RouteMetrics {
    /// Counts one answer with this status.
    pub fn answered(&self, status: u16) {
        if let Some(counter) = self.0.get(Class::of(status).index()) {
            counter.inc();
        }
    }
}

type Refresh = Box<dyn Fn(&Metrics) + Send + Sync>;
type RouteLabels = [(&'static str, Arc<str>); 2];
type FetchLabels = [(&'static str, Arc<str>); 3];

/// Every metric, one handle each. Shared by reference; each field may also be cloned out to whoever counts.
pub struct Metrics {
    registry: Registry,
    /// Brings up to date what is known elsewhere, before a scrape.
    refresh: OnceLock<Refresh>,
    requests: Family<RouteLabels, Counter>,
    upstream_errors: Family<RouteLabels, Counter>,
    provider_sign_ins: Family<RouteLabels, Counter>,
    /// Request read until the answer's head was ready.
    pub request_duration: Durations,
    /// What was decided.
    pub decisions: Counts<Outcome>,
    /// Renewals by outcome.
    pub renewals: Counts<RenewalOutcome>,
    /// Providers asked whether a session may go on, by what they said.
    pub provider_checks: Counts<ProviderCheck>,
    /// Sessions begun by a sign-in.
    pub sessions_begun: Counter,
    /// Revocations of sessions, by whatever caused them.
    pub revocations: Counter,
    /// Replays noticed.
    pub replays: Counter,
    /// Signing keys made.
    pub key_rotations: Counter,
    /// Sign-in attempts by outcome.
    pub sign_in_attempts: Counts<SignInOutcome>,
    /// Open client connections.
    pub connections: Gauge,
    /// Connections accepted.
    pub connections_accepted: Counter,
    /// TLS handshakes that came to nothing.
    pub handshake_failures: Counts<HandshakeFailure>,
    /// Open WebSockets and streams.
    pub open_streams: Gauge,
    /// Times that the store could not answer.
    pub store_unavailable: Counter,
    /// Access tokens whose signature was checked; the others were remembered.
    pub tokens_verified: Counter,
    /// Verified access tokens that are remembered.
    pub tokens_remembered: Gauge,
    /// Bearer tokens by outcome.
    pub bearer_tokens: Counts<BearerOutcome>,
    /// Verified bearer tokens that are remembered.
    pub bearer_tokens_remembered: Gauge,
    issuer_keys: Family<RouteLabels, Gauge>,
    issuer_keys_age: Family<RouteLabels, Gauge>,
    issuer_fetches: Family<FetchLabels, Counter>,
    /// Revocations that some access token may still run into.
    pub revocations_held: Gauge,
    /// 1 while revocations by other nodes arrive (always, with one node).
    pub feed_attached: Gauge,
    /// Times that they ceased to arrive.
    pub feed_losses: Counter,
    /// Requests whose handling panicked; each one is a bug.
    pub panics: Counter,
    /// Steps of the wall clock.
    pub clock_steps: Counts<ClockChange>,
    /// 1 while a step is in doubt.
    pub clock_in_doubt: Gauge,
    /// How far the gateway's time is ahead of a wall clock that was stepped backward, in seconds.
    pub clock_ahead: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new(Counts::default())
    }
}

impl Metrics {
    /// Registers everything; `dropped` is [`crate::observe::writer::Lines::dropped`].
    pub fn new(dropped: Counts<Stream>) -> Self {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("vestibule"),
            refresh: OnceLock::new(),
            requests: Family::default(),
            upstream_errors: Family::default(),
            provider_sign_ins: Family::default(),
            request_duration: Durations::default(),
            decisions: Counts::default(),
            renewals: Counts::default(),
            provider_checks: Counts::default(),
            sessions_begun: Counter::default(),
            revocations: Counter::default(),
            replays: Counter::default(),
            key_rotations: Counter::default(),
            sign_in_attempts: Counts::default(),
            connections: Gauge::default(),
            connections_accepted: Counter::default(),
            handshake_failures: Counts::default(),
            open_streams: Gauge::default(),
            store_unavailable: Counter::default(),
            tokens_verified: Counter::default(),
            tokens_remembered: Gauge::default(),
            bearer_tokens: Counts::default(),
            bearer_tokens_remembered: Gauge::default(),
            issuer_keys: Family::default(),
            issuer_keys_age: Family::default(),
            issuer_fetches: Family::default(),
            revocations_held: Gauge::default(),
            feed_attached: Gauge::default(),
            feed_losses: Counter::default(),
            panics: Counter::default(),
            clock_steps: Counts::default(),
            clock_in_doubt: Gauge::default(),
            clock_ahead: Gauge::default(),
        };
        metrics.register(dropped);
        metrics
    }

    /// What to do before each scrape: setting the metrics of numbers that an engine keeps anyway, so that a request need
    /// not count them twice. The first call counts.
    pub fn before_scrape(&self, refresh: impl Fn(&Metrics) + Send + Sync + 'static) {
        let _ = self.refresh.set(Box::new(refresh));
    }

    /// The counters of a route, named by its host and prefix as configured.
    pub fn route(&self, name: &str) -> RouteMetrics {
        let name: Arc<str> = name.into();
        RouteMetrics(
            Class::ALL
                .iter()
                .map(|class| {
                    self.requests.get_or_create_owned(&[
                        ("route", name.clone()),
                        (Class::NAME, class.text().into()),
                    ])
                })
                .collect(),
        )
    }

    /// Counts what a sign-in by a provider came to. `provider` is a configured name, `outcome` a word of the gateway.
    pub fn provider_sign_in(&self, provider: &str, outcome: &'static str) {
        self.provider_sign_ins
            .get_or_create(&[("provider", provider.into()), ("outcome", outcome.into())])
            .inc();
    }

    /// What is known of an issuer's keys: how many, how old in seconds, fetches that went well and not. Issuer and table are named
    /// as configured: two tables may name the same issuer, and each has keys of its own.
    pub fn issuer(
        &self,
        [table, issuer]: [&str; 2],
        keys: usize,
        age: Option<Duration>,
        fetches: (u64, u64),
    ) {
        let (table, issuer): (Arc<str>, Arc<str>) = (table.into(), issuer.into());
        let labels = [
            ("table", Arc::clone(&table)),
            ("issuer", Arc::clone(&issuer)),
        ];
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.issuer_keys
            .get_or_create(&labels)
            .set(gauge(keys as u64));
        if let Some(age) = age {
            let seconds = gauge(age.as_secs());
            self.issuer_keys_age.get_or_create(&labels).set(seconds);
        }
        for (outcome, count) in [("succeeded", fetches.0), ("failed", fetches.1)] {
            self.issuer_fetches
                .get_or_create(&[
                    ("table", Arc::clone(&table)),
                    ("issuer", Arc::clone(&issuer)),
                    ("outcome", outcome.into()),
                ])
                .inner()
                .store(count, Ordering::Relaxed);
        }
    }

    /// Counts a request that an upstream did not answer. `kind` is a word of the upstream engine, never a message.
    pub fn upstream_error(&self, upstream: &str, kind: &'static str) {
        self.upstream_errors
            .get_or_create(&[("upstream", upstream.into()), ("kind", kind.into())])
            .inc();
    }

    /// Everything as OpenMetrics text.
    pub fn encode(&self) -> String {
        if let Some(refresh) = self.refresh.get() {
            refresh(self);
        }
        let mut text = String::with_capacity(8 << 10);
        // Writing to memory cannot fail; were it to, a scrape would see a text without its end mark and refuse it.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

/// The content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    fn value(text: &str, series: &str) -> f64 {
        text.lines()
            .find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
            .unwrap_or_else(|| panic!("no {series} in\n{text}"))
    }

    #[test]
    fn counters_gauges_and_histogram_are_written() {
        let metrics = Metrics::default();
        let route = metrics.route("app.example.com/");
        route.answered(200);
        route.answered(204);
        route.answered(503);
        metrics.decisions.add(Outcome::Challenged);
        metrics.renewals.add(RenewalOutcome::Rotated);
        metrics.upstream_error("app", "connect");
        metrics.request_duration.observe(Duration::from_millis(1));
        metrics.request_duration.observe(Duration::from_millis(3));
        metrics.request_duration.observe(Duration::from_secs(3600));
        let held = Held::new(&metrics.connections);
        let text = metrics.encode();
        for (series, want) in [
            (
                "vestibule_requests_total{route=\"app.example.com/\",class=\"2xx\"}",
                2.0,
            ),
            (
                "vestibule_requests_total{route=\"app.example.com/\",class=\"5xx\"}",
                1.0,
            ),
            ("vestibule_decisions_total{decision=\"challenged\"}", 1.0),
            ("vestibule_decisions_total{decision=\"forwarded\"}", 0.0),
            ("vestibule_renewals_total{outcome=\"rotated\"}", 1.0),
            (
                "vestibule_upstream_errors_total{upstream=\"app\",kind=\"connect\"}",
                1.0,
            ),
            (
                "vestibule_request_duration_seconds_bucket{le=\"0.001\"}",
                1.0,
            ),
            (
                "vestibule_request_duration_seconds_bucket{le=\"0.005\"}",
                2.0,
            ),
            (
                "vestibule_request_duration_seconds_bucket{le=\"+Inf\"}",
                3.0,
            ),
            ("vestibule_request_duration_seconds_count", 3.0),
            ("vestibule_connections", 1.0),
            ("vestibule_log_lines_dropped_total{stream=\"audit\"}", 0.0),
        ] {
            assert_eq!(value(&text, series), want, "{series}");
        }
        assert!(text.ends_with("# EOF\n"));
        drop(held);
        assert_eq!(value(&metrics.encode(), "vestibule_connections"), 0.0);
    }

    #[test]
    fn a_route_asked_for_again_goes_on_counting() {
        let metrics = Metrics::default();
        metrics.route("a/").answered(200);
        metrics.route("a/").answered(200);
        let text = metrics.encode();
        assert_eq!(
            value(
                &text,
                "vestibule_requests_total{route=\"a/\",class=\"2xx\"}"
            ),
            2.0
        );
    }

    #[test]
    fn what_is_known_elsewhere_is_read_at_each_scrape() {
        let metrics = Metrics::default();
        let streams = Arc::new(AtomicU64::new(2));
        let seen = streams.clone();
        metrics.before_scrape(move |metrics| {
            metrics
                .open_streams
                .set(seen.load(Ordering::Relaxed).cast_signed());
        });
        assert_eq!(value(&metrics.encode(), "vestibule_open_streams"), 2.0);
        streams.store(0, Ordering::Relaxed);
        assert_eq!(value(&metrics.encode(), "vestibule_open_streams"), 0.0);
    }

    #[test]
    fn every_label_knows_its_place() {
        fn check<L: Label>() {
            for (place, label) in L::ALL.iter().enumerate() {
                assert_eq!(label.index(), place, "{label:?}");
            }
        }
        check::<Class>();
        check::<Outcome>();
        check::<RenewalOutcome>();
        check::<ProviderCheck>();
        check::<SignInOutcome>();
        check::<Stream>();
        check::<HandshakeFailure>();
    }
}
