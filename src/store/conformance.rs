//! What every store must do, whatever it is built on. Each implementation runs [`all`] on an empty store of its own.
//!
//! Must not know any implementation.

use std::sync::Arc;
use std::time::Duration;

use super::{Account, Replaced, Revision, RevocationRecord, RevocationTarget, Store};
use crate::auth::keyset::StoredKey;
use crate::auth::provider_session::{Asking, ProviderName, ProviderSession, Sealed};
use crate::auth::rotation::{Lineage, SessionRecord};
use crate::auth::{Client, ClientAddr, Generation, Identity, SessionId};
use crate::clock::Timestamp;
use crate::units::Secret;

/// A moment from which the cases count.
pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

/// A session of `user` that ends an hour after [`NOW`].
pub(crate) fn session(id: u8, user: &str) -> SessionRecord {
    SessionRecord {
        id: SessionId::from_bytes([id; 16]),
        identity: Identity {
            user: user.to_owned(),
            email: None,
            name: None,
            preferred_username: None,
            groups: vec!["staff".to_owned()],
            provider: "local".to_owned(),
            auth_time: NOW,
            amr: vec!["pwd".to_owned()],
        },
        lineage: Lineage {
            newest: Generation(0),
            parent: None,
            issued_at: NOW,
            acknowledged_at: None,
            client: Client {
                user_agent: "test".to_owned(),
                addr: ClientAddr([127, 0, 0, 1].into()),
            },
        },
        created_at: NOW,
        last_seen_at: NOW,
        idle_expires_at: NOW.plus(Duration::from_secs(3600)),
        absolute_expires_at: NOW.plus(Duration::from_secs(7200)),
        revoked_at: None,
        provider: None,
    }
}

/// A session of `user` that began at the provider `corp`, which calls them `subject` and the session there `there`.
pub(crate) fn session_at_provider(
    id: u8,
    user: &str,
    subject: &str,
    there: Option<&str>,
) -> SessionRecord {
    let mut record = session(id, user);
    record.identity.provider = "corp".to_owned();
    record.provider = Some(Box::new(ProviderSession {
        issuer: "https://id.example.com".to_owned(),
        subject: subject.to_owned(),
        session: there.map(str::to_owned),
        refresh_token: Some(Sealed("refresh".to_owned())),
        id_token: Some(Sealed("id".to_owned())),
        groups_at_userinfo: true,
        checked_at: NOW,
        asking: None,
    }));
    record
}

/// A built-in account.
pub(crate) fn account(name: &str) -> Account {
    Account {
        name: name.to_owned(),
        email: Some(format!("{name}@example.com")),
        display_name: None,
        groups: Vec::new(),
        password_hash: "$argon2id$".to_owned(),
        blocked: false,
        created_at: NOW,
        password_changed_at: NOW,
    }
}

fn key(kid: &str, retires_at: Option<Timestamp>) -> StoredKey {
    StoredKey {
        kid: kid.to_owned(),
        pkcs8: Secret::new(format!("private part of {kid}")),
        created_at: NOW,
        retires_at,
    }
}

/// One record of each kind.
pub(crate) async fn all_kinds(store: &dyn Store) {
    store.create_session(&session(1, "alice")).await.unwrap();
    store.create_account(&account("alice")).await.unwrap();
    let keys = [key("k1", None)];
    store.replace_keys(&keys, Revision::NONE).await.unwrap();
    let revocation = RevocationRecord {
        target: RevocationTarget::All,
        at: NOW,
        until: NOW.plus(Duration::from_secs(300)),
    };
    store.put_revocation(&revocation).await.unwrap();
}

/// Every case, one after the other, on a store that holds nothing yet.
pub(crate) async fn all(store: Arc<dyn Store>) {
    store.probe().await.unwrap();
    an_empty_store_has_nothing(&*store).await;
    sessions_are_compared_and_set(&*store).await;
    exactly_one_of_many_writers_wins(Arc::clone(&store)).await;
    sessions_are_listed_by_user_until_they_end(&*store).await;
    a_provider_finds_its_sessions_by_either_name(&*store).await;
    what_is_over_is_removed(&*store).await;
    revocations_are_kept_until_they_no_longer_matter(&*store).await;
    account_names_are_unique_in_any_case(&*store).await;
    keys_are_replaced_as_a_whole(&*store).await;
    of_nodes_that_make_keys_at_once_one_wins(store).await;
}

