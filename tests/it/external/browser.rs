//! A real browser signs in at the app's own page, through the gateway, and notices no expiry.

use super::{ACCESS, REFRESH, Service, outlive};
use crate::harness::wait::until;
use crate::harness::webdriver::Chromium;

#[tokio::test]
async fn somebody_signs_in_at_the_apps_own_page_and_goes_on_over_an_expiry() {
    let service = Service::start().await;
    let gateway = service.gateway("").run();
    let chromium = Chromium::start(gateway.addr).await;
    chromium.open("/page?tab=2").await;
    assert_eq!(chromium.place().await, "/login?rd=/page%3Ftab%3D2");
    chromium.fill("input[name=username]", "alice").await;
    chromium.fill("input[name=password]", "wonderland").await;
    chromium.click("button").await;
    chromium
        .until("return document.getElementById('ready') !== null;")
        .await;
    assert_eq!(chromium.place().await, "/page?tab=2");
    let before = chromium.cookie(REFRESH).await.expect("a refresh cookie");

    for expiry in 1..=2 {
        outlive(&gateway, &service).await;
        service.forget().await;
        chromium.script("fire(30, '/data');").await;
        chromium.until("return window.done;").await;
        let statuses = chromium.script("return window.statuses;").await;
        let statuses = statuses.as_array().unwrap();
        assert_eq!(statuses.len(), 30);
        assert!(statuses.iter().all(|status| status == 200), "{statuses:?}");
        assert_eq!(service.refreshes().await, 1, "expiry {expiry}");
        let received = service.received("/data").await;
        assert!(
            received
                .iter()
                .all(|request| request["headers"]["x-forwarded-user"] == "alice")
        );
    }
    assert_ne!(chromium.cookie(REFRESH).await.unwrap(), before);
    assert_eq!(service.ended().await, (0, 0));
    // The next page after a third one.
    outlive(&gateway, &service).await;
    chromium.open("/page?again").await;
    assert_eq!(chromium.place().await, "/page?again");

    // The app's own sign-out ends it.
    chromium
        .script(
            "const form = document.createElement('form'); form.method = 'post'; form.action = '/logout';
             document.body.append(form); form.submit();",
        )
        .await;
    until("the jar is empty", async || {
        let cookies = chromium.cookies().await;
        cookies
            .iter()
            .all(|(name, _)| name != ACCESS && name != REFRESH)
            .then_some(())
    })
    .await;
    chromium.open("/page?after").await;
    assert_eq!(chromium.place().await, "/login?rd=/page%3Fafter");
}
