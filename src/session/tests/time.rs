//! What a wall clock that is stepped must not do to sessions.

use super::*;

/// The clock, and the same clock to be put anywhere.
fn set(clock: &Clock, to: Timestamp) {
    let Clock::Manual(millis) = clock else {
        panic!("not a clock that a test moves")
    };
    millis.store(to.as_millis(), Ordering::SeqCst);
}

#[tokio::test]
async fn when_the_time_is_set_back_no_token_of_before_counts_and_nobody_is_signed_out() {
    let bench = bench().await;
    let before = bench.begin().await;
    let over = bench.begin().await;
    bench.clock.advance(seconds(25 * 3600));
    let ahead = bench.issued(&before).await;
    assert!(matches!(bench.check(&ahead), AccessFinding::Valid(_)));
    assert!(matches!(
        bench.check(&over),
        AccessFinding::Bad(TokenError::Expired)
    ));

    set(&bench.clock, START.plus(seconds(60)));
    bench.sessions.time_was_set_back().await;
    for pair in [&before, &over, &ahead] {
        assert!(matches!(
            bench.check(pair),
            AccessFinding::Bad(TokenError::Unknown)
        ));
    }
    let after = bench.issued(&ahead).await;
    assert!(matches!(bench.check(&after), AccessFinding::Valid(_)));
    assert!(matches!(bench.renew(&over).await, Renewal::Issued(..)));
    // Not when its time comes either, nor after a restart.
    let bench = bench.restarted().await;
    bench.clock.advance(seconds(25 * 3600));
    assert!(matches!(
        bench.check(&ahead),
        AccessFinding::Bad(TokenError::Unknown)
    ));
    assert_eq!(bench.sessions.key_list().await.len(), 1);
}

#[tokio::test]
async fn sessions_that_were_ended_by_a_clock_ahead_do_not_lock_their_owner_out() {
    let bench = bench().await;
    bench.clock.advance(seconds(25 * 3600));
    let ended = bench.begin().await;
    bench
        .sessions
        .end_user("local", "alice", asked())
        .await
        .unwrap();
    set(&bench.clock, START);
    bench.sessions.time_was_set_back().await;
    assert!(matches!(
        bench.renew(&ended).await,
        Renewal::Refused {
            refusal: RenewalRefusal::Rule(Refusal::Revoked),
            ..
        }
    ));
    bench.clock.advance(seconds(1));
    let again = bench.begin().await;
    assert!(matches!(bench.check(&again), AccessFinding::Valid(_)));
    // Another node learnt of it with the time that it was dated to, and mends that by itself.
    let bench = bench.restarted().await;
    bench.sessions.round(false).await;
    bench.clock.advance(seconds(1));
    let again = bench.begin().await;
    assert!(matches!(bench.check(&again), AccessFinding::Valid(_)));
}

#[tokio::test]
async fn nothing_is_forgotten_or_removed_while_a_step_is_in_doubt() {
    let clock = Clock::node(seconds(360));
    let bench = start(tempfile::tempdir().unwrap(), clock).await;
    let Clock::Node(clock) = &bench.clock else {
        panic!("a node's clock")
    };
    let long_ago = bench.now().minus(seconds(200 * 86_400));
    let over = bench
        .sessions
        .begin(alice(), &browser(1), long_ago)
        .await
        .unwrap();
    let revocation = RevocationRecord {
        target: crate::store::RevocationTarget::All,
        at: long_ago,
        until: long_ago,
    };
    bench.sessions.revocations.obey(&revocation, long_ago);
    clock.doubt(true);
    bench.sessions.round(true).await;
    assert_eq!(bench.sessions.held().0, 1);
    assert!(bench.store.session(&over.session).await.unwrap().is_some());

    clock.doubt(false);
    bench.sessions.round(true).await;
    assert_eq!(bench.sessions.held().0, 0);
    assert!(bench.store.session(&over.session).await.unwrap().is_none());
}

#[tokio::test]
async fn what_has_just_ended_is_kept_for_two_days() {
    let bench = bench().await;
    let over = bench.begin().await;
    let ends_at = bench.record(&over).await.ends_at();
    for (moment, there) in [
        (ends_at, true),
        (ends_at.plus(seconds(25 * 3600)), true),
        (ends_at.plus(seconds(48 * 3600)), false),
    ] {
        set(&bench.clock, moment);
        bench.sessions.round(true).await;
        let found = bench.store.session(&over.session).await.unwrap();
        assert_eq!(found.is_some(), there);
    }
}
