//! Signing in by the certified provider, in each of the ways in which it and the gateway can be set up.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{by, nobody, page_of, parameter};
use crate::harness::browser::claims;
use crate::harness::maker::Alg;
use crate::harness::wait::until;
use crate::harness::{App, Ask, Browser, PASSWORD, Person, Provider, Rogue};

async fn seen_at(app: &App, browser: &Browser, path: &str) -> crate::harness::app::Seen {
    app.forget();
    let answer = browser.get(path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    app.only()
}

#[tokio::test]
async fn a_person_is_who_the_provider_says() {
    let (app, provider) = (App::start().await, Provider::start());
    let gateway = by(&app, &provider.table("corp", "")).run();
    // With one provider and nothing else there is no page in between.
    let alice = gateway.anon();
    let answer = alice.navigate("/staff/notes?x=1").await;
    assert_eq!(answer.status, 303);
    let login = answer.header("location").unwrap().to_owned();
    assert!(login.starts_with("/.auth/login"), "{login}");
    let answer = alice.navigate(&login).await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    let mut to = answer.header("location").unwrap().to_owned();
    if to.starts_with('/') {
        let answer = alice.navigate(&to).await;
        to = answer.header("location").unwrap().to_owned();
    }
    assert!(to.starts_with(&provider.issuer), "{to}");
    let answer = alice
        .come_back(&Person::new().visit(&to, "alice").await)
        .await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, Some("/staff/notes?x=1"))
    );
    let seen = seen_at(&app, &alice, "/staff").await;
    assert_eq!(seen.one("x-forwarded-user"), Some("alice"));
    assert_eq!(seen.one("x-forwarded-email"), Some("alice@example.com"));
    assert_eq!(seen.one("x-forwarded-preferred-username"), Some("alice"));
    assert_eq!(seen.one("x-forwarded-groups"), Some("staff,writers"));
    let me = alice.get("/.auth/me").await.json();
    assert_eq!(me["user"], "alice");
    assert_eq!(me["provider"], "corp");
    // The session is the gateway's own: small, and renewed without anybody's help.
    let access = claims(&alice.access().unwrap());
    assert_eq!(access["provider"], "corp");
    assert_eq!(
        access["auth_time"].as_i64().unwrap() / 100,
        gateway.now() / 100
    );
    alice.drop_cookie(crate::harness::ACCESS);
    assert_eq!(alice.get("/").await.status, 200);
    gateway
        .until_logged(&["audit", "sign_in", "alice", "corp"])
        .await;
    assert_eq!(provider.count("userinfo").await, 0, "nothing was missing");
}

#[tokio::test]
async fn each_way_to_authenticate_the_client_works() {
    let app = App::start().await;
    for method in [
        "client_secret_basic",
        "client_secret_post",
        "private_key_jwt",
        "none",
    ] {
        let provider = Provider::with().client_auth(method).start();
        let gateway = by(&app, &provider.table("corp", "")).run();
        gateway.anon().signed_in_by("corp", "alice").await;
        let calls = provider.calls().await;
        let token: Vec<_> = calls.iter().filter(|c| c.endpoint() == "token").collect();
        assert_eq!(token.len(), 1, "{method}");
        assert_eq!(token[0].auth(), method);
    }
}

#[tokio::test]
async fn an_authority_of_ones_own_is_believed_and_no_other() {
    let app = App::start().await;
    let provider = Provider::with()
        .https()
        .set(json!({ "path": "/realms/corp" }))
        .start();
    let table = provider.table("corp", "");
    let gateway = by(&app, &table).run();
    let alice = gateway.anon().signed_in_by("corp", "alice").await;
    assert_eq!(alice.get("/staff").await.status, 200);
    // Without it, or with somebody else's, nobody is believed.
    let without: String = table
        .lines()
        .filter(|line| !line.starts_with("ca_file"))
        .map(|line| format!("{line}\n"))
        .collect();
    let stranger = Provider::with().https().start();
    let other = table.replace(
        &provider.ca().display().to_string(),
        &stranger.ca().display().to_string(),
    );
    assert_ne!(other, table);
    for table in [without, other] {
        let gateway = by(&app, &table).run();
        let answer = gateway.anon().navigate("/.auth/login/corp?rd=/").await;
        assert!(matches!(answer.status, 502 | 503), "{}", answer.status);
        page_of(&answer, "unknown authority");
        gateway.until_logged(&["certificate"]).await;
    }
}

