//! What a presented refresh token comes to, case by case.

use std::collections::HashSet;

use super::*;

#[tokio::test]
async fn i01_a_rotation_issues_a_new_pair_and_the_old_token_dies() {
    let bench = bench().await;
    let first = bench.begin().await;
    bench.acknowledge(&first).await;
    bench.clock.advance(seconds(301));
    assert!(matches!(
        bench.check(&first),
        AccessFinding::Bad(TokenError::Expired)
    ));
    let second = bench.issued(&first).await;
    assert_ne!(first.refresh, second.refresh);
    assert_eq!(second.generation, Generation(1));
    bench.acknowledge(&second).await;
    bench.clock.advance(seconds(31));
    assert_eq!(name(&bench.renew(&first).await), "refused Replay");
}

#[tokio::test]
async fn i02_reuse_ends_the_session_with_its_newest_tokens_and_is_told_once() {
    let bench = bench().await;
    let first = bench.begin().await;
    let second = bench.issued(&first).await;
    bench.acknowledge(&second).await;
    let stream = match bench.check(&second) {
        AccessFinding::Valid(subject) => bench.sessions.streams().open(subject),
        other => panic!("{other:?}"),
    };
    bench.clock.advance(seconds(31));
    assert_eq!(
        name(&bench.renew_as(&first, &browser(9)).await),
        "refused Replay"
    );
    assert!(matches!(bench.check(&second), AccessFinding::Revoked));
    stream.ended().await;
    for pair in [&first, &second] {
        assert_eq!(name(&bench.renew(pair).await), refused(Refusal::Revoked));
    }
    assert_eq!(bench.seen.replays(), 1);
    assert_eq!(bench.seen.endings(), [Reason::Replay]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn i03_fifty_parallel_renewals_rotate_once() {
    let bench = Arc::new(bench().await);
    let first = bench.begin().await;
    bench.clock.advance(seconds(301));
    let requests: Vec<_> = (0..50)
        .map(|_| {
            let (bench, first) = (Arc::clone(&bench), Arc::clone(&first));
            tokio::spawn(async move { bench.issued(&first).await })
        })
        .collect();
    let mut refresh = HashSet::new();
    for request in requests {
        refresh.insert(request.await.unwrap().refresh.clone());
    }
    assert_eq!(refresh.len(), 1, "everybody gets the same successor");
    assert_eq!(bench.seen.rotations(), 1);
    assert_eq!(bench.record(&first).await.lineage.newest, Generation(1));
    assert!(bench.sessions.flights.is_empty() && bench.sessions.turns.is_empty());
}

#[tokio::test]
async fn i04_a_lost_answer_is_delivered_again_with_the_same_successor() {
    let bench = bench().await;
    let first = bench.begin().await;
    let lost = bench.issued(&first).await;
    bench.clock.advance(seconds(20));
    let again = bench.issued(&first).await;
    assert_eq!(lost.refresh, again.refresh);
    assert_eq!(again.issued_at, lost.issued_at);
    assert!(again.access_expires_at > lost.access_expires_at);
    assert_eq!(
        bench
            .seen
            .count(|event| matches!(event, SessionEvent::Redelivered { .. })),
        1
    );
    bench.acknowledge(&again).await;
    assert!(matches!(bench.renew(&first).await, Renewal::Served(_)));
    assert!(matches!(bench.renew(&again).await, Renewal::Issued(..)));
}

#[tokio::test]
async fn i05_the_grace_does_not_span_generations() {
    let bench = bench().await;
    let first = bench.begin().await;
    let second = bench.issued(&first).await;
    let third = bench.issued(&second).await;
    assert_eq!(third.generation, Generation(2));
    assert_eq!(name(&bench.renew(&first).await), "refused Replay");
    assert!(matches!(bench.check(&third), AccessFinding::Revoked));
}

#[tokio::test]
async fn i12_the_absolute_lifetime_is_never_extended() {
    let bench = bench().await;
    let first = bench.begin().await;
    let end = START.plus(settings().absolute_ttl);
    let mut pair = first;
    while bench.now().plus(seconds(10 * 86_400)) < end {
        bench.clock.advance(seconds(10 * 86_400));
        pair = bench.issued(&pair).await;
        assert!(pair.refresh_expires_at <= end);
    }
    bench
        .clock
        .advance(end.since(bench.now()).saturating_sub(seconds(10)));
    pair = bench.issued(&pair).await;
    assert_eq!(pair.access_expires_at, end, "nor by an access token");
    bench.clock.advance(seconds(10));
    assert!(matches!(
        bench.check(&pair),
        AccessFinding::Bad(TokenError::Expired)
    ));
    let over = bench.renew(&pair).await;
    assert_eq!(name(&over), refused(Refusal::Expired));
    assert!(matches!(over, Renewal::Refused { user: Some(user), .. } if &*user == "alice"));
}

#[tokio::test]
async fn an_unused_session_ends_at_its_idle_lifetime() {
    let bench = bench().await;
    let first = bench.begin().await;
    bench.clock.advance(settings().windows.idle_ttl);
    assert_eq!(name(&bench.renew(&first).await), refused(Refusal::Expired));
    assert_eq!(bench.sessions.sweep(bench.now()).await.unwrap(), 1);
    assert_eq!(name(&bench.renew(&first).await), refused(Refusal::Unknown));
}

#[tokio::test]
async fn another_client_is_served_but_given_nothing() {
    let bench = bench().await;
    let first = bench.begin().await;
    bench.issued(&first).await;
    assert!(matches!(
        bench.renew_as(&first, &browser(9)).await,
        Renewal::Served(_)
    ));
}

#[tokio::test]
async fn flights_are_not_shared_between_clients_or_generations() {
    let bench = Arc::new(bench().await);
    let first = bench.begin().await;
    bench.store.hold_after.store(true, Ordering::SeqCst);
    let ask = |client: Client| {
        let (bench, first) = (Arc::clone(&bench), Arc::clone(&first));
        tokio::spawn(async move { name(&bench.renew_as(&first, &client).await) })
    };
    let victim = ask(browser(1));
    bench.store.held.notified().await;
    let thief = ask(browser(9));
    tokio::task::yield_now().await;
    bench.store.release.notify_one();
    assert_eq!(victim.await.unwrap(), "issued 1");
    assert_eq!(thief.await.unwrap(), "served");
}

#[tokio::test]
async fn an_answer_lost_for_good_is_replaced_and_the_abandoned_pair_gives_the_thief_away() {
    let bench = bench().await;
    let first = bench.begin().await;
    let abandoned = bench.issued(&first).await;
    bench.clock.advance(seconds(31));
    let newest = bench.issued(&first).await;
    assert_eq!(newest.generation, Generation(2));
    assert_eq!(
        bench
            .seen
            .count(|event| matches!(event, SessionEvent::Reissued { .. })),
        1
    );
    bench.acknowledge(&newest).await;
    // Somebody did receive it.
    assert!(matches!(bench.check(&abandoned), AccessFinding::Valid(_)));
    bench.sessions.settled().await;
    assert!(matches!(bench.check(&abandoned), AccessFinding::Revoked));
    assert!(matches!(bench.check(&newest), AccessFinding::Revoked));
    assert_eq!(bench.seen.replays(), 1);
    assert_eq!(bench.seen.endings(), [Reason::Replay]);
    assert!(bench.record(&newest).await.revoked_at.is_some());
}
