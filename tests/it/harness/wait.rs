//! Waiting for a condition, with a deadline that only a broken test or product reaches.

use std::time::{Duration, Instant};

/// Generous, because two cores may be running two gateways, a browser and a compiler.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until `condition` yields something; says what was waited for when it never does.
pub async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(
            started.elapsed() < DEADLINE,
            "waited {DEADLINE:?} in vain: {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Awaits what a working product does soon; says what was waited for when it never comes.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future)
        .await
        .unwrap_or_else(|_| panic!("waited {DEADLINE:?} in vain: {what}"))
}

/// [`until`] for threads without a runtime.
pub fn until_blocking<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(
            started.elapsed() < DEADLINE,
            "waited {DEADLINE:?} in vain: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
