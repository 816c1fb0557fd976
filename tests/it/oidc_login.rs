//! Signing in by an OpenID provider: the way there and back, what may go wrong on it, and who is let in. Against the real
//! provider where that can be made to do it, and against one that lies where it cannot.

use serde_json::{Value, json};
use url::Url;

use crate::harness::client::Answer;
use crate::harness::{ACCESS, App, Ask, Browser, Gateway, Person, Provider, REFRESH, Rogue};

const LOGIN: &str = "__Host-vestibule-login";

/// The query of a URL, each parameter once.
fn query(url: &str) -> Vec<(String, String)> {
    let url = Url::parse(url).unwrap();
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    for (name, _) in &pairs {
        assert_eq!(pairs.iter().filter(|(n, _)| n == name).count(), 1, "{name}");
    }
    pairs
}

fn one(url: &str, name: &str) -> String {
    let pairs = query(url);
    let found = pairs.iter().find(|(n, _)| n == name);
    found
        .unwrap_or_else(|| panic!("no {name} in {url}"))
        .1
        .clone()
}

/// The same callback with one parameter changed.
fn with(url: &str, name: &str, value: &str) -> String {
    let mut changed = Url::parse(url).unwrap();
    let pairs = query(url);
    changed.query_pairs_mut().clear().extend_pairs(
        pairs
            .iter()
            .map(|(n, v)| (n.as_str(), if n == name { value } else { v.as_str() })),
    );
    changed.into()
}

/// The button of the sign-out page.
fn sign_out_by_a_person() -> Ask {
    Ask::post("/.auth/logout", "")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("sec-fetch-mode", "navigate")
        .header("sec-fetch-dest", "document")
        .header("sec-fetch-site", "same-origin")
        .header("accept", "text/html")
}

fn sets_session(answer: &Answer) -> bool {
    let lines = answer.all("set-cookie");
    lines
        .iter()
        .any(|line| line.starts_with(ACCESS) || line.starts_with(REFRESH))
}

fn is_anonymous(browser: &Browser) -> bool {
    browser.cookie(ACCESS).is_none() && browser.cookie(REFRESH).is_none()
}

#[tokio::test]
async fn one_provider_and_nothing_else_leads_straight_to_it_and_back() {
    let provider = Provider::start();
    let app = App::start().await;
    let gateway = Gateway::before(&app)
        .login(&provider.table("corp", ""))
        .run();
    let browser = gateway.anon();
    let answer = browser.navigate("/some/report?a=b&c").await;
    assert_eq!(answer.status, 303);
    let to_login = answer.header("location").unwrap().to_owned();
    assert!(to_login.starts_with("/.auth/login?rd="), "{to_login}");
    let answer = browser.navigate(&to_login).await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    let location = answer.header("location").unwrap().to_owned();
    assert!(location.starts_with(&provider.issuer), "{location}");
    assert_eq!(
        one(&location, "redirect_uri"),
        "https://app.test/.auth/callback/corp"
    );
    assert_eq!(one(&location, "code_challenge_method"), "S256");
    assert_eq!(one(&location, "response_type"), "code");
    let cookies = answer.all("set-cookie");
    assert_eq!(cookies.len(), 1, "{cookies:?}");
    assert!(cookies[0].starts_with(&format!("{LOGIN}=")), "{cookies:?}");
    for attribute in ["; Secure", "; HttpOnly", "; Path=/", "; SameSite=Lax"] {
        assert!(cookies[0].contains(attribute), "{cookies:?}");
    }
    let back = Person::new().visit(&location, "alice").await;
    let answer = browser.come_back(&back).await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    assert_eq!(answer.header("location"), Some("/some/report?a=b&c"));
    assert!(browser.cookie(LOGIN).is_none(), "nothing is pending");
    assert_eq!(browser.get("/some/report?a=b&c").await.status, 200);
    let seen = app.last();
    assert!(seen.one("x-forwarded-user").is_some());
    assert_eq!(seen.one("x-forwarded-email"), Some("alice@example.com"));
    let me = browser.get("/.auth/me").await.json();
    assert_eq!(me["provider"], "corp");
    assert_eq!(me["user"], "alice");
    gateway
        .until_logged(&["audit", "\"sign_in\"", "\"provider\":\"corp\""])
        .await;
}

