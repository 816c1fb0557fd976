//! What the session engine and the store tell operators: metrics, audit, readiness. Must not influence any request.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio_util::sync::CancellationToken;

use super::Show;
use crate::admin::Readiness;
use crate::audit::{Audit, AuditEvent, Cause};
use crate::bearer::Bearers;
use crate::external::{self, External, ExternalEvent};
use crate::issuer;
use crate::login::oidc::Providers;
use crate::observe::metrics::{ProviderCheck, RenewalOutcome};
use crate::observe::{Metrics, say};
use crate::session::{Observer, ProviderAnswer, SessionEvent, Sessions};
use crate::store::Store;

/// Turns what happens to sessions into counters and audit lines.
pub(super) struct Reports {
    metrics: Arc<Metrics>,
    audit: Arc<Audit>,
    show: Show,
}

impl Reports {
    pub(super) fn new(metrics: Arc<Metrics>, audit: Arc<Audit>, show: Show) -> Self {
        Reports {
            metrics,
            audit,
            show,
        }
    }

    fn renewal(&self, outcome: RenewalOutcome) {
        self.metrics.renewals.add(outcome);
    }
}

impl Observer for Reports {
    fn observe(&self, event: &SessionEvent) {
        match event {
            SessionEvent::Begun { .. } => {
                self.metrics.sessions_begun.inc();
            }
            SessionEvent::Rotated {
                session,
                generation,
            } => {
                self.renewal(RenewalOutcome::Rotated);
                if self.show.renewals {
                    say!("session renewed: {session} now has generation {generation}");
                }
            }
            SessionEvent::Redelivered { .. } => self.renewal(RenewalOutcome::Redelivered),
            SessionEvent::Served { .. } => self.renewal(RenewalOutcome::Served),
            SessionEvent::Reissued { .. } => self.renewal(RenewalOutcome::Reissued),
            SessionEvent::Healed {
                session,
                generation,
            } => {
                self.renewal(RenewalOutcome::Healed);
                tracing::warn!(%session, %generation, "the store had lost its last write of a session; healed forward");
            }
            SessionEvent::Replay {
                session,
                user,
                provider,
                generation,
            } => {
                self.renewal(RenewalOutcome::Replay);
                self.metrics.replays.inc();
                self.audit.record(&AuditEvent::Replay {
                    user,
                    provider,
                    session: *session,
                    generation: *generation,
                });
            }
            // The refusal's audit line is written by the request path, which knows the client.
            SessionEvent::Refused { .. } => self.renewal(RenewalOutcome::Refused),
            SessionEvent::Revoked {
                session,
                user,
                sessions,
                ending,
            } => {
                self.metrics
                    .revocations
                    .inc_by(u64::try_from(*sessions).unwrap_or(u64::MAX));
                let event = AuditEvent::Revoked {
                    user: user.as_ref().map(|(_, user)| user.as_str()),
                    session: *session,
                    sessions: *sessions,
                    reason: ending.reason.word(),
                    by: &ending.by.to_string(),
                };
                let cause = Cause {
                    client: ending.client,
                    request_id: ending.request_id.as_deref(),
                };
                self.audit.record_for(&event, cause);
            }
            SessionEvent::ProviderAsked {
                session,
                provider,
                answer,
                overdue,
            } => {
                let checks = &self.metrics.provider_checks;
                match answer {
                    ProviderAnswer::Welcome(_) => checks.add(ProviderCheck::Welcome),
                    // That the session is over has a line of its own.
                    ProviderAnswer::Ended(_) => checks.add(ProviderCheck::Ended),
                    ProviderAnswer::Unknown { reason, .. } => {
                        checks.add(ProviderCheck::Unknown);
                        match overdue {
                            false => {
                                tracing::warn!(%session, %provider, %reason, "a provider did not say whether a session may go on; it goes on for its grace");
                            }
                            true => {
                                tracing::warn!(%session, %provider, %reason, "a provider did not say whether a session may go on, whose grace is over; it is not renewed before the provider has answered");
                            }
                        }
                    }
                }
            }
            SessionEvent::KeyRotated { kid, by } => {
                self.metrics.key_rotations.inc();
                let by = &by.to_string();
                self.audit.record(&AuditEvent::KeyRotated { key: kid, by });
            }
            SessionEvent::StoreUnavailable => {
                self.renewal(RenewalOutcome::Unavailable);
                self.metrics.store_unavailable.inc();
            }
            SessionEvent::FeedLost { reason } => {
                self.metrics.feed_losses.inc();
                tracing::warn!(
                    %reason,
                    "revocations by other nodes do not arrive; whoever renews is asked for in the store all the same"
                );
            }
            SessionEvent::FeedRegained => {
                tracing::info!(
                    "revocations by other nodes arrive again, and all that were missed are obeyed"
                );
            }
        }
    }
}

