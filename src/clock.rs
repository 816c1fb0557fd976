//! The one place that reads the wall clock.
//!
//! Everything that judges (tokens, sessions, throttles) takes a [`Timestamp`]; only the shell around the pure core asks
//! a [`Clock`] for one, once per request. A running gateway's clock is a [`NodeClock`], which is not led astray by a wall
//! clock that is stepped. Timers do not belong here: they run on tokio's monotonic clock.

mod node;
mod steps;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use node::NodeClock;
pub use steps::{DOUBT, Step, Tick};

/// A moment of wall-clock time: milliseconds since the Unix epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The Unix epoch itself.
    pub const EPOCH: Timestamp = Timestamp(0);

    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Timestamp(millis)
    }

    /// From whole seconds since the Unix epoch (a JWT `NumericDate`, RFC 7519 section 2).
    pub const fn from_secs(secs: i64) -> Self {
        Timestamp(secs.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This moment plus `duration`; saturates instead of wrapping.
    pub fn plus(self, duration: Duration) -> Self {
        Timestamp(
            self.0
                .saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// This moment minus `duration`; saturates instead of wrapping.
    pub fn minus(self, duration: Duration) -> Self {
        Timestamp(
            self.0
                .saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// How many milliseconds this moment is after `other`; negative when it is before.
    pub const fn millis_after(self, other: Timestamp) -> i64 {
        self.0.saturating_sub(other.0)
    }

    /// Time passed since `earlier`; zero when the clock went backwards.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timestamp({}ms)", self.0)
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        i64::deserialize(deserializer).map(Timestamp)
    }
}

/// Where the gateway takes "now" from: the system, or a hand that a test moves.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The system's wall clock, as it is: for commands, which are over before anything can go wrong with it.
    #[default]
    System,
    /// The time of a running gateway.
    Node(Arc<NodeClock>),
    /// A clock that moves only when told to; milliseconds since the Unix epoch.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that stands at `start` until [`Clock::advance`] moves it.
    pub fn manual(start: Timestamp) -> Self {
        Clock::Manual(Arc::new(AtomicI64::new(start.as_millis())))
    }

    /// A clock for a running gateway; somebody must call [`Clock::tick`] a few times a second. `settle` is how long a step
    /// is in doubt: longer than any access token lives.
    pub fn node(settle: Duration) -> Self {
        Clock::Node(Arc::new(NodeClock::new(settle)))
    }

    /// The current moment.
    pub fn now(&self) -> Timestamp {
        match self {
            Clock::System => wall(),
            Clock::Node(node) => node.now(),
            Clock::Manual(millis) => Timestamp(millis.load(Ordering::SeqCst)),
        }
    }

    /// Compares the wall clock with the monotonic one, and says what was found.
    pub fn tick(&self) -> Tick {
        match self {
            Clock::Node(node) => node.tick(),
            Clock::System | Clock::Manual(_) => Tick::default(),
        }
    }

    /// What another clock shows, that of a shared store: asked when the wall clock was stepped backward.
    pub fn hear(&self, other: Timestamp) {
        if let Clock::Node(node) = self {
            node.hear(other);
        }
    }

    /// The time of the last tick; `None` while a step is in doubt: then nothing may be forgotten or removed because its
    /// time is over.
    pub fn settled(&self) -> Option<Timestamp> {
        match self {
            Clock::Node(node) => node.settled(),
            Clock::System | Clock::Manual(_) => Some(self.now()),
        }
    }

    /// The time that has certainly come: now, less what only a step of the wall clock claims. What is loaded or removed by
    /// its time goes by this.
    pub fn witnessed(&self) -> Timestamp {
        match self {
            Clock::Node(node) => node.witnessed(),
            Clock::System | Clock::Manual(_) => self.now(),
        }
    }

    /// What to take for `now` when a window is measured that began at `start`: `now`, except for a start that was written
    /// in a time that was taken back since.
    pub fn measuring(&self, start: Timestamp, now: Timestamp) -> Timestamp {
        match self {
            Clock::Node(node) => node.measuring(start, now),
            Clock::System | Clock::Manual(_) => now,
        }
    }

    /// Moves a manual clock forward; the system clock cannot be moved and is left alone.
    pub fn advance(&self, by: Duration) {
        if let Clock::Manual(millis) = self {
            millis.fetch_add(
                i64::try_from(by.as_millis()).unwrap_or(i64::MAX),
                Ordering::SeqCst,
            );
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the one place that reads the wall clock"
)]
fn wall() -> Timestamp {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
        Err(_) => Timestamp::EPOCH,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_and_never_goes_negative() {
        let noon = Timestamp::from_secs(43_200);
        assert_eq!(noon.plus(Duration::from_millis(1)).as_millis(), 43_200_001);
        assert_eq!(noon.minus(Duration::from_secs(43_201)).as_secs(), -1);
        assert_eq!(
            noon.since(noon.plus(Duration::from_secs(5))),
            Duration::ZERO
        );
        assert_eq!(
            Timestamp::from_millis(i64::MAX)
                .plus(Duration::MAX)
                .as_millis(),
            i64::MAX
        );
    }

    #[test]
    fn manual_clock_moves_only_by_hand() {
        let clock = Clock::manual(Timestamp::from_secs(100));
        assert_eq!(clock.now().as_secs(), 100);
        clock.advance(Duration::from_secs(5));
        assert_eq!(clock.clone().now().as_secs(), 105);
    }
}