#[tokio::test]
async fn several_ways_are_buttons_and_none_confuses_another() {
    let (one_op, two_op) = (
        Provider::with().known_as(&["one"]).start(),
        Provider::with().known_as(&["two"]).start(),
    );
    let app = App::start().await;
    let tables = format!(
        "[login.local]\n{}{}",
        one_op.table("one", "display_name = \"One & Co\""),
        two_op.table("two", "")
    );
    let gateway = Gateway::before(&app).login(&tables).run();
    let page = gateway.anon().navigate("/.auth/login?rd=/x%3Fy").await;
    assert_eq!(page.status, 200);
    let html = page.text();
    assert!(
        html.contains("href=\"/.auth/login/one?rd=/x%3Fy\""),
        "{html}"
    );
    assert!(html.contains("Continue with One &#38; Co") && html.contains("Continue with two"));
    assert!(html.contains("name=\"password\""));
    assert!(!html.contains("<script"));

    // Mix-up (RFC 9700 section 4.4): what one says cannot be taken to the other's callback.
    let browser = gateway.anon();
    let location = browser.begin("one", "/").await;
    let back = Person::new().visit(&location, "alice").await;
    let moved = back.replace("/callback/one", "/callback/two");
    let answer = browser.come_back(&moved).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(is_anonymous(&browser));
    assert_eq!(two_op.count("token").await, 0);

    // The same name at two providers is two people: neither ends, nor sees, the other's sessions.
    let here = gateway.anon().signed_in_by("one", "alice").await;
    let there = gateway.anon().signed_in_by("two", "alice").await;
    let local = gateway.signed_in("alice").await;
    for browser in [&here, &there, &local] {
        let listed = browser.get("/.auth/sessions").await.json();
        assert_eq!(listed["sessions"].as_array().unwrap().len(), 1, "{listed}");
    }
    let answer = here
        .send(
            Ask::post("/.auth/sessions/end-others", "")
                .header("content-type", "application/x-www-form-urlencoded")
                .header("sec-fetch-site", "same-origin"),
        )
        .await;
    assert!(answer.status < 400, "{}", answer.text());
    for browser in [&here, &there, &local] {
        assert_eq!(browser.get("/").await.status, 200);
    }
    let ended = gateway.command(&["session", "revoke", "--user", "alice", "--provider", "one"]);
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(here.get("/").await.status, 401);
    assert_eq!(there.get("/").await.status, 200);
    assert_eq!(local.get("/").await.status, 200);
}

#[tokio::test]
async fn e01_e02_e03_e04_a_state_is_ours_used_once_and_of_this_browser() {
    let provider = Provider::start();
    let app = App::start().await;
    let gateway = Gateway::before(&app)
        .login(&provider.table("corp", ""))
        .run();
    let person = Person::new();
    let browser = gateway.anon();
    let back = person
        .visit(&browser.begin("corp", "/place").await, "alice")
        .await;

    // E01: none. E02: another one, or one that was changed.
    let state = one(&back, "state");
    let cut = &state[..state.len() - 1];
    for bad in ["", "AAAAAAAAAAAAAAAAAAAAAA", cut, &format!("{state}A")] {
        let answer = browser.copy().come_back(&with(&back, "state", bad)).await;
        assert_eq!(answer.status, 400, "{bad}");
        assert!(answer.text().contains("Start over"));
        assert!(!sets_session(&answer));
    }
    // E04: in another browser.
    let victim = gateway.anon();
    let answer = victim.come_back(&back).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(is_anonymous(&victim));
    assert_eq!(provider.count("token").await, 0, "nobody was asked so far");
    assert!(
        answer.text().contains("/.auth/login/corp?rd=/place"),
        "begins anew"
    );

    let before = browser.copy();
    assert_eq!(browser.come_back(&back).await.status, 303);
    // E03: again, with the jar of now and with that of before.
    for again in [&browser, &before] {
        let answer = again.come_back(&back).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(!sets_session(&answer));
    }
    assert_eq!(provider.count("token").await, 1);
    gateway
        .until_logged(&[
            "audit",
            "sign_in_refused",
            "not_this_browser",
            "\"provider\":\"corp\"",
        ])
        .await;
}

