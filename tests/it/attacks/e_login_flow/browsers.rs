//! E08 to E11: what a browser brings along: planted sessions, several tabs, parameters twice, markup.

use super::{not_signed_in_by, on_the_way_back, refused_before_asking};
use crate::harness::{ACCESS, App, PASSWORD, Person, REFRESH, Rogue};
use crate::oidc::{LOGIN, by, nobody, page_of, parameter, with_parameter};

#[tokio::test]
async fn e08_a_planted_session_is_not_signed_in() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let tables = format!("[login.local]\n{}", rogue.table("corp", ""));
    let gateway = by(&app, &tables).run();
    // Mallory plants a session of her own, and keeps a copy.
    let victim = gateway.anon();
    victim.sign_in("bob", PASSWORD, "/").await;
    let planted = victim.copy();
    let old = victim.session();
    // Whoever is somebody already is only led on, and stays who they were.
    let answer = victim.navigate("/.auth/login/corp?rd=/notes").await;
    assert_eq!(answer.header("location"), Some("/notes"));
    assert_eq!(victim.session(), old);
    // As somebody else they become a new session.
    let answer = victim
        .navigate("/.auth/login/corp?rd=/&account=other")
        .await;
    let location = answer.header("location").unwrap();
    let back = Person::new().visit(location, "-").await;
    let answer = victim.come_back(&back).await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    assert_ne!(victim.session(), old);
    assert_ne!(victim.access(), planted.access());
    assert_ne!(victim.refresh(), planted.refresh());
    app.forget();
    victim.get("/staff").await;
    assert_eq!(app.only().one("x-forwarded-user"), Some("alice"));
    // What she kept has not become the victim's, and is over.
    for without in [None, Some(ACCESS)] {
        let copy = planted.copy();
        if let Some(name) = without {
            copy.drop_cookie(name);
        }
        assert_eq!(copy.get("/").await.status, 401);
    }
    // Neither has a made-up one, nor cookies without any meaning.
    for (access, refresh) in [
        (
            gateway.forged().access().unwrap(),
            gateway.forged().refresh().unwrap(),
        ),
        ("planted".to_owned(), "planted".to_owned()),
    ] {
        let victim = gateway.anon();
        victim.put_cookie(ACCESS, &access);
        victim.put_cookie(REFRESH, &refresh);
        let answer = victim.sign_in_by("corp", &Person::new(), "-", "/").await;
        assert_eq!(answer.status, 303, "{}", answer.text());
        assert_ne!(victim.access().unwrap(), access);
        assert_ne!(victim.refresh().unwrap(), refresh);
        assert_eq!(victim.get("/").await.status, 200);
    }
}

#[tokio::test]
async fn e09_two_tabs_sign_in_at_once() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let gateway = by(&app, &rogue.table("corp", "")).run();
    // One after the other begins; they come back in either order.
    for swapped in [false, true] {
        let browser = gateway.anon();
        let mut tabs = vec![
            ("/one?a=1", browser.begin("corp", "/one?a=1").await),
            ("/two", browser.begin("corp", "/two").await),
        ];
        if swapped {
            tabs.reverse();
        }
        for (rd, location) in tabs {
            let back = Person::new().visit(&location, "-").await;
            let answer = browser.come_back(&back).await;
            assert_eq!(answer.status, 303, "{}", answer.text());
            assert_eq!(answer.header("location"), Some(rd));
            assert_eq!(browser.get("/").await.status, 200);
        }
    }
    // Both begin before the browser has any cookie, so that one cookie replaces the other.
    let browser = gateway.anon();
    let (left, right) = (browser.copy(), browser.copy());
    let tabs = [
        ("/left", left.begin("corp", "/left").await),
        ("/right", right.begin("corp", "/right").await),
    ];
    browser.put_cookie(LOGIN, &left.cookie(LOGIN).unwrap());
    browser.put_cookie(LOGIN, &right.cookie(LOGIN).unwrap());
    for (rd, location) in tabs {
        let back = Person::new().visit(&location, "-").await;
        let mut answer = browser.come_back(&back).await;
        // The one whose cookie was lost begins anew by itself.
        if answer.status != 303 {
            answer = browser.carried_on(answer, &Person::new(), "-").await;
        }
        assert_eq!(answer.status, 303, "{rd}: {}", answer.text());
        assert_eq!(answer.header("location"), Some(rd));
    }
    assert_eq!(browser.get("/").await.status, 200);
}

