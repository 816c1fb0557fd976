//! One sign-in for several hosts (`cookie_domain`) by a provider that knows the gateway by one address alone.

use super::{by, nobody, parameter};
use crate::harness::client::Answer;
use crate::harness::gateway::Setup;
use crate::harness::{App, Browser, HOST, ORIGIN, Person, Provider, Rogue};

const WIKI: &str = "wiki.app.test";
const FILES: &str = "files.app.test";
const ACCESS: &str = "__Secure-vestibule-access";
const REFRESH: &str = "__Secure-vestibule-refresh";
const PENDING: &str = "__Secure-vestibule-login";

/// The origin and two hosts below it; of everything else nobody here has heard.
fn setup(app: &App, tables: &str) -> Setup {
    let route = |host: &str, more: &str| {
        format!("[[route]]\nhost = \"{host}\"\nupstream = \"app\"\n{more}\n")
    };
    let routes = [
        route(HOST, ""),
        route(WIKI, ""),
        route(FILES, "allow = { groups = [\"staff\"] }"),
    ];
    by(app, tables)
        .routes(&routes.concat())
        .session(&format!("cookie_domain = \"{HOST}\""))
}

/// The same browser, on another host: it sends the cookies of the domain there as well.
fn on(browser: &Browser, host: &str) -> Browser {
    let mut there = browser.clone();
    there.door.host = host.to_owned();
    there
}

/// Every cookie that is set is one of all hosts, or ends one.
fn of_the_domain(answer: &Answer) {
    let lines = answer.all("set-cookie");
    assert!(!lines.is_empty(), "no cookie is set");
    for line in lines {
        assert!(line.starts_with("__Secure-"), "{line}");
        for attribute in ["; Domain=app.test", "; Secure", "; HttpOnly", "; Path=/"] {
            assert!(line.contains(attribute), "{attribute}: {line}");
        }
    }
}

/// From the page that they wanted to see on a host to the provider: where the browser is sent.
async fn sent_away(browser: &Browser, host: &str, page: &str) -> String {
    let there = on(browser, host);
    let answer = there.navigate(page).await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    let mut to = answer.header("location").unwrap().to_owned();
    let mut here = there;
    // By the sign-in page of this host or of the origin.
    for _ in 0..3 {
        if to.starts_with("http://127.0.0.1") {
            return to;
        }
        if let Some(target) = to.strip_prefix(ORIGIN) {
            here = on(browser, HOST);
            to = target.to_owned();
        }
        let answer = here.navigate(&to).await;
        assert_eq!(answer.status, 303, "{to}: {}", answer.text());
        of_the_domain(&answer);
        to = answer.header("location").unwrap().to_owned();
    }
    panic!("not sent to the provider: {to}");
}