#[tokio::test]
async fn e05_a_code_of_another_sign_in_fails_on_pkce() {
    let provider = Provider::start();
    let app = App::start().await;
    let gateway = Gateway::before(&app)
        .login(&provider.table("corp", ""))
        .run();
    let (attacker, victim) = (gateway.anon(), gateway.anon());
    let theirs = Person::new()
        .visit(&attacker.begin("corp", "/").await, "mallory")
        .await;
    let own = Person::new()
        .visit(&victim.begin("corp", "/").await, "alice")
        .await;
    let answer = victim
        .come_back(&with(&own, "code", &one(&theirs, "code")))
        .await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(is_anonymous(&victim));
    gateway
        .until_logged(&["code_refused", "invalid_grant"])
        .await;
}

#[tokio::test]
async fn e06_another_issuer_is_refused_before_anybody_is_asked() {
    let provider = Provider::start();
    let app = App::start().await;
    let gateway = Gateway::before(&app)
        .login(&provider.table("corp", ""))
        .run();
    for change in [
        |back: &str| with(back, "iss", "https://evil"),
        |back: &str| back.replace("&iss=", "&ssi=").replace("?iss=", "?ssi="),
    ] {
        let browser = gateway.anon();
        let back = Person::new()
            .visit(&browser.begin("corp", "/").await, "alice")
            .await;
        let answer = browser.come_back(&change(&back)).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(is_anonymous(&browser));
    }
    assert_eq!(provider.count("token").await, 0);
    gateway.until_logged(&["wrong_issuer"]).await;
}

#[tokio::test]
async fn a_provider_of_before_rfc_9207_works_too() {
    let provider = Provider::with()
        .set(json!({ "issParameter": false }))
        .start();
    let app = App::start().await;
    let gateway = Gateway::before(&app)
        .login(&provider.table("corp", ""))
        .run();
    let browser = gateway.anon().signed_in_by("corp", "alice").await;
    assert_eq!(browser.get("/").await.status, 200);
}

#[tokio::test]
async fn e08_a_planted_session_does_not_survive_the_sign_in() {
    let provider = Provider::start();
    let app = App::start().await;
    let tables = format!("[login.local]\n{}", provider.table("corp", ""));
    let gateway = Gateway::before(&app).login(&tables).run();
    let attacker = gateway.signed_in("bob").await;
    let victim = gateway.anon();
    let location = victim.begin("corp", "/").await;
    victim.put_cookie(ACCESS, &attacker.access().unwrap());
    victim.put_cookie(REFRESH, &attacker.refresh().unwrap());
    let answer = victim
        .come_back(&Person::new().visit(&location, "alice").await)
        .await;
    assert_eq!(answer.status, 303);
    assert_ne!(victim.session(), attacker.session());
    assert_eq!(
        attacker.get("/").await.status,
        401,
        "the planted one is over"
    );
    assert_eq!(victim.get("/").await.status, 200);
}

#[tokio::test]
async fn e09_tabs_that_sign_in_at_once_all_succeed_and_the_cookie_stays_small() {
    let provider = Provider::start();
    let app = App::start().await;
    let gateway = Gateway::before(&app)
        .login(&provider.table("corp", ""))
        .run();
    let browser = gateway.anon();
    let person = Person::new();
    let mut locations = Vec::new();
    for tab in 0..3 {
        locations.push(browser.begin("corp", &format!("/tab/{tab}")).await);
    }
    let mut backs = Vec::new();
    for location in &locations {
        backs.push(person.visit(location, "alice").await);
    }
    for (tab, back) in backs.iter().enumerate().rev() {
        let answer = browser.come_back(back).await;
        assert_eq!(answer.status, 303, "tab {tab}: {}", answer.text());
        assert_eq!(answer.header("location"), Some(&*format!("/tab/{tab}")));
    }
    // However many are begun, one cookie of a bounded size.
    let crowd = gateway.anon();
    let long = format!("/{}", "x".repeat(1500));
    for _ in 0..30 {
        crowd.begin("corp", &long).await;
        let cookie = crowd.cookie(LOGIN).unwrap();
        assert!(LOGIN.len() + 1 + cookie.len() <= 4096, "{}", cookie.len());
    }
    let last = crowd.begin("corp", &long).await;
    let answer = crowd.come_back(&person.visit(&last, "alice").await).await;
    assert_eq!(answer.header("location"), Some(&*long));
}