#[tokio::test]
async fn e09_however_many_tabs_the_cookie_stays_small() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let gateway = by(&app, &rogue.table("corp", "")).run();
    let browser = gateway.anon();
    let mut begun = Vec::new();
    for tab in 0..40 {
        // Each wants to go far.
        let rd = format!("/tab/{tab}?{}", "x".repeat(1500));
        begun.push((rd.clone(), browser.begin("corp", &rd).await));
        let cookies = browser.cookie_line().unwrap();
        assert!(cookies.len() <= 4096, "{} bytes", cookies.len());
        assert_eq!(cookies.matches("vestibule-login").count(), 1);
    }
    // The newest works, the oldest was dropped, and says so kindly.
    let (rd, location) = begun.last().unwrap();
    let answer = browser
        .come_back(&Person::new().visit(location, "-").await)
        .await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    assert_eq!(answer.header("location"), Some(rd.as_str()));
    rogue.forget();
    let back = Person::new().visit(&begun[0].1, "-").await;
    let answer = gateway.anon().come_back(&back).await;
    not_signed_in_by(&answer, &rogue);
    // Short ones: several at once are all good.
    let browser = gateway.anon();
    let mut tabs = Vec::new();
    for tab in 0..5 {
        tabs.push(browser.begin("corp", &format!("/{tab}")).await);
    }
    for (tab, location) in tabs.iter().enumerate() {
        let back = Person::new().visit(location, "-").await;
        let answer = browser.come_back(&back).await;
        let to = format!("/{tab}");
        assert_eq!(
            (answer.status, answer.header("location")),
            (303, Some(to.as_str()))
        );
    }
    // What is pending does not stay once all is done.
    assert!(browser.cookie(LOGIN).is_none());
}

#[tokio::test]
async fn e10_a_parameter_twice_is_refused() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let gateway = by(&app, &rogue.table("corp", "")).run();
    let (browser, back) = on_the_way_back(&gateway, &rogue).await;
    let (code, state) = (parameter(&back, "code"), parameter(&back, "state"));
    for more in [
        "&state=b".to_owned(),
        format!("&state={state}"),
        "&code=b".to_owned(),
        format!("&code={code}"),
        format!("&%63ode={code}"),
        "&iss=https%3A%2F%2Fevil".to_owned(),
        "&error=access_denied".to_owned(),
        "&error=a&error=b".to_owned(),
        "&x=%zz".to_owned(),
        "&x=%ff%fe".to_owned(),
    ] {
        let answer = browser.copy().come_back(&format!("{back}{more}")).await;
        refused_before_asking(&answer, &rogue, &more);
        assert_eq!(answer.status, 400, "{more}");
    }
    // What the standard tells to ignore is ignored.
    let answer = browser
        .come_back(&format!("{back}&session_state=x&scope=openid"))
        .await;
    assert_eq!(answer.status, 303, "{}", answer.text());
}

#[tokio::test]
async fn e11_words_of_others_are_text() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let gateway = by(&app, &rogue.table("corp", "")).run();
    let nasty = [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "'\"><svg/onload=alert(1)>",
        "</title><script>alert(1)</script>",
        "javascript:alert(1)",
        "{{7*7}}",
        "\r\nset-cookie: x=y",
        "line\n{\"audit\":\"forged-entry-4711\"}",
        "\u{202e}\u{0}\u{1b}[31mred",
    ];
    for words in nasty {
        for begun in [true, false] {
            let (browser, back) = on_the_way_back(&gateway, &rogue).await;
            let mut url = with_parameter(&back, "code", None);
            url = with_parameter(&url, "error", Some(words));
            url = with_parameter(&url, "error_description", Some(words));
            url = with_parameter(&url, "error_uri", Some("javascript:alert(1)"));
            if !begun {
                url = with_parameter(&url, "state", Some(words));
            }
            let answer = browser.come_back(&url).await;
            nobody(&answer, words);
            assert!((400..=502).contains(&answer.status), "{}", answer.status);
            let page = page_of(&answer, words);
            for raw in [
                "<script>alert",
                "<img src",
                "<svg",
                "</title><script",
                "href=\"javascript",
            ] {
                assert!(!page.contains(raw), "{words:?}: {page}");
            }
            assert!(!page.contains('\u{0}') && !page.contains('\u{1b}'));
            assert!(answer.header("x").is_none());
            let policy = answer.header("content-security-policy").unwrap();
            assert!(policy.contains("default-src 'none'"), "{policy}");
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
            // And there is a way to start over.
            assert!(page.contains("/.auth/login"), "{words:?}: {page}");
        }
    }
    // What the provider said is in the log, as a value.
    gateway.until_logged(&["corp", "alert(1)"]).await;
    let forged = gateway.logged(&["forged-entry-4711"]);
    assert!(
        forged.iter().all(|line| !line.starts_with("{\"audit\"")),
        "{forged:?}"
    );
}
