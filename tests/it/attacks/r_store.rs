//! R: the shared store is away, paused, read-only, full, loading, locked, emptied, replaced: nobody is signed out by it, nothing
//! false is confirmed, and it heals by itself.

use std::time::{Duration, Instant};

use crate::harness::browser::Browser;
use crate::harness::gateway::add_accounts;
use crate::harness::nodes::patiently;
use crate::harness::prepared::vestibule;
use crate::harness::redis::{REDIS_PASSWORD, RedisOptions, RedisServer, Watched, store_lines};
use crate::harness::wait::until;
use crate::harness::{ACCESS, App, Gateway, PASSWORD};

/// How the request is answered, once the store is not just late.
async fn got(browser: &Browser) -> u16 {
    patiently(async || browser.get("/").await).await.status
}

/// The whole of R11 for one way to fail.
async fn trouble(
    mut server: RedisServer,
    fail: impl FnOnce(&mut RedisServer),
    mend: impl FnOnce(&mut RedisServer),
) {
    let app = App::start().await;
    let gateway = Gateway::before(&app)
        .with_clock()
        .store(&server.store_lines())
        .run();
    let bob = gateway.expired("bob").await;
    let fresh = gateway.signed_in("alice").await;
    let leaving = gateway.signed_in("alice").await;
    let jars = (bob.jar(), fresh.jar(), leaving.jar());
    until("readiness", async || {
        (gateway.admin("/ready").await.0 == 200).then_some(())
    })
    .await;

    fail(&mut server);
    let mut waited: Vec<Duration> = Vec::new();
    // Until one was refused within the second that is promised: this machine may be doing other work at any moment.
    while waited.len() < 7 || waited.iter().all(|took| *took >= Duration::from_secs(1)) {
        assert!(waited.len() < 30, "never within a second: {waited:?}");
        // Stateless requests go on.
        assert_eq!(fresh.get("/").await.status, 200);
        // A renewal is refused for now, and soon; the cookies stay as they are.
        let asked = Instant::now();
        let answer = bob.get("/").await;
        waited.push(asked.elapsed());
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(answer.header("retry-after").is_some());
        assert!(!answer.sets_cookies());
    }
    let page = bob.navigate("/").await;
    assert_eq!((page.status, page.sets_cookies()), (503, false));
    // Nobody is signed in, and no logout is confirmed, that is not kept.
    let answer = gateway.anon().sign_in("alice", PASSWORD, "/").await;
    assert_eq!((answer.status, answer.sets_cookies()), (503, false));
    let answer = leaving.sign_out().await;
    assert_eq!((answer.status, answer.sets_cookies()), (503, false));
    assert_eq!((bob.jar(), fresh.jar(), leaving.jar()), jars);
    // Operators are told.
    let (status, why) = gateway.admin("/ready").await;
    assert_eq!(status, 503, "{why}");
    assert!(why.contains("unavailable"), "{why}");
    let failures = gateway.metric("vestibule_store_unavailable_total", &[]);
    assert!(failures.await >= 7.0);

    mend(&mut server);
    until("renewals to work again by themselves", async || {
        let answer = bob.get("/").await;
        assert!(matches!(answer.status, 200 | 503), "{}", answer.status);
        (answer.status == 200).then_some(())
    })
    .await;
    assert_eq!(app.last().one("x-forwarded-user"), Some("bob"));
    until("readiness", async || {
        (gateway.admin("/ready").await.0 == 200).then_some(())
    })
    .await;
    fresh.drop_cookie(ACCESS);
    assert_eq!(got(&fresh).await, 200);
    // A paused server did it after all, once it went on.
    let answer = patiently(async || leaving.sign_out().await).await;
    assert!(
        matches!(answer.status, 200 | 204 | 303 | 401),
        "{}",
        answer.status
    );
    assert_eq!(leaving.copy().get("/").await.status, 401);
    gateway.signed_in("alice").await;
    assert!(gateway.logged(&["panicked"]).is_empty());
    for line in gateway.logs() {
        assert!(!line.contains(REDIS_PASSWORD), "{line}");
    }
}

#[tokio::test]
async fn r11_a_store_that_is_down() {
    trouble(
        RedisServer::start(),
        |server| server.kill(),
        |server| server.start_again(),
    )
    .await;
}

#[tokio::test]
async fn r11_a_store_that_is_paused() {
    trouble(
        RedisServer::start(),
        |server| server.pause(),
        |server| server.resume(),
    )
    .await;
}

#[tokio::test]
async fn r11_a_store_that_became_a_replica() {
    trouble(
        RedisServer::start(),
        |server| {
            // Of nobody: it keeps what it has.
            server.cli(&["REPLICAOF", "127.0.0.1", "1"]);
        },
        |server| {
            server.cli(&["REPLICAOF", "NO", "ONE"]);
        },
    )
    .await;
}

#[tokio::test]
async fn r11_a_store_that_is_full() {
    trouble(
        RedisServer::start(),
        |server| {
            server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
        },
        |server| {
            server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
        },
    )
    .await;
}

