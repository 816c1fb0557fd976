//! A real browser in front of the gateway: what a person sees when tokens expire and networks fail, which is nothing.

use crate::harness::browser::claims;
use crate::harness::chaos::Chaos;
use crate::harness::wait::until;
use crate::harness::webdriver::Chromium;
use crate::harness::{ACCESS, App, Gateway, PASSWORD, REFRESH};

async fn rotations(gateway: &Gateway) -> f64 {
    gateway
        .metric("vestibule_renewals_total", &["outcome=\"rotated\""])
        .await
}

async fn generation(chromium: &Chromium) -> u64 {
    claims(&chromium.cookie(ACCESS).await.expect("an access cookie"))["gen"]
        .as_u64()
        .unwrap()
}

/// Opens the app's page as nobody, signs in as alice, and is back on the page.
async fn signed_in_on(chromium: &Chromium, path: &str) {
    chromium.open(path).await;
    assert!(
        chromium.place().await.starts_with("/.auth/login?rd="),
        "{}",
        chromium.place().await
    );
    chromium.sign_in("alice", PASSWORD).await;
    chromium
        .until("return document.getElementById('ready') !== null;")
        .await;
    assert_eq!(chromium.place().await, path);
}

/// What the page's script gets for thirty fetches at once.
async fn thirty_fetches(chromium: &Chromium) -> Vec<u64> {
    chromium.script("fire(30, '/data');").await;
    chromium.until("return window.done;").await;
    let statuses = chromium.script("return window.statuses;").await;
    let statuses = statuses.as_array().unwrap().iter();
    statuses.map(|status| status.as_u64().unwrap()).collect()
}

#[tokio::test]
async fn thirty_fetches_after_expiry_share_one_renewal_and_logout_empties_the_jar() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).with_clock().run();
    let chromium = Chromium::start(gateway.addr).await;
    signed_in_on(&chromium, "/notes/page?tab=2").await;
    assert_eq!(generation(&chromium).await, 0);
    let before = chromium.cookie(REFRESH).await.unwrap();

    gateway.outlive_access_token();
    app.forget();
    assert_eq!(thirty_fetches(&chromium).await, [200; 30]);
    assert_eq!(app.seen().len(), 30);
    assert!(
        app.seen()
            .iter()
            .all(|seen| seen.one("x-forwarded-user") == Some("alice"))
    );
    assert_eq!(rotations(&gateway).await, 1.0);
    // The jar ends with one valid pair.
    assert_eq!(generation(&chromium).await, 1);
    let names: Vec<String> = chromium
        .cookies()
        .await
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(
        names
            .iter()
            .filter(|name| name.contains("vestibule-"))
            .count(),
        2,
        "{names:?}"
    );
    assert_ne!(chromium.cookie(REFRESH).await.unwrap(), before);
    gateway.outlive_access_token();
    chromium.open("/notes/page?again").await;
    assert_eq!(chromium.place().await, "/notes/page?again");
    assert_eq!(generation(&chromium).await, 2);

    // Scripts of the app cannot read any of it.
    assert_eq!(
        chromium
            .script("return document.cookie;")
            .await
            .as_str()
            .unwrap(),
        ""
    );

    let old = gateway.anon();
    old.put_cookie(ACCESS, &chromium.cookie(ACCESS).await.unwrap());
    old.put_cookie(REFRESH, &chromium.cookie(REFRESH).await.unwrap());
    assert_eq!(old.copy().get("/").await.status, 200);
    chromium.open("/.auth/logout").await;
    chromium
        .click("form button[type=submit], form button:not([type])")
        .await;
    until("the jar is empty", async || {
        let cookies = chromium.cookies().await;
        cookies
            .iter()
            .all(|(name, _)| !name.contains("vestibule-"))
            .then_some(())
    })
    .await;
    assert_eq!(old.copy().get("/").await.status, 401);
    old.drop_cookie(ACCESS);
    assert_eq!(old.get("/").await.status, 401);
    chromium.open("/notes/page").await;
    assert!(
        chromium.place().await.starts_with("/.auth/login"),
        "signed out"
    );
}

#[tokio::test]
async fn a_network_cut_between_rotation_and_answer_signs_nobody_out() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).with_clock().run();
    let network = Chaos::before(gateway.addr).await;
    let chromium = Chromium::start(network.addr).await;
    signed_in_on(&chromium, "/page").await;
    let before = chromium.cookie(REFRESH).await.unwrap();

    gateway.outlive_access_token();
    network.swallow_answers();
    chromium.script("fire(30, '/data');").await;
    // The rotation is committed, and not a byte of any answer comes through.
    until("the rotation", async || {
        (rotations(&gateway).await >= 1.0).then_some(())
    })
    .await;
    until("an answer on its way", async || {
        (network.swallowed() > 0).then_some(())
    })
    .await;
    assert_eq!(
        chromium.cookie(REFRESH).await.unwrap(),
        before,
        "the new pair must not have arrived"
    );
    network.cut();
    // The browser may repeat some by itself; those that were lost are lost.
    chromium.until("return window.done;").await;

    // Whatever it does next works, and it holds a good pair.
    assert_eq!(thirty_fetches(&chromium).await, [200; 30]);
    assert_ne!(chromium.cookie(REFRESH).await.unwrap(), before);
    assert!(generation(&chromium).await >= 1);
    gateway.outlive_access_token();
    chromium.open("/page?after").await;
    assert_eq!(
        chromium.place().await,
        "/page?after",
        "nobody was signed out"
    );
    assert!(
        gateway.logged(&["replay"]).is_empty(),
        "nobody was taken for a thief"
    );
}

#[tokio::test]
async fn wrong_passwords_stay_on_the_page_and_say_so() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let chromium = Chromium::start(gateway.addr).await;
    chromium.open("/page?x=1").await;
    let page = chromium.text().await;
    chromium.sign_in("alice", "not the password").await;
    let after = chromium
        .until("return document.readyState === 'complete' && document.querySelector('[role=alert]') ? document.body.innerText : null;")
        .await;
    assert_ne!(after.as_str().unwrap(), page);
    assert!(chromium.cookie(ACCESS).await.is_none());
    assert!(app.seen().is_empty());
    // The way back survived the mistake.
    chromium
        .script("document.querySelector('input[name=username]').value = '';")
        .await;
    chromium.sign_in("alice", PASSWORD).await;
    chromium
        .until("return document.getElementById('ready') !== null;")
        .await;
    assert_eq!(chromium.place().await, "/page?x=1");
    if let Some(folder) = std::env::var_os("VESTIBULE_SCREENSHOTS") {
        chromium.open("/.auth/logout").await;
        chromium
            .screenshot(&std::path::Path::new(&folder).join("logout.png"))
            .await;
    }
}
