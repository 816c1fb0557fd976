//! Renewals that ask a provider: when, how often, and what its answers do. The rotation goes on as if nobody asked.

use super::nodes::{is_open, stream, until};
use super::talker::{Talker, token};
use super::*;
use crate::auth::provider_session::{Asking, ProviderSession, Sealed};

pub(super) fn there(session: Option<&str>) -> SignedInThere {
    SignedInThere {
        issuer: "https://id.example.com".to_owned(),
        subject: "a-1".to_owned(),
        session: session.map(str::to_owned),
        refresh_token: Some(token(0)),
        id_token: Some(Secret::new("an id token")),
    }
}

pub(super) fn alice_there() -> Identity {
    Identity {
        provider: "corp".to_owned(),
        ..alice()
    }
}

/// This many nodes on one store, with one provider.
pub(super) async fn nodes(count: usize) -> Vec<Bench> {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let store = Arc::new(Hand::on(folder.path()));
    store.shared.store(true, Ordering::SeqCst);
    let (clock, talker) = (Clock::manual(START), Arc::<Talker>::default());
    let mut nodes = Vec::new();
    for _ in 0..count {
        let (store, talker) = (Arc::clone(&store), Arc::clone(&talker));
        nodes.push(start_asking(store, Arc::clone(&folder), clock.clone(), talker).await);
    }
    nodes
}

/// Old enough for a check that nobody waits for.
fn in_background() -> Duration {
    CHECK + Duration::from_millis(1)
}

/// Too old to go on without an answer.
fn in_foreground() -> Duration {
    CHECK + GRACE + Duration::from_millis(1)
}

impl Bench {
    pub(super) async fn begin_there(&self) -> Arc<IssuedPair> {
        self.begin_at("there").await
    }
    pub(super) async fn begin_at(&self, session: &str) -> Arc<IssuedPair> {
        self.begin_as(alice_there(), there(Some(session))).await
    }
    pub(super) async fn begin_as(
        &self,
        identity: Identity,
        there: SignedInThere,
    ) -> Arc<IssuedPair> {
        self.sessions
            .begin_at_provider(identity, there, &browser(1), self.now())
            .await
            .unwrap()
    }
    /// Sessions were read this often from now on.
    async fn looked(&self, times: usize) {
        let reads = || self.store.reads.load(Ordering::SeqCst);
        let before = reads();
        until("the record is looked at", async || {
            reads() >= before + times
        })
        .await;
    }
    async fn part(&self, pair: &IssuedPair) -> ProviderSession {
        *self.record(pair).await.provider.unwrap()
    }
    async fn edit(&self, pair: &IssuedPair, change: impl FnOnce(&mut ProviderSession)) {
        let stored = self.store.inner.session(&pair.session).await.unwrap();
        let Stored {
            mut record,
            revision,
        } = stored.unwrap();
        change(record.provider.as_mut().unwrap());
        let replaced = self.store.inner.replace_session(&record, revision).await;
        assert!(matches!(replaced.unwrap(), Replaced::Committed(_)));
    }
    /// The answer of a call that nobody waits for is kept.
    async fn checked(&self, pair: &IssuedPair) {
        until("the answer is kept", async || {
            self.part(pair).await.checked_at == self.now()
        })
        .await;
    }
    fn groups(&self, pair: &IssuedPair) -> Vec<String> {
        match self.check(pair) {
            AccessFinding::Valid(subject) => subject.identity().groups.clone(),
            found => panic!("{found:?}"),
        }
    }
}

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
async fn i09_a_silent_provider_ends_nothing_and_after_its_grace_renewals_wait_for_it() {
    let bench = bench().await;
    let mut pair = bench.begin_there().await;
    bench.talker.is_silent();
    let mut asked = 0;
    for _ in 0..4 {
        bench.clock.advance(in_background());
        if bench.now().since(START) > CHECK + GRACE {
            break;
        }
        pair = bench.issued(&pair).await;
        asked += 1;
        until("it was asked", async || bench.talker.asked() == asked).await;
        until("and left alone", async || {
            let asking = bench.part(&pair).await.asking;
            asking.is_some_and(|asking| asking.by.is_none())
        })
        .await;
        // Not again at once.
        bench.acknowledge(&pair).await;
        pair = bench.issued(&pair).await;
        assert_eq!(bench.talker.asked(), asked);
    }
    assert!(asked >= 3);
    bench.clock.advance(GRACE);
    for _ in 0..3 {
        match bench.renew(&pair).await {
            Renewal::ProviderSilent { retry_after } => assert!(retry_after <= seconds(5)),
            other => panic!("{}", name(&other)),
        }
    }
    assert_eq!(bench.talker.asked(), asked + 1, "left alone for a moment");
    let record = bench.record(&pair).await;
    assert_eq!(
        (record.revoked_at, record.lineage.newest),
        (None, pair.generation)
    );

    bench.clock.advance(seconds(5));
    bench.talker.say(None);
    bench.issued(&pair).await;
    assert_eq!(bench.seen.endings(), []);
    assert!(!bench.talker.was_poisoned());
}

