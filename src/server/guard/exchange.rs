//! What guard and service of one connection tell each other: which request comes next, whether one is in flight, and
//! whether an upgrade was accepted.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use super::Head;
use crate::server::refusal::Refusal;

/// Shared by the guard and the service of one connection, which are one task: the guard asks at every wake, so what it asks
/// is answered without the lock.
#[derive(Debug, Default)]
pub(in crate::server) struct Exchange {
    /// Whether there is a `next`.
    offered: AtomicBool,
    in_flight: AtomicUsize,
    /// Never held across a wait.
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The request that the HTTP parser is about to hand to the service.
    next: Option<Result<Head, Refusal>>,
    /// The answer to an upgrade request.
    tunnel: Option<bool>,
    waker: Option<Waker>,
}

impl Exchange {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Guard: this request comes next. One that was not yet taken is replaced.
    pub(super) fn offer(&self, head: Result<Head, Refusal>) {
        let mut inner = self.lock();
        inner.next = Some(head);
        self.offered.store(true, Ordering::Release);
    }

    /// Guard: the service has taken the request before.
    pub(super) fn is_free(&self) -> bool {
        !self.offered.load(Ordering::Acquire)
    }

    /// Guard: as [`Exchange::is_free`], and wakes the task when that changes.
    pub(super) fn is_free_or_wakes(&self, cx: &mut Context<'_>) -> bool {
        let mut inner = self.lock();
        if inner.next.is_some() {
            inner.waker = Some(cx.waker().clone());
        }
        inner.next.is_none()
    }

    /// Guard: a request is being handled or about to be.
    pub(super) fn is_busy(&self) -> bool {
        !self.is_free() || self.in_flight.load(Ordering::Acquire) > 0
    }

    /// Guard: what became of the upgrade; wakes the task when that is decided.
    pub(super) fn is_tunnel(&self, cx: &mut Context<'_>) -> Option<bool> {
        let mut inner = self.lock();
        if inner.tunnel.is_none() {
            inner.waker = Some(cx.waker().clone());
        }
        inner.tunnel
    }

    /// Service: the request that the HTTP parser just delivered, and a token of its flight.
    pub(in crate::server) fn take(self: &Arc<Self>) -> (Option<Result<Head, Refusal>>, Flight) {
        let mut inner = self.lock();
        // In this order: to the guard the connection is busy all the while.
        self.in_flight.fetch_add(1, Ordering::Release);
        self.offered.store(false, Ordering::Release);
        if let Some(waker) = inner.waker.take() {
            waker.wake();
        }
        (inner.next.take(), Flight(Arc::clone(self)))
    }

    /// Service: the upgrade was accepted (101), or not.
    pub(in crate::server) fn decide_tunnel(&self, accepted: bool) {
        let mut inner = self.lock();
        inner.tunnel = Some(accepted);
        if let Some(waker) = inner.waker.take() {
            waker.wake();
        }
    }
}

/// A request in flight, until its answer has been written or given up.
#[derive(Debug)]
pub(in crate::server) struct Flight(Arc<Exchange>);

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Release);
    }
}
