//! The metrics of `/metrics`: names `vestibule_*`, base units, and no user data in any label.
//!
//! Label values come from closed lists (an enum each) or from the configuration (routes, upstreams), so that nobody outside
//! can make the registry grow. Handles are plain fields: on the request path a metric costs one atomic addition.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Registry, Unit};

/// A closed list of label values.
pub trait Label: Copy + fmt::Debug + Send + Sync + 'static {
    /// The label's name.
    const NAME: &'static str;
    /// Every value, in the order of [`Label::index`].
    const ALL: &'static [Self];
    /// This value's place in [`Label::ALL`].
    fn index(self) -> usize;
    /// How it is written.
    fn text(self) -> &'static str;
}

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident as $label:literal { $($(#[$value_doc:meta])* $value:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$value_doc])* $value,)+ }

        impl Label for $name {
            const NAME: &'static str = $label;
            const ALL: &'static [Self] = &[$($name::$value,)+];
            fn index(self) -> usize {
                self as usize
            }
            fn text(self) -> &'static str {
                match self { $($name::$value => $text,)+ }
            }
        }
    };
}

labels! {
    /// The hundreds of an answer's status.
    Class as "class" {
        /// 1xx: an upgrade.
        Informational = "1xx",
        /// 2xx.
        Success = "2xx",
        /// 3xx.
        Redirection = "3xx",
        /// 4xx.
        ClientError = "4xx",
        /// 5xx.
        ServerError = "5xx",
    }
}

impl Class {
    /// Of a status code.
    pub fn of(status: u16) -> Self {
        match status {
            0..200 => Class::Informational,
            200..300 => Class::Success,
            300..400 => Class::Redirection,
            400..500 => Class::ClientError,
            _ => Class::ServerError,
        }
    }
}

labels! {
    /// What the gateway decided about a request.
    Outcome as "decision" {
        /// Forwarded with an identity.
        Forwarded = "forwarded",
        /// Forwarded without an identity: a public or optional route.
        ForwardedAnonymous = "forwarded_anonymous",
        /// Asked to sign in.
        Challenged = "challenged",
        /// Signed in, but the route does not admit them.
        NotAllowed = "not_allowed",
        /// Refused: possibly made by another site.
        CrossSite = "cross_site",
        /// No such route.
        NoRoute = "no_route",
        /// Refused before any decision: the request could be read two ways, or broke a limit.
        Malformed = "malformed",
        /// Answered by the gateway's own endpoints.
        Own = "own",
        /// A renewal was needed and the store could not answer.
        Unavailable = "unavailable",
        /// Let through, but the upstream did not answer.
        UpstreamFailed = "upstream_failed",
    }
}

labels! {
    /// What a renewal came to.
    RenewalOutcome as "outcome" {
        /// *N* was presented: *N+1* issued.
        Rotated = "rotated",
        /// The same pair again.
        Redelivered = "redelivered",
        /// This request served without cookies.
        Served = "served",
        /// The lost answer replaced by a new generation.
        Reissued = "reissued",
        /// The store had lost its last write.
        Healed = "healed",
        /// Refused; sign in again.
        Refused = "refused",
        /// A replay: the session was revoked.
        Replay = "replay",
        /// Whoever renews could not answer: the store, or the service of `[external]`.
        Unavailable = "unavailable",
        /// The service of `[external]` may have taken the refresh token, and its answer never came.
        Lost = "lost",
    }
}

labels! {
    /// What a provider said when it was asked whether a session may go on.
    ProviderCheck as "outcome" {
        /// It may.
        Welcome = "welcome",
        /// It ends.
        Ended = "ended",
        /// Nobody knows; it goes on for its grace.
        Unknown = "unknown",
    }
}

labels! {
    /// What a bearer token of a configured issuer came to.
    BearerOutcome as "outcome" {
        /// Verified before.
        Remembered = "remembered",
        /// Verified now.
        Verified = "verified",
        /// Refused.
        Refused = "refused",
        /// The issuer's keys were not to be had.
        Unavailable = "unavailable",
    }
}

labels! {
    /// What a sign-in attempt came to.
    SignInOutcome as "outcome" {
        /// Signed in.
        SignedIn = "signed_in",
        /// Wrong name or password, or a blocked account.
        Wrong = "wrong",
        /// Too many attempts.
        Throttled = "throttled",
        /// Too many password checks at once.
        Busy = "busy",
        /// The store could not answer.
        Unavailable = "unavailable",
    }
}

