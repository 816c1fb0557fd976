use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;
use crate::store::backup::Reader;
use crate::store::conformance::{self, NOW, session, session_at_provider};

fn master() -> Secret {
    Secret::new([7; 32])
}

fn open(folder: &Path) -> Result<Embedded, StoreError> {
    Embedded::open(folder, &master(), &[])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_contract_of_every_store() {
    let folder = tempfile::tempdir().unwrap();
    conformance::all(Arc::new(open(folder.path()).unwrap())).await;
}

#[tokio::test]
async fn what_was_answered_is_there_after_the_store_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let record = session(1, "alice");
    let store = open(folder.path()).unwrap();
    let revision = store.create_session(&record).await.unwrap();
    drop(store);
    let store = open(folder.path()).unwrap();
    let stored = store.session(&record.id).await.unwrap().unwrap();
    assert_eq!((stored.record, stored.revision), (record, revision));
}

#[test]
fn file_and_folder_are_private_and_nothing_else_is_left() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("deep").join("data");
    let store = open(&folder).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(store.path()), 0o600);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
}

#[test]
fn a_store_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path()).unwrap();
    assert!(matches!(open(folder.path()), Err(StoreError::InUse { .. })));
    drop(first);
    open(folder.path()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_cannot_be_read_is_left_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(open(folder.path()).unwrap());
    for id in 0..200 {
        store.create_session(&session(id, "alice")).await.unwrap();
    }
    let path = store.path().to_path_buf();
    drop(store);
    let good = fs::read(&path).unwrap();

    let mut cases: Vec<(String, Vec<u8>)> = vec![
        ("empty".into(), Vec::new()),
        ("text".into(), b"this is no store\n".to_vec()),
        ("zeroes".into(), vec![0; good.len()]),
        ("the magic alone".into(), good[..9].to_vec()),
        ("a header alone".into(), good[..512].to_vec()),
        ("half of it".into(), good[..good.len() / 2].to_vec()),
        ("one byte short".into(), good[..good.len() - 1].to_vec()),
    ];
    let mut noise = good.clone();
    for (at, byte) in noise.iter_mut().enumerate().skip(9) {
        *byte ^= (at as u8).wrapping_mul(31) | 1;
    }
    cases.push(("noise after the magic".into(), noise));
    let mut refused = 0;
    for page in (0..good.len() / 4096).step_by(3) {
        let mut damaged = good.clone();
        damaged[page * 4096 + 100..page * 4096 + 200].fill(0xa5);
        cases.push((format!("page {page} damaged"), damaged));
    }
    for (case, bytes) in cases {
        fs::write(&path, &bytes).unwrap();
        match open(folder.path()) {
            Err(StoreError::Unreadable { reason, .. }) => {
                refused += 1;
                assert!(
                    reason.contains("`vestibule store restore --force BACKUP`"),
                    "{case}: {reason}"
                );
                assert!(fs::read(&path).unwrap() == bytes, "{case}: was changed");
            }
            // The damaged bytes were unused ones.
            Ok(store) => {
                assert!(case.starts_with("page"), "{case}: was opened");
                assert_eq!(
                    store.sessions(None, NOW).await.unwrap().len(),
                    200,
                    "{case}"
                );
            }
            Err(other) => panic!("{case}: {other}"),
        }
    }
    assert!(refused > 8, "damaged pages were noticed: {refused}");
}

#[test]
fn a_file_that_others_can_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = open(folder.path()).unwrap().path().to_path_buf();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let Err(StoreError::Unreadable { reason, .. }) = open(folder.path()) else {
        panic!("was opened");
    };
    assert!(reason.contains("chmod 600"), "{reason}");
}

#[test]
fn a_newer_format_and_a_foreign_database_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = open(folder.path()).unwrap().path().to_path_buf();
    let database = redb::Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(tables::META)
        .unwrap()
        .insert("format", tables::ARRANGEMENT + 1)
        .unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert!(matches!(
        open(folder.path()),
        Err(StoreError::NewerFormat { .. })
    ));

    let foreign = tempfile::tempdir().unwrap();
    let path = foreign.path().join(FILE_NAME);
    drop(redb::Database::create(&path).unwrap());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(
        open(foreign.path()),
        Err(StoreError::Unreadable { .. })
    ));
}

#[tokio::test]
async fn a_full_disk_refuses_and_works_again_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let full = Arc::new(AtomicBool::new(false));
    let store = Embedded::open_failing_while(folder.path(), Arc::clone(&full)).unwrap();
    let before = session(1, "alice");
    store.create_session(&before).await.unwrap();

    full.store(true, Ordering::SeqCst);
    for id in 2..5 {
        assert!(matches!(
            store.create_session(&session(id, "alice")).await,
            Err(StoreError::Unavailable(_))
        ));
    }
    full.store(false, Ordering::SeqCst);

    store.probe().await.unwrap();
    let after = session(9, "alice");
    store.create_session(&after).await.unwrap();
    for record in [&before, &after] {
        assert_eq!(
            store.session(&record.id).await.unwrap().unwrap().record,
            *record
        );
    }
}

