//! D: where people are sent after signing in and out. Judged by a WHATWG URL parser, as a browser would.

use std::collections::BTreeSet;

use url::Url;

use super::raw;
use crate::harness::browser::Browser;
use crate::harness::client::Answer;
use crate::harness::person::carries_on;
use crate::harness::provider::CLIENT_SECRET;
use crate::harness::{App, Ask, Gateway, ORIGIN, PASSWORD, Person, Rogue};
use crate::oidc::{by, parameter};

/// Whether following `location` from the origin stays on the origin.
fn stays(location: &str) -> bool {
    Url::parse(&format!("{ORIGIN}/.auth/login"))
        .unwrap()
        .join(location)
        .is_ok_and(|url| url.origin().ascii_serialization() == ORIGIN)
}

/// Strings over the characters that have fooled somebody, in the places that matter.
fn corpus() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let leads = [
        "",
        "/",
        "//",
        "///",
        "/\\",
        "\\",
        "\\\\",
        "/\t/",
        "/\n/",
        "/\r/",
        "\t//",
        " //",
        "/./",
        "/../",
        "/.//",
        "/..//",
        "/%2f",
        "/%5c",
        "%2f%2f",
        "/%09/",
        "/%0a/",
        "/%0d%0a/",
        "https:",
        "https:/",
        "https://",
        "HTTPS:\\\\",
        "http://",
        "//@",
        "/@",
        "https://app.test@",
        "https://app.test:443@",
        "//app.test@",
        "https://app.test.",
        "https://app.test\\@",
        "?",
        "#",
        ":",
        "//:80@",
        "\u{0}//",
        "/\u{b}/",
        "\u{3000}//",
        "／／",
    ];
    let hosts = [
        "evil.example",
        "evil.example/%2e%2e",
        "evil.example:443",
        "evil%2eexample",
        "evil.example?app.test",
        "evil.example#app.test",
        "evil。example",
    ];
    for lead in leads {
        for host in hosts {
            all.insert(format!("{lead}{host}"));
        }
    }
    for odd in [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "data:text/html,x",
        "vbscript:x",
        "file:///etc/passwd",
        "blob:https://app.test/x",
        "mailto:a@b",
        "",
        "\u{1}",
    ] {
        all.insert(odd.to_owned());
    }
    all
}

fn login_target(rd: &str) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("rd", rd)
        .finish();
    format!("/.auth/login?{query}")
}

/// The `rd` that the page would post: the value of its hidden field, as a browser reads the HTML.
fn hidden_rd(page: &Answer) -> Option<String> {
    let text = page.text();
    let field = text
        .split("<input")
        .find(|field| field.contains("name=\"rd\""))?
        .to_owned();
    let value = field
        .split_once("value=\"")?
        .1
        .split('"')
        .next()?
        .to_owned();
    Some(
        value
            .replace("&#x2F;", "/")
            .replace("&#47;", "/")
            .replace("&quot;", "\"")
            .replace("&#34;", "\"")
            .replace("&#39;", "'")
            .replace("&#x27;", "'")
            .replace("&lt;", "<")
            .replace("&#60;", "<")
            .replace("&gt;", ">")
            .replace("&#62;", ">")
            .replace("&amp;", "&")
            .replace("&#38;", "&"),
    )
}

async fn signs_in_to(gateway: &Gateway, rd: &str) -> String {
    let browser = Browser::new(gateway.door());
    let answer = browser.sign_in("alice", PASSWORD, rd).await;
    assert_eq!(answer.status, 303, "rd {rd:?}: {}", answer.text());
    answer
        .header("location")
        .expect("a Location that is ASCII")
        .to_owned()
}

#[tokio::test]
async fn d01_no_string_leads_off_the_origin() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let corpus = corpus();
    assert!(corpus.len() >= 300, "only {} strings", corpus.len());
    let judged_off = corpus.iter().filter(|rd| !stays(rd)).count();
    assert!(
        judged_off > 100,
        "only {judged_off} of the strings would lead away if believed"
    );
    let connection = gateway.door().h2().await;
    let mut fields = 0;
    for rd in &corpus {
        let page = gateway
            .anon()
            .send_on(
                &connection,
                Ask::get(&login_target(rd)).header("accept", "text/html"),
            )
            .await;
        assert_eq!(page.status, 200, "{rd:?}");
        for location in page.all("location") {
            assert!(stays(&location), "{rd:?} -> {location:?}");
        }
        if let Some(field) = hidden_rd(&page) {
            fields += 1;
            assert!(stays(&field), "{rd:?} -> {field:?} in the page");
        }
    }
    assert!(fields > 0, "the page has no rd field at all");
    // The form is judged anew: a page is not needed to post. Every tenth string, since each costs a password hash.
    for rd in corpus.iter().step_by(10) {
        let location = signs_in_to(&gateway, rd).await;
        assert!(stays(&location), "{rd:?} -> {location:?}");
    }
}