impl external::Observer for Reports {
    fn observe(&self, event: ExternalEvent) {
        self.renewal(match event {
            ExternalEvent::Renewed => RenewalOutcome::Rotated,
            ExternalEvent::Served => RenewalOutcome::Redelivered,
            ExternalEvent::Refused => RenewalOutcome::Refused,
            ExternalEvent::Unavailable => RenewalOutcome::Unavailable,
            ExternalEvent::Lost => RenewalOutcome::Lost,
        });
    }
}

/// Numbers that the session engine keeps anyway, read at each scrape.
pub(super) fn refresh(metrics: &Metrics, sessions: &Sessions) {
    let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let (revocations, tokens) = sessions.held();
    metrics.revocations_held.set(gauge(revocations));
    metrics.tokens_remembered.set(gauge(tokens));
    let attached = sessions.feed_problem().is_none();
    metrics.feed_attached.set(i64::from(attached));
    metrics.open_streams.set(gauge(sessions.streams().len()));
    metrics
        .tokens_verified
        .inner()
        .store(sessions.verifications(), Ordering::Relaxed);
}

/// The same for the bearer tokens.
pub(super) fn refresh_bearers(metrics: &Metrics, bearers: &Bearers) {
    let remembered = i64::try_from(bearers.remembered()).unwrap_or(i64::MAX);
    metrics.bearer_tokens_remembered.set(remembered);
    for (issuer, stats) in bearers.issuers() {
        if let Some(stats) = stats {
            refresh_issuer(metrics, ["bearer", issuer], stats);
        }
    }
}

/// The keys of those who sign people in.
pub(super) fn refresh_providers(metrics: &Metrics, providers: &Providers) {
    for provider in providers.all() {
        if let Some(keys) = provider.keys() {
            let table = format!("login.oidc.{}", provider.settings().name);
            refresh_issuer(metrics, [&table, keys.issuer()], keys.stats());
        }
    }
}

/// The keys of the service of `[external]`, where they are fetched.
pub(super) fn refresh_external(metrics: &Metrics, external: &External) {
    if let Some((issuer, stats)) = external.fetched_keys() {
        refresh_issuer(metrics, ["external", issuer], stats);
    }
}

fn refresh_issuer(metrics: &Metrics, names: [&str; 2], stats: issuer::Stats) {
    let fetches = (stats.succeeded, stats.failed);
    metrics.issuer(names, stats.keys, stats.age, fetches);
}

/// `/ready`: the store answers, revocations arrive, and the gateway is not draining.
pub(super) struct StoreReadiness {
    store: Arc<dyn Store>,
    sessions: Arc<Sessions>,
    draining: CancellationToken,
}

impl StoreReadiness {
    pub(super) fn new(
        store: Arc<dyn Store>,
        sessions: Arc<Sessions>,
        draining: CancellationToken,
    ) -> Self {
        StoreReadiness {
            store,
            sessions,
            draining,
        }
    }
}

impl Readiness for StoreReadiness {
    fn problems(&self) -> Pin<Box<dyn Future<Output = Vec<String>> + Send + '_>> {
        Box::pin(async move {
            let mut problems = Vec::new();
            if self.draining.is_cancelled() {
                problems.push("draining".to_owned());
            }
            if let Some(reason) = self.sessions.feed_problem() {
                problems.push(format!(
                    "revocations by other nodes do not arrive: {reason}"
                ));
            }
            if let Err(error) = self.store.probe().await {
                problems.push(error.to_string());
            }
            problems
        })
    }
}
