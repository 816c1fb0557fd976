//! The disk under the embedded store fails: syncs (R06) and room (R07). Whoever is signed in stays so, nothing is confirmed
//! that is not kept, nothing that was confirmed is lost, and all is well again without a restart.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::browser::Browser;
use crate::harness::gateway::signal;
use crate::harness::wait::until;
use crate::harness::{ACCESS, App, Gateway, PASSWORD};

/// `strace` on the running gateway, which lets its syncs fail until it is told to go.
struct FailingSyncs(Child);

impl FailingSyncs {
    /// `which`: all of them (empty), or some (`:when=…`, see strace(1)).
    fn of(gateway: &Gateway, error: &str, which: &str) -> Self {
        let mut strace = Command::new("strace")
            .args(["-f", "-e", "trace=fsync,fdatasync", "-e"])
            .arg(format!("inject=fsync,fdatasync:error={error}{which}"))
            .args(["-p", &gateway.pid().to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace is installed (apt-get install strace; scripts/test does it)");
        let mut said = BufReader::new(strace.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.contains("attached"), "strace: {line}");
        // What else it says must not fill the pipe.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        FailingSyncs(strace)
    }

    /// The disk is well again.
    fn end(mut self) {
        signal("INT", self.0.id());
        self.0.wait().unwrap();
    }
}

impl Drop for FailingSyncs {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Everything that needs a write is refused for now, and leaves the cookies alone.
async fn writes_are_unavailable(gateway: &Gateway, expired: &Browser, fresh: &Browser) {
    let jar = expired.jar();
    let answer = expired.get("/").await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    assert!(!answer.sets_cookies());
    assert_eq!(expired.jar(), jar);
    let answer = gateway.anon().sign_in("alice", PASSWORD, "/").await;
    assert_eq!((answer.status, answer.sets_cookies()), (503, false));
    let answer = fresh.copy().sign_out().await;
    assert_eq!(
        answer.status, 503,
        "a logout was confirmed that was not kept"
    );
    let (status, body) = gateway.admin("/ready").await;
    assert_eq!(status, 503, "{body}");
    let alarms = gateway
        .metric("vestibule_store_unavailable_total", &[])
        .await;
    assert!(alarms > 0.0);
}

async fn all_is_well(gateway: &Gateway, expired: &Browser) {
    until("renewals to work again by themselves", async || {
        let answer = expired.get("/").await;
        assert!(matches!(answer.status, 200 | 503), "{}", answer.status);
        (answer.status == 200).then_some(())
    })
    .await;
    let (status, body) = gateway.admin("/ready").await;
    assert_eq!(status, 200, "{body}");
    let newcomer = gateway.signed_in("bob").await;
    assert_eq!(newcomer.get("/").await.status, 200);
    assert!(matches!(newcomer.sign_out().await.status, 200 | 204 | 303));
}

#[tokio::test]
async fn r06_failing_syncs_sign_nobody_out_and_lose_nothing() {
    for error in ["EIO", "ENOSPC"] {
        let app = App::start().await;
        let mut gateway = Gateway::before(&app).on_disk().run();
        let fresh = gateway.signed_in("alice").await;
        let other = gateway.signed_in("bob").await;
        let expired = gateway.signed_in("bob").await;
        expired.drop_cookie(ACCESS);

        let syncs = FailingSyncs::of(&gateway, error, "");
        for _ in 0..3 {
            assert_eq!(fresh.get("/").await.status, 200, "stateless requests go on");
            writes_are_unavailable(&gateway, &expired, &other).await;
        }
        let session = other.session();
        syncs.end();
        // The sign-out that nobody could be told of comes to be all the same, and the audit stream says so.
        gateway
            .until_logged(&["audit", "\"revoked\"", "signed out", &session])
            .await;
        all_is_well(&gateway, &expired).await;
        let ended = gateway.signed_in("alice").await;
        let ended_before = ended.copy();
        assert!(matches!(ended.sign_out().await.status, 200 | 204 | 303));

        // What was confirmed before and after is on the disk.
        gateway.start_again();
        for browser in [fresh, expired] {
            let mut browser = browser;
            browser.door = gateway.door();
            browser.drop_cookie(ACCESS);
            assert_eq!(
                browser.get("/").await.status,
                200,
                "{error}: a session is lost"
            );
        }
        for browser in [other, ended_before] {
            let mut browser = browser;
            browser.door = gateway.door();
            for _ in 0..2 {
                let status = browser.get("/").await.status;
                assert_eq!(status, 401, "{error}: a logout is lost");
                // Nor does its refresh token revive it.
                browser.drop_cookie(ACCESS);
            }
        }
        assert!(gateway.logged(&["panicked"]).is_empty());
    }
}

#[tokio::test]
async fn r06_a_sync_that_fails_now_and_then_makes_no_renewal_a_lie() {
    let app = App::start().await;
    let mut gateway = Gateway::before(&app).on_disk().run();
    let mut browsers = Vec::new();
    for user in ["alice", "bob", "alice", "bob"] {
        browsers.push(gateway.signed_in(user).await);
    }
    let syncs = FailingSyncs::of(&gateway, "EIO", ":when=3+17");
    let refused = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = browsers
        .into_iter()
        .map(|browser| {
            let refused = Arc::clone(&refused);
            tokio::spawn(async move {
                let mut renewed = 0;
                while renewed < 15 {
                    browser.drop_cookie(ACCESS);
                    match browser.get("/").await.status {
                        200 => renewed += 1,
                        503 => _ = refused.fetch_add(1, Ordering::SeqCst),
                        other => panic!("a renewal was answered {other}"),
                    }
                }
                browser
            })
        })
        .collect();
    let mut browsers = Vec::new();
    for task in tasks {
        browsers.push(task.await.unwrap());
    }
    syncs.end();
    assert!(refused.load(Ordering::SeqCst) > 0, "no sync failed");
    gateway.start_again();
    for mut browser in browsers {
        browser.door = gateway.door();
        browser.drop_cookie(ACCESS);
        assert_eq!(browser.get("/").await.status, 200, "a session is lost");
    }
    assert!(gateway.logged(&["\"replay\""]).is_empty());
}

/// The store in a folder of its own disk of a few megabytes, in which every page of zeroes is unwritten.
const SMALL_DISK: &str = "cp -a data stash && mount -t tmpfs -o size=4m,mode=700 tmpfs data \
     && cp -a --sparse=always stash/. data && exec \"$0\" \"$@\"";

#[tokio::test]
async fn r07_a_full_disk_signs_nobody_out_and_works_again_when_there_is_room() {
    let app = App::start().await;
    let gateway = Gateway::before(&app)
        .on_disk()
        .under(&["unshare", "-r", "-m", "sh", "-c", SMALL_DISK])
        .run();
    let fresh = gateway.signed_in("alice").await;
    let other = gateway.signed_in("bob").await;
    let expired = gateway.signed_in("bob").await;
    expired.drop_cookie(ACCESS);

    // As the gateway sees it, for nobody else does.
    let root = PathBuf::from(format!("/proc/{}/root", gateway.pid()));
    let data = gateway.folder.join("data");
    let ballast = root.join(data.strip_prefix("/").unwrap()).join("ballast");
    let filled = std::fs::write(&ballast, vec![1; 8 << 20]).unwrap_err();
    assert_eq!(filled.kind(), std::io::ErrorKind::StorageFull);
    // Pages that are there are written again and again, so renewals may go on for long; new sessions need room in the end.
    let mut kept = Vec::new();
    loop {
        let mut newcomer = gateway.anon();
        newcomer.user_agent = "x".repeat(4096);
        let answer = newcomer.sign_in("alice", PASSWORD, "/").await;
        if answer.status == 503 {
            assert!(!answer.sets_cookies());
            break;
        }
        assert_eq!(answer.status, 303, "{}", answer.text());
        kept.push(newcomer);
        assert!(kept.len() < 1000, "the disk is not full");
    }
    let alarms = gateway
        .metric("vestibule_store_unavailable_total", &[])
        .await;
    assert!(alarms > 0.0);
    for _ in 0..3 {
        assert_eq!(fresh.get("/").await.status, 200, "stateless requests go on");
        let jar = expired.jar();
        let answer = expired.get("/").await;
        match answer.status {
            200 => expired.drop_cookie(ACCESS),
            503 => assert!(answer.header("retry-after").is_some() && expired.jar() == jar),
            other => panic!("a renewal was answered {other}"),
        }
    }
    std::fs::remove_file(&ballast).unwrap();
    all_is_well(&gateway, &expired).await;
    for browser in kept.into_iter().chain([fresh, other]) {
        browser.drop_cookie(ACCESS);
        assert_eq!(browser.get("/").await.status, 200, "a session is lost");
    }
    assert!(gateway.logged(&["panicked"]).is_empty());
}
