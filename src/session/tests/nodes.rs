//! Several nodes on one store: what one does, the others obey, even if they were cut off meanwhile.

use super::*;
use crate::session::StreamGuard;
use crate::store::RevocationTarget;

/// Two nodes on a store that tells them what happens.
pub(super) async fn two() -> (Bench, Bench) {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let store = Arc::new(Hand::on(folder.path()));
    store.shared.store(true, Ordering::SeqCst);
    let clock = Clock::manual(START);
    let one = start_on(Arc::clone(&store), Arc::clone(&folder), clock.clone()).await;
    let other = start_on(store, folder, clock).await;
    (one, other)
}

pub(super) async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    for _ in 0..10_000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("in vain: {what}");
}

pub(super) fn is_revoked(bench: &Bench, pair: &IssuedPair) -> bool {
    matches!(bench.check(pair), AccessFinding::Revoked)
}

pub(super) fn stream(bench: &Bench, pair: &IssuedPair) -> StreamGuard {
    match bench.check(pair) {
        AccessFinding::Valid(subject) => bench.sessions.streams().open(subject),
        found => panic!("{found:?}"),
    }
}

pub(super) fn is_open(stream: &StreamGuard) -> bool {
    use futures_util::FutureExt as _;
    stream.ended().now_or_never().is_none()
}

impl Bench {
    /// Nobody is told anything any more.
    fn cut(&self) {
        self.silence();
        for feed in &*self.store.silent.lock().unwrap() {
            feed.try_send(FeedEvent::Detached("cut by the test".to_owned()))
                .unwrap();
        }
    }

    /// The same, and nobody notices: the readers wait on.
    fn silence(&self) {
        let mut feeds = self.store.feeds.lock().unwrap();
        self.store.silent.lock().unwrap().append(&mut feeds);
    }

    /// It knows that it hears nothing.
    async fn lost_the_feed(&self) {
        let lost = async || self.sessions.feed_problem().is_some();
        until("the loss is known", lost).await;
    }

    /// It hears what is sent here from now on, and has loaded what it missed.
    async fn feed_is_back(&self) -> tokio::sync::mpsc::Sender<FeedEvent> {
        let (feed, events) = tokio::sync::mpsc::channel(8);
        feed.try_send(FeedEvent::Attached).unwrap();
        feed::start(&self.sessions, events);
        let whole = async || self.sessions.feed_problem().is_none();
        until("all is loaded", whole).await;
        feed
    }
}

#[tokio::test]
async fn what_one_node_ends_is_over_on_the_other_with_its_streams() {
    let (one, other) = two().await;
    for how in ["session", "user", "all"] {
        let pair = one.begin().await;
        let stream = stream(&other, &pair);
        one.clock.advance(Duration::from_millis(1));
        match how {
            "session" => assert!(
                one.sessions
                    .end(pair.session, asked())
                    .await
                    .unwrap()
                    .is_some()
            ),
            "user" => assert_eq!(
                one.sessions
                    .end_user("local", "alice", asked())
                    .await
                    .unwrap(),
                1
            ),
            _ => assert_eq!(one.sessions.end_all(asked()).await.unwrap(), 1),
        }
        stream.ended().await;
        assert!(is_revoked(&other, &pair), "{how}");
        assert_eq!(name(&other.renew(&pair).await), refused(Refusal::Revoked));
        one.clock.advance(Duration::from_millis(1));
    }
    // Held no longer than an access token lives, although it is kept longer while the records are marked.
    one.clock.advance(seconds(361));
    until("the last word on each", async || {
        other.sessions.forget_over(other.now()).await;
        other.sessions.held().0 == 0
    })
    .await;
}

#[tokio::test]
async fn what_began_after_a_revocation_is_not_ended_by_hearing_of_it_again() {
    let (one, other) = two().await;
    let before = one.begin().await;
    one.clock.advance(Duration::from_millis(1));
    one.sessions
        .end_user("local", "alice", asked())
        .await
        .unwrap();
    one.clock.advance(Duration::from_millis(1));
    let after = one.begin().await;
    let stream = stream(&other, &after);
    other.sessions.load_revocations().await.unwrap();
    assert!(is_open(&stream));
    assert!(is_revoked(&other, &before) && !is_revoked(&other, &after));
}