labels! {
    /// Which stream a log line belongs to.
    Stream as "stream" {
        /// Access lines.
        Access = "access",
        /// Tracing events.
        Log = "log",
        /// Audit lines.
        Audit = "audit",
    }
}

labels! {
    /// How a clock was moved.
    ClockChange as "change" {
        /// The wall clock was stepped forward.
        Forward = "forward",
        /// The wall clock was stepped backward.
        Backward = "backward",
        /// The gateway's own time was set back.
        SetBack = "set_back",
    }
}

labels! {
    /// Why no TLS session came about.
    HandshakeFailure as "kind" {
        /// The client took too long.
        Timeout = "timeout",
        /// The client went away or spoke something else.
        Failed = "failed",
    }
}

/// One counter for each value of a closed list.
pub struct Counts<L> {
    cells: Arc<[AtomicU64]>,
    of: PhantomData<L>,
}

impl<L: Label> Counts<L> {
    /// Counts one.
    pub fn add(&self, label: L) {
        if let Some(cell) = self.cells.get(label.index()) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many so far.
    pub fn count(&self, label: L) -> u64 {
        self.cells
            .get(label.index())
            .map_or(0, |cell| cell.load(Ordering::Relaxed))
    }
}

impl<L: Label> Default for Counts<L> {
    fn default() -> Self {
        Counts {
            cells: L::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            of: PhantomData,
        }
    }
}

impl<L> Clone for Counts<L> {
    fn clone(&self) -> Self {
        Counts {
            cells: self.cells.clone(),
            of: PhantomData,
        }
    }
}

impl<L> fmt::Debug for Counts<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.cells.iter()).finish()
    }
}

impl<L: Label> EncodeMetric for Counts<L> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for &label in L::ALL {
            let labels = [(L::NAME, label.text())];
            ConstCounter::new(self.count(label)).encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

/// Upper bounds of [`Durations`] in microseconds: from a cached static answer to a slow report.
const BOUNDS: [u64; 14] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    5_000_000, 30_000_000,
];

/// A histogram of durations without a lock.
#[derive(Clone, Debug, Default)]
pub struct Durations(Arc<DurationCells>);

#[derive(Debug, Default)]
struct DurationCells {
    /// One for each bound and one for what is above all.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl Durations {
    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let place = BOUNDS.partition_point(|bound| *bound < micros);
        if let Some(bucket) = self.0.buckets.get(place) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.0.micros.fetch_add(micros, Ordering::Relaxed);
    }
}