#[tokio::test]
async fn d02_the_classics_lead_home() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    for rd in [
        "//evil",
        "/\\evil",
        "/\t/evil",
        "https:evil",
        "javascript:alert(1)",
        "data:text/html,x",
        "https://evil.example/",
        "/.auth/logout",
    ] {
        assert_eq!(signs_in_to(&gateway, rd).await, "/", "{rd:?}");
    }
    // And the honest ones lead where they say.
    for rd in [
        "/",
        "/notes/7?tab=2",
        "/a%20b?x=%2F%2Fevil",
        "/search?q=a&b=//evil",
    ] {
        assert_eq!(signs_in_to(&gateway, rd).await, rd);
    }
}

#[tokio::test]
async fn d03_hosts_are_compared_whole() {
    let app = App::start().await;
    let gateway = Gateway::before(&app)
        .server("origin = \"https://app.example.test\"")
        .session("cookie_domain = \"example.test\"")
        .routes(
            "[[route]]\nhost = \"app.example.test\"\npath = \"/\"\nupstream = \"app\"\naccess = \"authenticated\"\n\
             [[route]]\nhost = \"wiki.example.test\"\npath = \"/\"\nupstream = \"app\"\naccess = \"authenticated\"\n",
        )
        .run();
    let mut door = gateway.door();
    door.host = "app.example.test".to_owned();
    let browser = Browser::new(door);
    let form = |rd: &str| {
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("username", "alice"), ("password", PASSWORD), ("rd", rd)])
            .finish();
        Ask::new("POST", "/.auth/login")
            .header("origin", "https://app.example.test")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
    };
    let good = "https://wiki.example.test/page?x=1";
    let answer = browser.send(form(good)).await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, Some(good))
    );
    for rd in [
        "https://evil-example.test/",
        "https://wiki.example.test.evil/",
        "https://evil.test/wiki.example.test",
        "https://evilwiki.example.test/",
        "https://other.example.test/",
        "http://wiki.example.test/",
        "https://wiki.example.test:8443/",
        "https://wiki.example.test@evil.test/",
        "https://u:p@wiki.example.test/",
        "https://wiki.example.test\\@evil.test/",
        "//evil.test",
    ] {
        let answer = browser.send(form(rd)).await;
        assert_eq!(
            (answer.status, answer.header("location")),
            (303, Some("/")),
            "{rd}"
        );
    }
}

#[tokio::test]
async fn d04_no_redirect_carries_a_credential() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let sent_to_login = gateway.anon().navigate("/notes?a=1").await;
    assert_eq!(sent_to_login.status, 303);
    let login = sent_to_login.header("location").unwrap().to_owned();
    let alice = gateway.anon();
    let answer = alice.sign_in("alice", PASSWORD, "/notes?a=1").await;
    let back = answer.header("location").unwrap().to_owned();
    for secret in [
        alice.access().unwrap(),
        alice.refresh().unwrap(),
        PASSWORD.to_owned(),
        alice.session(),
    ] {
        assert!(!login.contains(&secret) && !back.contains(&secret));
    }
    // Somebody else's login address signs nobody in.
    let mallory = gateway.anon();
    assert_eq!(mallory.navigate(&login).await.status, 200);
    assert!(mallory.access().is_none() && mallory.refresh().is_none());
    assert_eq!(mallory.get("/notes").await.status, 401);
    // Nor does a form that another site posts (login CSRF).
    let (status, _) = raw(
        &gateway,
        &format!(
            "POST /.auth/login HTTP/1.1\r\n{{host}}Origin: https://evil.example\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n\r\nusername=alice&password=x",
            "username=alice&password=x".len()
        ),
    )
    .await;
    assert_eq!(status, 403);
}