#[tokio::test]
async fn a_node_that_starts_later_knows_what_was_ended() {
    let (one, other) = two().await;
    let pair = one.begin().await;
    one.sessions.end(pair.session, asked()).await.unwrap();
    let later = start_on(
        Arc::clone(&other.store),
        Arc::clone(&other.folder),
        other.clock.clone(),
    )
    .await;
    assert!(is_revoked(&later, &pair));
}

#[tokio::test]
async fn a_feed_that_was_lost_and_regained_missed_nothing() {
    let (one, other) = two().await;
    let (short, long) = (one.begin().await, one.begin().await);
    let streams = [stream(&other, &short), stream(&other, &long)];
    other.cut();
    other.lost_the_feed().await;
    // Ended and forgotten before anything arrives again: the stream is all that is left of it.
    one.sessions.end(long.session, asked()).await.unwrap();
    one.clock.advance(seconds(3600));
    one.sessions.sweep(one.now()).await.unwrap();
    let recent = one.begin().await;
    one.sessions.end(recent.session, asked()).await.unwrap();
    assert!(!is_revoked(&other, &recent) && is_open(&streams[1]));

    let _feed = other.feed_is_back().await;
    assert!(is_revoked(&other, &recent));
    streams[1].ended().await;
    assert!(is_open(&streams[0]));
    assert_eq!(
        other
            .seen
            .count(|event| *event == SessionEvent::FeedRegained),
        1
    );
}

/// A node that died after it had marked the record and before it told anybody.
#[tokio::test]
async fn an_end_that_nobody_was_told_of_is_told_by_whoever_meets_it() {
    let (one, other) = two().await;
    let pair = one.begin().await;
    let mark = async |at: Timestamp| {
        let stored = one.store.inner.session(&pair.session).await;
        let stored = stored.unwrap().unwrap();
        let record = SessionRecord {
            revoked_at: Some(at),
            ..stored.record
        };
        let marked = one.store.inner.replace_session(&record, stored.revision);
        assert!(matches!(marked.await.unwrap(), Replaced::Committed(_)));
    };
    // So long ago that no access token of before is left: nobody has to know.
    mark(one.now().minus(settings().outlived())).await;
    assert_eq!(name(&one.renew(&pair).await), refused(Refusal::Revoked));
    assert!(matches!(one.check(&pair), AccessFinding::Valid(_)));
    mark(one.now()).await;
    assert_eq!(name(&one.renew(&pair).await), refused(Refusal::Revoked));
    assert!(is_revoked(&one, &pair));
    until("the other node knows", async || is_revoked(&other, &pair)).await;
}

#[tokio::test]
async fn an_end_that_nobody_was_told_of_is_told_by_whoever_first_sees_an_access_token() {
    let (one, other) = two().await;
    let pair = one.begin().await;
    let stored = one.store.inner.session(&pair.session).await;
    let stored = stored.unwrap().unwrap();
    let record = SessionRecord {
        revoked_at: Some(one.now()),
        ..stored.record
    };
    let marked = one.store.inner.replace_session(&record, stored.revision);
    assert!(matches!(marked.await.unwrap(), Replaced::Committed(_)));
    one.acknowledge(&pair).await;
    assert!(is_revoked(&one, &pair));
    until("the other node knows", async || is_revoked(&other, &pair)).await;
}