impl EncodeMetric for Durations {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let upper = BOUNDS
            .iter()
            .map(|bound| *bound as f64 / 1e6)
            .chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = upper
            .zip(&self.0.buckets)
            .map(|(bound, bucket)| (bound, bucket.load(Ordering::Relaxed)))
            .collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = self.0.micros.load(Ordering::Relaxed) as f64 / 1e6;
        let exemplars: Option<&HashMap<usize, Exemplar<NoLabelSet, f64>>> = None;
        encoder.encode_histogram(sum, count, &buckets, exemplars)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

impl TypedMetric for Durations {
    const TYPE: MetricType = MetricType::Histogram;
}

/// Raises a gauge by one for as long as it lives.
#[derive(Debug)]
pub struct Held(Gauge);

impl Held {
    /// Raises the gauge.
    pub fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Held(gauge.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}

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
type IssuerLabels = [(&'static str, Arc<str>); 1];
type RouteLabels = [(&'static str, Arc<str>); 2];

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
    issuer_keys: Family<IssuerLabels, Gauge>,
    issuer_keys_age: Family<IssuerLabels, Gauge>,
    issuer_fetches: Family<RouteLabels, Counter>,
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

    fn register(&mut self, dropped: Counts<Stream>) {
        let registry = &mut self.registry;
        registry.register(
            "build",
            "The running version",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register(
            "requests",
            "Requests answered, by route and class of status",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "request_duration",
            "From a request's head to its answer's head",
            Unit::Seconds,
            self.request_duration.clone(),
        );
        registry.register(
            "decisions",
            "What was decided about requests",
            self.decisions.clone(),
        );
        registry.register("renewals", "Session renewals", self.renewals.clone());
        registry.register(
            "provider_checks",
            "Providers asked whether a session may go on",
            self.provider_checks.clone(),
        );
        registry.register(
            "sessions_begun",
            "Sessions begun by a sign-in",
            self.sessions_begun.clone(),
        );
        registry.register(
            "revocations",
            "Revocations of sessions",
            self.revocations.clone(),
        );
        registry.register(
            "replays",
            "Spent refresh tokens presented again",
            self.replays.clone(),
        );
        registry.register(
            "key_rotations",
            "Signing keys made",
            self.key_rotations.clone(),
        );
        registry.register(
            "sign_in_attempts",
            "Sign-in attempts",
            self.sign_in_attempts.clone(),
        );
        registry.register(
            "provider_sign_ins",
            "Sign-ins by a provider, by outcome",
            self.provider_sign_ins.clone(),
        );
        registry.register(
            "upstream_errors",
            "Requests that an upstream did not answer",
            self.upstream_errors.clone(),
        );
        registry.register(
            "connections",
            "Open client connections",
            self.connections.clone(),
        );
        registry.register(
            "connections_accepted",
            "Client connections accepted",
            self.connections_accepted.clone(),
        );
        registry.register(
            "handshake_failures",
            "TLS handshakes that came to nothing",
            self.handshake_failures.clone(),
        );
        registry.register(
            "open_streams",
            "Open WebSockets and streams",
            self.open_streams.clone(),
        );
        registry.register(
            "store_unavailable",
            "Times that the store could not answer",
            self.store_unavailable.clone(),
        );
        registry.register(
            "tokens_verified",
            "Access tokens whose signature was checked; the others were remembered",
            self.tokens_verified.clone(),
        );
        registry.register(
            "tokens_remembered",
            "Verified access tokens that are remembered",
            self.tokens_remembered.clone(),
        );
        registry.register(
            "bearer_tokens",
            "Bearer tokens of configured issuers, by outcome",
            self.bearer_tokens.clone(),
        );
        registry.register(
            "bearer_tokens_remembered",
            "Verified bearer tokens that are remembered",
            self.bearer_tokens_remembered.clone(),
        );
        registry.register(
            "issuer_keys",
            "Keys of an issuer that are known",
            self.issuer_keys.clone(),
        );
        registry.register_with_unit(
            "issuer_keys_age",
            "Time since the keys of an issuer were fetched",
            Unit::Seconds,
            self.issuer_keys_age.clone(),
        );
        registry.register(
            "issuer_fetches",
            "Fetches of an issuer's keys, by outcome",
            self.issuer_fetches.clone(),
        );
        registry.register(
            "revocations_held",
            "Revocations held in memory",
            self.revocations_held.clone(),
        );
        registry.register(
            "feed_attached",
            "1 while revocations by other nodes arrive",
            self.feed_attached.clone(),
        );
        registry.register(
            "feed_losses",
            "Times that revocations by other nodes ceased to arrive",
            self.feed_losses.clone(),
        );
        registry.register(
            "panics",
            "Requests whose handling panicked",
            self.panics.clone(),
        );
        registry.register(
            "clock_steps",
            "Steps of the wall clock, and times that the gateway set its own time back",
            self.clock_steps.clone(),
        );
        registry.register(
            "clock_in_doubt",
            "1 while a step of the wall clock is in doubt and nothing is removed because its time is over",
            self.clock_in_doubt.clone(),
        );
        registry.register_with_unit(
            "clock_ahead",
            "How far the gateway's time is ahead of a wall clock that was stepped backward",
            Unit::Seconds,
            self.clock_ahead.clone(),
        );
        registry.register(
            "log_lines_dropped",
            "Log lines dropped because stderr was too slow",
            dropped,
        );
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

    /// What is known of an issuer's keys, named as configured: how many, how old in seconds, fetches that went well and not.
    pub fn issuer(&self, issuer: &str, keys: usize, age: Option<Duration>, fetches: (u64, u64)) {
        let issuer: Arc<str> = issuer.into();
        let labels = [("issuer", Arc::clone(&issuer))];
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
                .get_or_create(&[("issuer", Arc::clone(&issuer)), ("outcome", outcome.into())])
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
