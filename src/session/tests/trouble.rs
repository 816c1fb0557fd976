//! Callers that go away, stores that fail, hang, forget or restart.

use super::*;
use crate::auth::rotation::Verdict;

#[tokio::test]
async fn a_caller_that_goes_away_does_not_stop_the_rotation() {
    let bench = Arc::new(bench().await);
    let first = bench.begin().await;
    bench.store.hold_before.store(true, Ordering::SeqCst);
    let caller = tokio::spawn({
        let (bench, first) = (Arc::clone(&bench), Arc::clone(&first));
        async move { name(&bench.renew(&first).await) }
    });
    bench.store.held.notified().await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    let other = tokio::spawn({
        let (bench, first) = (Arc::clone(&bench), Arc::clone(&first));
        async move { name(&bench.renew(&first).await) }
    });
    tokio::task::yield_now().await;
    bench.store.release.notify_one();
    assert_eq!(other.await.unwrap(), "issued 1");
    assert_eq!(bench.seen.rotations(), 1);
}

#[tokio::test]
async fn a_store_that_fails_or_hangs_poisons_nothing() {
    let bench = bench().await;
    let first = bench.begin().await;
    bench.store.broken.store(true, Ordering::SeqCst);
    assert_eq!(name(&bench.renew(&first).await), "unavailable");
    assert!(
        bench
            .sessions
            .begin(alice(), &browser(1), START)
            .await
            .is_err()
    );
    bench.store.broken.store(false, Ordering::SeqCst);

    bench.store.hung.store(true, Ordering::SeqCst);
    let mut waited = Vec::new();
    // The shortest: this machine may be doing other work at any moment.
    while waited.iter().all(|took| *took >= seconds(1)) {
        assert!(waited.len() < 20, "never within a second: {waited:?}");
        let asked = tokio::time::Instant::now();
        assert_eq!(name(&bench.renew(&first).await), "unavailable");
        waited.push(asked.elapsed());
    }
    bench.store.hung.store(false, Ordering::SeqCst);

    assert!(matches!(bench.check(&first), AccessFinding::Valid(_)));
    assert_eq!(bench.issued(&first).await.generation, Generation(1));
}

#[tokio::test]
async fn keys_sessions_and_revocations_outlive_a_restart() {
    let bench = bench().await;
    let (kept, ended) = (bench.begin().await, bench.begin().await);
    bench.sessions.end(ended.session, asked()).await.unwrap();
    let bench = bench.restarted().await;
    assert!(matches!(bench.check(&kept), AccessFinding::Valid(_)));
    assert!(matches!(bench.check(&ended), AccessFinding::Revoked));
    assert!(matches!(bench.renew(&kept).await, Renewal::Issued(..)));
}

#[tokio::test]
async fn a_store_that_lost_its_last_write_is_healed_forward() {
    let bench = bench().await;
    let first = bench.begin().await;
    let lost = bench.record(&first).await;
    let second = bench.issued(&first).await;
    let stored = bench
        .store
        .inner
        .session(&first.session)
        .await
        .unwrap()
        .unwrap();
    bench
        .store
        .replace_session(&lost, stored.revision)
        .await
        .unwrap();
    assert_eq!(
        rotation_of(&lost, &second, bench.now()),
        Verdict::Heal,
        "the store is one behind"
    );
    assert_eq!(bench.issued(&second).await.generation, Generation(2));
    assert_eq!(
        bench
            .seen
            .count(|event| matches!(event, SessionEvent::Healed { .. })),
        1
    );
}

fn rotation_of(record: &SessionRecord, pair: &IssuedPair, now: Timestamp) -> Verdict {
    crate::auth::rotation::judge(
        record,
        pair.generation,
        &browser(1),
        &settings().windows,
        now,
    )
}
