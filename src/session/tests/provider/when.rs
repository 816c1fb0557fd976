//! When a provider is asked, by whom, and who waits for it.

use super::*;

#[tokio::test]
async fn a_young_check_asks_nobody_and_an_old_one_asks_while_the_renewal_goes_on() {
    let bench = bench().await;
    let mut pair = bench.begin_there().await;
    bench.clock.advance(CHECK);
    pair = bench.issued(&pair).await;
    assert_eq!(bench.talker.asked(), 0);

    bench.talker.hold.store(true, Ordering::SeqCst);
    bench.talker.give_groups(&["admins"]);
    bench.clock.advance(Duration::from_millis(1));
    pair = bench.issued(&pair).await;
    bench.talker.held.notified().await;
    assert_eq!(bench.groups(&pair), ["staff"], "nobody waited");
    bench.acknowledge(&pair).await;
    // While it is asked, nobody else asks.
    pair = bench.issued(&pair).await;
    bench.talker.release.notify_one();
    bench.checked(&pair).await;
    assert_eq!(bench.talker.asked(), 1);
    let record = bench.record(&pair).await;
    assert_eq!(record.lineage.newest, Generation(3), "as if nobody asked");
    assert_eq!(record.provider.unwrap().asking, None);

    pair = bench.issued(&pair).await;
    assert_eq!(bench.groups(&pair), ["admins"], "in the next token");
    assert_eq!(bench.talker.asked(), 1);
    // And again, with the refresh token of before.
    bench.clock.advance(in_background());
    pair = bench.issued(&pair).await;
    bench.checked(&pair).await;
    assert_eq!(bench.talker.asked(), 2);
    assert!(!bench.talker.was_poisoned());
}

#[tokio::test]
async fn without_a_refresh_token_a_session_goes_on_unasked() {
    let bench = bench().await;
    let there = SignedInThere {
        refresh_token: None,
        ..there(None)
    };
    let mut pair = bench.begin_as(alice_there(), there).await;
    for _ in 0..3 {
        bench.clock.advance(in_foreground());
        pair = bench.issued(&pair).await;
    }
    assert_eq!(bench.talker.asked(), 0);
}

/// Twenty requests of one browser, spread over the nodes, all of them let through by the same new pair.
async fn twenty(nodes: &[Bench], pair: &Arc<IssuedPair>) -> Vec<tokio::task::JoinHandle<String>> {
    let mut waiting = Vec::new();
    for request in 0..20 {
        let node = &nodes[request % nodes.len()];
        let (sessions, claims, now) = (Arc::clone(&node.sessions), node.sealed(pair), node.now());
        waiting.push(tokio::spawn(async move {
            name(&sessions.renew(claims, &browser(1), now).await)
        }));
    }
    waiting
}

#[tokio::test]
async fn i07_a_provider_that_takes_its_time_is_asked_once_for_twenty_requests_on_three_nodes() {
    for wait in [in_background(), in_foreground()] {
        let nodes = nodes(3).await;
        let talker = &nodes[0].talker;
        let pair = nodes[0].begin_there().await;
        nodes[0].clock.advance(wait);
        talker.hold.store(true, Ordering::SeqCst);
        let requests = twenty(&nodes, &pair).await;
        talker.held.notified().await;
        if wait == in_foreground() {
            // Long enough for every flight to have looked again, and again.
            nodes[0].looked(30).await;
            assert!(requests.iter().all(|request| !request.is_finished()));
            assert_eq!(talker.asked(), 1);
            talker.release.notify_one();
        }
        for request in requests {
            assert_eq!(request.await.unwrap(), "issued 1");
        }
        talker.release.notify_one();
        nodes[0].checked(&pair).await;
        assert_eq!(talker.asked(), 1);
        assert!(!talker.was_poisoned());
        let rotations: usize = nodes.iter().map(|node| node.seen.rotations()).sum();
        assert_eq!(rotations, 1);
    }
}

#[tokio::test]
async fn in_the_foreground_what_the_provider_says_is_in_the_very_token() {
    let bench = bench().await;
    let pair = bench.begin_there().await;
    bench.clock.advance(in_foreground());
    bench.talker.give_groups(&["admins", "staff"]);
    let next = bench.issued(&pair).await;
    assert_eq!(bench.groups(&next), ["admins", "staff"]);
}

#[tokio::test]
async fn a_renewal_that_waited_is_judged_when_the_answer_is_there() {
    let bench = Arc::new(bench().await);
    let pair = bench.begin_there().await;
    bench.clock.advance(in_foreground());
    bench.talker.hold.store(true, Ordering::SeqCst);
    let renewal = tokio::spawn({
        let (bench, pair) = (Arc::clone(&bench), Arc::clone(&pair));
        async move { bench.issued(&pair).await }
    });
    bench.talker.held.notified().await;
    bench.clock.advance(seconds(15));
    bench.talker.release.notify_one();
    let next = renewal.await.unwrap();
    assert_eq!(next.issued_at, bench.now(), "its cookies are not late");
    assert_eq!(next.access_expires_at, bench.now().plus(seconds(300)));
}

#[tokio::test]
async fn a_provider_that_says_when_to_come_back_is_left_alone_until_then() {
    let bench = bench().await;
    let pair = bench.begin_there().await;
    bench.clock.advance(in_foreground());
    for (said, kept) in [(30, 30), (86_400, 60)] {
        bench.talker.say(Some(ProviderAnswer::Unknown {
            reason: "429".to_owned(),
            retry_after: Some(seconds(said)),
        }));
        let asked = bench.talker.asked();
        let Renewal::ProviderSilent { retry_after } = bench.renew(&pair).await else {
            panic!("there is no answer");
        };
        assert_eq!(retry_after, seconds(kept));
        bench
            .clock
            .advance(seconds(kept) - Duration::from_millis(1));
        assert_eq!(name(&bench.renew(&pair).await), "silent");
        assert_eq!(bench.talker.asked(), asked + 1);
        bench.clock.advance(Duration::from_millis(1));
    }
}

#[tokio::test]
async fn accounts_are_asked_for_their_own_sessions_only() {
    let bench = bench().await;
    let there = bench.begin_there().await;
    let here = bench.begin().await;
    bench.accounts.closed.store(true, Ordering::SeqCst);
    bench.issued(&there).await;
    assert_eq!(name(&bench.renew(&here).await), "refused AccountClosed");
    assert_eq!(bench.talker.asked(), 0);
}

#[tokio::test]
async fn a_provider_that_hangs_keeps_nobody_from_another_one() {
    let bench = Arc::new(bench().await);
    let mut stuck = Vec::new();
    for _ in 0..70 {
        stuck.push(bench.begin_there().await);
    }
    let hub = Identity {
        provider: "hub".to_owned(),
        ..alice()
    };
    let pair = bench.begin_as(hub, there(None)).await;
    bench.clock.advance(in_foreground());
    *bench.talker.hangs.lock().unwrap() = Some("corp");
    let waiting: Vec<_> = stuck
        .into_iter()
        .map(|pair| {
            let bench = Arc::clone(&bench);
            tokio::spawn(async move { bench.renew(&pair).await })
        })
        .collect();
    until("the provider has no room left", async || {
        bench.talker.asked() == 64
    })
    .await;
    // Answered although the other provider holds all that it may.
    bench.issued(&pair).await;
    assert_eq!(bench.talker.asked(), 65);
    for renewal in waiting {
        renewal.abort();
    }
}