#[tokio::test]
async fn tabs_that_overwrite_each_others_cookie_begin_anew_by_themselves() {
    let provider = Provider::start();
    let app = App::start().await;
    let gateway = Gateway::before(&app)
        .login(&provider.table("corp", ""))
        .run();
    // Two tabs of a browser without any cookie: whichever answer comes last is what the jar holds.
    let browser = gateway.anon();
    let person = Person::new();
    let first = browser.copy().begin("corp", "/first").await;
    let second = browser.begin("corp", "/second").await;
    let lost = browser
        .come_back(&person.visit(&first, "alice").await)
        .await;
    assert_eq!(lost.status, 400);
    let html = lost.text();
    let next = html
        .split("content=\"0;url=")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .unwrap_or_else(|| panic!("goes on by itself: {html}"))
        .replace("&#38;", "&");
    assert_eq!(next, "/.auth/login/corp?rd=/first&again=1");
    let again = browser.navigate(&next).await;
    let back = person
        .visit(again.header("location").unwrap(), "alice")
        .await;
    let answer = browser.come_back(&back).await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, Some("/first"))
    );
    let answer = browser
        .come_back(&person.visit(&second, "alice").await)
        .await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, Some("/second"))
    );

    // A browser that keeps no cookies at all is not sent round for ever.
    let mut turns = 0;
    let mut target = "/.auth/login/corp".to_owned();
    loop {
        let begun = gateway.anon().navigate(&target).await;
        let back = person
            .visit(begun.header("location").unwrap(), "alice")
            .await;
        let html = gateway.anon().come_back(&back).await.text();
        let Some(next) = html.split("content=\"0;url=").nth(1) else {
            break;
        };
        target = next.split('"').next().unwrap().replace("&#38;", "&");
        turns += 1;
        assert!(turns < 5, "for ever: {target}");
    }
    assert_eq!(turns, 2);
}

