//! L: signing out ends everything, and only the person can do it.

use crate::harness::nodes::patiently;
use crate::harness::{ACCESS, App, Ask, Gateway, REFRESH};

#[tokio::test]
async fn l01_nothing_of_a_session_outlives_its_logout() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).on_disk().run();
    let alice = gateway.signed_in("alice").await;
    let elsewhere = gateway.signed_in("alice").await;
    let stolen = alice.copy();
    let answer = patiently(async || alice.sign_out().await).await;
    assert!(
        matches!(answer.status, 200 | 204 | 303),
        "{}",
        answer.status
    );
    app.forget();
    for without in [None, Some(ACCESS), Some(REFRESH)] {
        let reuse = stolen.copy();
        if let Some(name) = without {
            reuse.drop_cookie(name);
        }
        for target in ["/", "/.auth/me"] {
            let answer = patiently(async || reuse.get(target).await).await;
            assert_eq!(answer.status, 401, "{target} without {without:?}");
        }
    }
    assert!(app.seen().is_empty());
    // The same person's other browser is another session.
    assert_eq!(elsewhere.get("/").await.status, 200);
    // Dead on the next start, too.
    let mut gateway = gateway;
    gateway.start_again();
    let mut reuse = stolen.copy();
    reuse.door = gateway.door();
    let answer = patiently(async || reuse.get("/").await).await;
    assert_eq!(answer.status, 401);
}

#[tokio::test]
async fn l01_a_logout_during_a_renewal_wins() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let mut served = 0;
    for round in 0..16 {
        let alice = gateway.signed_in("alice").await;
        let tab = alice.copy();
        tab.drop_cookie(ACCESS);
        // Each round a little later, so that the logout meets the renewal at another of its steps.
        let later = std::time::Duration::from_micros(round * 700);
        let (renewed, signed_out) = tokio::join!(tab.get("/"), async {
            tokio::time::sleep(later).await;
            alice.sign_out().await
        });
        assert!(matches!(renewed.status, 200 | 401), "{}", renewed.status);
        assert!(matches!(signed_out.status, 200 | 204 | 303));
        served += usize::from(renewed.status == 200);
        // Whatever the tab received, it is dead now.
        for without in [ACCESS, REFRESH] {
            let reuse = tab.copy();
            reuse.drop_cookie(without);
            assert_eq!(
                reuse.get("/").await.status,
                401,
                "a renewal outlived the logout"
            );
        }
    }
    eprintln!("{served} of 16 renewals came before their logout");
}

#[tokio::test]
async fn l02_another_site_cannot_sign_anybody_out() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let alice = gateway.signed_in("alice").await;
    let image = Ask::get("/.auth/logout")
        .header("sec-fetch-site", "cross-site")
        .header("sec-fetch-mode", "no-cors")
        .header("sec-fetch-dest", "image");
    let link = Ask::get("/.auth/logout").header("accept", "text/html");
    for ask in [image, link] {
        let answer = alice.send(ask).await;
        assert!(!answer.sets_cookies(), "{}", answer.status);
    }
    let form = |headers: &[(&str, &str)]| {
        headers.iter().fold(
            Ask::new("POST", "/.auth/logout")
                .header("content-type", "application/x-www-form-urlencoded"),
            |ask, (name, value)| ask.header(name, value),
        )
    };
    for headers in [
        [("origin", "https://evil.example")].as_slice(),
        &[("origin", "null")],
        &[("sec-fetch-site", "cross-site")],
        &[
            ("sec-fetch-site", "same-site"),
            ("origin", "https://other.app.test"),
        ],
        &[
            ("sec-fetch-site", "same-origin"),
            ("origin", "https://evil.example"),
        ],
        &[("origin", "http://app.test")],
        &[("origin", "https://app.test:444")],
        &[],
    ] {
        let answer = alice.send(form(headers)).await;
        assert_eq!(answer.status, 403, "{headers:?}");
        assert!(!answer.sets_cookies(), "{headers:?}");
    }
    assert_eq!(alice.get("/").await.status, 200);
    // The button on the page does it.
    assert!(matches!(alice.sign_out().await.status, 200 | 204 | 303));
    assert_eq!(alice.cookie_line(), None);
}