async fn an_empty_store_has_nothing(store: &dyn Store) {
    assert!(
        store
            .session(&SessionId::from_bytes([1; 16]))
            .await
            .unwrap()
            .is_none()
    );
    assert!(store.sessions(None, NOW).await.unwrap().is_empty());
    assert!(store.revocations(NOW).await.unwrap().is_empty());
    assert!(store.account("nobody").await.unwrap().is_none());
    assert!(store.accounts().await.unwrap().is_empty());
    let keys = store.keys().await.unwrap();
    assert!(keys.record.is_empty());
    assert_eq!(keys.revision, Revision::NONE);
    assert_eq!(store.remove_expired(NOW).await.unwrap(), 0);
}

async fn sessions_are_compared_and_set(store: &dyn Store) {
    let mut record = session(1, "alice");
    assert_eq!(
        store.replace_session(&record, Revision(1)).await.unwrap(),
        Replaced::Missing
    );
    let first = store.create_session(&record).await.unwrap();
    assert!(
        store.create_session(&record).await.is_err(),
        "an id is never given twice"
    );
    let stored = store.session(&record.id).await.unwrap().unwrap();
    assert_eq!((&stored.record, stored.revision), (&record, first));

    record.lineage.newest = Generation(1);
    record.lineage.parent = Some(Generation(0));
    let Replaced::Committed(second) = store.replace_session(&record, first).await.unwrap() else {
        panic!("the revision was current");
    };
    assert_ne!(first, second);
    assert_eq!(
        store.session(&record.id).await.unwrap().unwrap().record,
        record
    );
    let mut late = record.clone();
    late.lineage.newest = Generation(9);
    assert_eq!(
        store.replace_session(&late, first).await.unwrap(),
        Replaced::Conflict
    );
    assert_eq!(
        store.session(&record.id).await.unwrap().unwrap().record,
        record,
        "a conflict changes nothing"
    );
    assert!(matches!(
        store.replace_session(&late, second).await.unwrap(),
        Replaced::Committed(_)
    ));
}

