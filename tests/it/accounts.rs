//! What operators change about an account, seen from the browsers of the person: at once, or at the next renewal.

use futures_util::StreamExt as _;
use futures_util::future::join_all;

use crate::attacks::open_socket;
use crate::harness::wait::DEADLINE;
use crate::harness::{ACCESS, App, Gateway, ORIGIN, PASSWORD};

fn done(output: &std::process::Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

#[tokio::test]
async fn a_change_reaches_a_session_at_its_next_renewal() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).with_clock().run();
    let alice = gateway.signed_in("alice").await;
    done(&gateway.command(&[
        "user",
        "change",
        "ALICE",
        "--email",
        "alice@new.example",
        "--name",
        "Alice L.",
        "--remove-group",
        "staff",
        "--add-group",
        "admins",
    ]));
    gateway
        .until_logged(&[
            "account_changed",
            "\"user\":\"alice\"",
            "\"change\":\"changed\"",
            "\"fields\":\"email,name,groups\"",
            "\"groups_added\":\"admins\"",
            "\"groups_removed\":\"staff\"",
            "\"by\":\"command line\"",
        ])
        .await;
    assert_eq!(alice.get("/staff").await.status, 200);
    assert_eq!(
        app.last().one("x-forwarded-email"),
        Some("alice@example.com")
    );
    let before = alice.refresh();

    gateway.outlive_access_token();
    assert_eq!(alice.get("/admin").await.status, 200);
    assert_ne!(alice.refresh(), before);
    assert_eq!(
        app.last().one("x-forwarded-email"),
        Some("alice@new.example")
    );
    assert_eq!(app.last().one("x-forwarded-groups"), Some("writers,admins"));
    assert_eq!(alice.get("/staff").await.status, 403);

    // What is so already is no change; the next line is told after it would have been.
    done(&gateway.command(&["user", "change", "Alice", "--email", "alice@new.example"]));
    done(&gateway.command(&["user", "unblock", "Alice"]));
    done(&gateway.command(&["user", "change", "alice", "--no-groups", "--no-email"]));
    gateway
        .until_logged(&["account_changed", "\"fields\":\"email,groups\""])
        .await;
    assert_eq!(gateway.logged(&["account_changed"]).len(), 2);
    gateway.outlive_access_token();
    assert_eq!(alice.get("/").await.status, 200);
    assert_eq!(app.last().one("x-forwarded-email"), None);
    assert_eq!(app.last().one("x-forwarded-groups"), None);

    for (bad, word) in [
        (
            ["user", "change", "alice", "--email=nowhere"].as_slice(),
            "@",
        ),
        (&["user", "change", "nobody", "--no-email"], "no account"),
        (&["user", "change", "alice"], "--email"),
        (
            &["user", "change", "alice", "--no-groups", "--group", "a"],
            "cannot be used with",
        ),
    ] {
        let output = gateway.command(bad);
        assert!(!output.status.success(), "{bad:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(word), "{bad:?}: {said}");
    }
}