#[tokio::test]
async fn one_sign_in_at_the_provider_serves_every_host_and_leads_back_to_the_one_it_began_on() {
    let (app, provider) = (App::start().await, Provider::start());
    let gateway = setup(&app, &provider.table("corp", "")).run();
    let (browser, person) = (gateway.anon(), Person::new());
    let location = sent_away(&browser, WIKI, "/page?x=1").await;
    // The provider knows one address, that of the origin.
    assert_eq!(
        parameter(&location, "redirect_uri"),
        "https://app.test/.auth/callback/corp"
    );
    let back = person.visit(&location, "alice").await;
    let answer = on(&browser, HOST).come_back(&back).await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    assert_eq!(
        answer.header("location"),
        Some("https://wiki.app.test/page?x=1")
    );
    of_the_domain(&answer);
    assert!(browser.cookie(PENDING).is_none(), "nothing is pending");
    assert_eq!(provider.count("token").await, 1);
    // Every host, and none of them knows more than the others.
    for host in [HOST, WIKI, FILES] {
        app.forget();
        let there = on(&browser, host);
        assert_eq!(there.get("/page").await.status, 200, "{host}");
        let seen = app.last();
        assert_eq!(seen.one("host"), Some(host));
        assert_eq!(seen.one("x-forwarded-user"), Some("alice"));
        let line = seen.one("cookie").unwrap_or("");
        assert!(!line.contains("vestibule"), "{host}: {line}");
        let me = there.get("/.auth/me").await.json();
        assert_eq!(
            (me["user"].as_str(), me["provider"].as_str()),
            (Some("alice"), Some("corp"))
        );
    }
    assert_eq!(provider.count("token").await, 1, "nobody was asked again");

    // Renewed on one host, it is renewed on all.
    let spent = browser.cookie(REFRESH).unwrap();
    browser.drop_cookie(ACCESS);
    let answer = on(&browser, FILES).get("/").await;
    assert_eq!(answer.status, 200);
    of_the_domain(&answer);
    assert_ne!(browser.cookie(REFRESH).unwrap(), spent);
    assert_eq!(on(&browser, WIKI).get("/").await.status, 200);

    // Signed out on one host, on all of them, and at the provider.
    let stolen = browser.copy();
    let (to, answer) = on(&browser, WIKI).leave().await;
    of_the_domain(&answer);
    let to = to.expect("on to the provider");
    assert!(to.starts_with(&provider.issuer), "{to}");
    assert_eq!(
        parameter(&to, "post_logout_redirect_uri"),
        "https://app.test/.auth/logout"
    );
    for host in [HOST, WIKI, FILES] {
        assert_eq!(on(&browser, host).get("/").await.status, 401, "{host}");
        assert_eq!(on(&stolen, host).get("/").await.status, 401, "{host}, kept");
    }
    let back = person.visit(&to, "alice").await;
    let answer = on(&browser, HOST).come_back(&back).await;
    assert!(answer.status < 400, "{}", answer.text());
    let location = sent_away(&browser, FILES, "/").await;
    let page = person.visit(&location, "bob").await;
    let answer = on(&browser, HOST).come_back(&page).await;
    assert_eq!(answer.header("location"), Some("https://files.app.test/"));
    // Somebody else by now, whom one of the hosts does not let in.
    assert_eq!(on(&browser, WIKI).get("/").await.status, 200);
    assert_eq!(on(&browser, FILES).get("/").await.status, 403);
}

#[tokio::test]
async fn back_channel_logout_ends_it_on_every_host() {
    let (app, provider) = (App::start().await, Provider::start());
    let gateway = setup(&app, &provider.table("corp", "")).run();
    provider.knows(&gateway).await;
    let browser = gateway.anon();
    let location = sent_away(&browser, FILES, "/").await;
    let back = Person::new().visit(&location, "alice").await;
    on(&browser, HOST).come_back(&back).await;
    for host in [HOST, WIKI, FILES] {
        assert_eq!(on(&browser, host).get("/").await.status, 200, "{host}");
    }
    assert_eq!(provider.end_sessions("alice").await, 1);
    for host in [HOST, WIKI, FILES] {
        assert_eq!(on(&browser, host).get("/").await.status, 401, "{host}");
    }
}

#[tokio::test]
async fn d01_e03_a_sign_in_leads_to_hosts_with_a_route_only_and_is_of_the_browser_that_began_it() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let gateway = setup(&app, &rogue.table("corp", "")).run();
    for elsewhere in [
        "https://evil.app.test/",
        "https://app.test.evil.example/",
        "https://wiki.app.test.evil.example/",
        "https://wiki.app.test:444/",
        "http://wiki.app.test/",
        "https://wiki.app.test@evil.example/",
        "//evil.app.test/",
    ] {
        let browser = gateway.anon();
        let location = browser.begin("corp", elsewhere).await;
        let back = Person::new().visit(&location, "-").await;
        let answer = browser.come_back(&back).await;
        assert_eq!(answer.status, 303, "{elsewhere}: {}", answer.text());
        let to = answer.header("location").unwrap();
        assert!(matches!(to, "/" | "https://app.test/"), "{elsewhere}: {to}");
    }
    let browser = gateway.anon();
    let location = browser.begin("corp", "https://files.app.test/a?b=c").await;
    let back = Person::new().visit(&location, "-").await;
    // A browser that has not begun it, whichever host it comes to; and every host has the callback's page, as the same gateway.
    nobody(
        &on(&gateway.anon(), HOST).come_back(&back).await,
        "another browser",
    );
    nobody(
        &on(&gateway.anon(), WIKI).come_back(&back).await,
        "another browser, elsewhere",
    );
    let answer = browser.come_back(&back).await;
    assert_eq!(
        answer.header("location"),
        Some("https://files.app.test/a?b=c")
    );
    // A host that has no route has no gateway either.
    let lost = on(&browser, "evil.app.test").get("/").await;
    assert_eq!(lost.status, 421, "{}", lost.text());
    assert_eq!(
        rogue
            .asked()
            .iter()
            .filter(|one| one.endpoint == "token")
            .count(),
        8
    );
}