/// What makes renewals cheap: those that come while one is on its way to the disk need one commit for all.
#[tokio::test]
async fn writes_that_wait_share_one_commit_and_its_fate() {
    let folder = tempfile::tempdir().unwrap();
    let full = Arc::new(AtomicBool::new(false));
    let store = Embedded::open_failing_while(folder.path(), Arc::clone(&full)).unwrap();
    let (begun, has_begun) = std::sync::mpsc::channel();
    let (go, may_go) = std::sync::mpsc::channel();
    let mut first = Box::pin(store.threads.write(move |_| {
        let _ = begun.send(());
        let _ = may_go.recv();
        Ok(())
    }));
    assert!(futures_util::poll!(&mut first).is_pending());
    has_begun.recv().unwrap();
    let records: Vec<_> = (0..64).map(|id| session(id, "alice")).collect();
    let creations = records.iter().map(|record| store.create_session(record));
    let mut creations = Box::pin(futures_util::future::join_all(creations));
    assert!(futures_util::poll!(&mut creations).is_pending());
    // The last one of them: the disk is full from here on, when the others have been applied.
    let fails = Arc::clone(&full);
    let mut last = Box::pin(store.threads.write(move |_| {
        fails.store(true, Ordering::SeqCst);
        Ok(())
    }));
    assert!(futures_util::poll!(&mut last).is_pending());
    go.send(()).unwrap();
    first.await.unwrap();
    for created in creations.await {
        assert!(matches!(created, Err(StoreError::Unavailable(_))));
    }
    assert!(last.await.is_err());
    full.store(false, Ordering::SeqCst);
    assert!(store.sessions(None, NOW).await.unwrap().is_empty());
}

#[tokio::test]
async fn private_keys_are_not_in_the_file_and_need_the_master_key() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let key = StoredKey {
        kid: "k1".to_owned(),
        pkcs8: Secret::new(*b"a private part that nobody may find"),
        created_at: NOW,
        retires_at: None,
    };
    store
        .replace_keys(std::slice::from_ref(&key), Revision::NONE)
        .await
        .unwrap();
    let path = store.path().to_path_buf();
    drop(store);
    let bytes = fs::read(path).unwrap();
    assert!(
        !bytes
            .windows(key.pkcs8.expose().len())
            .any(|window| window == key.pkcs8.expose())
    );
    let other = Secret::new([8; 32]);
    let store = Embedded::open(folder.path(), &other, &[]).unwrap();
    assert!(matches!(
        store.keys().await,
        Err(StoreError::Unreadable { .. })
    ));
    drop(store);
    let store = Embedded::open(folder.path(), &other, &[master()]).unwrap();
    assert_eq!(
        store.keys().await.unwrap().record[0].pkcs8.expose(),
        key.pkcs8.expose()
    );
}

#[tokio::test]
async fn a_file_without_the_index_of_users_gets_it_when_it_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    for (id, user) in [(1, "alice"), (2, "bob"), (255, "alice")] {
        store.create_session(&session(id, user)).await.unwrap();
    }
    let path = store.path().to_path_buf();
    drop(store);
    let database = redb::Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.delete_table(tables::USER_SESSIONS).unwrap();
    transaction
        .open_table(tables::META)
        .unwrap()
        .insert("format", 1)
        .unwrap();
    transaction.commit().unwrap();
    drop(database);

    let store = open(folder.path()).unwrap();
    let of_alice = Some(("local", "alice"));
    assert_eq!(store.sessions(of_alice, NOW).await.unwrap().len(), 2);
    drop(store);
    // And only then: what is there is trusted.
    let store = open(folder.path()).unwrap();
    assert_eq!(store.sessions(of_alice, NOW).await.unwrap().len(), 2);
}

#[tokio::test]
async fn indexes_follow_a_session_that_changes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let mut record = session(1, "alice");
    let revision = store.create_session(&record).await.unwrap();
    record.identity.user = "alicia".to_owned();
    record.idle_expires_at = NOW.plus(Duration::from_secs(60));
    store.replace_session(&record, revision).await.unwrap();
    let of = async |user| store.sessions(Some(("local", user)), NOW).await.unwrap();
    assert!(of("alice").await.is_empty());
    assert_eq!(of("alicia").await, [record.clone()]);
    // It ends sooner than it was to: at its new end it goes, and the older entry harms nothing.
    assert_eq!(store.remove_expired(record.ends_at()).await.unwrap(), 1);
    assert!(of("alicia").await.is_empty());
    let late = NOW.plus(Duration::from_secs(86_400));
    assert_eq!(store.remove_expired(late).await.unwrap(), 0);
}