#[tokio::test]
async fn a_block_ends_everything_at_once_and_its_lifting_revives_nothing() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let alice = gateway.signed_in("alice").await;
    let phone = gateway.signed_in("alice").await;
    let bob = gateway.signed_in("bob").await;
    let mut socket = open_socket(&alice, "/socket", ORIGIN).await.unwrap();
    let said = done(&gateway.command(&["user", "block", "alice"]));
    assert!(said.contains("2 sessions ended"), "{said}");
    for browser in [&alice, &phone] {
        let without = browser.copy();
        without.drop_cookie(ACCESS);
        assert_eq!(browser.copy().get("/").await.status, 401);
        assert_eq!(without.get("/").await.status, 401);
    }
    let last = tokio::time::timeout(DEADLINE, socket.next()).await;
    assert!(!matches!(last.expect("the socket ends"), Some(Ok(message)) if message.is_text()));
    assert_eq!(alice.sign_in("alice", PASSWORD, "/").await.status, 401);
    assert_eq!(bob.get("/").await.status, 200);
    let line = gateway
        .until_logged(&["\"event\":\"revoked\"", "\"user\":\"alice\""])
        .await;
    assert!(
        line.contains("\"reason\":\"account blocked\"") && line.contains("\"sessions\":2"),
        "{line}"
    );
    done(&gateway.command(&["user", "unblock", "alice"]));
    assert_eq!(phone.get("/").await.status, 401);
    gateway.signed_in("alice").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_session_of_the_old_password_outlives_the_new_one() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    for round in 0..4 {
        let password = |n: usize| match n {
            0 => PASSWORD.to_owned(),
            n => format!("another password {n}"),
        };
        let (old, new) = (password(round), password(round + 1));
        // Sign-ins with the old password all around the moment of the change.
        let browsers: Vec<_> = (1..=3)
            .map(|n| gateway.anon().at(&format!("127.0.{}.{n}", round + 10)))
            .collect();
        let before = gateway.anon().at(&format!("127.0.{}.9", round + 10));
        assert_eq!(before.sign_in("alice", &old, "/").await.status, 303);
        let attempts: Vec<_> = browsers
            .iter()
            .map(|browser| {
                let (browser, old) = (browser.clone(), old.clone());
                tokio::spawn(async move { browser.sign_in("alice", &old, "/").await })
            })
            .collect();
        let output = tokio::task::block_in_place(|| {
            gateway.command_with(&["user", "password", "alice"], &format!("{new}\n"))
        });
        let attempts = join_all(attempts).await;
        done(&output);
        for (browser, answer) in browsers.iter().zip(attempts) {
            let answer = answer.unwrap();
            // 503: all sessions were ended while this one began.
            assert!(
                matches!(answer.status, 303 | 401 | 503),
                "{}",
                answer.status
            );
            assert_eq!(browser.get("/").await.status, 401, "round {round}");
        }
        assert_eq!(before.get("/").await.status, 401, "round {round}");
        let list = gateway.command(&["session", "list", "--user", "alice", "--json"]);
        assert_eq!(String::from_utf8_lossy(&list.stdout).trim(), "[]");
    }
}

#[tokio::test]
async fn a_password_typed_as_a_name_is_nowhere_in_the_logs() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let alice = gateway.anon();
    // Often enough to be throttled as well.
    for _ in 0..6 {
        let answer = alice.sign_in(PASSWORD, "alice", "/").await;
        assert!(matches!(answer.status, 401 | 429), "{}", answer.status);
    }
    let elsewhere = gateway.anon().at("127.0.0.8");
    assert_eq!(elsewhere.sign_in("ALICE", "wrong", "/").await.status, 401);
    // Names that exist are there, as the account writes them: somebody is trying them.
    let line = gateway
        .until_logged(&["sign_in_refused", "\"user\":\"alice\""])
        .await;
    assert!(line.contains("wrong name or password"), "{line}");
    gateway
        .until_logged(&["sign_in_refused", "too many attempts"])
        .await;
    assert!(gateway.logged(&["battery"]).is_empty());
}

#[tokio::test]
async fn only_the_audit_stream_tells_a_blocked_account_and_only_by_its_password() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    done(&gateway.command(&["user", "block", "bob"]));
    let bob = gateway.anon();
    let pages: Vec<String> = [
        bob.sign_in("bob", "wrong", "/").await,
        bob.sign_in("bob", PASSWORD, "/").await,
    ]
    .into_iter()
    .map(|answer| {
        assert_eq!(answer.status, 401);
        answer.text()
    })
    .collect();
    assert_eq!(pages[0], pages[1]);
    let refused =
        |reason: &str| format!("\"user\":\"bob\",\"provider\":\"local\",\"reason\":\"{reason}\"");
    let (wrong, blocked) = (refused("wrong name or password"), refused("blocked"));
    gateway.until_logged(&["sign_in_refused", &wrong]).await;
    gateway.until_logged(&["sign_in_refused", &blocked]).await;
}

#[tokio::test]
async fn an_account_with_too_many_groups_is_told_so_when_it_signs_in() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let groups: Vec<String> = (0..90)
        .map(|n| format!("--group={n}-{}", "g".repeat(100)))
        .collect();
    let mut command = vec!["user", "change", "bob"];
    command.extend(groups.iter().map(String::as_str));
    done(&gateway.command(&command));
    let bob = gateway.anon();
    let answer = bob.sign_in("bob", PASSWORD, "/").await;
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert_eq!(bob.cookie_line(), None);
}