#[tokio::test]
async fn e10_e11_parameters_twice_and_markup_are_refused_and_never_echoed() {
    let provider = Provider::start();
    let app = App::start().await;
    let gateway = Gateway::before(&app)
        .login(&provider.table("corp", ""))
        .run();
    let browser = gateway.anon();
    let back = Person::new()
        .visit(&browser.begin("corp", "/").await, "alice")
        .await;
    let state = one(&back, "state");
    for query in [
        format!("{back}&state={state}"),
        format!("{back}&code=x"),
        format!("{back}&%63ode=x"),
    ] {
        let answer = browser.copy().come_back(&query).await;
        assert_eq!(answer.status, 400, "{query}");
        assert!(!sets_session(&answer));
    }
    let callback = "https://app.test/.auth/callback/corp";
    for query in [
        "error=%3Cscript%3Ealert(1)%3C/script%3E",
        "error=x&error_description=%3Cscript%3Ealert(1)%3C/script%3E&state=x",
        "code=%3Cscript%3E&state=%3Cscript%3E",
    ] {
        let answer = gateway
            .anon()
            .come_back(&format!("{callback}?{query}"))
            .await;
        assert_eq!(answer.status, 400);
        let html = answer.text();
        assert!(!html.contains("script"), "{html}");
        assert!(
            answer
                .header("content-security-policy")
                .unwrap()
                .contains("default-src 'none'")
        );
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    // With a state of ours the provider's words are shown, escaped.
    let state = format!("state={state}");
    let declined = format!(
        "{callback}?{state}&iss={}&error=%3Cb%3E&error_description=%3Cscript%3E",
        url::form_urlencoded::byte_serialize(provider.issuer.as_bytes()).collect::<String>()
    );
    let answer = browser.come_back(&declined).await;
    assert_eq!(answer.status, 403, "{}", answer.text());
    let html = answer.text();
    assert!(
        html.contains("&#60;script&#62; (&#60;b&#62;)") && !html.contains("<script"),
        "{html}"
    );
}

#[tokio::test]
async fn who_cancels_is_told_so_and_can_start_over() {
    let provider = Provider::start();
    let app = App::start().await;
    let gateway = Gateway::before(&app)
        .login(&provider.table("corp", "display_name = \"Corp\""))
        .run();
    let browser = gateway.anon();
    let back = Person::new()
        .cancel(&browser.begin("corp", "/place").await)
        .await;
    let answer = browser.come_back(&back).await;
    assert_eq!(answer.status, 403);
    let html = answer.text();
    assert!(html.contains("Corp did not sign you in"), "{html}");
    assert!(
        html.contains("href=\"/.auth/login/corp?rd=/place\""),
        "{html}"
    );
    let id = answer.header("x-request-id").unwrap();
    assert!(html.contains(id), "the request id to tell an operator");
    gateway
        .until_logged(&[id, "access_denied", "nobody was signed in"])
        .await;
    let korean = browser.begin("corp", "/").await;
    let back = Person::new().cancel(&korean).await;
    let target = back.strip_prefix("https://app.test").unwrap();
    let page = browser
        .send(
            Ask::get(target)
                .header("accept", "text/html")
                .header("accept-language", "ko"),
        )
        .await;
    assert!(page.text().contains("<html lang=\"ko\">"));
}

#[tokio::test]
async fn e12_e07_wrong_answers_sign_nobody_in_and_leak_nothing() {
    use crate::harness::maker::Alg;
    use crate::harness::rogue::{IdToken, Reply, Signed};
    use std::time::Duration;

    let rogue = Rogue::start().await;
    let app = App::start().await;
    let gateway = Gateway::before(&app).login(&rogue.table("corp", "")).run();
    rogue.person(json!({ "sub": "p1", "email": "p@example.com", "email_verified": true }));
    let attempt = async || {
        let browser = gateway.anon();
        let back = Person::new()
            .visit(&browser.begin("corp", "/").await, "p1")
            .await;
        let answer = browser.come_back(&back).await;
        assert!(answer.status == 303 || is_anonymous(&browser));
        answer
    };
    assert_eq!(attempt().await.status, 303, "honest, it works");

    // E07, the names of the OpenID Foundation's modules for relying parties.
    let claim = |name: &'static str, value: Value| {
        move |token: &mut IdToken| match &value {
            Value::Null => {
                token.claims.as_object_mut().unwrap().remove(name);
            }
            value => token.claims[name] = value.clone(),
        }
    };
    type Twist = Box<dyn Fn(&mut IdToken) + Send + Sync>;
    let now = rogue.now();
    let twists: Vec<(&str, Twist)> = vec![
        ("nonce missing", Box::new(claim("nonce", Value::Null))),
        ("nonce wrong", Box::new(claim("nonce", json!("wrong")))),
        ("aud wrong", Box::new(claim("aud", json!("other")))),
        ("aud missing", Box::new(claim("aud", Value::Null))),
        (
            "aud several without azp",
            Box::new(claim("aud", json!(["vestibule", "other"]))),
        ),
        ("azp wrong", Box::new(claim("azp", json!("other")))),
        ("iss wrong", Box::new(claim("iss", json!("https://evil")))),
        ("iss missing", Box::new(claim("iss", Value::Null))),
        ("sub missing", Box::new(claim("sub", Value::Null))),
        ("sub empty", Box::new(claim("sub", json!("")))),
        ("iat missing", Box::new(claim("iat", Value::Null))),
        (
            "iat in the future",
            Box::new(claim("iat", json!(now + 3600))),
        ),
        ("exp missing", Box::new(claim("exp", Value::Null))),
        ("exp over", Box::new(claim("exp", json!(now - 120)))),
        (
            "at_hash wrong",
            Box::new(claim("at_hash", json!("77QmUPtjPfzWtF2AnpK9RQ"))),
        ),
        ("alg none", Box::new(|token| token.signed = Signed::Not)),
        (
            "impostor's key",
            Box::new(|token| token.signed = Signed::ByImpostor(Alg::Rs256)),
        ),
        (
            "HS256 under the client secret",
            Box::new(|token| {
                token.signed = Signed::BySecret(crate::harness::provider::CLIENT_SECRET.into());
            }),
        ),
        (
            "no token",
            Box::new(|token| token.signed = Signed::Instead("x.y".to_owned())),
        ),
        (
            "A08 line breaks",
            Box::new(claim("sub", json!("a\r\nX-Role: admin"))),
        ),
    ];
    let mut refused = 0;
    for (what, twist) in twists {
        rogue.repent();
        rogue.id_token(twist);
        let answer = attempt().await;
        assert_eq!(answer.status, 502, "{what}: {}", answer.text());
        refused += 1;
    }
    assert!(refused >= 20);

    // E12
    type Change = Box<dyn Fn(&mut Reply) + Send + Sync>;
    let elsewhere = format!("{}/elsewhere", rogue.issuer);
    let (to_one, to_two) = (elsewhere.clone(), elsewhere);
    let replies: Vec<(&str, u16, Change)> = vec![
        (
            "302",
            502,
            Box::new(move |reply| reply.redirect(302, &to_one)),
        ),
        (
            "307",
            502,
            Box::new(move |reply| reply.redirect(307, &to_two)),
        ),
        (
            "5 MB",
            503,
            Box::new(|reply| reply.body = vec![b' '; 5 << 20].into()),
        ),
        (
            "html",
            502,
            Box::new(|reply| reply.header("content-type", "text/html")),
        ),
        ("500", 503, Box::new(|reply| reply.status = 500)),
        ("429", 503, Box::new(|reply| reply.status = 429)),
        (
            "no id_token",
            502,
            Box::new(|reply| {
                reply.change(|body| {
                    body.as_object_mut().unwrap().remove("id_token");
                });
            }),
        ),
        (
            "never",
            503,
            Box::new(|reply| reply.delay = Duration::from_secs(60)),
        ),
    ];
    for (what, status, change) in replies {
        rogue.repent();
        rogue.forget();
        rogue.reply("token", change);
        let started = std::time::Instant::now();
        let answer = attempt().await;
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        assert!(started.elapsed() < Duration::from_secs(20), "{what}");
        assert_eq!(rogue.count("token"), 1, "{what}: a code is redeemed once");
        assert_eq!(rogue.count("/elsewhere"), 0, "{what}");
        assert_eq!(
            answer.header("retry-after").is_some(),
            status == 503,
            "{what}"
        );
    }
    // A refusal that repeats what was sent.
    rogue.repent();
    let repeated = "a-code-that-was-sent";
    rogue.reply("token", move |reply| {
        reply.status = 400;
        reply.body = json!({ "error": "invalid_grant", "error_description": repeated })
            .to_string()
            .into();
    });
    assert_eq!(attempt().await.status, 400);
    gateway
        .until_logged(&["nobody was signed in", "invalid_grant"])
        .await;
    // P03: nothing of all that is in the log.
    let secrets: Vec<String> = rogue
        .asked()
        .iter()
        .flat_map(|asked| asked.parameters.clone())
        .filter(|(name, _)| matches!(name.as_str(), "code" | "code_verifier" | "state" | "nonce"))
        .map(|(_, value)| value)
        .collect();
    assert!(!secrets.is_empty());
    for line in gateway.logs() {
        assert!(!line.contains(repeated), "{line}");
        assert!(
            !secrets.iter().any(|secret| line.contains(secret)),
            "{line}"
        );
        assert!(
            !line.contains(crate::harness::provider::CLIENT_SECRET),
            "{line}"
        );
    }
    rogue.repent();
    assert_eq!(attempt().await.status, 303, "honest again, it works");
}

