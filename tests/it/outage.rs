//! The store cannot write: whoever is signed in stays so, nobody is told a thing that did not happen, and all is well
//! again by itself.

use std::process::Command;

use crate::harness::browser::{as_fetch, sign_in_form};
use crate::harness::wait::until;
use crate::harness::{ACCESS, App, Ask, Gateway, PASSWORD};

/// From now on the gateway can write to no file (as on a full disk), or to all of them again.
fn disk(gateway: &Gateway, limit: &str) {
    let status = Command::new("prlimit")
        .args([
            "--pid",
            &gateway.pid().to_string(),
            &format!("--fsize={limit}"),
        ])
        .status()
        .unwrap();
    assert!(status.success());
}

#[tokio::test]
async fn a_disk_that_cannot_be_written_signs_nobody_out() {
    let app = App::start().await;
    // The limit's signal is ignored, so that a write fails as it does on a full disk.
    let gateway = Gateway::before(&app)
        .with_clock()
        .on_disk()
        .under(&["env", "--ignore-signal=XFSZ"])
        .run();
    let alice = gateway.signed_in("alice").await;
    let bob = gateway.expired("bob").await;
    let fresh = gateway.signed_in("alice").await;
    let (bobs, freshs) = (bob.jar(), fresh.jar());

    disk(&gateway, "1:");
    // Stateless requests go on.
    for _ in 0..3 {
        assert_eq!(fresh.get("/").await.status, 200);
    }
    // A renewal cannot be kept, so it does not happen; the cookies stay as they are.
    for _ in 0..3 {
        let answer = bob.get("/").await;
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(answer.header("retry-after").is_some());
        assert!(!answer.sets_cookies());
        let page = bob.navigate("/").await;
        assert_eq!(page.status, 503);
        assert!(!page.sets_cookies());
    }
    assert_eq!(bob.jar(), bobs);
    // Nobody is signed in on paper that does not exist, and no logout is confirmed that is not kept.
    let answer = gateway.anon().sign_in("alice", PASSWORD, "/").await;
    assert_eq!((answer.status, answer.sets_cookies()), (503, false));
    let answer = fresh.sign_out().await;
    assert_eq!(
        answer.status, 503,
        "a logout was confirmed that was not kept"
    );
    assert!(!answer.sets_cookies());
    assert_eq!(fresh.jar(), freshs);
    // Each is told what could not be done, and nobody that their sign-in is not affected.
    let other = gateway.anon();
    let form = |target: &str, body: bytes::Bytes| {
        Ask::post(target, body).header("content-type", "application/x-www-form-urlencoded")
    };
    for (ask, problem, title, page, korean) in [
        (
            form("/.auth/logout", bytes::Bytes::new()),
            "urn:vestibule:problem:end-unconfirmed",
            "The session's end is not confirmed",
            "Not confirmed yet",
            "아직 확인되지 않았습니다",
        ),
        (
            form("/.auth/login", sign_in_form("alice", PASSWORD, "/").body),
            "urn:vestibule:problem:sign-in-unavailable",
            "Signing in is not possible now",
            "You cannot sign in right now",
            "지금은 로그인할 수 없습니다",
        ),
    ] {
        let browser = if title.contains("end") {
            &fresh
        } else {
            &other
        };
        let program = browser.send(as_fetch(ask.clone())).await;
        assert_eq!(program.status, 503);
        assert_eq!(program.json()["type"], problem);
        assert_eq!(program.json()["title"], title);
        for (language, words) in [("en", page), ("ko", korean)] {
            let ask = ask
                .clone()
                .header("sec-fetch-site", "same-origin")
                .header("sec-fetch-mode", "navigate")
                .header("accept", "text/html")
                .header("accept-language", language);
            let answer = browser.send(ask).await;
            assert_eq!(answer.status, 503);
            assert!(answer.text().contains(words), "{}", answer.text());
            for wrong in ["not affected", "영향이 없으니"] {
                assert!(!answer.text().contains(wrong), "{}", answer.text());
            }
        }
    }

    disk(&gateway, "unlimited:");
    until("renewals to work again by themselves", async || {
        let answer = bob.get("/").await;
        assert!(matches!(answer.status, 200 | 503), "{}", answer.status);
        (answer.status == 200).then_some(())
    })
    .await;
    assert_eq!(bob.generation(), 1);
    // What nobody could be told in time comes to be all the same, and the audit stream says so.
    gateway
        .until_logged(&["audit", "\"revoked\"", "signed out", "itself"])
        .await;
    alice.drop_cookie(ACCESS);
    assert_eq!(alice.get("/").await.status, 200);
    assert!(matches!(fresh.sign_out().await.status, 200 | 204 | 303));
    assert_eq!(
        gateway.anon().sign_in("alice", PASSWORD, "/").await.status,
        303
    );
    assert!(gateway.logged(&["panicked"]).is_empty());
}
