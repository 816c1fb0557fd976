//! Who somebody is here after signing in there, for how long, and how they leave.

use serde_json::{Value, json};
use url::Url;

use super::{LOGIN, is_anonymous, one, sign_out_by_a_person, with};
use crate::harness::{App, Ask, Gateway, Person, Provider, Rogue};

#[tokio::test]
async fn claims_that_are_only_in_userinfo_are_asked_for_and_must_be_about_the_same_person() {
    let provider = Provider::with()
        .set(json!({ "claimsInIdToken": false }))
        .start();
    let app = App::start().await;
    let lines = "scopes = [\"openid\", \"email\", \"profile\", \"groups\"]\nclaims = { user = \"preferred_username\", groups = \"realm_access.roles\" }";
    let gateway = Gateway::before(&app)
        .login(&provider.table("corp", lines))
        .run();
    let browser = gateway.anon().signed_in_by("corp", "alice").await;
    let me = browser.get("/.auth/me").await.json();
    assert_eq!(me["user"], "alice");
    assert_eq!(me["groups"], json!(["reader", "admins"]));
    assert_eq!(browser.get("/admin").await.status, 200);

    let rogue = Rogue::start().await;
    let gateway = Gateway::before(&app).login(&rogue.table("corp", "")).run();
    rogue.says("userinfo", |body| body["sub"] = json!("somebody-else"));
    let browser = gateway.anon();
    let back = Person::new()
        .visit(&browser.begin("corp", "/").await, "x")
        .await;
    let answer = browser.come_back(&back).await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert!(rogue.count("userinfo") == 1 && is_anonymous(&browser));
}

#[tokio::test]
async fn allow_lets_in_whom_it_names_and_an_unverified_address_is_none() {
    let provider = Provider::start();
    let app = App::start().await;
    let groups = "scopes = [\"openid\", \"email\", \"profile\", \"groups\"]\n";
    let gateway = |allow: &str| {
        let lines = format!("{groups}allow = {allow}");
        Gateway::before(&app)
            .login(&provider.table("corp", &lines))
            .run()
    };
    let check = async |gateway: &Gateway, login: &str, want: u16| {
        let browser = gateway.anon();
        let answer = browser.sign_in_by("corp", &Person::new(), login, "/").await;
        assert_eq!(answer.status, want, "{login}: {}", answer.text());
        if want == 403 {
            assert!(is_anonymous(&browser));
            let html = answer.text();
            assert!(
                html.contains("account=other"),
                "the same account would not help: {html}"
            );
        }
    };
    let by_domain = gateway("{ email_domains = [\"example.com\"] }");
    check(&by_domain, "alice", 303).await;
    check(&by_domain, "mallory", 403).await;
    by_domain
        .until_logged(&["audit", "sign_in_refused", "not_allowed"])
        .await;
    // Nobody verified that address, so no log has it.
    assert!(by_domain.logged(&["mallory@"]).is_empty());
    let by_group = gateway("{ groups = [\"staff\"] }");
    check(&by_group, "alice", 303).await;
    check(&by_group, "bob", 403).await;
    by_group
        .until_logged(&[
            "audit",
            "sign_in_refused",
            "not_allowed",
            "\"user\":\"bob\"",
        ])
        .await;
    // Who is in by a group: still no address that nobody verified, in no header.
    check(&by_group, "mallory", 303).await;
    let mallory = by_group.anon().signed_in_by("corp", "mallory").await;
    assert_eq!(mallory.get("/").await.status, 200);
    assert_eq!(app.last().one("x-forwarded-email"), None);
}

