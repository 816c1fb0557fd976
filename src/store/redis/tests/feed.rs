//! The feed: what a node hears, and that it knows when it may have missed something.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::open;
use super::server::{RedisCluster, RedisServer};
use crate::auth::SessionId;
use crate::auth::keyset::StoredKey;
use crate::store::conformance::NOW;
use crate::store::{
    FEED_BOUND, Feed, FeedEvent, Revision, RevocationRecord, RevocationTarget, Store,
};

fn revocation(number: u32) -> RevocationRecord {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    RevocationRecord {
        target: RevocationTarget::Session(SessionId::from_bytes(id)),
        at: NOW,
        until: NOW.plus(Duration::from_secs(300)),
    }
}

async fn next(feed: &mut Feed) -> FeedEvent {
    let event = timeout(Duration::from_secs(30), feed.recv()).await;
    event.expect("an event").expect("the feed goes on")
}

async fn attached(store: &dyn Store) -> Feed {
    let mut feed = store.feed().unwrap();
    assert_eq!(next(&mut feed).await, FeedEvent::Attached);
    feed
}

/// Reads on until the reader is whole again; whether it was told of the loss.
async fn reattached(feed: &mut Feed) {
    let mut lost = false;
    loop {
        match next(feed).await {
            FeedEvent::Detached(reason) => {
                assert!(!reason.is_empty());
                lost = true;
            }
            FeedEvent::Attached => {
                assert!(lost, "it was told that something may be missing");
                return;
            }
            FeedEvent::Revoked(_) | FeedEvent::KeysChanged => {}
        }
    }
}

async fn all_nodes_hear_it(one: &dyn Store, other: &dyn Store) {
    one.put_revocation(&revocation(0)).await.unwrap();
    let (mut own, mut others) = (attached(one).await, attached(other).await);
    for number in 1..=50 {
        one.put_revocation(&revocation(number)).await.unwrap();
    }
    let key = StoredKey::generate(NOW).unwrap();
    one.replace_keys(&[key], Revision::NONE).await.unwrap();
    for feed in [&mut own, &mut others] {
        for number in 1..=50 {
            assert_eq!(next(feed).await, FeedEvent::Revoked(revocation(number)));
        }
        assert_eq!(next(feed).await, FeedEvent::KeysChanged);
    }
    assert_eq!(other.revocations(NOW).await.unwrap().len(), 51);
    // What comes late does not replace what is newer, here or in what other nodes load.
    let newer = RevocationRecord {
        at: NOW.plus(Duration::from_secs(9)),
        ..revocation(7)
    };
    one.put_revocation(&newer).await.unwrap();
    one.put_revocation(&revocation(7)).await.unwrap();
    assert!(other.revocations(NOW).await.unwrap().contains(&newer));
}

#[tokio::test]
async fn every_node_hears_every_event_once_and_in_order() {
    let server = RedisServer::start();
    let (one, other) = (open(&server.url()).await, open(&server.url()).await);
    all_nodes_hear_it(&*one, &*other).await;
}

#[tokio::test]
async fn every_node_of_a_cluster_hears_every_event_once_and_in_order() {
    let cluster = RedisCluster::start();
    let (one, other) = (open(&cluster.url()).await, open(&cluster.url()).await);
    all_nodes_hear_it(&*one, &*other).await;
}

#[tokio::test]
async fn a_reader_is_told_of_every_way_to_miss_something() {
    let mut server = RedisServer::start();
    let store = open(&server.url()).await;
    store.put_revocation(&revocation(1)).await.unwrap();
    let mut feed = attached(&*store).await;

    let mut silences = Vec::new();
    while silences
        .iter()
        .all(|silence| *silence >= Duration::from_secs(3))
    {
        // It may be this machine that did other work.
        assert!(silences.len() < 10, "never told soon: {silences:?}");
        server.pause();
        let paused = Instant::now();
        assert!(matches!(next(&mut feed).await, FeedEvent::Detached(_)));
        silences.push(paused.elapsed());
        server.resume();
        assert_eq!(next(&mut feed).await, FeedEvent::Attached);
    }

    server.kill();
    assert!(matches!(next(&mut feed).await, FeedEvent::Detached(_)));
    server.start_again();
    assert_eq!(next(&mut feed).await, FeedEvent::Attached);

    // The stream begins anew, as after a failover to a replica that knew less.
    server.cli(&["FLUSHALL"]);
    reattached(&mut feed).await;
    // Events that nobody will ever read.
    server.cli(&["INCRBY", super::names::FEED_COUNT, "3"]);
    reattached(&mut feed).await;
    // And it still hears.
    let heard = revocation(5);
    super::failing::until_it_works(async || store.put_revocation(&heard).await).await;
    assert_eq!(next(&mut feed).await, FeedEvent::Revoked(heard));
}

#[tokio::test]
async fn a_reader_that_is_behind_is_detached_and_not_waited_for() {
    let server = RedisServer::start();
    let store = open(&server.url()).await;
    let mut feed = attached(&*store).await;
    let most = u32::try_from(FEED_BOUND).unwrap() + 600;
    let all: Vec<RevocationRecord> = (0..most).map(revocation).collect();
    for group in all.chunks(200) {
        let puts = group.iter().map(|one| store.put_revocation(one));
        futures_util::future::try_join_all(puts).await.unwrap();
    }
    reattached(&mut feed).await;
    let found = store.revocations(NOW).await.unwrap();
    assert_eq!(found.len(), all.len(), "what was missed can be loaded");
}