#[tokio::test]
async fn what_is_not_in_the_id_token_is_asked_for() {
    let app = App::start().await;
    let provider = Provider::with()
        .set(json!({ "claimsInIdToken": false, "issParameter": false }))
        .start();
    let gateway = by(&app, &provider.table("corp", "")).run();
    let alice = gateway.anon().signed_in_by("corp", "alice").await;
    let seen = seen_at(&app, &alice, "/staff").await;
    assert_eq!(seen.one("x-forwarded-user"), Some("alice"));
    assert_eq!(seen.one("x-forwarded-email"), Some("alice@example.com"));
    assert_eq!(seen.one("x-forwarded-groups"), Some("staff,writers"));
    assert_eq!(provider.count("userinfo").await, 1);
}

#[tokio::test]
async fn claims_are_found_where_the_file_says() {
    let app = App::start().await;
    let provider = Provider::with()
        .set(json!({ "accounts": { "carol": {
            "email": "carol@example.com", "email_verified": true, "nick": "caz",
            "realm_access": { "roles": ["admins", "staff"] }, "groups": ["nothing"],
        }}}))
        .start();
    let lines = "claims = { user = \"nick\", groups = \"realm_access.roles\" }";
    let gateway = by(&app, &provider.table("corp", lines)).run();
    let carol = gateway.anon().signed_in_by("corp", "carol").await;
    let seen = seen_at(&app, &carol, "/admin").await;
    assert_eq!(seen.one("x-forwarded-user"), Some("caz"));
    let groups = seen.one("x-forwarded-groups").unwrap();
    assert!(groups.contains("admins") && !groups.contains("nothing"));
    // Somebody who has no such claim has no name here.
    let browser = gateway.anon();
    let answer = browser
        .sign_in_by("corp", &Person::new(), "alice", "/")
        .await;
    nobody(&answer, "without a name");
    assert!((400..503).contains(&answer.status), "{}", answer.status);
    gateway.until_logged(&["corp", "nick"]).await;
}

#[tokio::test]
async fn only_who_is_allowed_gets_in() {
    let app = App::start().await;
    let provider = Provider::with()
        .set(json!({ "accounts": {
            "eve": { "email": "eve@example.com.evil.example", "email_verified": true },
            "fay": { "email": "fay@sub.example.com", "email_verified": true },
            "gus": { "email": "gus@EXAMPLE.com", "email_verified": true },
            "hal": { "email": "hal@example.com", "email_verified": "true" },
            "ida": { "email": "ida@example.com" },
            "jon": { "email": "x@evil.example@example.com", "email_verified": true },
            "kim": { "email": "@example.com", "email_verified": true },
        }}))
        .start();
    let try_all = async |lines: &str, welcome: &[&str], not: &[&str]| {
        let gateway = by(&app, &provider.table("corp", lines)).run();
        for (logins, good) in [(welcome, true), (not, false)] {
            for login in logins {
                let browser = gateway.anon();
                let answer = browser.sign_in_by("corp", &Person::new(), login, "/").await;
                if good {
                    assert_eq!(answer.status, 303, "{lines}: {login}: {}", answer.text());
                    continue;
                }
                nobody(&answer, login);
                assert_eq!(answer.status, 403, "{lines}: {login}");
                page_of(&answer, login);
                assert!(browser.access().is_none());
                let id = answer.header("x-request-id").unwrap().to_owned();
                gateway
                    .until_logged(&["audit", "corp", "not_allowed", &id])
                    .await;
            }
        }
    };
    try_all(
        "allow = { email_domains = [\"example.com\"] }",
        // "true" as a text is what some providers write.
        &["alice", "bob", "gus", "hal"],
        &["mallory", "eve", "fay", "ida", "jon", "kim"],
    )
    .await;
    try_all(
        "allow = { groups = [\"staff\"] }",
        &["alice", "mallory"],
        &["bob"],
    )
    .await;
    try_all(
        "allow = { users = [\"bob\"] }",
        &["bob"],
        &["alice", "mallory"],
    )
    .await;
    try_all(
        "allow = { emails = [\"alice@example.com\", \"mallory@example.com\"] }",
        &["alice"],
        &["mallory", "bob"],
    )
    .await;
}

