//! Answers that meet something else on their way into the record: a broken store, a dead node, a rotation, an end.

use super::*;

#[tokio::test]
async fn i08_an_answer_that_the_store_could_not_take_is_written_when_it_can() {
    for wait in [in_background(), in_foreground()] {
        let bench = Arc::new(bench().await);
        let pair = bench.begin_there().await;
        bench.clock.advance(wait);
        bench.talker.hold.store(true, Ordering::SeqCst);
        let renewal = tokio::spawn({
            let (bench, pair) = (Arc::clone(&bench), Arc::clone(&pair));
            async move { name(&bench.renew(&pair).await) }
        });
        bench.talker.held.notified().await;
        // In the background the renewal is over before the store fails.
        let background = wait == in_background();
        let renewal = match background {
            true => renewal.await.unwrap(),
            false => {
                bench.store.broken.store(true, Ordering::SeqCst);
                bench.talker.release.notify_one();
                renewal.await.unwrap()
            }
        };
        assert_eq!(
            renewal,
            if background {
                "issued 1"
            } else {
                "unavailable"
            }
        );
        bench.store.broken.store(true, Ordering::SeqCst);
        bench.talker.release.notify_one();
        let outages = |event: &SessionEvent| matches!(event, SessionEvent::StoreUnavailable);
        until("it was tried in vain", async || {
            bench.seen.count(outages) >= 3
        })
        .await;
        // Long enough for its lease to be over: nobody may ask with the spent token meanwhile.
        if background {
            bench.clock.advance(Asking::LEASE + seconds(1));
        }
        bench.store.broken.store(false, Ordering::SeqCst);
        until("it is written", async || {
            bench.part(&pair).await.asking.is_none()
        })
        .await;
        let mut pair = bench.issued(&pair).await;
        for _ in 0..2 {
            bench.clock.advance(in_background());
            pair = bench.issued(&pair).await;
            bench.checked(&pair).await;
        }
        assert_eq!(bench.talker.asked(), 3);
        assert!(!bench.talker.was_poisoned());
        assert_eq!(bench.seen.endings(), []);
    }
}

#[tokio::test]
async fn i08_an_end_that_the_store_could_not_take_is_obeyed_here_and_written_when_it_can() {
    let bench = bench().await;
    bench
        .talker
        .say(Some(ProviderAnswer::Ended(ProviderEnd::InvalidGrant)));
    let next = bench.asked_and_held().await;
    bench.store.broken.store(true, Ordering::SeqCst);
    bench.talker.release.notify_one();
    let outages = |event: &SessionEvent| matches!(event, SessionEvent::StoreUnavailable);
    until("it was tried in vain", async || {
        bench.seen.count(outages) >= 2
    })
    .await;
    bench.store.broken.store(false, Ordering::SeqCst);
    until("it is over", async || {
        bench_record_is_over(&bench, &next).await
    })
    .await;
    until("and told", async || {
        bench.seen.endings() == [Reason::EndedAtProvider]
    })
    .await;
    assert!(matches!(bench.check(&next), AccessFinding::Revoked));
}

#[tokio::test]
async fn i08_an_answer_that_dies_with_its_node_costs_one_clean_sign_in() {
    let bench = bench().await;
    let pair = bench.begin_there().await;
    let local = bench.begin().await;
    bench.clock.advance(in_background());
    bench.talker.hold.store(true, Ordering::SeqCst);
    let next = bench.issued(&pair).await;
    bench.talker.held.notified().await;
    // The provider has rotated; the node dies with the answer. Its task holds the engine until then.
    let folder = Arc::clone(&bench.folder);
    let (clock, talker) = (bench.clock.clone(), Arc::clone(&bench.talker));
    bench.store.broken.store(true, Ordering::SeqCst);
    let gone = Arc::downgrade(&bench.store);
    drop(bench);
    talker.release.notify_one();
    until("the node is dead", async || gone.strong_count() == 0).await;
    let bench = start_asking(Arc::new(Hand::on(folder.path())), folder, clock, talker).await;

    bench.acknowledge(&next).await;
    let mut pair = bench.issued(&next).await;
    assert_eq!(
        bench.talker.asked(),
        1,
        "perhaps somebody has an answer yet"
    );
    bench
        .clock
        .advance(Asking::LEASE + Asking::UNSAVED + Duration::from_millis(1));
    pair = bench.issued(&pair).await;
    until("it is told", async || {
        bench.seen.endings() == [Reason::EndedAtProvider]
    })
    .await;
    assert_eq!(name(&bench.renew(&pair).await), refused(Refusal::Revoked));
    assert_eq!(bench.talker.asked(), 2);
    bench.issued(&local).await;
}

