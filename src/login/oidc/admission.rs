//! How much one address may cost a provider, and the log, by coming back from it. Every callback that signs nobody in counts;
//! one that does is given back. Must not judge a callback, nor wait.
//!
//! Beginning a sign-in (`/.auth/login/NAME`) is not counted: it costs the gateway two sealings, some microseconds, which is less than
//! to forward a request; the provider is not asked (its metadata at most once in three seconds, for everybody together); and what
//! was begun lies in the browser's cookie, so that nothing fills up here. A limit would only let one person of an office keep the
//! others from signing in.

use std::time::Duration;

use crate::auth::ClientAddr;
use crate::clock::Timestamp;
use crate::patience::{Charge, Patience, Rate};

/// Leave to look at one callback. Say [`Admission::succeeded`] when somebody was signed in.
#[must_use]
pub struct Admission<'a> {
    patience: &'a Patience,
    charge: Charge,
}

impl Admission<'_> {
    /// Somebody was signed in: that costs their address nothing.
    pub fn succeeded(self) {
        self.patience.give_back(self.charge);
    }
}

/// What a network may bring back in vain: an office is one address.
const IN_VAIN: Rate = Rate {
    burst: 60,
    refill: Duration::from_secs(2),
};
/// Most networks that are remembered.
const MOST: usize = 1 << 16;

/// Counts callbacks by address.
pub(super) struct Doorway(Patience);

impl Default for Doorway {
    fn default() -> Self {
        Doorway(Patience::new(IN_VAIN, MOST))
    }
}

impl Doorway {
    /// Whether a callback may be looked at, or in how long it may.
    pub(super) fn admit(
        &self,
        addr: ClientAddr,
        now: Timestamp,
    ) -> Result<Admission<'_>, Duration> {
        let charge = self.0.charge(addr.0, now)?;
        Ok(Admission {
            patience: &self.0,
            charge,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    #[test]
    fn an_address_has_a_bounded_number_of_failures_and_successes_are_free() {
        let doorway = Doorway::default();
        let addr = |text: &str| ClientAddr(text.parse().unwrap());
        let (office, other) = (addr("192.0.2.1"), addr("192.0.2.2"));
        for _ in 0..500 {
            doorway.admit(office, NOW).unwrap().succeeded();
        }
        let failed = |addr, now| doorway.admit(addr, now).map(drop);
        for _ in 0..60 {
            failed(office, NOW).unwrap();
        }
        let wait = failed(office, NOW).unwrap_err();
        assert!(wait <= Duration::from_secs(2), "{wait:?}");
        failed(other, NOW).unwrap();
        failed(office, NOW.plus(wait)).unwrap();
        failed(office, NOW.plus(wait)).unwrap_err();
    }
}
