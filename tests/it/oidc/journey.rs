//! The whole journey in a real browser: in by the certified provider, through an expiry, a change of groups, and out again.

use serde_json::json;

use super::by;
use crate::harness::browser::claims;
use crate::harness::clock::WallClock;
use crate::harness::wait::until;
use crate::harness::webdriver::Chromium;
use crate::harness::{ACCESS, App, Gateway, Provider};

const AT_THE_PAGE: &str = "return document.getElementById('ready') !== null;";

async fn statuses(chromium: &Chromium) -> Vec<u64> {
    chromium.until("return window.done;").await;
    let statuses = chromium.script("return window.statuses;").await;
    let statuses = statuses.as_array().unwrap().iter();
    statuses.map(|status| status.as_u64().unwrap()).collect()
}

async fn ours(chromium: &Chromium) -> usize {
    let cookies = chromium.cookies().await;
    let ours = cookies.iter().filter(|(n, _)| n.contains("vestibule-"));
    ours.count()
}

#[tokio::test]
async fn a_person_signs_in_by_a_provider_and_notices_nothing_until_it_is_over() {
    let clock = WallClock::shared();
    let app = App::start().await;
    let provider = Provider::with().clock(&clock).start();
    let gateway = by(&app, &provider.table("corp", "")).clock(&clock).run();
    provider.knows(&gateway).await;
    let chromium = Chromium::start(gateway.addr).await;

    // In: the page that was wanted, by way of the provider's form.
    chromium.open("/staff/page?tab=2").await;
    chromium.sign_in_at_provider("alice").await;
    chromium.until(AT_THE_PAGE).await;
    assert_eq!(chromium.place().await, "/staff/page?tab=2");
    let seen = app.last();
    assert_eq!(seen.one("x-forwarded-user"), Some("alice"));
    assert_eq!(seen.one("x-forwarded-groups"), Some("staff,writers"));
    assert_eq!(ours(&chromium).await, 2, "nothing pending is left");
    let readable = chromium.script("return document.cookie;").await;
    assert_eq!(readable, "");

    // The token has expired, and thirty requests go out at once.
    provider.forget().await;
    gateway.outlive_access_token();
    app.forget();
    chromium.script("fire(30, '/staff/data');").await;
    assert_eq!(statuses(&chromium).await, [200; 30]);
    assert_eq!(app.seen().len(), 30);
    let rotated = ["outcome=\"rotated\""];
    let renewals = gateway.metric("vestibule_renewals_total", &rotated).await;
    assert_eq!(renewals, 1.0);
    assert_eq!(provider.refreshes().await, 0, "its last word is young");

    // The provider says something else of her, and is asked in time, once.
    let groups = json!({ "alice": { "groups": ["admins"] } });
    provider.set_accounts(groups).await;
    clock.advance(std::time::Duration::from_secs(20 * 60));
    chromium.script("fire(30, '/data');").await;
    assert_eq!(statuses(&chromium).await, [200; 30]);
    until("the provider is asked", async || {
        (provider.count("token.answered").await == 1).then_some(())
    })
    .await;
    gateway.outlive_access_token();
    chromium.script("fire(3, '/admin/data');").await;
    assert_eq!(statuses(&chromium).await, [200; 3]);
    chromium.script("fire(3, '/staff/data');").await;
    assert_eq!(statuses(&chromium).await, [403; 3]);
    assert_eq!(provider.refreshes().await, 1);

    // Out, here and there.
    let old = gateway.anon();
    old.put_cookie(ACCESS, &chromium.cookie(ACCESS).await.unwrap());
    assert_eq!(old.get("/").await.status, 200);
    chromium.open("/.auth/logout").await;
    chromium
        .click("form button[type=submit], form button:not([type])")
        .await;
    chromium
        .until("return document.querySelector('button[name=logout]') !== null;")
        .await;
    assert!(chromium.place().await.starts_with(&provider.issuer));
    assert_eq!(
        old.get("/").await.status,
        401,
        "over before the provider is"
    );
    chromium.click("button[name=logout]").await;
    chromium
        .until("return location.host === 'app.test' && document.readyState === 'complete';")
        .await;
    assert_eq!(ours(&chromium).await, 0, "{}", chromium.place().await);
    let text = chromium.text().await;
    assert!(!text.is_empty());
    // Whoever wants in again has to say who they are.
    chromium.open("/page").await;
    chromium.sign_in_at_provider("bob").await;
    chromium.until(AT_THE_PAGE).await;
    assert_eq!(app.last().one("x-forwarded-user"), Some("bob"));
}