#[tokio::test]
async fn o12_signing_out_goes_on_to_the_provider_and_comes_back_by_its_state() {
    let provider = Provider::with()
        .client(json!({ "post_logout_redirect_uris": ["https://app.test/.auth/logout"] }))
        .start();
    let app = App::start().await;
    let gateway = Gateway::before(&app)
        .login(&provider.table("corp", "logout_return = \"/public/goodbye\""))
        .run();
    let browser = gateway.anon();
    let person = Person::new();
    assert_eq!(
        browser
            .sign_in_by("corp", &person, "alice", "/")
            .await
            .status,
        303
    );
    let stolen = browser.copy();
    let answer = browser.send(sign_out_by_a_person()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(stolen.get("/").await.status, 401, "over here already");
    let html = answer.text();
    let onward = html
        .split("content=\"0;url=")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .unwrap_or_else(|| panic!("goes on to the provider: {html}"))
        .replace("&#38;", "&");
    assert!(onward.starts_with(&provider.issuer), "{onward}");
    assert_eq!(
        one(&onward, "post_logout_redirect_uri"),
        "https://app.test/.auth/logout"
    );
    assert!(one(&onward, "id_token_hint").split('.').count() == 3);
    let back = person.visit(&onward, "alice").await;
    assert_eq!(one(&back, "state"), one(&onward, "state"));
    // Another state is an ordinary visit of the page, whatever it asks for.
    let other = browser
        .copy()
        .come_back(&with(&back, "state", "AAAAAAAAAAAAAAAAAAAAAA"))
        .await;
    assert_eq!(other.status, 200);
    let answer = browser.come_back(&back).await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, Some("/public/goodbye"))
    );
    assert!(browser.cookie(LOGIN).is_none(), "nothing is pending");
    assert_eq!(browser.come_back(&back).await.status, 200, "works once");
    // Signed out there too: the form is asked for again.
    let location = browser.begin("corp", "/").await;
    let page = person
        .send(&Url::parse(&location).unwrap(), Ask::get(""))
        .await;
    assert_eq!(page.status, 303);
    assert!(page.header("location").unwrap().contains("/interaction/"));
}

#[tokio::test]
async fn a_renewal_takes_over_what_the_provider_says_and_invalid_grant_ends_the_session() {
    let rogue = Rogue::start().await;
    let app = App::start().await;
    let lines = "provider_check = \"1s\"\nallow = { groups = [\"staff\", \"boss\"] }";
    let gateway = Gateway::before(&app)
        .session("access_ttl = \"2s\"\nredelivery_window = \"1s\"\nreplay_grace = \"1s\"")
        .login(&rogue.table("corp", lines))
        .run();
    let groups = |groups: Value| json!({ "sub": "p1", "email": "p@example.com", "email_verified": true, "name": "P", "preferred_username": "p", "groups": groups });
    rogue.person(groups(json!(["staff"])));
    let browser = gateway.anon();
    let back = Person::new()
        .visit(&browser.begin("corp", "/").await, "p1")
        .await;
    assert_eq!(browser.come_back(&back).await.status, 303, "signed in");
    rogue.person(groups(json!(["boss"])));
    crate::harness::wait::until("the new groups", async || {
        let me = browser.get("/.auth/me").await.json();
        (me["groups"] == json!(["boss"])).then_some(())
    })
    .await;
    assert!(
        rogue
            .asked()
            .iter()
            .any(|asked| asked.one("grant_type") == Some("refresh_token"))
    );
    // A refresh need not bring an ID token (OpenID Connect Core section 12.2), and silence takes nothing away.
    rogue.leaves_out("token", "id_token");
    rogue.says("userinfo", |body| {
        *body = json!({ "sub": "p1", "name": "New" })
    });
    crate::harness::wait::until("the new name", async || {
        let answer = browser.get("/.auth/me").await;
        assert_eq!(answer.status, 200, "still signed in");
        (answer.json()["name"] == "New").then_some(())
    })
    .await;
    let me = browser.get("/.auth/me").await.json();
    assert_eq!(
        (&me["groups"], &me["email"]),
        (&json!(["boss"]), &json!("p@example.com"))
    );
    rogue.repent();
    // No longer among those that are let in.
    rogue.person(groups(json!(["nobody"])));
    crate::harness::wait::until("the end", async || {
        (browser.get("/").await.status == 401).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_provider_that_gives_no_refresh_token_is_told_to_operators_once() {
    let app = App::start().await;
    let rogue = Rogue::start().await;
    for (scopes, told) in [("\"openid\", \"offline_access\"", 1), ("\"openid\"", 0)] {
        let table = rogue.table("corp", &format!("scopes = [{scopes}]"));
        let gateway = Gateway::before(&app).login(&table).run();
        let signed_in = async || {
            let alice = gateway.anon().signed_in_by("corp", "-").await;
            assert_eq!(alice.get("/.auth/me").await.status, 200);
        };
        rogue.repent();
        signed_in().await;
        let words = ["WARN", "corp", "no refresh token"];
        assert_eq!(gateway.logged(&words), [""; 0], "one came");
        rogue.leaves_out("token", "refresh_token");
        for _ in 0..2 {
            signed_in().await;
        }
        // Lines come in order, and these are behind all that could be told.
        crate::harness::wait::until("the last request's line", async || {
            (gateway.logged(&["/.auth/me"]).len() == 3).then_some(())
        })
        .await;
        assert_eq!(gateway.logged(&words).len(), told, "{scopes}");
    }
}