#[tokio::test]
async fn a_refresh_token_under_a_dropped_master_key_is_a_new_sign_in_after_the_grace() {
    let bench = bench().await;
    let mut pair = bench.begin_there().await;
    let elsewhere = bench.begin_there().await;
    let foreign = bench.part(&elsewhere).await.refresh_token;
    bench
        .edit(&pair, |there| there.refresh_token = foreign)
        .await;
    bench.clock.advance(in_background());
    pair = bench.issued(&pair).await;
    bench.sessions.answers_kept().await;
    assert_eq!(bench.seen.endings(), [], "the key may come yet");
    bench.clock.advance(in_foreground());
    let renewed = bench.renew(&pair).await;
    assert!(name(&renewed).starts_with("refused"), "{}", name(&renewed));
    assert_eq!(bench.seen.endings(), [Reason::KeyDropped]);
    assert_eq!(bench.talker.asked(), 0);
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
async fn i09_invalid_grant_ends_the_session_on_all_nodes_with_its_streams() {
    let ends = [
        (ProviderEnd::InvalidGrant, Reason::EndedAtProvider),
        (ProviderEnd::NotAllowed, Reason::NotAllowedAnyMore),
        (ProviderEnd::SomebodyElse, Reason::SomebodyElse),
    ];
    for (end, reason) in ends {
        for wait in [in_background(), in_foreground()] {
            let nodes = nodes(2).await;
            let (one, other) = (&nodes[0], &nodes[1]);
            let pair = one.begin_there().await;
            let mut another = alice_there();
            another.user = "bob".to_owned();
            let bob = one.begin_as(another, there(Some("bob"))).await;
            let (here, elsewhere) = (stream(one, &pair), stream(other, &pair));
            let bobs = stream(other, &bob);
            one.clock.advance(wait);
            one.talker.say(Some(ProviderAnswer::Ended(end)));
            let renewal = name(&one.renew(&pair).await);
            match wait == in_foreground() {
                true => assert_eq!(renewal, refused(Refusal::Revoked)),
                false => assert_eq!(renewal, "issued 1"),
            }
            here.ended().await;
            elsewhere.ended().await;
            assert!(is_open(&bobs), "nobody else's");
            until("it is told", async || one.seen.endings() == [reason]).await;
            let refusal = refused(Refusal::Revoked);
            assert_eq!(name(&other.renew(&pair).await), refusal);
            assert!(bench_record_is_over(one, &pair).await);
        }
    }
}

async fn bench_record_is_over(bench: &Bench, pair: &IssuedPair) -> bool {
    bench.record(pair).await.revoked_at.is_some()
}

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
        let mut pair = match background {
            true => bench.issued(&pair).await,
            false => bench.issued(&pair).await,
        };
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
    let pair = bench.begin_there().await;
    bench.clock.advance(in_background());
    bench.talker.hold.store(true, Ordering::SeqCst);
    bench
        .talker
        .say(Some(ProviderAnswer::Ended(ProviderEnd::InvalidGrant)));
    let next = bench.issued(&pair).await;
    bench.talker.held.notified().await;
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
        let pair = bench.begin_there().await;
        bench.clock.advance(in_background());
        bench.talker.hold.store(true, Ordering::SeqCst);
        bench.talker.say(answer);
        let next = bench.issued(&pair).await;
        bench.talker.held.notified().await;
        assert!(bench.sessions.end(next.session, asked()).await.unwrap());
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
    let pair = bench.begin_there().await;
    bench.clock.advance(in_background());
    bench.talker.hold.store(true, Ordering::SeqCst);
    bench
        .talker
        .say(Some(ProviderAnswer::Ended(ProviderEnd::InvalidGrant)));
    let next = bench.issued(&pair).await;
    bench.talker.held.notified().await;
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
    let pair = bench.begin_there().await;
    bench.clock.advance(in_background());
    bench.talker.hold.store(true, Ordering::SeqCst);
    bench.talker.give_groups(&["old"]);
    let next = bench.issued(&pair).await;
    bench.talker.held.notified().await;
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

#[tokio::test]
async fn sessions_of_a_provider_that_is_gone_end_at_their_renewal() {
    let bench = bench().await;
    let pair = bench.begin_there().await;
    let local = bench.begin().await;
    bench.talker.gone.store(true, Ordering::SeqCst);
    assert_eq!(name(&bench.renew(&pair).await), "refused ProviderGone");
    assert_eq!(bench.seen.endings(), [Reason::ProviderGone]);
    bench.issued(&local).await;
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
async fn an_identity_that_outgrew_its_cookie_is_not_taken_over() {
    let bench = bench().await;
    let pair = bench.begin_there().await;
    bench.clock.advance(in_foreground());
    let many: Vec<String> = (0..1000).map(|n| format!("group-{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    bench.talker.give_groups(&many);
    let next = bench.issued(&pair).await;
    assert_eq!(bench.groups(&next), ["staff"]);
    assert_eq!(bench.part(&next).await.checked_at, bench.now());
}

#[tokio::test]
async fn a_provider_that_keeps_its_refresh_tokens_is_asked_with_the_same_one() {
    let bench = bench().await;
    bench.talker.keeps_tokens.store(true, Ordering::SeqCst);
    let mut pair = bench.begin_there().await;
    let sealed = bench.part(&pair).await.refresh_token;
    for _ in 0..3 {
        bench.clock.advance(in_foreground());
        pair = bench.issued(&pair).await;
    }
    assert_eq!(bench.part(&pair).await.refresh_token, sealed);
    assert_eq!(bench.talker.asked(), 3);
}

#[tokio::test]
async fn tokens_of_the_provider_are_not_in_the_store_and_too_long_ones_are_not_kept() {
    let bench = bench().await;
    let pair = bench.begin_there().await;
    let began = bench.sessions.began_there(pair.session).await.unwrap();
    let began = began.unwrap();
    assert_eq!(
        (&*began.provider, &*began.issuer),
        ("corp", "https://id.example.com")
    );
    assert_eq!(began.id_token.unwrap().expose(), b"an id token");
    let local = bench.begin().await;
    let nowhere = bench.sessions.began_there(local.session).await.unwrap();
    assert!(nowhere.is_none());

    let long = SignedInThere {
        refresh_token: Some(Secret::new(vec![b'r'; 16 * 1024 + 1])),
        id_token: Some(Secret::new(vec![b'i'; 8 * 1024 + 1])),
        ..there(None)
    };
    let pair = bench.begin_as(alice_there(), long).await;
    let part = bench.part(&pair).await;
    assert_eq!((part.refresh_token, part.id_token), (None, None));

    let file = bench.folder.path().join(crate::store::embedded::FILE_NAME);
    let bytes = std::fs::read(file).unwrap();
    let holds = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    assert!(holds(b"https://id.example.com"), "this is the file");
    assert!(!holds(token(0).expose()) && !holds(b"an id token"));
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