#[tokio::test]
async fn the_provider_ends_a_session_and_its_socket_closes() {
    let app = App::start().await;
    let provider = Provider::start();
    let gateway = by(&app, &provider.table("corp", "")).run();
    provider.knows(&gateway).await;
    let chromium = Chromium::start(gateway.addr).await;
    chromium.open("/page").await;
    chromium.sign_in_at_provider("alice").await;
    chromium.until(AT_THE_PAGE).await;
    chromium
        .script(
            "window.said = null; window.over = false;
             window.socket = new WebSocket('wss://app.test/socket');
             socket.onopen = () => socket.send('hello');
             socket.onmessage = event => { window.said = event.data; };
             socket.onclose = () => { window.over = true; };",
        )
        .await;
    chromium.until("return window.said === 'hello';").await;
    let sid = claims(&chromium.cookie(ACCESS).await.unwrap())["sid"].clone();
    assert_eq!(provider.end_sessions("alice").await, 1);
    chromium.until("return window.over;").await;
    chromium.script("fire(3, '/data');").await;
    assert_eq!(statuses(&chromium).await, [401; 3]);
    gateway
        .until_logged(&["audit", sid.as_str().unwrap(), "corp"])
        .await;
    assert_eq!(provider.count("backchannel.error").await, 0);
}

#[tokio::test]
async fn two_tabs_sign_in_at_the_same_time() {
    let app = App::start().await;
    let (corp, other) = (
        Provider::start(),
        Provider::with().known_as(&["other"]).start(),
    );
    let tables = format!("{}{}", corp.table("corp", ""), other.table("other", ""));
    let gateway = by(&app, &tables).run();
    let chromium = Chromium::start(gateway.addr).await;
    // Each tab is at another provider's form before either is filled in.
    let first = chromium.tab().await;
    chromium.open("/.auth/login/corp?rd=/page?tab=1").await;
    let second = chromium.new_tab().await;
    chromium.open("/.auth/login/other?rd=/page?tab=2").await;
    chromium.to_tab(&first).await;
    chromium.sign_in_at_provider("alice").await;
    chromium.until(AT_THE_PAGE).await;
    assert_eq!(chromium.place().await, "/page?tab=1");
    chromium.to_tab(&second).await;
    chromium.sign_in_at_provider("bob").await;
    chromium.until(AT_THE_PAGE).await;
    assert_eq!(chromium.place().await, "/page?tab=2");
    assert_eq!(app.last().one("x-forwarded-user"), Some("bob"));
    // One jar, one session: the last one to sign in.
    chromium.to_tab(&first).await;
    chromium.open("/page?tab=1").await;
    assert_eq!(app.last().one("x-forwarded-user"), Some("bob"));
}

#[tokio::test]
async fn the_page_with_buttons_works_in_a_browser_with_its_policy() {
    let app = App::start().await;
    let corp = Provider::start();
    let tables = format!(
        "[login.local]\n{}",
        corp.table("corp", "display_name = \"Corp\"")
    );
    let gateway: Gateway = by(&app, &tables).run();
    let chromium = Chromium::start(gateway.addr).await;
    chromium.open("/page?x=1").await;
    assert!(chromium.place().await.starts_with("/.auth/login?rd="));
    assert!(chromium.text().await.contains("Corp"));
    // A form action of another origin, after a redirect, is what a strict policy forbids; this must be allowed or a link.
    chromium
        .click("a[href*='/.auth/login/corp'], button[formaction*='/.auth/login/corp'], form[action*='/.auth/login/corp'] button")
        .await;
    chromium.sign_in_at_provider("alice").await;
    chromium.until(AT_THE_PAGE).await;
    assert_eq!(chromium.place().await, "/page?x=1");
}