/// What the model of the rotation rule found: a store that fails over and loses the end of a session would let its refresh
/// token work again, once no node remembers.
#[tokio::test]
async fn an_end_that_a_failover_lost_is_written_again() {
    for how in ["session", "user", "all"] {
        let (one, other) = two().await;
        let pair = one.begin().await;
        one.clock.advance(Duration::from_millis(1));
        let before = one.record(&pair).await;
        match how {
            "session" => assert!(
                one.sessions
                    .end(pair.session, asked())
                    .await
                    .unwrap()
                    .is_some()
            ),
            "user" => {
                let ended = one.sessions.end_user("local", "alice", asked()).await;
                assert_eq!(ended.unwrap(), 1);
            }
            _ => assert_eq!(one.sessions.end_all(asked()).await.unwrap(), 1),
        }
        until("the other node knows", async || is_revoked(&other, &pair)).await;
        // The failover: the record is as it was, and there is no revocation.
        let later = one.now().plus(settings().absolute_ttl);
        other.store.inner.remove_expired(later).await.unwrap();
        let stored = other.store.inner.session(&pair.session).await.unwrap();
        match stored {
            Some(stored) => {
                let replaced = other.store.inner.replace_session(&before, stored.revision);
                replaced.await.unwrap();
            }
            None => {
                other.store.inner.create_session(&before).await.unwrap();
            }
        }
        assert!(
            other
                .store
                .inner
                .revocations(one.now())
                .await
                .unwrap()
                .is_empty()
        );

        other.cut();
        other.lost_the_feed().await;
        let _feed = other.feed_is_back().await;
        // No node remembers any more; the store does.
        other.clock.advance(seconds(86_400));
        let fresh = start_on(
            Arc::clone(&other.store),
            Arc::clone(&other.folder),
            other.clock.clone(),
        )
        .await;
        let refusal = refused(Refusal::Revoked);
        assert_eq!(name(&fresh.renew(&pair).await), refusal, "{how}");
    }
}

#[tokio::test]
async fn nothing_counts_as_regained_while_the_store_cannot_be_read() {
    let (one, other) = two().await;
    other.cut();
    other.lost_the_feed().await;
    let pair = one.begin().await;
    one.sessions.end(pair.session, asked()).await.unwrap();
    other.store.unreadable.store(true, Ordering::SeqCst);
    let (feed, events) = tokio::sync::mpsc::channel(8);
    feed.try_send(FeedEvent::Attached).unwrap();
    feed::start(&other.sessions, events);
    until("it was tried", async || {
        other.store.tried.load(Ordering::SeqCst)
    })
    .await;
    assert!(other.sessions.feed_problem().is_some());
    other.store.unreadable.store(false, Ordering::SeqCst);
    until("all is loaded", async || {
        other.sessions.feed_problem().is_none()
    })
    .await;
    assert!(is_revoked(&other, &pair));
}

#[tokio::test]
async fn a_token_issued_elsewhere_while_its_user_is_ended_dies_too() {
    for before in [true, false] {
        let (one, other) = two().await;
        let (one, other) = (one, Arc::new(other));
        let first = one.begin().await;
        one.clock.advance(seconds(10));
        let hold = if before {
            &one.store.hold_before
        } else {
            &one.store.hold_after
        };
        hold.store(true, Ordering::SeqCst);
        // The other node does not hear of the revocation in time.
        one.silence();
        let renewal = tokio::spawn({
            let (other, first) = (Arc::clone(&other), Arc::clone(&first));
            async move {
                other.clock.advance(seconds(2));
                other.renew(&first).await
            }
        });
        one.store.held.notified().await;
        // Dated before the renewal that is under way.
        let at = one.now().minus(seconds(2));
        let revocation = RevocationRecord {
            target: RevocationTarget::User {
                provider: "local".to_owned(),
                user: "alice".to_owned(),
            },
            at,
            until: at.plus(seconds(360)),
        };
        one.store.put_revocation(&revocation).await.unwrap();
        one.store.release.notify_one();
        let Renewal::Issued(pair, _) = renewal.await.unwrap() else {
            panic!("the other node could not know");
        };
        assert!(matches!(other.check(&pair), AccessFinding::Valid(_)));
        // Now it hears.
        let event = FeedEvent::Revoked(revocation);
        for feed in &*one.store.silent.lock().unwrap() {
            feed.try_send(event.clone()).unwrap();
        }
        until("it is obeyed", async || is_revoked(&other, &pair)).await;
        assert_eq!(name(&other.renew(&pair).await), refused(Refusal::Revoked));
    }
}