async fn exactly_one_of_many_writers_wins(store: Arc<dyn Store>) {
    let record = session(2, "bob");
    let mut revision = store.create_session(&record).await.unwrap();
    for round in 1..=10 {
        let writers: Vec<_> = (0..64u32)
            .map(|writer| {
                let store = Arc::clone(&store);
                let mut record = record.clone();
                record.lineage.newest = Generation(round * 100 + writer);
                tokio::spawn(async move {
                    (
                        record.lineage.newest,
                        store.replace_session(&record, revision).await.unwrap(),
                    )
                })
            })
            .collect();
        let mut winners = Vec::new();
        for writer in writers {
            match writer.await.unwrap() {
                (generation, Replaced::Committed(next)) => winners.push((generation, next)),
                (_, Replaced::Conflict) => {}
                (_, Replaced::Missing) => panic!("the session is there"),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        let stored = store.session(&record.id).await.unwrap().unwrap();
        assert_eq!(
            (stored.record.lineage.newest, stored.revision),
            winners[0],
            "what is stored is what won"
        );
        revision = stored.revision;
    }
}

async fn sessions_are_listed_by_user_until_they_end(store: &dyn Store) {
    let mut revoked = session(3, "carol");
    revoked.revoked_at = Some(NOW);
    let mut elsewhere = session(4, "carol");
    elsewhere.identity.provider = "corp".to_owned();
    let live = session(5, "carol");
    for record in [&revoked, &elsewhere, &live] {
        store.create_session(record).await.unwrap();
    }
    let of_carol = Some(("local", "carol"));
    assert_eq!(
        store.sessions(of_carol, NOW).await.unwrap(),
        vec![live.clone()]
    );
    assert!(
        store
            .sessions(of_carol, live.ends_at())
            .await
            .unwrap()
            .is_empty(),
        "a session has ended at its end"
    );
    let everybody = store.sessions(None, NOW).await.unwrap();
    assert!(everybody.contains(&elsewhere) && everybody.contains(&live));
    assert!(!everybody.contains(&revoked));
}

async fn a_provider_finds_its_sessions_by_either_name(store: &dyn Store) {
    let first = session_at_provider(20, "frank", "f-1", Some("there-1"));
    let second = session_at_provider(21, "frank", "f-1", Some("there-2"));
    let nameless = session_at_provider(22, "frank", "f-1", None);
    let other = session_at_provider(23, "grace", "g-1", Some("f-1"));
    let mut elsewhere = session_at_provider(24, "frank", "f-1", Some("there-1"));
    elsewhere.identity.provider = "partner".to_owned();
    let mut revoked = session_at_provider(25, "frank", "f-1", Some("there-1"));
    revoked.revoked_at = Some(NOW);
    let mut revision = Revision::NONE;
    for record in [&second, &nameless, &other, &elsewhere, &revoked, &first] {
        revision = store.create_session(record).await.unwrap();
    }
    let found = async |name, now| {
        let found = store.sessions_at_provider("corp", name, now).await.unwrap();
        found.iter().map(|record| record.id.as_bytes()[0]).collect()
    };
    let subject: Vec<u8> = found(ProviderName::Subject("f-1"), NOW).await;
    assert_eq!(subject, [20, 21, 22], "a name is of its kind and provider");
    let session: Vec<u8> = found(ProviderName::Session("there-1"), NOW).await;
    assert_eq!(session, [20]);
    for name in ["", "f", "f-1 ", "there-1", "f-1\0"] {
        let none: Vec<u8> = found(ProviderName::Subject(name), NOW).await;
        assert!(none.is_empty(), "{name}");
    }
    let ended: Vec<u8> = found(ProviderName::Subject("f-1"), first.ends_at()).await;
    assert!(ended.is_empty(), "a session has ended at its end");

    // What concerns the provider is kept, and changes with the record; lists go without its tokens.
    let mut asked = first.clone();
    let there = asked.provider.as_mut().unwrap();
    there.refresh_token = Some(Sealed("another".to_owned()));
    there.asking = Some(Asking {
        by: Some(u64::MAX),
        until: NOW,
    });
    let replaced = store.replace_session(&asked, revision).await.unwrap();
    assert!(matches!(replaced, Replaced::Committed(_)));
    let kept = store.session(&asked.id).await.unwrap().unwrap().record;
    assert_eq!(kept, asked);
    let named = store.sessions_at_provider("corp", ProviderName::Session("there-1"), NOW);
    let of_user = store.sessions(Some(("corp", "frank")), NOW);
    let all = store.sessions(None, NOW);
    for list in [named.await, of_user.await, all.await] {
        let listed = list.unwrap();
        let found = listed.iter().find(|record| record.id == asked.id).unwrap();
        let there = found.provider.as_deref().unwrap();
        assert_eq!(
            *there,
            asked.provider.as_ref().unwrap().clone().without_tokens()
        );
    }

    let end = first.ends_at();
    assert!(store.remove_expired(end).await.unwrap() >= 6);
    assert!(store.session(&first.id).await.unwrap().is_none());
    let gone: Vec<u8> = found(ProviderName::Subject("f-1"), NOW).await;
    assert!(gone.is_empty());
}

async fn what_is_over_is_removed(store: &dyn Store) {
    let mut brief = session(6, "dave");
    brief.idle_expires_at = NOW.plus(Duration::from_secs(10));
    let revision = store.create_session(&brief).await.unwrap();
    assert_eq!(
        store
            .remove_expired(brief.ends_at().minus(Duration::from_millis(1)))
            .await
            .unwrap(),
        0
    );
    let first_end = brief.ends_at();
    brief.idle_expires_at = NOW.plus(Duration::from_secs(20));
    store.replace_session(&brief, revision).await.unwrap();
    assert_eq!(
        store.remove_expired(first_end).await.unwrap(),
        0,
        "its end has moved"
    );
    assert!(store.session(&brief.id).await.unwrap().is_some());
    assert_eq!(store.remove_expired(brief.ends_at()).await.unwrap(), 1);
    assert!(store.session(&brief.id).await.unwrap().is_none());
    assert_eq!(
        store.replace_session(&brief, revision).await.unwrap(),
        Replaced::Missing,
        "what is gone does not come back"
    );
}

async fn revocations_are_kept_until_they_no_longer_matter(store: &dyn Store) {
    let until = NOW.plus(Duration::from_secs(300));
    let one = RevocationRecord {
        target: RevocationTarget::Session(SessionId::from_bytes([1; 16])),
        at: NOW,
        until,
    };
    let user = RevocationRecord {
        target: RevocationTarget::User {
            provider: "local".to_owned(),
            user: "alice \"the\" / first".to_owned(),
        },
        at: NOW,
        until: until.plus(Duration::from_secs(1)),
    };
    let all = RevocationRecord {
        target: RevocationTarget::All,
        at: NOW,
        until: until.plus(Duration::from_secs(1)),
    };
    for revocation in [&one, &user, &all] {
        store.put_revocation(revocation).await.unwrap();
    }
    let found = store.revocations(NOW).await.unwrap();
    assert_eq!(found.len(), 3);
    assert!(found.contains(&one) && found.contains(&user) && found.contains(&all));
    assert_eq!(store.revocations(until).await.unwrap().len(), 2);

    let later = RevocationRecord {
        at: NOW.plus(Duration::from_secs(5)),
        ..user.clone()
    };
    store.put_revocation(&later).await.unwrap();
    let found = store.revocations(NOW).await.unwrap();
    assert!(
        found.contains(&later) && !found.contains(&user),
        "one entry per target"
    );
    // Of two ends that are under way at once the earlier one may be written last.
    store.put_revocation(&user).await.unwrap();
    let found = store.revocations(NOW).await.unwrap();
    assert!(
        found.contains(&later) && !found.contains(&user),
        "the later moment counts"
    );
    assert_eq!(
        store.remove_expired(until).await.unwrap(),
        1,
        "only the first is over"
    );
    assert_eq!(store.revocations(NOW).await.unwrap().len(), 2);
}

async fn account_names_are_unique_in_any_case(store: &dyn Store) {
    let mut erin = account("Erin");
    let Replaced::Committed(first) = store.create_account(&erin).await.unwrap() else {
        panic!("the name was free");
    };
    assert_eq!(
        store.create_account(&account("eRIN")).await.unwrap(),
        Replaced::Conflict
    );
    let stored = store.account("ERIN").await.unwrap().unwrap();
    assert_eq!((&stored.record, stored.revision), (&erin, first));

    erin.blocked = true;
    let Replaced::Committed(second) = store.replace_account(&erin, first).await.unwrap() else {
        panic!("the revision was current");
    };
    assert_eq!(
        store.replace_account(&erin, first).await.unwrap(),
        Replaced::Conflict
    );
    assert_eq!(
        store
            .replace_account(&account("nobody"), second)
            .await
            .unwrap(),
        Replaced::Missing
    );
    store.create_account(&account("adam")).await.unwrap();
    let names: Vec<_> = store
        .accounts()
        .await
        .unwrap()
        .into_iter()
        .map(|account| account.name)
        .collect();
    assert_eq!(names, ["adam", "Erin"]);
    assert!(store.remove_account("erin").await.unwrap());
    assert!(!store.remove_account("erin").await.unwrap());
    assert!(store.account("Erin").await.unwrap().is_none());
}

async fn keys_are_replaced_as_a_whole(store: &dyn Store) {
    let seen = |keys: Vec<StoredKey>| -> Vec<(String, Vec<u8>, Option<Timestamp>)> {
        keys.into_iter()
            .map(|key| (key.kid, key.pkcs8.expose().to_vec(), key.retires_at))
            .collect()
    };
    let two = [key("z", Some(NOW)), key("a", None)];
    let Replaced::Committed(first) = store.replace_keys(&two, Revision::NONE).await.unwrap() else {
        panic!("there was no list");
    };
    let stored = store.keys().await.unwrap();
    assert_eq!(
        (seen(stored.record), stored.revision),
        (seen(two.to_vec()), first)
    );
    let one = [key("b", None)];
    assert_eq!(
        store.replace_keys(&one, Revision::NONE).await.unwrap(),
        Replaced::Conflict
    );
    assert_eq!(seen(store.keys().await.unwrap().record), seen(two.to_vec()));
    let Replaced::Committed(second) = store.replace_keys(&one, first).await.unwrap() else {
        panic!("the revision was current");
    };
    assert_eq!(
        store.replace_keys(&two, first).await.unwrap(),
        Replaced::Conflict
    );
    let stored = store.keys().await.unwrap();
    assert_eq!(
        (seen(stored.record), stored.revision),
        (seen(one.to_vec()), second)
    );
}

async fn of_nodes_that_make_keys_at_once_one_wins(store: Arc<dyn Store>) {
    let expected = store.keys().await.unwrap().revision;
    let nodes: Vec<_> = (0..16)
        .map(|node| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let kid = format!("node-{node}");
                let replaced = store.replace_keys(&[key(&kid, None)], expected).await;
                (kid, replaced.unwrap())
            })
        })
        .collect();
    let mut winners = Vec::new();
    for node in nodes {
        match node.await.unwrap() {
            (kid, Replaced::Committed(_)) => winners.push(kid),
            (_, Replaced::Conflict) => {}
            (_, Replaced::Missing) => panic!("a list of keys is never missing"),
        }
    }
    let kept = store.keys().await.unwrap().record;
    assert_eq!(winners, [kept[0].kid.clone()]);
    assert_eq!(kept.len(), 1);
}
