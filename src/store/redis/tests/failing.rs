//! Servers that fail: every call answers soon, nothing false is said, and what heals is used again.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::server::{RedisCluster, RedisServer, Watched};
use super::{Redis, open, open_with, settings};
use crate::auth::Generation;
use crate::auth::rotation::SessionRecord;
use crate::store::conformance::{NOW, session};
use crate::store::{
    Replaced, Revision, RevocationRecord, RevocationTarget, Store as _, StoreError,
};

/// Waits until a call succeeds.
pub(super) async fn until_it_works<T>(mut call: impl AsyncFnMut() -> Result<T, StoreError>) -> T {
    let started = Instant::now();
    loop {
        match call().await {
            Ok(value) => return value,
            Err(error) => assert!(started.elapsed() < Duration::from_secs(30), "{error}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the store takes this session: one that was taken without an answer is there, and would be refused for ever.
pub(super) async fn until_taken(store: &Redis, record: &SessionRecord) {
    until_it_works(async || match store.session(&record.id).await? {
        Some(_) => Ok(()),
        None => store.create_session(record).await.map(drop),
    })
    .await;
}

/// Every call of the store fails, and soon.
async fn nothing_works(store: &Redis) {
    let record = session(200, "nobody");
    let revocation = RevocationRecord {
        target: RevocationTarget::Session(record.id),
        at: NOW,
        until: NOW.plus(Duration::from_secs(60)),
    };
    fails_soon("session", async || store.session(&record.id).await).await;
    fails_soon("create_session", async || {
        store.create_session(&record).await
    })
    .await;
    fails_soon("replace_session", async || {
        store.replace_session(&record, Revision(1)).await
    })
    .await;
    fails_soon("sessions", async || store.sessions(None, NOW).await).await;
    let of = Some(("a", "b"));
    fails_soon("sessions of one", async || store.sessions(of, NOW).await).await;
    fails_soon("put_revocation", async || {
        store.put_revocation(&revocation).await
    })
    .await;
    fails_soon("revocations", async || store.revocations(NOW).await).await;
    fails_soon("account", async || store.account("nobody").await).await;
    fails_soon("keys", async || store.keys().await).await;
    fails_soon("probe", async || store.probe().await).await;
}

/// The call fails however often, and within a second when the machine lets it: it may be doing other work at any moment.
async fn fails_soon<T>(what: &str, mut call: impl AsyncFnMut() -> Result<T, StoreError>) {
    let mut waited = Vec::new();
    for _ in 0..20 {
        let began = Instant::now();
        assert!(call().await.is_err(), "{what} was answered");
        waited.push(began.elapsed());
        if began.elapsed() < Duration::from_secs(1) {
            return;
        }
    }
    panic!("{what} never failed within a second: {waited:?}");
}

#[tokio::test]
async fn a_server_that_is_down_or_paused_fails_soon_and_comes_back_by_itself() {
    let mut server = RedisServer::start();
    let store = open(&server.url()).await;
    let record = session(1, "alice");
    store.create_session(&record).await.unwrap();

    server.kill();
    nothing_works(&store).await;
    server.start_again();
    until_it_works(async || store.probe().await).await;
    // It knows no script any more.
    let stored = store.session(&record.id).await.unwrap().unwrap();
    let replaced = store.replace_session(&record, stored.revision).await;
    assert!(matches!(replaced.unwrap(), Replaced::Committed(_)));

    server.pause();
    nothing_works(&store).await;
    server.resume();
    until_it_works(async || store.probe().await).await;
}

#[tokio::test]
async fn after_a_write_that_was_not_answered_the_next_read_tells_the_truth() {
    let server = RedisServer::start();
    let store = open(&server.url()).await;
    for round in 0..3u8 {
        let mut record = session(round, "alice");
        let revision = store.create_session(&record).await.unwrap();
        record.lineage.newest = Generation(1);
        server.pause();
        assert!(store.replace_session(&record, revision).await.is_err());
        server.resume();
        let read = async || store.session(&record.id).await;
        let stored = until_it_works(read).await.unwrap();
        let again = store.replace_session(&record, revision).await.unwrap();
        match stored.revision == revision {
            // Not done then; it may have been done just after it was read, as the server went on.
            true => assert_ne!(again, Replaced::Missing),
            false => assert_eq!(again, Replaced::Conflict),
        }
        let now = store.session(&record.id).await.unwrap().unwrap();
        assert_eq!(now.record.lineage.newest, Generation(1));
    }
}

#[tokio::test]
async fn a_failover_is_followed() {
    let mut watched = Watched::start();
    let mut wanted = settings(&watched.url());
    wanted.replicas = 1;
    let careful = open_with(wanted).await.unwrap();
    let store = open(&watched.url()).await;
    let record = session(1, "alice");
    careful.create_session(&record).await.unwrap();
    watched.master.kill();
    let after = session(2, "alice");
    until_taken(&store, &after).await;
    let kept = store.session(&record.id).await.unwrap();
    assert_eq!(kept.unwrap().record, record, "confirmed by the replica");
}

#[tokio::test]
async fn slots_that_move_take_their_sessions_along() {
    let cluster = RedisCluster::start();
    let store = open(&cluster.url()).await;
    let mut revisions = Vec::new();
    for id in 0..=255u8 {
        let record = session(id, "alice");
        revisions.push(store.create_session(&record).await.unwrap());
    }
    let other = Arc::clone(&store);
    // One session that is renewed all the while.
    let renewing = tokio::spawn(async move {
        let mut record = session(3, "alice");
        let mut renewals = 0u32;
        while renewals < 2000 {
            let Ok(Some(stored)) = other.session(&record.id).await else {
                continue;
            };
            record.lineage.newest = stored.record.lineage.newest.next();
            if let Ok(Replaced::Committed(_)) =
                other.replace_session(&record, stored.revision).await
            {
                renewals += 1;
            }
        }
        record.lineage.newest
    });
    let (from, to) = (
        cluster.owner_of(&super::names::ends(3)),
        cluster.nodes.len(),
    );
    let to = (from + 1) % to;
    cluster.move_slots(from, to, 5400);
    let newest = renewing.await.unwrap();
    assert!(newest >= Generation(2000));
    assert_ne!(cluster.owner_of(&super::names::ends(3)), from, "it moved");
    for (id, revision) in (0..=255u8).zip(revisions) {
        let stored = store.session(&session(id, "alice").id).await.unwrap();
        let stored = stored.unwrap();
        match id {
            3 => assert_eq!(stored.record.lineage.newest, newest),
            _ => assert_eq!(stored.revision, revision),
        }
    }
    let of_alice = store.sessions(Some(("local", "alice")), NOW).await;
    assert_eq!(of_alice.unwrap().len(), 256);
}

#[tokio::test]
async fn a_part_of_a_cluster_that_is_away_is_told() {
    let mut cluster = RedisCluster::start();
    let store = open(&cluster.url()).await;
    store.probe().await.unwrap();
    let probed = cluster.owner_of(super::names::PROBE);
    let lost = (probed + 1) % cluster.nodes.len();
    cluster.nodes[lost].kill();
    let refused = store.probe().await.err().unwrap().to_string();
    assert!(refused.contains("a part of it is away"), "{refused}");
    cluster.nodes[lost].start_again();
    cluster.settled();
    until_it_works(async || store.probe().await).await;
}

#[tokio::test]
async fn a_start_without_a_server_is_tried_for_ten_seconds() {
    // Nobody listens there any more.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let began = Instant::now();
    let refused = open_with(settings(&url)).await.err().unwrap();
    assert!(
        matches!(&refused, StoreError::Unavailable(why) if why.contains(&url)),
        "{refused}"
    );
    let tried = began.elapsed();
    assert!(tried >= Duration::from_secs(10), "{tried:?}");
    assert!(tried < Duration::from_secs(60), "{tried:?}");
}

#[tokio::test]
async fn a_user_without_rights_is_told_which_it_needs() {
    let server = RedisServer::start();
    server.cli(&["ACL", "SETUSER", "default", "resetkeys"]);
    let store = open(&server.url()).await;
    let refused = store.account("alice").await.err().unwrap().to_string();
    assert!(
        refused.contains("~vestibule:* +@all -@dangerous +role"),
        "{refused}"
    );
}
