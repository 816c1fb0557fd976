//! Deadlines on tokio's monotonic clock that cost nothing while all goes well.
//!
//! A deadline is a number; the timer behind it is made when first needed and moved only when it fires too early.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// One lazily armed timer. It may be kept for the next deadline: arming it again is not needed then.
#[derive(Debug, Default)]
pub(crate) struct Deadline(Option<Pin<Box<Sleep>>>);

impl Deadline {
    /// Wakes the task sometime, within this time at most: for a deadline that is known only later.
    pub(crate) fn wake_within(&mut self, within: Duration, cx: &mut Context<'_>) {
        if self.0.as_ref().is_none_or(|timer| timer.is_elapsed()) {
            let _ = self.poll_at(Instant::now() + within, cx);
        }
    }

    /// Ready once `at` has passed; wakes the task then.
    pub(crate) fn poll_at(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self
            .0
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if timer.deadline() > at {
            timer.as_mut().reset(at);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= at {
                return Poll::Ready(());
            }
            timer.as_mut().reset(at);
        }
    }
}