#[tokio::test]
async fn what_a_store_said_is_in_the_log() {
    let app = App::start().await;
    let server = RedisServer::start();
    let gateway = Gateway::before(&app)
        .with_clock()
        .store(&server.store_lines())
        .run();
    let bob = gateway.expired("bob").await;
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_eq!(bob.get("/").await.status, 503);
    gateway
        .until_logged(&[
            "a session could not be renewed",
            "OOM",
            "used memory > 'maxmemory'",
        ])
        .await;
}

#[tokio::test]
async fn r11_a_store_that_is_loading() {
    trouble(
        RedisServer::start(),
        |server| {
            server.start_again_slowly();
        },
        |server| server.start_again_quickly(),
    )
    .await;
}

#[tokio::test]
async fn r11_a_store_that_refuses_its_user() {
    trouble(
        RedisServer::with(RedisOptions {
            secured: true,
            ..RedisOptions::default()
        }),
        |server| {
            // Its connections end with it.
            server.cli(&["ACL", "DELUSER", "vestibule"]);
        },
        |server| {
            server.cli(&[
                "ACL",
                "SETUSER",
                "vestibule",
                "on",
                &format!(">{REDIS_PASSWORD}"),
                "~vestibule:*",
                "+@all",
                "-@dangerous",
                "+role",
                "+info",
            ]);
        },
    )
    .await;
}

#[tokio::test]
async fn r11_a_store_with_the_documented_user_keeps_everything_over_its_restart() {
    let app = App::start().await;
    let mut server = RedisServer::with(RedisOptions {
        secured: true,
        ..RedisOptions::default()
    });
    let gateway = Gateway::before(&app)
        .with_clock()
        .store(&server.store_lines())
        .run();
    let bob = gateway.expired("bob").await;
    let ended = gateway.signed_in("alice").await;
    let copy = ended.copy();
    let answer = patiently(async || ended.sign_out().await).await;
    assert_eq!(answer.status, 204);
    server.start_again();
    until("bob's renewal", async || {
        let answer = bob.get("/").await;
        assert!(matches!(answer.status, 200 | 503), "{}", answer.status);
        (answer.status == 200).then_some(())
    })
    .await;
    copy.drop_cookie(ACCESS);
    assert_eq!(got(&copy).await, 401);
}

#[tokio::test]
async fn r11_a_failover_is_followed_and_signs_nobody_out() {
    let app = App::start().await;
    let mut watched = Watched::start();
    let lines = format!("{}replicas = 1\n", store_lines(&watched.url()));
    let gateway = Gateway::before(&app).with_clock().store(&lines).run();
    let bob = gateway.expired("bob").await;
    let fresh = gateway.signed_in("alice").await;
    // The last write before the end: it is on the replica, because it was acknowledged.
    assert_eq!(got(&bob).await, 200);
    assert_eq!(bob.generation(), 1);
    watched.master.kill();
    bob.drop_cookie(ACCESS);
    let jar = bob.jar();
    let answer = bob.get("/").await;
    assert_eq!((answer.status, answer.sets_cookies()), (503, false));
    assert_eq!(bob.jar(), jar);
    assert_eq!(fresh.get("/").await.status, 200);
    // The one that is left has no replica to confirm writes. As an operator would, give it one: the old master.
    until("the Sentinels to promote the replica", async || {
        // Whom they promote they also make drop its clients, this one too.
        let role = watched.replica.try_cli(&["ROLE"])?;
        role.starts_with("master").then_some(())
    })
    .await;
    watched.master.start_again();
    until("renewals at the new master", async || {
        let answer = bob.get("/").await;
        assert!(matches!(answer.status, 200 | 503), "{}", answer.status);
        (answer.status == 200).then_some(())
    })
    .await;
    assert_eq!(app.last().one("x-forwarded-user"), Some("bob"));
    let healed = gateway.metric("vestibule_renewals_total", &["healed"]);
    assert_eq!(healed.await, 0.0, "nothing had been lost");
    assert_eq!(
        gateway.metric("vestibule_replays_total", &[]).await,
        0.0,
        "nobody was taken for a thief"
    );
}

#[tokio::test]
async fn r11_a_store_that_lost_its_last_write_heals_forward() {
    let app = App::start().await;
    let server = RedisServer::start();
    let gateway = Gateway::before(&app)
        .with_clock()
        .store(&server.store_lines())
        .run();
    let bob = gateway.signed_in("bob").await;
    let key = server.cli(&["KEYS", &format!("*:{}", bob.session())]);
    gateway.outlive_access_token();
    bob.drop_cookie(ACCESS);
    server.cli(&["COPY", &key, "as-it-was"]);
    assert_eq!(got(&bob).await, 200);
    assert_eq!(bob.generation(), 1);
    server.cli(&["COPY", "as-it-was", &key, "REPLACE"]);

    bob.drop_cookie(ACCESS);
    assert_eq!(got(&bob).await, 200);
    assert_eq!(bob.generation(), 2);
    let healed = gateway.metric("vestibule_renewals_total", &["healed"]);
    assert_eq!(healed.await, 1.0);
    bob.drop_cookie(ACCESS);
    assert_eq!(got(&bob).await, 200);
    assert_eq!(bob.generation(), 3);
}