#[tokio::test]
async fn n03_codes_that_are_guessed_are_bounded_by_address() {
    let rogue = Rogue::start().await;
    let app = App::start().await;
    let gateway = Gateway::before(&app).login(&rogue.table("corp", "")).run();
    let audited = || gateway.logged(&["sign_in_refused", "code_refused"]).len();
    let mut tried = 0;
    let (browser, answer) = loop {
        let browser = gateway.anon();
        let location = browser.begin("corp", "/").await;
        let junk = with(&Person::new().visit(&location, "p1").await, "code", "junk");
        let answer = browser.come_back(&junk).await;
        if answer.status != 400 {
            break (browser, answer);
        }
        tried += 1;
        assert!(tried < 200, "never throttled");
    };
    assert_eq!(answer.status, 429, "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    assert!(
        browser.cookie(LOGIN).is_some(),
        "the sign-in is still pending"
    );
    assert_eq!(rogue.count("token"), tried, "the provider was not asked");
    // Of a number alone some request id or duration may have the digits too.
    let throttled = ["/.auth/callback/corp", "\"status\":429"];
    gateway.until_logged(&throttled).await;
    assert_eq!(audited(), tried);
}

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
    let by_group = gateway("{ groups = [\"staff\"] }");
    check(&by_group, "alice", 303).await;
    check(&by_group, "bob", 403).await;
    // Who is in by a group: still no address that nobody verified, in no header.
    check(&by_group, "mallory", 303).await;
    let mallory = by_group.anon().signed_in_by("corp", "mallory").await;
    assert_eq!(mallory.get("/").await.status, 200);
    assert_eq!(app.last().one("x-forwarded-email"), None);
}

