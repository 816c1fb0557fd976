//! C: a path that one reader takes for public and another for private.
//!
//! The property of the whole section: the answer is 4xx, or the path that the rule saw is the path the app received.

use super::raw;
use crate::harness::{App, Gateway};

/// Sends each target as nobody; it must be refused, ask to sign in, or arrive byte for byte below `/public`.
async fn judged_as_forwarded(targets: &[&str]) -> Vec<u16> {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let mut statuses = Vec::new();
    for target in targets {
        app.forget();
        let (status, _) = raw(&gateway, &format!("GET {target} HTTP/1.1\r\n{{host}}\r\n")).await;
        let seen = app.seen();
        if status == 200 {
            assert_eq!(seen.len(), 1, "{target}");
            assert_eq!(seen[0].target, *target, "forwarded otherwise than judged");
            assert!(
                target.starts_with("/public"),
                "{target} was served to nobody in particular"
            );
        } else {
            assert!(
                (400..500).contains(&status) || status == 303,
                "{target}: {status}"
            );
            assert!(seen.is_empty(), "{target}: {status}, yet the app saw it");
        }
        statuses.push(status);
    }
    assert!(!statuses.is_empty());
    statuses
}

async fn all_refused(targets: &[&str]) {
    let statuses = judged_as_forwarded(targets).await;
    for (target, status) in targets.iter().zip(statuses) {
        assert_eq!(status, 400, "{target}");
    }
}

#[tokio::test]
async fn c01_rules_do_not_see_the_query() {
    let statuses =
        judged_as_forwarded(&["/api/private/x?p=/public", "/admin?/public/", "/?x=/public"]).await;
    assert_eq!(statuses, [401, 401, 401]);
}

#[tokio::test]
async fn c02_a_raw_fragment_is_refused_and_an_encoded_one_is_data() {
    all_refused(&[
        "/foo/secret#/public",
        "/public#/../admin",
        "/public/x?q=1#frag",
    ])
    .await;
    let statuses = judged_as_forwarded(&["/public/%23x", "/secret%23/public"]).await;
    assert_eq!(statuses, [200, 401]);
}

#[tokio::test]
async fn c03_dot_segments() {
    all_refused(&[
        "/public/../admin",
        "/public/./../admin",
        "/public/..",
        "/public/.",
        "/../public",
        "/public/../public/x",
    ])
    .await;
    // Dots that are no segment are names.
    assert_eq!(
        judged_as_forwarded(&["/public/...", "/public/.well-known", "/public/a..b"]).await,
        [200, 200, 200]
    );
}

#[tokio::test]
async fn c04_encoded_dots() {
    all_refused(&[
        "/public/%2e%2e/admin",
        "/public/%2E./admin",
        "/public/.%2e/admin",
        "/public/%2e/x",
        "/public/%2E%2E",
    ])
    .await;
}

#[tokio::test]
async fn c05_encoded_slashes_and_backslashes() {
    all_refused(&[
        "/public%2f..%2fadmin",
        "/admin%2f",
        "/public/..%5cadmin",
        "/public\\..\\admin",
        "/public/%2Fx",
        "/public%5c",
        "\\admin",
    ])
    .await;
}

#[tokio::test]
async fn c06_parameters() {
    let statuses = judged_as_forwarded(&[
        "/public/..;/admin",
        "/public;/../admin",
        "/admin;x=/public",
        "/public/..;a=b/admin",
        "/public/.;/x",
        "/admin;/x",
    ])
    .await;
    for status in statuses {
        assert!(status == 400 || status == 401, "{status}");
    }
}

#[tokio::test]
async fn c07_double_slashes() {
    all_refused(&[
        "//admin",
        "/public//../admin",
        "/public//x",
        "//public",
        "/public///",
    ])
    .await;
}

#[tokio::test]
async fn c08_nothing_is_decoded_twice() {
    let statuses = judged_as_forwarded(&[
        "/public/%252e%252e/admin",
        "/public/%252fadmin",
        "/public/%3f/x",
        "/public/%253f",
    ])
    .await;
    assert!(
        statuses.iter().all(|status| matches!(status, 200 | 400)),
        "{statuses:?}"
    );
    all_refused(&[
        "/public/%00",
        "/public/%",
        "/public/%zz",
        "/public/%e",
        "/public/%ff%fe",
        "/public/%0d%0ax",
        "/public/%7f",
    ])
    .await;
}

#[tokio::test]
async fn c09_a_rule_for_get_is_for_get() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    for (method, expected) in [
        ("GET", [200].as_slice()),
        ("HEAD", &[200]),
        ("POST", &[405]),
        ("get", &[400, 405, 501]),
        ("GETX", &[400, 405, 501]),
        ("PUT", &[405]),
    ] {
        app.forget();
        let (status, _) = raw(
            &gateway,
            &format!("{method} /read/x HTTP/1.1\r\n{{host}}Content-Length: 0\r\n\r\n"),
        )
        .await;
        assert!(expected.contains(&status), "{method}: {status}");
        assert_eq!(app.seen().len(), usize::from(status == 200), "{method}");
    }
}

#[tokio::test]
async fn c10_no_rule_is_no() {
    let app = App::start().await;
    let gateway = Gateway::before(&app)
        .routes("[[route]]\npath = \"/public\"\nupstream = \"app\"\naccess = \"public\"\n")
        .run();
    let alice = gateway.signed_in("alice").await;
    for path in ["/", "/publicity", "/Public", "/public-not", "/other"] {
        assert_eq!(gateway.anon().get(path).await.status, 404, "{path}");
        assert_eq!(alice.get(path).await.status, 404, "{path}");
    }
    assert!(app.seen().is_empty());
    assert_eq!(alice.get("/public/x").await.status, 200);
    assert_eq!(app.seen().len(), 1);
}
