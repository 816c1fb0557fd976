//! What to make of a wall clock that does not move with the monotonic one. Pure: both readings are given.
//!
//! Nobody can tell from within which of the two times around a step is right, so neither may do harm:
//! - **Forward is followed at once**: what is over may not be used a moment longer. But the step is *in doubt* until every
//!   token of before has run out by the monotonic clock, and meanwhile nothing may be forgotten or removed on the strength
//!   of it. If the wall clock returns to where it would be without the step, the node's time is *set back* with it.
//! - **Backward is not followed**: the node's time goes on at half speed until the wall clock has caught up. So it never
//!   runs twice through the same moment, and nothing that was over is current again. Only a wall clock that stays far
//!   behind, for as long as a step is in doubt, is believed in the end: the node's time is set back to it.
//!
//! Where there is a third clock, that of a shared store, it says which of the two to believe: the node's time, which then
//! goes on at full speed, or the wall clock, to which it is then set back at once.
//!
//! Whenever the time is set back, what was signed under it must no longer count; that is the caller's part.

use std::time::Duration;

use super::Timestamp;

/// What differs less than this between two ticks is the clock being adjusted, not stepped.
const STEP: Duration = Duration::from_secs(2);
/// How near the wall clock must come to where it would be without a step, for the step to be taken back.
const NEAR: Duration = Duration::from_secs(5);
/// The time is never set back by less than nodes' clocks may differ.
pub(super) const LEEWAY: Duration = Duration::from_secs(60);
/// A wall clock that is behind by less than this is waited for at half speed, however long that takes.
const FAR: Duration = Duration::from_secs(90 * 60);
/// How long what has ended is kept before it is removed, and how long both clocks must have agreed before a step counts as
/// time that has passed for removals.
pub const DOUBT: Duration = Duration::from_secs(48 * 3600);

/// A change of a clock, in milliseconds: forward is positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// By how much.
    pub millis: i64,
}

/// What a tick found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tick {
    /// The wall clock was stepped.
    pub stepped: Option<Step>,
    /// The node's time was set back by this; negative.
    pub set_back: Option<Step>,
    /// A step is no longer in doubt.
    pub settled: bool,
    /// How far the node's time is ahead of the wall clock, now that it does not follow it back.
    pub ahead: Duration,
}

/// Forward steps in doubt.
#[derive(Debug)]
struct Doubt {
    /// Where the node's time would be without them.
    without: Timestamp,
    /// The last of them, on the monotonic clock.
    since: Duration,
}

/// What the third clock said of a wall clock that is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    NodeIsRight,
    WallIsRight,
}

/// The node's time as a function of what both clocks showed so far.
#[derive(Debug)]
pub(super) struct Discipline {
    settle: Duration,
    /// Both clocks and the node's time at the last tick.
    monotonic: Duration,
    wall: Timestamp,
    node: Timestamp,
    doubt: Option<Doubt>,
    /// Since when the wall clock is far behind.
    far_since: Option<Duration>,
    /// Until the next step.
    word: Option<Word>,
    /// The first reading plus what the monotonic clock has seen pass.
    witnessed: Timestamp,
    /// Since when both clocks agree.
    even_since: Duration,
}

impl Discipline {
    /// Begins where the wall clock is, with the monotonic clock at zero.
    pub(super) fn new(settle: Duration, wall: Timestamp) -> Self {
        Discipline {
            settle,
            monotonic: Duration::ZERO,
            wall,
            node: wall,
            doubt: None,
            far_since: None,
            word: None,
            witnessed: wall,
            even_since: Duration::ZERO,
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.node
    }

    pub(super) fn is_settled(&self) -> bool {
        self.doubt.is_none()
    }

    pub(super) fn witnessed(&self) -> Timestamp {
        self.witnessed
    }

    pub(super) fn hear(&mut self, other: Timestamp) {
        if self.node.since(self.wall) > LEEWAY {
            let from_node = self.node.millis_after(other).unsigned_abs();
            let from_wall = self.wall.millis_after(other).unsigned_abs();
            self.word = Some(match from_node <= from_wall {
                true => Word::NodeIsRight,
                false => Word::WallIsRight,
            });
        }
    }

    pub(super) fn tick(&mut self, monotonic: Duration, wall: Timestamp) -> Tick {
        let passed = monotonic.saturating_sub(self.monotonic);
        let even = self.node.plus(passed);
        let mut tick = Tick::default();

        let moved = wall.millis_after(self.wall.plus(passed));
        if is_step(moved) {
            tick.stepped = Some(Step { millis: moved });
            self.even_since = monotonic;
            self.word = None;
        }
        self.witnessed = self.witnessed.plus(passed);
        if let Some(doubt) = &mut self.doubt {
            doubt.without = doubt.without.plus(passed);
        }
        let leap = wall.millis_after(even);
        if leap > 0 && is_step(leap) {
            let doubt = self.doubt.get_or_insert(Doubt {
                without: even,
                since: monotonic,
            });
            doubt.since = monotonic;
        }

        let on = match self.word {
            Some(Word::NodeIsRight) => even,
            Some(Word::WallIsRight) | None => self.node.plus(passed / 2),
        };
        self.node = wall.max(on);
        if self.is_to_be_set_back(monotonic, wall) {
            tick.set_back = Some(Step {
                millis: wall.millis_after(self.node),
            });
            self.node = wall;
            self.doubt = None;
            self.far_since = None;
            self.word = None;
        }
        self.monotonic = monotonic;
        self.wall = wall;

        let over = |doubt: &Doubt| monotonic.saturating_sub(doubt.since) >= self.settle;
        if self.doubt.as_ref().is_some_and(over) {
            self.doubt = None;
            tick.settled = true;
        }
        self.witnessed = if monotonic.saturating_sub(self.even_since) >= DOUBT {
            self.node
        } else {
            self.witnessed.min(self.node)
        };
        tick.ahead = self.node.since(wall);
        tick
    }

    fn is_to_be_set_back(&mut self, monotonic: Duration, wall: Timestamp) -> bool {
        let behind = self.node.since(wall);
        self.far_since = match self.far_since {
            _ if behind <= FAR => None,
            None => Some(monotonic),
            since => since,
        };
        let taken_back = self.doubt.as_ref().is_some_and(|doubt| {
            let apart = wall.millis_after(doubt.without).unsigned_abs();
            Duration::from_millis(apart) <= NEAR
        });
        let stays_far = self
            .far_since
            .is_some_and(|since| monotonic.saturating_sub(since) >= self.settle);
        let believed = match self.word {
            Some(Word::WallIsRight) => true,
            Some(Word::NodeIsRight) => false,
            None => stays_far,
        };
        behind > LEEWAY && (taken_back || believed)
    }
}

fn is_step(millis: i64) -> bool {
    Duration::from_millis(millis.unsigned_abs()) >= STEP
}

#[cfg(test)]
mod tests;
