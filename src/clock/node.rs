//! The time of a running gateway: the wall clock, guarded by a floor that a background task moves.
//!
//! Reading it costs one load more than reading the wall clock, and nothing is written: everything else is done by
//! [`NodeClock::tick`], off the request path. Must not decide what a step means: that is in [`super::steps`].

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::steps::{Discipline, LEEWAY, Tick};
use super::{Timestamp, wall};

/// The two clocks are read within this of each other, or read again: a paused thread must not look like a step.
const AT_ONCE: Duration = Duration::from_millis(20);

/// A clock that follows the wall clock forward, and not back.
#[derive(Debug)]
pub struct NodeClock {
    /// The time of the last tick: never is it earlier than this. Only ticks write it, so that it stays in every worker's
    /// cache.
    floor: AtomicI64,
    settled: AtomicBool,
    witnessed: AtomicI64,
    /// How far the time was set back the last time that it was.
    set_back: AtomicI64,
    started: Instant,
    steps: Mutex<Discipline>,
}

impl NodeClock {
    pub(super) fn new(settle: Duration) -> Self {
        let now = wall();
        NodeClock {
            floor: AtomicI64::new(now.as_millis()),
            settled: AtomicBool::new(true),
            witnessed: AtomicI64::new(now.as_millis()),
            set_back: AtomicI64::new(0),
            started: Instant::now(),
            steps: Mutex::new(Discipline::new(settle, now)),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        wall().max(Timestamp::from_millis(self.floor.load(Ordering::Relaxed)))
    }

    pub(super) fn settled(&self) -> Option<Timestamp> {
        // In this order: a tick that finds a step says so before it moves the floor.
        let floor = self.floor.load(Ordering::Acquire);
        let settled = self.settled.load(Ordering::Acquire);
        settled.then_some(Timestamp::from_millis(floor))
    }

    pub(super) fn witnessed(&self) -> Timestamp {
        Timestamp::from_millis(self.witnessed.load(Ordering::Acquire)).min(self.now())
    }

    pub(super) fn measuring(&self, start: Timestamp, now: Timestamp) -> Timestamp {
        if start <= now.plus(LEEWAY) {
            return now;
        }
        let back = self.set_back.load(Ordering::Acquire);
        now.plus(Duration::from_millis(u64::try_from(back).unwrap_or(0)))
    }

    pub(super) fn hear(&self, other: Timestamp) {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.hear(other);
    }

    pub(super) fn tick(&self) -> Tick {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let (monotonic, wall) = self.both();
        let tick = steps.tick(monotonic, wall);
        if let Some(step) = &tick.set_back {
            self.set_back
                .store(step.millis.saturating_neg(), Ordering::Release);
        }
        // Before the floor moves: see `settled`.
        self.settled.store(steps.is_settled(), Ordering::Release);
        self.witnessed
            .store(steps.witnessed().as_millis(), Ordering::Release);
        self.floor.store(steps.now().as_millis(), Ordering::Release);
        tick
    }

    /// As if a step had been found.
    #[cfg(test)]
    pub(crate) fn doubt(&self, on: bool) {
        self.settled.store(!on, Ordering::Release);
    }

    fn both(&self) -> (Duration, Timestamp) {
        let mut before = self.started.elapsed();
        for _ in 0..8 {
            let wall = wall();
            let after = self.started.elapsed();
            if after.saturating_sub(before) < AT_ONCE {
                return (before, wall);
            }
            before = after;
        }
        (self.started.elapsed(), wall())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_undisturbed_clock_is_the_wall_clock() {
        let clock = NodeClock::new(Duration::from_secs(360));
        for _ in 0..3 {
            let (before, now, after) = (wall(), clock.now(), wall());
            assert!(before <= now && now <= after);
            let tick = clock.tick();
            assert!(tick.stepped.is_none() && tick.set_back.is_none() && clock.settled().is_some());
        }
        assert!(clock.witnessed() <= clock.now());
    }

    #[test]
    fn only_a_start_in_a_time_that_was_taken_back_is_measured_otherwise() {
        let clock = NodeClock::new(Duration::from_secs(360));
        let (now, hour) = (clock.now(), Duration::from_secs(3600));
        clock.set_back.store(3_600_000, Ordering::Release);
        assert_eq!(clock.measuring(now.minus(hour), now), now);
        assert_eq!(clock.measuring(now.plus(LEEWAY), now), now);
        assert_eq!(clock.measuring(now.plus(hour), now), now.plus(hour));
    }
}
