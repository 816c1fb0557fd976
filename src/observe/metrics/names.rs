//! What every metric is called, and its words for people.

use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Unit;

use super::{Counts, Metrics, Stream};

impl Metrics {
    pub(super) fn register(&mut self, dropped: Counts<Stream>) {
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
}
