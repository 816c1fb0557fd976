//! Ending sessions: by logout, by operators, by the account, and while something else is under way.

use super::*;
use crate::store::RevocationTarget;

#[tokio::test]
async fn i06_there_is_no_grace_after_a_logout() {
    let bench = bench().await;
    let first = bench.begin().await;
    let second = bench.issued(&first).await;
    assert!(
        bench
            .sessions
            .end(second.session, asked())
            .await
            .unwrap()
            .is_some()
    );
    for pair in [&first, &second] {
        assert_eq!(name(&bench.renew(pair).await), refused(Refusal::Revoked));
        assert!(matches!(bench.check(pair), AccessFinding::Revoked));
    }
    assert!(
        bench
            .sessions
            .end(second.session, asked())
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        !bench
            .sessions
            .is_live(second.session, bench.now())
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn a_logout_during_a_rotation_wins_before_and_after_its_commit() {
    for before in [true, false] {
        let bench = Arc::new(bench().await);
        let first = bench.begin().await;
        let hold = if before {
            &bench.store.hold_before
        } else {
            &bench.store.hold_after
        };
        hold.store(true, Ordering::SeqCst);
        let renewal = tokio::spawn({
            let (bench, first) = (Arc::clone(&bench), Arc::clone(&first));
            async move { name(&bench.renew(&first).await) }
        });
        bench.store.held.notified().await;
        assert!(
            bench
                .sessions
                .end(first.session, asked())
                .await
                .unwrap()
                .is_some()
        );
        bench.store.release.notify_one();
        assert_eq!(renewal.await.unwrap(), refused(Refusal::Revoked));
        assert!(bench.record(&first).await.revoked_at.is_some());
        assert_eq!(bench.seen.rotations(), 0);
    }
}

#[tokio::test]
async fn ending_a_user_ends_what_began_and_not_what_begins_after() {
    let bench = bench().await;
    let mine = bench.begin().await;
    let mut bob = alice();
    bob.user = "bob".to_owned();
    let other = bench
        .sessions
        .begin(bob, &browser(2), bench.now())
        .await
        .unwrap();
    let guard = match bench.check(&mine) {
        AccessFinding::Valid(subject) => bench.sessions.streams().open(subject),
        found => panic!("{found:?}"),
    };
    bench.clock.advance(Duration::from_millis(400));
    assert_eq!(
        bench
            .sessions
            .end_user("local", "alice", asked())
            .await
            .unwrap(),
        1
    );
    guard.ended().await;
    drop(guard);
    assert!(bench.sessions.streams().is_empty());
    assert!(matches!(bench.check(&mine), AccessFinding::Revoked));
    assert_eq!(name(&bench.renew(&mine).await), refused(Refusal::Revoked));
    assert!(matches!(bench.check(&other), AccessFinding::Valid(_)));
    assert!(matches!(
        bench.sessions.begin(alice(), &browser(1), START).await,
        Err(BeginError::Ended)
    ));
    // Within the same second, but later.
    bench.clock.advance(Duration::from_millis(1));
    let again = bench.begin().await;
    assert!(matches!(bench.check(&again), AccessFinding::Valid(_)));
    assert!(matches!(bench.renew(&again).await, Renewal::Issued(..)));

    bench.clock.advance(Duration::from_millis(1));
    assert_eq!(bench.sessions.end_all(asked()).await.unwrap(), 2);
    assert!(matches!(bench.check(&other), AccessFinding::Revoked));
    assert!(matches!(bench.check(&again), AccessFinding::Revoked));
    bench.clock.advance(seconds(361));
    bench.sessions.forget_over(bench.now()).await;
    assert_eq!(bench.sessions.held().0, 0);
    assert_eq!(name(&bench.renew(&other).await), refused(Refusal::Revoked));
}

#[tokio::test]
async fn an_account_that_is_closed_while_its_session_begins_has_none() {
    let bench = bench().await;
    bench.accounts.closed.store(true, Ordering::SeqCst);
    let begun = bench.sessions.begin(alice(), &browser(1), START).await;
    assert!(matches!(begun, Err(BeginError::Ended)));
    assert!(bench.store.sessions(None, START).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_closed_account_ends_its_session_at_the_renewal() {
    let bench = bench().await;
    let first = bench.begin().await;
    bench.accounts.closed.store(true, Ordering::SeqCst);
    assert_eq!(name(&bench.renew(&first).await), "refused AccountClosed");
    assert!(matches!(bench.check(&first), AccessFinding::Revoked));
    assert_eq!(bench.seen.endings(), [Reason::AccountClosed]);
}

#[tokio::test]
async fn a_crash_half_way_through_ending_a_user_leaves_no_session_alive() {
    let bench = bench().await;
    let mine = bench.begin().await;
    // What `end_user` writes first; then the process dies before any record is marked.
    bench
        .store
        .put_revocation(&RevocationRecord {
            target: RevocationTarget::User {
                provider: "local".to_owned(),
                user: "alice".to_owned(),
            },
            at: bench.now(),
            until: bench.now().plus(settings().absolute_ttl),
        })
        .await
        .unwrap();
    let bench = bench.restarted().await;
    bench.clock.advance(seconds(86_400));
    assert!(
        !bench
            .sessions
            .is_live(mine.session, bench.now())
            .await
            .unwrap()
    );
    assert_eq!(name(&bench.renew(&mine).await), refused(Refusal::Revoked));
    let again = bench.begin().await;
    assert!(matches!(bench.renew(&again).await, Renewal::Issued(..)));
}

#[tokio::test]
async fn an_end_that_the_store_did_not_confirm_is_obeyed_tried_again_and_told() {
    let bench = bench().await;
    let (one, two) = (bench.begin().await, bench.begin().await);
    bench.store.broken.store(true, Ordering::SeqCst);
    assert!(bench.sessions.end(one.session, asked()).await.is_err());
    assert!(matches!(bench.check(&one), AccessFinding::Revoked));
    let live = bench.sessions.live(bench.now()).await.unwrap();
    let live: Vec<_> = live.iter().map(|record| record.id).collect();
    assert_eq!(live, [two.session], "the store knows of no end");
    assert!(bench.seen.endings().is_empty(), "nothing is certain yet");
    bench.store.broken.store(false, Ordering::SeqCst);
    bench.until_told(1).await;
    assert!(bench.record(&one).await.revoked_at.is_some());
    assert!(bench.record(&two).await.revoked_at.is_none());

    // All of a user's: not what began after it was asked for.
    bench.store.broken.store(true, Ordering::SeqCst);
    let ended = bench.sessions.end_user("local", "alice", asked()).await;
    assert!(ended.is_err());
    bench.clock.advance(seconds(1));
    bench.store.broken.store(false, Ordering::SeqCst);
    let later = bench.begin().await;
    bench.until_told(2).await;
    assert_eq!(bench.seen.endings(), [Reason::Revoked, Reason::Revoked]);
    assert!(bench.record(&two).await.revoked_at.is_some());
    assert!(matches!(bench.check(&later), AccessFinding::Valid(_)));
    assert!(bench.record(&later).await.revoked_at.is_none());
}

#[tokio::test]
async fn of_two_ends_of_a_user_that_are_not_confirmed_the_later_counts() {
    let bench = bench().await;
    let before = bench.begin().await;
    bench.store.broken.store(true, Ordering::SeqCst);
    assert!(end_alice(&bench).await.is_err());
    // Begun on another node between the two.
    bench.clock.advance(seconds(1));
    let mut between = bench.record(&before).await;
    between.id = SessionId::from_bytes([9; 16]);
    between.created_at = bench.now();
    bench.store.inner.create_session(&between).await.unwrap();
    bench.clock.advance(seconds(1));
    assert!(end_alice(&bench).await.is_err());
    bench.store.broken.store(false, Ordering::SeqCst);
    nodes::until("everything is confirmed", async || {
        bench.sessions.unconfirmed.is_empty()
    })
    .await;
    let stored = bench.store.inner.session(&between.id).await.unwrap();
    assert!(stored.unwrap().record.revoked_at.is_some());
    assert!(bench.record(&before).await.revoked_at.is_some());
}

async fn end_alice(bench: &Bench) -> Result<usize, StoreError> {
    bench.sessions.end_user("local", "alice", asked()).await
}

#[tokio::test]
async fn an_unconfirmed_end_is_told_to_all_although_the_store_lost_the_session() {
    let bench = bench().await;
    let pair = bench.begin().await;
    bench.store.broken.store(true, Ordering::SeqCst);
    assert!(bench.sessions.end(pair.session, asked()).await.is_err());
    let over = bench.now().plus(settings().absolute_ttl);
    bench.store.inner.remove_expired(over).await.unwrap();
    bench.store.broken.store(false, Ordering::SeqCst);
    nodes::until("it is confirmed", async || {
        bench.sessions.unconfirmed.is_empty()
    })
    .await;
    let known = bench.store.revocations(bench.now()).await.unwrap();
    let target = RevocationTarget::Session(pair.session);
    assert!(known.iter().any(|known| known.target == target));
}
