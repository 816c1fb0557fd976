//! Watches the wall clock: looks a few times a second whether it was stepped, raises the alarm, and sees to it that what
//! was signed in a time that was taken back no longer counts.
//!
//! What a step means is decided in `clock::steps`. Must not run on a worker that serves requests.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::audit::{Audit, AuditEvent};
use crate::clock::{Clock, Step, Tick};
use crate::observe::Metrics;
use crate::observe::metrics::{ClockChange, Label as _};
use crate::session::Sessions;
use crate::store::Store;

/// Until the next look the time stands still after a step backward; nothing else depends on this.
const EVERY: Duration = Duration::from_millis(250);

/// How often the clock of a shared store is asked while the wall clock is behind, and how long its answer may take.
const ASK_EVERY: u32 = 4;
const ANSWER: Duration = Duration::from_millis(500);

/// Works until the engine is gone.
pub(super) async fn work(
    sessions: Weak<Sessions>,
    store: Arc<dyn Store>,
    clock: Clock,
    metrics: Arc<Metrics>,
    audit: Arc<Audit>,
) {
    let mut looks = tokio::time::interval(EVERY);
    let mut behind = 0_u32;
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let Some(sessions) = sessions.upgrade() else {
            return;
        };
        let tick = clock.tick();
        metrics
            .clock_in_doubt
            .set(i64::from(clock.settled().is_none()));
        metrics
            .clock_ahead
            .set(i64::try_from(tick.ahead.as_secs()).unwrap_or(i64::MAX));
        report(&tick, &metrics, &audit);
        behind = if tick.ahead.is_zero() { 0 } else { behind + 1 };
        if behind % ASK_EVERY == 1
            && let Ok(Ok(Some(time))) = tokio::time::timeout(ANSWER, store.time()).await
        {
            clock.hear(time);
        }
        if tick.set_back.is_some() {
            // A task of its own: the store may take its time, and the clock must be looked at meanwhile.
            tokio::spawn(async move { sessions.time_was_set_back().await });
        }
    }
}

fn report(tick: &Tick, metrics: &Metrics, audit: &Audit) {
    let tell = |change: ClockChange, step: Step| {
        metrics.clock_steps.add(change);
        audit.record(&AuditEvent::ClockStepped {
            change: change.text(),
            milliseconds: step.millis.unsigned_abs(),
        });
    };
    if let Some(step) = tick.stepped {
        if step.millis > 0 {
            tell(ClockChange::Forward, step);
            tracing::error!(
                milliseconds = step.millis,
                "the wall clock was stepped forward; it is followed, but nothing is removed until it has proved itself"
            );
        } else {
            tell(ClockChange::Backward, step);
            tracing::error!(
                milliseconds = step.millis,
                "the wall clock was stepped backward; it is not followed, so that nothing becomes valid again"
            );
        }
    }
    if let Some(step) = tick.set_back {
        tell(ClockChange::SetBack, step);
        tracing::warn!(
            milliseconds = step.millis,
            "the gateway's time was set back to the wall clock; access tokens of before no longer count and are renewed"
        );
    }
    if tick.settled {
        tracing::info!("the wall clock was not stepped again; its time is believed");
    }
}