#[tokio::test]
async fn a_person_who_cancels_is_told_and_can_start_over() {
    let (app, provider) = (App::start().await, Provider::start());
    let gateway = by(&app, &provider.table("corp", "")).run();
    let browser = gateway.anon();
    let person = Person::new();
    let location = browser.begin("corp", "/notes").await;
    let answer = browser.come_back(&person.cancel(&location).await).await;
    nobody(&answer, "cancelled");
    assert!((400..500).contains(&answer.status), "{}", answer.status);
    let page = page_of(&answer, "cancelled");
    assert!(page.contains("/.auth/login"), "{page}");
    assert_eq!(provider.count("token").await, 0);
    // The same in Korean, for whom that is.
    let location = browser.begin("corp", "/notes").await;
    let back = person.cancel(&location).await;
    let target = back.strip_prefix(crate::harness::ORIGIN).unwrap();
    let korean = Ask::get(target)
        .header("accept-language", "ko-KR,ko;q=0.9")
        .header("accept", "text/html")
        .header("sec-fetch-mode", "navigate");
    let korean = browser.send(korean).await.text();
    assert!(korean.contains("lang=\"ko\""), "{korean}");
    let answer = browser.sign_in_by("corp", &person, "alice", "/notes").await;
    assert_eq!(answer.header("location"), Some("/notes"));
}

#[tokio::test]
async fn several_ways_in_are_a_page_with_names() {
    let app = App::start().await;
    let (corp, other) = (Provider::start(), Rogue::start().await);
    let tables = format!(
        "[login.local]\n{}{}",
        corp.table("corp", "display_name = \"Corp <&> Sons\""),
        other.table("other", "")
    );
    let gateway = by(&app, &tables).run();
    let answer = gateway
        .anon()
        .navigate("/.auth/login?rd=/notes%3Fa=1")
        .await;
    assert_eq!(answer.status, 200);
    let page = page_of(&answer, "ways in");
    assert!(page.contains("name=\"password\""), "{page}");
    assert!(!page.contains("<&>"), "escaped");
    for name in ["corp", "other"] {
        assert!(page.contains(&format!("/.auth/login/{name}")), "{page}");
    }
    // Each works, beside the others.
    let browser = gateway.anon();
    assert_eq!(browser.sign_in("alice", PASSWORD, "/").await.status, 303);
    for (name, login) in [("corp", "bob"), ("other", "-")] {
        let browser = gateway.anon().signed_in_by(name, login).await;
        let me = browser.get("/.auth/me").await.json();
        assert_eq!(me["provider"], name);
    }
}

#[tokio::test]
async fn what_the_file_adds_to_the_request_arrives() {
    let app = App::start().await;
    let rogue = Rogue::start().await;
    let lines = "prompt = \"select_account\"\nscopes = [\"openid\", \"offline_access\"]\n\
                 extra = { acr_values = \"mfa\", domain_hint = \"a b&c=d\" }";
    let gateway = by(&app, &rogue.table("corp", lines)).run();
    let location = gateway.anon().begin("corp", "/").await;
    for (name, value) in [
        ("prompt", "select_account"),
        ("scope", "openid offline_access"),
        ("acr_values", "mfa"),
        ("domain_hint", "a b&c=d"),
        ("response_type", "code"),
        ("client_id", "vestibule"),
    ] {
        assert_eq!(parameter(&location, name), value, "{location}");
    }
    assert!(!location.contains("max_age"), "{location}");
}