#[tokio::test]
async fn a_sweep_of_many_steps_leaves_what_lives() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let count = 2 * SWEEP + 7;
    let mut lives = 0;
    for number in 0..count {
        let mut record = session(0, "alice");
        record.id = SessionId::from_bytes((number as u128).to_be_bytes());
        let revision = store.create_session(&record).await.unwrap();
        if number % 3 == 0 {
            record.idle_expires_at = record.idle_expires_at.plus(Duration::from_secs(1));
            store.replace_session(&record, revision).await.unwrap();
            lives += 1;
        }
    }
    let now = session(0, "alice").ends_at();
    assert_eq!(store.remove_expired(now).await.unwrap(), count - lives);
    assert_eq!(store.sessions(None, now).await.unwrap().len(), lives);
    let of_alice = Some(("local", "alice"));
    assert_eq!(store.sessions(of_alice, now).await.unwrap().len(), lives);
    let end = now.plus(Duration::from_secs(1));
    assert_eq!(store.remove_expired(end).await.unwrap(), lives);
}

/// Everything that a backup still has to give.
async fn taken(mut stream: BackupStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(piece) = stream.recv().await {
        bytes.extend(piece.unwrap());
    }
    bytes
}

fn backup_of(bytes: &[u8]) -> Reader<&[u8]> {
    Reader::begin(bytes, &BackupKeys::new(&master(), &[]).unwrap()).unwrap()
}

#[tokio::test]
async fn a_backup_holds_one_moment_however_slowly_it_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(open(folder.path()).unwrap());
    let record = |number: usize| {
        let mut record = session(0, "alice");
        record.id = SessionId::from_bytes((number as u128).to_be_bytes());
        record.identity.name = Some("x".repeat(2000));
        record
    };
    // More than the pieces that are made ahead.
    let before: Vec<_> = (0..400).map(record).collect();
    futures_util::future::try_join_all(before.iter().map(|record| store.create_session(record)))
        .await
        .unwrap();
    let mut stream = store.backup(NOW).unwrap();
    let first = stream.recv().await.unwrap().unwrap();
    for number in 400..420 {
        store.create_session(&record(number)).await.unwrap();
    }
    let mut changed = before[399].clone();
    changed.revoked_at = Some(NOW);
    store.replace_session(&changed, Revision(1)).await.unwrap();
    let bytes = [first, taken(stream).await].concat();
    let (header, counts) = backup_of(&bytes).verify().unwrap();
    assert_eq!((header.taken_at, counts.sessions), (NOW, 400));

    let elsewhere = tempfile::tempdir().unwrap();
    restore(
        elsewhere.path(),
        backup_of(&bytes),
        Extent::Everything,
        false,
        NOW,
    )
    .unwrap();
    let restored = open(elsewhere.path()).unwrap();
    let mut expected = before;
    expected.sort_by_key(|record| record.id);
    assert_eq!(restored.sessions(None, NOW).await.unwrap(), expected);
    let of_alice = Some(("local", "alice"));
    assert_eq!(restored.sessions(of_alice, NOW).await.unwrap(), expected);
    let end = expected[0].ends_at();
    assert_eq!(restored.remove_expired(end).await.unwrap(), 400);
}

#[tokio::test]
async fn only_accounts_come_back_unless_everything_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    conformance::all_kinds(&store).await;
    let bytes = taken(store.backup(NOW).unwrap()).await;
    drop(store);
    let (all, part) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    restore(
        all.path(),
        backup_of(&bytes),
        Extent::Everything,
        false,
        NOW,
    )
    .unwrap();
    restore(part.path(), backup_of(&bytes), Extent::Accounts, false, NOW).unwrap();
    for (folder, there) in [(all, true), (part, false)] {
        let store = open(folder.path()).unwrap();
        assert_eq!(store.accounts().await.unwrap().len(), 1);
        assert_eq!(store.keys().await.unwrap().record.is_empty(), !there);
        assert_eq!(store.sessions(None, NOW).await.unwrap().is_empty(), !there);
        assert_eq!(store.revocations(NOW).await.unwrap().is_empty(), !there);
        let mode = fs::metadata(store.path()).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        assert!(matches!(
            restore(
                folder.path(),
                backup_of(&bytes),
                Extent::Accounts,
                true,
                NOW
            ),
            Err(RestoreError::Store(StoreError::InUse { .. }))
        ));
    }
}