#[tokio::test]
async fn a_lease_whose_holder_died_is_over_in_time() {
    let bench = bench().await;
    let pair = bench.begin_there().await;
    bench.clock.advance(in_foreground());
    let until = bench.now().plus(Asking::LEASE);
    let lease = Some(Asking { by: Some(7), until });
    bench.edit(&pair, |part| part.asking = lease).await;
    let (sessions, claims, now) = (
        Arc::clone(&bench.sessions),
        bench.sealed(&pair),
        bench.now(),
    );
    let renewal =
        tokio::spawn(async move { name(&sessions.renew(claims, &browser(1), now).await) });
    bench.looked(3).await;
    assert!(!renewal.is_finished());
    assert_eq!(bench.talker.asked(), 0);
    bench.clock.advance(Asking::LEASE);
    assert_eq!(renewal.await.unwrap(), "issued 1");
    assert_eq!(bench.talker.asked(), 1);
}

#[tokio::test]
async fn an_answer_and_a_rotation_that_meet_both_count() {
    for hold_rotation in [true, false] {
        let bench = Arc::new(bench().await);
        let mut pair = bench.begin_there().await;
        bench.clock.advance(in_background());
        bench.talker.give_groups(&["admins"]);
        bench.talker.hold.store(true, Ordering::SeqCst);
        pair = bench.issued(&pair).await;
        bench.talker.held.notified().await;
        bench.acknowledge(&pair).await;
        let renew = |bench: &Arc<Bench>, pair: &Arc<IssuedPair>| {
            let (bench, pair) = (Arc::clone(bench), Arc::clone(pair));
            tokio::spawn(async move { bench.issued(&pair).await })
        };
        bench.store.hold_before.store(true, Ordering::SeqCst);
        let next = if hold_rotation {
            // The rotation has read the record; the answer is kept; the rotation writes.
            let renewal = renew(&bench, &pair);
            bench.store.held.notified().await;
            bench.talker.release.notify_one();
            bench.checked(&pair).await;
            bench.store.release.notify_one();
            renewal.await.unwrap()
        } else {
            // The answer has read the record; a rotation is committed; the answer is kept.
            bench.talker.release.notify_one();
            bench.store.held.notified().await;
            let next = renew(&bench, &pair).await.unwrap();
            bench.store.release.notify_one();
            bench.checked(&pair).await;
            next
        };
        let record = bench.record(&next).await;
        assert_eq!(record.identity.groups, ["admins"]);
        let lineage = &record.lineage;
        assert_eq!(lineage.newest, next.generation);
        assert_eq!(lineage.parent, Some(pair.generation));
        assert_eq!(next.generation, Generation(2));
        bench.acknowledge(&next).await;
        bench.clock.advance(in_background());
        bench.issued(&next).await;
        bench.checked(&next).await;
        assert!(!bench.talker.was_poisoned());
        assert_eq!(bench.seen.replays(), 0);
    }
}

#[tokio::test]
async fn a_sign_out_while_the_provider_is_asked_wins() {
    for answer in [None, Some(ProviderAnswer::Ended(ProviderEnd::InvalidGrant))] {
        let bench = bench().await;
        bench.talker.say(answer);
        let next = bench.asked_and_held().await;
        assert!(
            bench
                .sessions
                .end(next.session, asked())
                .await
                .unwrap()
                .is_some()
        );
        let over = bench.record(&next).await;
        bench.talker.release.notify_one();
        bench.sessions.answers_kept().await;
        assert_eq!(bench.record(&next).await, over);
        assert_eq!(bench.seen.endings(), [Reason::Revoked]);
    }
}

#[tokio::test]
async fn an_end_that_was_said_of_a_spent_token_is_none() {
    let bench = bench().await;
    bench
        .talker
        .say(Some(ProviderAnswer::Ended(ProviderEnd::InvalidGrant)));
    let next = bench.asked_and_held().await;
    // The call took longer than its lease; another one was answered meanwhile.
    bench.edit(&next, |part| part.asking = None).await;
    bench.talker.release.notify_one();
    bench.sessions.answers_kept().await;
    assert_eq!(bench.record(&next).await.revoked_at, None);
    bench.acknowledge(&next).await;
    bench.issued(&next).await;
    assert_eq!(bench.seen.endings(), []);
}

#[tokio::test]
async fn an_answer_to_a_spent_token_does_not_replace_a_newer_one() {
    let bench = bench().await;
    bench.talker.give_groups(&["old"]);
    let next = bench.asked_and_held().await;
    // The call took longer than its lease; another one was answered meanwhile.
    bench
        .edit(&next, |part| {
            part.asking = None;
            part.refresh_token = Some(Sealed("newer".to_owned()));
        })
        .await;
    let newer = bench.record(&next).await;
    bench.talker.release.notify_one();
    bench.sessions.answers_kept().await;
    assert_eq!(bench.record(&next).await, newer);
}