#[tokio::test]
async fn a08_hostile_claims_are_refused_or_encoded_and_never_cut() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let gateway = by(&app, &rogue.table("corp", "")).run();
    let base = json!({ "sub": "alice", "email": "alice@example.com", "email_verified": true, "name": "Alice" });
    let hostile: Vec<(&str, Value)> = vec![
        ("sub", json!("a\r\nX-Role: admin")),
        ("sub", json!("a\nb")),
        ("sub", json!("a\u{0}b")),
        ("sub", json!("a\u{7f}b")),
        ("sub", json!("x".repeat(20_000))),
        ("sub", json!("é漢\u{202e}")),
        ("sub", json!("a,b;c=d%0d%0a")),
        ("sub", json!(" padded ")),
        ("name", json!("Al\u{0}ice")),
        ("name", json!("x".repeat(20_000))),
        ("email", json!("a@b\r\nx-forwarded-groups: admins")),
        ("email", json!("x".repeat(20_000))),
        (
            "preferred_username",
            json!("root\r\n\r\nGET /admin HTTP/1.1"),
        ),
        ("groups", json!(["staff\r\nx: y"])),
        ("groups", json!(["admins,staff"])),
        ("groups", json!(["staff", 7])),
        ("groups", json!({ "staff": true })),
        ("groups", json!(vec!["x".repeat(50); 2000])),
        ("groups", json!([["staff"]])),
        ("email_verified", json!("yes")),
    ];
    let (mut refused, mut served) = (0, 0);
    for (name, value) in hostile {
        let mut person = base.clone();
        person[name] = value.clone();
        rogue.person(person);
        let browser = gateway.anon();
        let answer = browser.sign_in_by("corp", &Person::new(), "-", "/").await;
        app.forget();
        let short: String = value.to_string().chars().take(60).collect();
        if answer.status != 303 {
            nobody(&answer, &short);
            assert!(
                matches!(answer.status, 400..=403 | 502),
                "{short}: {}",
                answer.status
            );
            page_of(&answer, &short);
            refused += 1;
            continue;
        }
        for (_, cookie) in browser.jar().0 {
            assert!(cookie.len() < 4096, "{short}");
        }
        assert_eq!(browser.get("/").await.status, 200, "{short}");
        let seen = app.only();
        served += 1;
        let head = String::from_utf8_lossy(&seen.head).into_owned();
        assert!(
            !head.contains("x-role") && !head.contains("X-Role: admin\r\n"),
            "{head}"
        );
        assert!(seen.head.iter().all(|b| *b != 0 && *b != 0x7f), "{short}");
        assert!(seen.all("x-forwarded-groups").len() < 2);
        // Whoever carries a comma in a group's name is in no other group by it.
        assert_eq!(browser.get("/admin").await.status, 403, "{short}");
        if name == "sub" {
            let user = seen.one("x-forwarded-user").unwrap();
            let back = percent_encoding::percent_decode_str(user)
                .decode_utf8()
                .unwrap();
            assert_eq!(back, value.as_str().unwrap(), "a value was changed or cut");
        }
        if name == "email_verified" {
            assert_eq!(seen.one("x-forwarded-user"), Some("alice"));
        }
    }
    assert!(
        refused >= 6 && served >= 2,
        "{refused} refused, {served} served"
    );
}

#[tokio::test]
async fn groups_that_no_route_asks_for_do_not_grow_the_cookie() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    // An app that is told nobody's groups.
    let gateway = by(&app, &rogue.table("corp", ""))
        .upstream("headers = { X-Who = \"user\" }")
        .run();
    let mut groups: Vec<String> = (0..500).map(|n| format!("department-{n}")).collect();
    groups.push("staff".to_owned());
    rogue.person(json!({ "sub": "alice", "groups": groups }));
    let alice = gateway.anon().signed_in_by("corp", "-").await;
    assert!(alice.access().unwrap().len() < 1500);
    assert_eq!(alice.get("/staff").await.status, 200);
    assert_eq!(app.last().one("x-who"), Some("alice"));
    // One that is told them all cannot be told so many: said at sign-in, not later.
    let gateway = by(&app, &rogue.table("corp", "")).run();
    let answer = gateway
        .anon()
        .sign_in_by("corp", &Person::new(), "-", "/")
        .await;
    nobody(&answer, "too many groups");
    assert!((400..503).contains(&answer.status), "{}", answer.status);
    page_of(&answer, "too many groups");
}

/// A provider's keys are fetched for an unknown one that it signed with when the last fetch began longer ago than this.
const KEYS_AGAIN: Duration = Duration::from_secs(3);

#[tokio::test]
async fn r14_new_keys_of_the_provider_under_load_refuse_nobody() {
    let (app, provider) = (App::start().await, Provider::start());
    let gateway = by(&app, &provider.table("corp", "")).run();
    let alice = gateway.anon().signed_in_by("corp", "alice").await;
    let (stop, signed_in) = (AtomicBool::new(false), AtomicUsize::new(0));
    let load = join_all((0..3).map(async |_| {
        while !stop.load(Ordering::SeqCst) {
            gateway.anon().signed_in_by("corp", "bob").await;
            assert_eq!(alice.get("/staff").await.status, 200);
            signed_in.fetch_add(1, Ordering::SeqCst);
        }
    }));
    let rotation = async {
        until("load under the old keys", async || {
            (signed_in.load(Ordering::SeqCst) > 3).then_some(())
        })
        .await;
        // Twice: the second time the gateway has just fetched them.
        for _ in 0..2 {
            provider.forget().await;
            provider.rotate_keys(true).await;
            let after = signed_in.load(Ordering::SeqCst);
            until("load under the new keys", async || {
                (signed_in.load(Ordering::SeqCst) > after + 10).then_some(())
            })
            .await;
            assert_eq!(provider.count("jwks").await, 1, "one fetch for everybody");
        }
        stop.store(true, Ordering::SeqCst);
    };
    tokio::join!(load, rotation);
}