#[tokio::test]
async fn every_client_authentication_works() {
    let app = App::start().await;
    for method in [
        "client_secret_basic",
        "client_secret_post",
        "private_key_jwt",
        "none",
    ] {
        let provider = Provider::with().client_auth(method).start();
        let gateway = Gateway::before(&app)
            .login(&provider.table("corp", ""))
            .run();
        gateway.anon().signed_in_by("corp", "alice").await;
        let calls = provider.calls().await;
        let auth: Vec<&str> = calls
            .iter()
            .filter(|call| call.endpoint() == "token")
            .map(|call| call.auth())
            .collect();
        assert_eq!(auth, [method]);
    }
}

#[tokio::test]
async fn a_provider_that_is_away_is_a_page_with_retry_after_and_harms_no_session() {
    let provider = Provider::start();
    let app = App::start().await;
    let tables = format!("[login.local]\n{}", provider.table("corp", ""));
    let gateway = Gateway::before(&app).login(&tables).run();
    let alice = gateway.anon().signed_in_by("corp", "alice").await;
    let begun = gateway.anon();
    let back = Person::new()
        .visit(&begun.begin("corp", "/").await, "bob")
        .await;
    provider.goes_away().await;
    let answer = begun.come_back(&back).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    assert_eq!(alice.get("/").await.status, 200);

    // One that was never there.
    let away = provider
        .table("corp", "")
        .replace(&provider.issuer, "http://127.0.0.1:9");
    let gateway = Gateway::before(&app).login(&away).run();
    let answer = gateway.anon().navigate("/.auth/login").await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    assert_eq!(gateway.anon().get("/public").await.status, 200);
}

#[tokio::test]
async fn with_strict_cookies_the_way_back_is_a_page_of_our_own() {
    let provider = Provider::start();
    let app = App::start().await;
    let gateway = Gateway::before(&app)
        .session("same_site = \"strict\"")
        .login(&provider.table("corp", ""))
        .run();
    let browser = gateway.anon();
    let location = browser.begin("corp", "/place?a=b").await;
    let answer = browser
        .come_back(&Person::new().visit(&location, "alice").await)
        .await;
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .text()
            .contains("http-equiv=\"refresh\" content=\"0;url=/place?a=b\"")
    );
    for line in answer.all("set-cookie") {
        let strict = line.contains("SameSite=Strict");
        assert_eq!(strict, !line.starts_with(LOGIN), "{line}");
    }
}

#[tokio::test]
async fn only_a_navigation_begins_a_sign_in() {
    let provider = Provider::start();
    let app = App::start().await;
    let gateway = Gateway::before(&app)
        .login(&provider.table("corp", ""))
        .run();
    for (mode, dest) in [("no-cors", "image"), ("cors", "empty")] {
        let answer = gateway
            .anon()
            .send(
                Ask::get("/.auth/login/corp")
                    .header("sec-fetch-mode", mode)
                    .header("sec-fetch-dest", dest)
                    .header("sec-fetch-site", "cross-site"),
            )
            .await;
        assert_eq!(answer.status, 400, "{mode}");
        assert!(!answer.sets_cookies());
    }
    assert_eq!(
        gateway.anon().navigate("/.auth/login/nobody").await.status,
        404
    );
    assert_eq!(
        gateway
            .anon()
            .navigate("/.auth/callback/nobody")
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn d01_no_rd_leads_elsewhere_after_a_sign_in() {
    let provider = Provider::start();
    let app = App::start().await;
    let gateway = Gateway::before(&app)
        .login(&provider.table("corp", ""))
        .run();
    let person = Person::new();
    for rd in [
        "//evil",
        "/\\evil",
        "https://evil",
        "/%09/evil",
        "javascript:alert(1)",
        "/.auth/logout",
    ] {
        let browser = gateway.anon();
        let location = browser.begin("corp", rd).await;
        let answer = browser
            .come_back(&person.visit(&location, "alice").await)
            .await;
        assert_eq!(
            (answer.status, answer.header("location")),
            (303, Some("/")),
            "{rd}"
        );
    }
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
    rogue.says("token", |body| {
        body.as_object_mut().unwrap().remove("id_token");
    });
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
