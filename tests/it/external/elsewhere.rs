//! Upstreams that are not the service: identity headers, and nothing of its tokens.

use super::{ACCESS, REFRESH, Service, outlive, signed_in, touches};
use crate::harness::browser::as_fetch;
use crate::harness::gateway::Setup;
use crate::harness::{App, Ask};

fn with_second(setup: Setup, app: &App) -> Setup {
    setup.more(&format!(
        "[[upstream]]\nname = \"other\"\nurl = \"http://{}\"\nassertion = true\n\
         [[route]]\npath = \"/other\"\nupstream = \"other\"\n\
         [[route]]\npath = \"/other/open\"\nupstream = \"other\"\naccess = \"public\"\n",
        app.addr
    ))
}

#[tokio::test]
async fn a09_another_upstream_gets_identity_headers_and_none_of_the_services_cookies() {
    let (service, app) = (Service::start().await, App::start().await);
    let gateway = with_second(service.gateway(""), &app).run();
    let alice = signed_in(&gateway, "alice").await;
    alice.put_cookie("theme", "\"dark; not\"");
    alice.put_cookie("other", "1");
    for expired in [false, true] {
        if expired {
            outlive(&gateway, &service).await;
        }
        app.forget();
        let spoofed = as_fetch(Ask::get("/other/x"))
            .header("x-forwarded-user", "admin")
            .header("x_forwarded_groups", "admins");
        let answer = alice.send(spoofed).await;
        assert_eq!((answer.status, touches(&answer)), (200, expired));
        let seen = app.only();
        assert_eq!(seen.all("x-forwarded-user"), ["alice"]);
        assert_eq!(seen.all("x-forwarded-groups"), ["staff,writers"]);
        assert_eq!(seen.all("cookie"), ["theme=\"dark; not\"; other=1"]);
        assert!(seen.one("x-vestibule-assertion").is_some());
        for name in [ACCESS, REFRESH] {
            assert!(!seen.mentions(&alice.cookie(name).unwrap()), "{name} leaks");
        }
        app.forget();
        alice.get("/other/open").await;
        assert_eq!(app.only().all("cookie"), ["theme=\"dark; not\"; other=1"]);
    }
    assert_eq!(service.refreshes().await, 1);
}

#[tokio::test]
async fn f05_another_upstream_cannot_set_the_services_cookies() {
    let (service, app) = (Service::start().await, App::start().await);
    let gateway = with_second(service.gateway(""), &app).run();
    let alice = signed_in(&gateway, "alice").await;
    let before = alice.jar();
    app.script(
        "/other/evil",
        "HTTP/1.1 200 OK\r\nset-cookie: access_token=evil; Path=/\r\nset-cookie: mine=1\r\nset-cookie: =refresh_token=evil\r\n\
         Set-Cookie: Refresh_Token=; Max-Age=0\r\nconnection: close\r\n\r\n",
    );
    let answer = alice.get("/other/evil").await;
    assert_eq!(answer.all("set-cookie"), ["mine=1"]);
    alice.drop_cookie("mine");
    assert_eq!(alice.jar(), before);
    gateway
        .until_logged(&["tried to set cookies", "other"])
        .await;
}

#[tokio::test]
async fn the_service_is_found_by_its_address_or_named() {
    let (service, app) = (Service::start().await, App::start().await);
    // Named: the other one gets the cookies, and the service, which is no longer named, does not.
    let gateway = with_second(service.gateway("cookies_to = [\"other\"]"), &app).run();
    let alice = signed_in_elsewhere(&service, &gateway).await;
    let seen = alice.get("/notes").await.json();
    assert_eq!(seen["headers"]["x-forwarded-user"], "alice");
    assert_eq!(seen["headers"].get("cookie"), None);
    app.forget();
    alice.get("/other/x").await;
    assert!(app.only().mentions(&alice.cookie(ACCESS).unwrap()));
}

/// A browser that has signed in at the service directly, not through this gateway.
async fn signed_in_elsewhere(
    service: &Service,
    gateway: &crate::harness::Gateway,
) -> crate::harness::Browser {
    let url = url::Url::parse(&format!("http://{}/login", service.addr)).unwrap();
    let form = Ask::new("POST", "/login").body("username=alice&password=wonderland&rd=/");
    let answer = crate::harness::plain::ask(&url, form).await.unwrap();
    let browser = gateway.anon();
    browser.take_cookies(&answer);
    browser
}