#[tokio::test]
async fn r14_n04_a_key_that_was_taken_back_is_worth_nothing() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let gateway = by(&app, &rogue.table("corp", "")).run();
    rogue.signs_with(Alg::EdDsa);
    gateway.anon().signed_in_by("corp", "-").await;
    let left = rogue.maker.jwks(&[Alg::Rs256]);
    rogue.says("jwks", move |jwks| *jwks = left.clone());
    // Each from an address of its own: callbacks that sign nobody in are bounded by address.
    let tried = AtomicUsize::new(0);
    let somebody = async || {
        let number = tried.fetch_add(1, Ordering::SeqCst);
        let browser = gateway.anon().at(&format!("127.3.0.{}", number + 1));
        browser.sign_in_by("corp", &Person::new(), "-", "/").await
    };
    // The set is fetched again for a key that nobody knows, at most once in a while however many such tokens come.
    rogue.id_token(|token| token.header["kid"] = json!("nobody-knows"));
    rogue.forget();
    let started = Instant::now();
    for answer in join_all((0..12).map(async |_| somebody().await)).await {
        nobody(&answer, "an unknown key");
        assert_ne!(answer.status, 429, "{}", answer.text());
    }
    let most = usize::try_from(started.elapsed().as_secs() / KEYS_AGAIN.as_secs()).unwrap() + 1;
    let fetches = rogue.count("jwks");
    assert!(
        (1..=most).contains(&fetches),
        "{fetches} fetches, {most} at most"
    );
    rogue.id_token(|_| ());
    nobody(&somebody().await, "a key that was taken back");
    rogue.signs_with(Alg::Rs256);
    gateway.anon().signed_in_by("corp", "-").await;
}

#[tokio::test]
async fn p03_nothing_secret_of_a_provider_is_in_the_log() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let gateway = by(&app, &rogue.table("corp", ""))
        .environment("VESTIBULE_LOG", "trace")
        .run();
    let alice = gateway.anon();
    let location = alice.begin("corp", "/notes").await;
    let back = Person::new().visit(&location, "-").await;
    assert_eq!(alice.come_back(&back).await.status, 303);
    let asked = rogue.asked();
    let token = asked.iter().find(|a| a.endpoint == "token").unwrap();
    let mut secrets = vec![
        parameter(&back, "code"),
        parameter(&back, "state"),
        parameter(&location, "nonce"),
        token.one("code_verifier").unwrap().to_owned(),
        crate::harness::provider::CLIENT_SECRET.to_owned(),
        alice.access().unwrap(),
        alice.refresh().unwrap(),
    ];
    if let Some(basic) = token.headers.get("authorization") {
        secrets.push(basic.to_str().unwrap()[6..].to_owned());
    }
    // Trouble is more talkative than success.
    for status in [400, 500] {
        rogue.reply("token", move |reply| reply.status = status);
        let browser = gateway.anon();
        let location = browser.begin("corp", "/").await;
        let back = Person::new().visit(&location, "-").await;
        assert!(browser.come_back(&back).await.status >= 400);
        secrets.extend([parameter(&back, "code"), parameter(&back, "state")]);
    }
    rogue.repent();
    rogue.id_token(|token| token.claims["aud"] = json!("x"));
    gateway
        .anon()
        .sign_in_by("corp", &Person::new(), "-", "/")
        .await;
    alice.leave().await;
    gateway.until_logged(&["audit", "sign_in", "corp"]).await;
    let logs = gateway.logs();
    assert!(logs.len() > 10);
    for line in &logs {
        for secret in &secrets {
            assert!(!line.contains(secret.as_str()), "{secret} is in {line}");
        }
    }
    let (_, metrics) = gateway.admin("/metrics").await;
    assert!(!metrics.contains("alice"), "user data in labels");
}