/// Every twentieth string of the corpus, through a provider: each costs a whole sign-in.
#[tokio::test]
async fn d01_no_string_leads_off_the_origin_by_way_of_a_provider() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let gateway = by(&app, &rogue.table("corp", "")).run();
    let person = Person::new();
    for rd in corpus().iter().step_by(20) {
        let browser = gateway.anon();
        let target = login_target(rd).replace("/login?", "/login/corp?");
        let answer = browser.navigate(&target).await;
        assert_eq!(answer.status, 303, "{rd:?}: {}", answer.text());
        let back = person.visit(answer.header("location").unwrap(), "-").await;
        let answer = browser.come_back(&back).await;
        assert_eq!(answer.status, 303, "{rd:?}: {}", answer.text());
        let location = answer.header("location").expect("a Location in ASCII");
        assert!(stays(location), "{rd:?} -> {location:?}");
    }
    for rd in ["/notes/7?tab=2", "/a%20b?x=%2F%2Fevil"] {
        let answer = gateway.anon().sign_in_by("corp", &person, "-", rd).await;
        assert_eq!(answer.header("location"), Some(rd));
    }
}

/// A query that asks by each of these names to be led there.
fn wishes(names: &[&str], to: &str) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(names.iter().map(|name| (name, to)))
        .finish()
}

/// Signing out leads to the signed-out page or to the provider's own, whatever is asked for; and the way back leads nowhere else.
#[tokio::test]
async fn d01_no_string_leads_off_the_origin_by_signing_out() {
    const NAMES: [&str; 5] = [
        "rd",
        "post_logout_redirect_uri",
        "redirect_uri",
        "url",
        "next",
    ];
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let gateway = by(&app, &rogue.table("corp", "")).run();
    let connection = gateway.door().h2().await;
    let person = |ask: Ask| {
        ask.header("sec-fetch-mode", "navigate")
            .header("accept", "text/html")
    };
    for (number, wish) in corpus().iter().enumerate() {
        let query = wishes(&NAMES, wish);
        let browser = gateway.anon();
        // Each twentieth has a session to end: it costs a whole sign-in.
        let signed_in = number % 20 == 0;
        if signed_in {
            let answer = browser.sign_in_by("corp", &Person::new(), "-", "/").await;
            assert_eq!(answer.status, 303, "{}", answer.text());
        }
        let form = Ask::post(&format!("/.auth/logout?{query}"), query.clone())
            .header("content-type", "application/x-www-form-urlencoded")
            .header("sec-fetch-site", "same-origin");
        let answer = browser.send_on(&connection, person(form)).await;
        let back = if signed_in {
            let to = carries_on(&answer).expect("the way to the provider");
            assert!(
                to.starts_with(&format!("{}/logout?", rogue.issuer)),
                "{wish:?} -> {to:?}"
            );
            assert_eq!(
                parameter(&to, "post_logout_redirect_uri"),
                format!("{ORIGIN}/.auth/logout"),
                "{wish:?}"
            );
            format!("state={}&{query}", parameter(&to, "state"))
        } else {
            assert_eq!(
                answer.header("location"),
                Some("/.auth/logout?done"),
                "{wish:?}"
            );
            wishes(&["state", "rd", "url"], wish)
        };
        let back = Ask::get(&format!("/.auth/logout?{back}"));
        let back = browser.send_on(&connection, person(back)).await;
        match signed_in {
            true => assert_eq!(
                back.header("location"),
                Some("/.auth/logout?done"),
                "{wish:?}"
            ),
            false => assert_eq!((back.status, carries_on(&back)), (200, None), "{wish:?}"),
        }
    }
}

#[tokio::test]
async fn d04_no_redirect_of_a_provider_carries_a_credential() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let gateway = by(&app, &rogue.table("corp", "")).run();
    let alice = gateway.anon();
    let location = alice.begin("corp", "/notes").await;
    let back = Person::new().visit(&location, "-").await;
    let answer = alice.come_back(&back).await;
    let home = answer.header("location").unwrap();
    for secret in [
        alice.access().unwrap(),
        alice.refresh().unwrap(),
        alice.session(),
    ] {
        assert!(!location.contains(&secret) && !home.contains(&secret));
    }
    for name in ["code", "state"] {
        assert!(!home.contains(&parameter(&back, name)));
    }
    assert!(!location.contains(CLIENT_SECRET));
    // The page at the end is not told where it came from.
    let policy = answer.header("referrer-policy");
    assert!(
        matches!(
            policy,
            Some("no-referrer" | "same-origin" | "origin" | "strict-origin")
        ),
        "{policy:?}"
    );
}