#[tokio::test]
async fn keys_that_one_node_rotates_are_known_to_the_other() {
    let (one, other) = two().await;
    let before = one.begin().await;
    let kid = one
        .sessions
        .rotate_keys(By::CommandLine, one.now())
        .await
        .unwrap();
    until("the new key", async || {
        other.sessions.key_list().await.last().unwrap().kid == kid
    })
    .await;
    let after = one.begin().await;
    for pair in [&before, &after] {
        assert!(matches!(other.check(pair), AccessFinding::Valid(_)));
    }
}

#[tokio::test]
async fn a_token_with_an_unknown_key_makes_the_keys_be_read() {
    let (one, other) = two().await;
    one.silence();
    one.sessions
        .rotate_keys(By::CommandLine, one.now())
        .await
        .unwrap();
    let pair = one.begin().await;
    assert!(matches!(
        other.check(&pair),
        AccessFinding::Bad(TokenError::Unknown)
    ));
    until("the key is known", async || {
        matches!(other.check(&pair), AccessFinding::Valid(_))
    })
    .await;
    // Not each time: anybody can write a key id.
    one.sessions
        .rotate_keys(By::CommandLine, one.now())
        .await
        .unwrap();
    let reads = one.store.key_reads.load(Ordering::SeqCst);
    let pair = one.begin().await;
    for _ in 0..100 {
        assert!(matches!(
            other.check(&pair),
            AccessFinding::Bad(TokenError::Unknown)
        ));
        tokio::task::yield_now().await;
    }
    assert_eq!(one.store.key_reads.load(Ordering::SeqCst), reads);
}

#[tokio::test]
async fn streams_end_with_the_lifetime_of_their_session() {
    let bench = bench().await;
    let pair = bench.begin().await;
    let stream = stream(&bench, &pair);
    bench
        .clock
        .advance(seconds(14 * 86_400) - Duration::from_millis(1));
    let check = async || {
        let now = bench.now();
        bench.sessions.end_streams_of_ended_sessions(now).await;
        is_open(&stream)
    };
    assert!(check().await);
    bench.clock.advance(Duration::from_millis(1));
    // A store that does not answer says nothing about a session.
    bench.store.broken.store(true, Ordering::SeqCst);
    assert!(check().await);
    bench.store.broken.store(false, Ordering::SeqCst);
    assert!(!check().await);
}

#[tokio::test]
async fn r11_streams_of_a_node_that_nobody_answers_end_when_its_tokens_have() {
    let (one, other) = two().await;
    let pair = one.begin().await;
    other.cut();
    other.lost_the_feed().await;
    let hears = start_on(
        Arc::clone(&other.store),
        Arc::clone(&other.folder),
        other.clock.clone(),
    )
    .await;
    let streams = [stream(&hears, &pair), stream(&other, &pair)];
    let outlived = other.sessions.settings.outlived();
    let check = async || {
        for bench in [&hears, &other] {
            let now = bench.now();
            bench.sessions.end_streams_of_ended_sessions(now).await;
        }
        (is_open(&streams[0]), is_open(&streams[1]))
    };
    // However long nothing arrives: the store itself says that the session lives.
    one.clock.advance(outlived + Duration::from_millis(1));
    assert_eq!(check().await, (true, true));
    one.store.broken.store(true, Ordering::SeqCst);
    // Whoever misses nothing knows by itself.
    assert_eq!(check().await, (true, false));
}