#[tokio::test]
async fn a_commit_that_reached_the_disk_in_part_is_undone_whole() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    for id in 0..100 {
        store.create_session(&session(id, "alice")).await.unwrap();
    }
    let path = store.path().to_path_buf();
    // As after a power cut: the file is not closed.
    let before = fs::read(&path).unwrap();
    store.create_session(&session(200, "bob")).await.unwrap();
    let after = fs::read(&path).unwrap();
    drop(store);
    assert_eq!(before.len(), after.len(), "pages are compared one by one");
    let changed: Vec<usize> = (0..after.len() / 4096)
        .filter(|page| before[page * 4096..][..4096] != after[page * 4096..][..4096])
        .collect();
    assert!(changed.len() > 3 && changed[0] == 0, "{changed:?}");
    let (mut undone, mut done) = (0, 0);
    for missing in &changed {
        for only in [false, true] {
            // All but this page reached the disk, or this page alone.
            let mut torn = if only { before.clone() } else { after.clone() };
            let source = if only { &after } else { &before };
            let at = missing * 4096..(missing + 1) * 4096;
            torn[at.clone()].copy_from_slice(&source[at]);
            fs::write(&path, &torn).unwrap();
            let store = open(folder.path()).unwrap();
            let found = store.sessions(None, NOW).await.unwrap();
            match found.len() {
                100 => undone += 1,
                101 => done += 1,
                other => panic!("{other} sessions without page {missing}"),
            }
            let bob = store.sessions(Some(("local", "bob")), NOW).await.unwrap();
            assert_eq!(bob.len(), found.len() - 100, "the index agrees");
            store.create_session(&session(201, "carol")).await.unwrap();
        }
    }
    assert!(undone > changed.len(), "{undone} undone, {done} done");
}

#[tokio::test]
async fn a_file_of_a_version_without_providers_is_taken_over_and_then_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    store.create_session(&session(1, "alice")).await.unwrap();
    let path = store.path().to_path_buf();
    drop(store);
    let database = redb::Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let stamp = |format| {
        let mut meta = transaction.open_table(tables::META).unwrap();
        meta.insert("format", format).unwrap().unwrap().value()
    };
    assert_eq!(stamp(2), 3, "that version refuses the file");
    transaction.commit().unwrap();
    drop(database);

    let store = open(folder.path()).unwrap();
    let of_alice = Some(("local", "alice"));
    assert_eq!(store.sessions(of_alice, NOW).await.unwrap().len(), 1);
    let corp = conformance::session_at_provider(2, "alice", "a-1", None);
    store.create_session(&corp).await.unwrap();
    let named = ProviderName::Subject("a-1");
    let found = store.sessions_at_provider("corp", named, NOW).await;
    assert_eq!(found.unwrap().len(), 1);
    // A restored store has its indexes too.
    let bytes = taken(store.backup(NOW).unwrap()).await;
    let other = tempfile::tempdir().unwrap();
    restore(
        other.path(),
        backup_of(&bytes),
        Extent::Everything,
        false,
        NOW,
    )
    .unwrap();
    let restored = open(other.path()).unwrap();
    let found = restored.sessions_at_provider("corp", named, NOW).await;
    assert_eq!(found.unwrap().len(), 1);
    let kept = restored.session(&corp.id).await.unwrap().unwrap();
    assert_eq!(kept.record, corp);
}

#[tokio::test]
async fn a_person_with_a_great_many_sessions_holds_up_nobody_who_looks() {
    use futures_util::FutureExt as _;
    const MANY: u16 = 2000;
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let record = |number: u16, user: &str| {
        let mut record = session_at_provider(0, user, user, None);
        let mut id = [0; 16];
        id[..2].copy_from_slice(&number.to_be_bytes());
        record.id = SessionId::from_bytes(id);
        record
    };
    let all: Vec<_> = (0..MANY).map(|number| record(number, "alice")).collect();
    let other = record(MANY, "bob");
    let made = all.iter().chain([&other]);
    let made = made.map(|record| store.create_session(record));
    futures_util::future::try_join_all(made).await.unwrap();

    let of_user = || store.sessions(Some(("corp", "alice")), NOW);
    let of_subject = || store.sessions_at_provider("corp", ProviderName::Subject("alice"), NOW);
    for mut listing in [of_user(), of_subject()] {
        assert!((&mut listing).now_or_never().is_none(), "it has begun");
        // Asked for after it, and there before it is done.
        assert!(store.session(&other.id).await.unwrap().is_some());
        assert!((&mut listing).now_or_never().is_none(), "it goes on");
        let listed = listing.await.unwrap();
        assert!(
            listed
                .iter()
                .map(|record| record.id)
                .eq(all.iter().map(|record| record.id))
        );
    }
}
