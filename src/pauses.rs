//! How long to leave alone what failed before it is tried again: longer each time, up to a bound. Must not wait, or know what
//! is tried.

use std::time::Duration;

/// Pauses, each twice the one before.
#[derive(Clone, Debug)]
pub(crate) struct Pauses {
    next: Duration,
    longest: Duration,
}

impl Pauses {
    /// From the first to the longest, which then stays.
    pub(crate) const fn doubling(first: Duration, longest: Duration) -> Self {
        Pauses {
            next: first,
            longest,
        }
    }

    /// How long this time.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.next.min(self.longest);
        self.next = pause.saturating_mul(2);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_twice_the_one_before_until_the_longest_which_stays() {
        let check = |first: u64, longest: Duration, want: &[u64]| {
            let mut pauses = Pauses::doubling(Duration::from_millis(first), longest);
            let found: Vec<_> = want.iter().map(|_| pauses.pause()).collect();
            let want: Vec<_> = want.iter().map(|&ms| Duration::from_millis(ms)).collect();
            assert_eq!(found, want);
        };
        let ms = Duration::from_millis;
        check(100, ms(500), &[100, 200, 400, 500, 500, 500]);
        check(100, ms(400), &[100, 200, 400, 400]);
        // One that is too long from the start is none the longer for it.
        check(100, ms(30), &[30, 30]);
        check(1, Duration::MAX, &[1, 2, 4]);
    }

    #[test]
    fn they_never_overflow() {
        let mut pauses = Pauses::doubling(Duration::from_secs(1), Duration::MAX);
        let last = (0..200).map(|_| pauses.pause()).last();
        assert_eq!(last, Some(Duration::MAX));
    }
}