#[tokio::test]
async fn r11_an_emptied_store_means_signing_in_again_and_nobody_else_s_session() {
    let app = App::start().await;
    let server = RedisServer::start();
    let gateway = Gateway::before(&app)
        .with_clock()
        .store(&server.store_lines())
        .run();
    let alice = gateway.signed_in("alice").await;
    let bob = gateway.signed_in("bob").await;
    let sessions = [alice.session(), bob.session()];
    gateway.outlive_access_token();
    bob.drop_cookie(ACCESS);
    server.cli(&["FLUSHALL"]);
    // Definite answers: the store is there, and knows nobody.
    assert_eq!(got(&bob).await, 401);
    assert_eq!(got(&alice).await, 401, "its token has run out, too");
    let stranger = gateway.anon();
    let answer = patiently(async || stranger.sign_in("bob", PASSWORD, "/").await).await;
    assert_eq!(answer.status, 401, "the accounts are gone");
    until("the signing keys to be in the store again", async || {
        (server.cli(&["EXISTS", "vestibule:{shared}:keys"]) == "1").then_some(())
    })
    .await;
    // Operators hear what it was.
    let told = ["ERROR", "holds none of the signing keys"];
    gateway.until_logged(&told).await;
    gateway.until_logged(&["key_rotated"]).await;
    add_accounts(&gateway.file());
    let newcomer = gateway.signed_in("bob").await;
    app.forget();
    assert_eq!(newcomer.get("/").await.status, 200);
    assert_eq!(app.last().one("x-forwarded-user"), Some("bob"));
    assert!(!sessions.contains(&newcomer.session()));
    for old in [&alice, &bob] {
        assert_eq!(got(old).await, 401);
    }
    assert_eq!(gateway.metric("vestibule_replays_total", &[]).await, 0.0);
    // Another node signs and verifies with the same keys.
    let other = Gateway::before(&app).store(&server.store_lines()).run();
    let keys = async |gateway: &Gateway| gateway.anon().get("/.auth/jwks.json").await.text();
    assert_eq!(keys(&other).await, keys(&gateway).await);
}

#[tokio::test]
async fn r11_a_gateway_and_a_command_without_their_store_say_so() {
    let app = App::start().await;
    let mut server = RedisServer::start();
    let gateway = Gateway::before(&app).store(&server.store_lines()).run();
    let alice = gateway.signed_in("alice").await;
    // Another machine's command: it has no socket of a gateway, and asks the store itself.
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::copy(
        gateway.folder.join("secret"),
        elsewhere.path().join("secret"),
    )
    .unwrap();
    let file = elsewhere.path().join("gateway.toml");
    let text = std::fs::read_to_string(gateway.file()).unwrap();
    let data = elsewhere.path().join("data");
    let text = text.replace(
        &format!("{:?}", gateway.folder.join("data")),
        &format!("{data:?}"),
    );
    std::fs::write(&file, text).unwrap();
    let run = |arguments: &[&str]| {
        let mut all = arguments.to_vec();
        all.extend(["-c", file.to_str().unwrap()]);
        vestibule(&all, "")
    };
    let listed = run(&["session", "list"]);
    assert!(
        String::from_utf8_lossy(&listed.stdout).contains(&alice.session()),
        "{listed:?}"
    );
    let revoked = run(&["session", "revoke", "--user", "alice"]);
    assert!(revoked.status.success(), "{revoked:?}");
    until("the gateway to obey", async || {
        (alice.get("/").await.status == 401).then_some(())
    })
    .await;

    server.kill();
    for command in [&["run"][..], &["session", "list"]] {
        let said = run(command);
        assert_eq!(said.status.code(), Some(1), "{said:?}");
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(said.contains(&server.url()), "{said}");
    }
}

#[tokio::test]
async fn r11_a_user_whose_sessions_the_store_cannot_name_is_out_all_the_same() {
    let app = App::start().await;
    let server = RedisServer::start();
    let gateway = Gateway::before(&app).store(&server.store_lines()).run();
    let alice = gateway.signed_in("alice").await;
    let bob = gateway.signed_in("bob").await;
    server.pause();
    let revoked = gateway.command(&["session", "revoke", "--user", "alice"]);
    assert_eq!(revoked.status.code(), Some(1), "{revoked:?}");
    let said = String::from_utf8_lossy(&revoked.stderr).into_owned();
    assert!(
        said.contains("refuses sessions of exactly this name"),
        "{said}"
    );
    assert_eq!(got(&alice).await, 401);
    assert_eq!(got(&bob).await, 200);
    server.resume();
    // Told when it is durable.
    gateway
        .until_logged(&["revoked", "alice", "command line"])
        .await;
    assert_eq!(got(&bob).await, 200);
}