#[tokio::test]
async fn r11_until_then_an_outage_of_the_store_ends_no_stream() {
    let (one, other) = two().await;
    let pair = one.begin().await;
    let stream = stream(&other, &pair);
    other.cut();
    other.store.broken.store(true, Ordering::SeqCst);
    other.lost_the_feed().await;
    other.clock.advance(other.sessions.settings.outlived());
    let now = other.now();
    other.sessions.end_streams_of_ended_sessions(now).await;
    assert!(is_open(&stream));
    // Whole again, and cut off again: it counts from there.
    other.store.broken.store(false, Ordering::SeqCst);
    let feed = other.feed_is_back().await;
    feed.try_send(FeedEvent::Detached("again".to_owned()))
        .unwrap();
    other.lost_the_feed().await;
    other.store.broken.store(true, Ordering::SeqCst);
    other.clock.advance(other.sessions.settings.outlived());
    other
        .sessions
        .end_streams_of_ended_sessions(other.now())
        .await;
    assert!(is_open(&stream));
}

/// A flight that waits behind others of its session, until those who wanted it have been told that the store is away.
struct Grounded {
    turn: tokio::sync::OwnedMutexGuard<()>,
}

impl Grounded {
    async fn on(bench: &Bench, pair: &IssuedPair) -> Grounded {
        let turn = Arc::clone(&bench.sessions.turns.entry(pair.session).or_default());
        let grounded = Grounded {
            turn: turn.lock_owned().await,
        };
        assert_eq!(name(&bench.renew(pair).await), "unavailable");
        grounded
    }

    /// Its turn has come, and it has ended.
    async fn flies(self, bench: &Bench) {
        drop(self.turn);
        let landed = async || bench.sessions.flights.is_empty();
        until("the flight lands", landed).await;
    }
}

#[tokio::test]
async fn a_request_that_was_answered_long_ago_accuses_nobody() {
    let (one, other) = two().await;
    let first = one.begin().await;
    let grounded = Grounded::on(&one, &first).await;
    // The browser came again, elsewhere, and once more when its token had run out.
    let second = other.issued(&first).await;
    other.acknowledge(&second).await;
    let third = other.issued(&second).await;
    grounded.flies(&one).await;
    assert_eq!((one.seen.replays(), other.seen.replays()), (0, 0));
    assert_eq!(one.record(&first).await.revoked_at, None);
    assert!(matches!(one.check(&third), AccessFinding::Valid(_)));
    // Whoever really has the spent token is found out when it is shown again.
    assert_eq!(name(&one.renew(&first).await), "refused Replay");
}

#[tokio::test]
async fn a_request_that_was_answered_long_ago_spends_nothing() {
    let (one, _) = two().await;
    let first = one.begin().await;
    Grounded::on(&one, &first).await.flies(&one).await;
    assert_eq!(one.record(&first).await.lineage.newest, Generation(0));
    assert_eq!(one.issued(&first).await.generation, Generation(1));
}

#[tokio::test]
async fn whoever_joins_a_waiting_flight_is_waited_for() {
    let (one, _) = two().await;
    let one = Arc::new(one);
    let first = one.begin().await;
    let grounded = Grounded::on(&one, &first).await;
    let joins = tokio::spawn({
        let (one, first) = (Arc::clone(&one), Arc::clone(&first));
        async move { name(&one.renew(&first).await) }
    });
    tokio::task::yield_now().await;
    grounded.flies(&one).await;
    assert_eq!(joins.await.unwrap(), "issued 1");
}

#[tokio::test]
async fn requests_that_were_answered_long_ago_do_not_queue_for_a_store_that_hangs() {
    const WAITING: u8 = 20;
    let (one, _) = two().await;
    let one = Arc::new(one);
    let first = one.begin().await;
    let grounded = Grounded::on(&one, &first).await;
    // A flight for each client: whoever has a session can make as many as they like.
    let asked = (2..WAITING).map(|last| {
        let (one, first) = (Arc::clone(&one), Arc::clone(&first));
        async move { name(&one.renew_as(&first, &browser(last)).await) }
    });
    for answer in futures_util::future::join_all(asked).await {
        assert_eq!(answer, "unavailable");
    }
    one.store.hung.store(true, Ordering::SeqCst);
    let reads = one.store.reads.load(Ordering::SeqCst);
    grounded.flies(&one).await;
    assert_eq!(one.store.reads.load(Ordering::SeqCst), reads);
}
