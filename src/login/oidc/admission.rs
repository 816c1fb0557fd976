//! How much one address may cost a provider, and the log, by coming back from it. Every callback that signs nobody in counts;
//! one that does is given back. Must not judge a callback, nor wait.

use std::time::Duration;

use crate::auth::ClientAddr;
use crate::clock::Timestamp;
use crate::login::throttle::{self, Limits, Throttle};

/// Leave to look at one callback. Say [`Admission::succeeded`] when somebody was signed in.
#[must_use]
pub struct Admission<'a> {
    throttle: &'a Throttle,
    charged: throttle::Admission,
}

impl Admission<'_> {
    /// Somebody was signed in: that costs their address nothing.
    pub fn succeeded(self) {
        self.throttle.forgiven(self.charged);
    }
}

/// Counts callbacks by address.
pub(super) struct Doorway(Throttle);

impl Default for Doorway {
    fn default() -> Self {
        Doorway(Throttle::new(Limits {
            // An office is one address: one of its people must not make the others wait longer and longer.
            free_failures: u32::MAX,
            address_burst: 60,
            address_refill: Duration::from_secs(2),
            // Nor may strangers, however many, keep anybody out.
            account_burst: u32::MAX,
            account_refill: Duration::from_millis(1),
            ..Limits::default()
        }))
    }
}

impl Doorway {
    /// Whether a callback of this provider may be looked at, or when it may.
    pub(super) fn admit(
        &self,
        provider: &str,
        addr: ClientAddr,
        now: Timestamp,
    ) -> Result<Admission<'_>, Duration> {
        let charged = self.0.admit(provider, addr, now)?;
        Ok(Admission {
            throttle: &self.0,
            charged,
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
            doorway.admit("corp", office, NOW).unwrap().succeeded();
        }
        let failed = |addr, now| doorway.admit("corp", addr, now).map(drop);
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
