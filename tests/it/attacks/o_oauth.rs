//! O: the duties of an OAuth and OpenID Connect client (RFC 9700 and others), each seen from outside.

use std::collections::HashSet;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};
use url::Url;

use crate::harness::forge::{b64, unb64};
use crate::harness::{
    ACCESS, App, Ask, Browser, Gateway, ORIGIN, PASSWORD, Person, Provider, REFRESH, Rogue,
};
use crate::oidc::{LOGIN, by, nobody, page_of, parameter, with_parameter};

#[tokio::test]
async fn o01_state_and_nonce_are_new_each_time_and_bound_to_the_browser() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let gateway = by(&app, &rogue.table("corp", "")).run();
    let (mut states, mut nonces) = (HashSet::new(), HashSet::new());
    let browser = gateway.anon();
    for _ in 0..20 {
        let location = browser.begin("corp", "/").await;
        let (state, nonce) = (parameter(&location, "state"), parameter(&location, "nonce"));
        assert!(state.len() >= 22 && nonce.len() >= 22, "128 bits at least");
        assert!(states.insert(state) && nonces.insert(nonce));
    }
    // The browser's cookie is what binds it, and what the browser holds tells nothing.
    let cookie = browser.cookie(LOGIN).unwrap();
    for secret in states.iter().chain(&nonces) {
        assert!(!cookie.contains(secret.as_str()));
        let decoded =
            String::from_utf8_lossy(&unb64(cookie.rsplit('.').next().unwrap())).into_owned();
        assert!(!decoded.contains(secret.as_str()));
    }
    rogue.forget();
    let back = Person::new()
        .visit(&browser.begin("corp", "/").await, "-")
        .await;
    let elsewhere = gateway.anon().come_back(&back).await;
    nobody(&elsewhere, "another browser");
    assert_eq!(rogue.count("token"), 0);
}

#[tokio::test]
async fn o02_every_request_has_a_challenge_of_its_own() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    // Even where the provider does not say that it knows PKCE, or knows only the bad kind.
    for methods in [json!(["S256"]), json!(["plain"]), Value::Null] {
        rogue.says("discovery", move |metadata| {
            metadata["code_challenge_methods_supported"] = methods.clone();
        });
        let gateway = by(&app, &rogue.table("corp", "")).run();
        let mut seen = HashSet::new();
        for _ in 0..3 {
            let browser = gateway.anon();
            let location = browser.begin("corp", "/").await;
            assert_eq!(parameter(&location, "code_challenge_method"), "S256");
            let challenge = parameter(&location, "code_challenge");
            assert!(seen.insert(challenge.clone()));
            rogue.forget();
            let back = Person::new().visit(&location, "-").await;
            assert_eq!(browser.come_back(&back).await.status, 303);
            let asked = rogue.asked();
            let token = asked.iter().find(|a| a.endpoint == "token").unwrap();
            let verifier = token.one("code_verifier").unwrap();
            assert!((43..=128).contains(&verifier.len()));
            let hash = digest(&SHA256, verifier.as_bytes());
            assert_eq!(b64(hash.as_ref()), challenge);
        }
    }
}

/// Two providers at one gateway: the certified one as `corp`, and one that attacks as `evil`.
async fn two(app: &App) -> (Provider, Rogue, Gateway) {
    // The worst case: the honest one would send people back to either address.
    let honest = Provider::with().known_as(&["corp", "evil"]).start();
    let evil = Rogue::start().await;
    let tables = format!("{}{}", honest.table("corp", ""), evil.table("evil", ""));
    let gateway = by(app, &tables).run();
    (honest, evil, gateway)
}

#[tokio::test]
async fn o03_a_code_of_one_provider_never_reaches_another() {
    let app = App::start().await;
    let (honest, evil, gateway) = two(&app).await;
    // Each provider has a redirect URI of its own.
    let browser = gateway.anon();
    for (name, issuer) in [("corp", &honest.issuer), ("evil", &evil.issuer)] {
        let location = browser.begin(name, "/").await;
        assert!(location.starts_with(issuer.as_str()), "{location}");
        let callback = format!("{ORIGIN}/.auth/callback/{name}");
        assert_eq!(parameter(&location, "redirect_uri"), callback);
    }
    // Mix-up: a person who wanted `evil` is sent on to `corp` with everything that `evil` was given.
    let metadata = Url::parse(&format!("{}/auth", honest.issuer)).unwrap();
    for redirect_to in ["evil", "corp"] {
        for iss in ["as it is", "without", "of evil"] {
            let victim = gateway.anon();
            let to_evil = victim.begin("evil", "/").await;
            let mut to_honest = metadata.clone();
            to_honest.set_query(Url::parse(&to_evil).unwrap().query());
            let callback = format!("{ORIGIN}/.auth/callback/{redirect_to}");
            let forwarded = with_parameter(to_honest.as_str(), "redirect_uri", Some(&callback));
            evil.forget();
            honest.forget().await;
            let mut back = Person::new().visit(&forwarded, "alice").await;
            match iss {
                "without" => back = with_parameter(&back, "iss", None),
                "of evil" => back = with_parameter(&back, "iss", Some(&evil.issuer)),
                _ => assert_eq!(parameter(&back, "iss"), honest.issuer),
            }
            let what = format!("to {redirect_to}, iss {iss}");
            let answer = victim.come_back(&back).await;
            nobody(&answer, &what);
            assert!(answer.status >= 400, "{what}: {}", answer.status);
            page_of(&answer, &what);
            let code = parameter(&back, "code");
            if (redirect_to, iss) == ("evil", "of evil") {
                // Nobody can tell the difference here; the verifier and the honest provider's client are what is left.
                continue;
            }
            let leaked = evil.asked().iter().any(|asked| {
                asked.parameters.iter().any(|(_, value)| *value == code)
                    || format!("{:?}", asked.headers).contains(&code)
            });
            assert!(!leaked, "{what}: the code was given to evil");
            assert_eq!(honest.count("token").await, 0, "{what}");
        }
    }
    // A state of one is none of the other, whichever way.
    for (begun, other) in [("corp", "evil"), ("evil", "corp")] {
        let browser = gateway.anon();
        let location = browser.begin(begun, "/").await;
        let back = Person::new().visit(&location, "alice").await;
        evil.forget();
        honest.forget().await;
        let moved = back.replace(&format!("/callback/{begun}"), &format!("/callback/{other}"));
        assert_ne!(moved, back);
        let answer = browser.copy().come_back(&moved).await;
        nobody(&answer, begun);
        assert!(answer.status >= 400, "{}", answer.status);
        assert_eq!(evil.count("token") + honest.count("token").await, 0);
        // And the sign-in itself still works.
        assert_eq!(browser.come_back(&back).await.status, 303);
    }
}

#[tokio::test]
async fn o03_tokens_of_one_provider_are_worthless_from_another() {
    let app = App::start().await;
    let (honest, evil, gateway) = two(&app).await;
    // `evil` hands on an ID token of `corp`, fresh and for our client.
    let now = evil.now();
    let stolen = honest
        .sign(
            json!({ "alg": "RS256" }),
            json!({ "iss": honest.issuer, "aud": "vestibule", "sub": "alice", "iat": now, "exp": now + 300 }),
        )
        .await;
    evil.id_token(move |token| {
        token.signed = crate::harness::rogue::Signed::Instead(stolen.clone());
    });
    let answer = gateway
        .anon()
        .sign_in_by("evil", &Person::new(), "-", "/")
        .await;
    nobody(&answer, "a token of another provider");
    assert!(answer.status >= 400);
    // Or claims to be it, under its own keys.
    let issuer = honest.issuer.clone();
    evil.id_token(move |token| token.claims["iss"] = json!(issuer));
    let answer = gateway
        .anon()
        .sign_in_by("evil", &Person::new(), "-", "/")
        .await;
    nobody(&answer, "a token in the name of another provider");
    assert!(answer.status >= 400);
    // Or publishes its keys as those of `corp`.
    let issuer = honest.issuer.clone();
    evil.says("discovery", move |metadata| {
        metadata["issuer"] = json!(issuer)
    });
    let gateway = by(
        &app,
        &format!("{}{}", honest.table("corp", ""), evil.table("evil", "")),
    )
    .run();
    let answer = gateway.anon().navigate("/.auth/login/evil?rd=/").await;
    assert!(matches!(answer.status, 502 | 503), "{}", answer.status);
    gateway.anon().signed_in_by("corp", "alice").await;
}

#[tokio::test]
async fn o04_the_way_in_leads_nowhere_else() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let gateway = by(&app, &rogue.table("corp", "")).run();
    for rd in [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example/",
        "https:evil.example",
        "javascript:alert(1)",
        "/%09/evil.example",
        "https://app.test.evil.example/",
        "https://app.test@evil.example/",
    ] {
        let browser = gateway.anon();
        let answer = browser.sign_in_by("corp", &Person::new(), "-", rd).await;
        assert_eq!(answer.status, 303, "{rd}");
        let to = Url::parse(ORIGIN).unwrap();
        let to = to.join(answer.header("location").unwrap()).unwrap();
        assert_eq!(to.origin().ascii_serialization(), ORIGIN, "{rd}");
    }
    // Parameters of the way in are the configuration's.
    let query = "rd=/&redirect_uri=https://evil.example&scope=admin&client_id=x&prompt=none&state=s&nonce=n&issuer=https://evil.example&login_hint=a";
    let answer = gateway
        .anon()
        .navigate(&format!("/.auth/login/corp?{query}"))
        .await;
    let location = answer.header("location").unwrap();
    assert!(location.starts_with(&rogue.issuer), "{location}");
    assert!(!location.contains("evil.example"), "{location}");
    assert_eq!(parameter(location, "client_id"), "vestibule");
    assert!(parameter(location, "scope").starts_with("openid"));
    assert!(!location.contains("prompt="), "{location}");
    // A provider that is not configured is none.
    for name in ["nobody", "..%2fcorp", "CORP", "corp/x", ""] {
        let answer = gateway
            .anon()
            .navigate(&format!("/.auth/login/{name}?rd=/"))
            .await;
        assert!(
            (400..500).contains(&answer.status),
            "{name}: {}",
            answer.status
        );
    }
}

#[tokio::test]
async fn o05_whoever_posted_is_sent_on_by_303() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let tables = format!("[login.local]\n{}", rogue.table("corp", ""));
    let gateway = by(&app, &tables).run();
    let answer = gateway.anon().sign_in("alice", PASSWORD, "/").await;
    assert_eq!(answer.status, 303);
    let alice = gateway.anon().signed_in_by("corp", "-").await;
    let (_, answer) = alice.leave().await;
    assert!(matches!(answer.status, 200 | 303), "{}", answer.status);
    // A password is never sent on to a provider.
    assert!(rogue.asked().iter().all(|asked| {
        asked
            .parameters
            .iter()
            .all(|(_, value)| !value.contains(PASSWORD))
    }));
}

#[tokio::test]
async fn o06_headers_come_from_the_provider_and_not_from_the_client() {
    let (app, rogue) = (App::start().await, Rogue::start().await);
    let gateway = by(&app, &rogue.table("corp", "")).run();
    let alice = gateway.anon().signed_in_by("corp", "-").await;
    app.forget();
    let spoof = Ask::get("/staff")
        .header("x-forwarded-user", "root")
        .header("X_Forwarded_Groups", "admins")
        .header("x-forwarded-groups", "admins");
    alice.send(spoof).await;
    let seen = app.only();
    assert_eq!(seen.one("x-forwarded-user"), Some("alice"));
    assert_eq!(seen.one("x-forwarded-email"), Some("alice@example.com"));
    assert_eq!(seen.one("x-forwarded-groups"), Some("staff,writers"));
    assert!(!seen.mentions("admins") && !seen.mentions("root"));
    for cookie in [ACCESS, REFRESH, LOGIN] {
        assert!(!seen.mentions(cookie));
    }
}

#[tokio::test]
async fn o08_what_the_browser_holds_is_small_sealed_and_ours() {
    let (app, provider) = (App::start().await, Provider::start());
    let gateway = by(&app, &provider.table("corp", "")).run();
    let browser = gateway.anon();
    let answer = browser.navigate("/.auth/login/corp?rd=/notes").await;
    let line = answer
        .all("set-cookie")
        .into_iter()
        .find(|line| line.starts_with(LOGIN))
        .expect("a login cookie");
    let attributes: Vec<String> = line
        .split(';')
        .skip(1)
        .map(|part| part.trim().to_ascii_lowercase())
        .collect();
    for wanted in ["secure", "httponly", "path=/"] {
        assert!(attributes.iter().any(|a| a == wanted), "{line}");
    }
    // Strict would not come back from another site.
    assert!(
        attributes
            .iter()
            .any(|a| matches!(a.as_str(), "samesite=lax" | "samesite=none"))
    );
    assert!(
        !attributes.iter().any(|a| a.starts_with("domain")),
        "{line}"
    );
    assert!(line.split(';').next().unwrap().len() <= 4096);
    let to = answer.header("location").unwrap().to_owned();
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let back = Person::new().visit(&to, "alice").await;
    let code = parameter(&back, "code");
    let answer = browser.come_back(&back).await;
    assert_eq!(answer.status, 303);
    assert!(!answer.header("location").unwrap().contains(&code));
    for line in answer.all("set-cookie") {
        assert!(line.split(';').next().unwrap().len() <= 4096, "{line}");
        for secret in [&code, &provider.issuer] {
            assert!(!line.contains(secret.as_str()), "{line}");
        }
    }
    // No token of the provider's is in any cookie, by its looks: one of ours is a JWT, of our own issuer.
    let claims = crate::harness::browser::claims(&browser.access().unwrap());
    assert_eq!(claims["iss"], ORIGIN);
    assert_eq!(claims["provider"], "corp");
    assert!(!browser.refresh().unwrap().contains('.'));
    let me = browser.get("/.auth/me").await.text();
    for word in ["id_token", "refresh_token", "access_token"] {
        assert!(!me.contains(word), "{me}");
    }
}

#[tokio::test]
async fn o08_a_strict_session_survives_the_way_back_from_a_provider() {
    let (app, provider) = (App::start().await, Provider::start());
    let gateway = by(&app, &provider.table("corp", ""))
        .session("same_site = \"strict\"")
        .run();
    let alice = gateway.anon();
    let location = alice.begin("corp", "/notes").await;
    let answer = alice
        .come_back(&Person::new().visit(&location, "alice").await)
        .await;
    assert!(matches!(answer.status, 200 | 303), "{}", answer.text());
    assert!(alice.access().is_some());
}

#[tokio::test]
async fn o09_people_are_told_apart_by_issuer_and_subject() {
    let app = App::start().await;
    let (_honest, evil, gateway) = two(&app).await;
    // The same address, and even the same subject, at another provider.
    evil.person(json!({
        "sub": "alice", "email": "alice@example.com", "email_verified": true, "name": "Alice Liddell", "groups": ["staff"],
    }));
    let alice = gateway.anon().signed_in_by("corp", "alice").await;
    let other = gateway.anon().signed_in_by("evil", "-").await;
    let of = |browser: &Browser| crate::harness::browser::claims(&browser.access().unwrap());
    assert_eq!(of(&alice)["provider"], "corp");
    assert_eq!(of(&other)["provider"], "evil");
    // Each sees their own sessions only, and ends their own only, by page and by command.
    for browser in [&alice, &other] {
        let listed = browser.get("/.auth/sessions").await.json();
        let listed = listed["sessions"].as_array().unwrap();
        assert_eq!(listed.len(), 1, "{listed:?}");
        assert_eq!(listed[0]["session"], browser.session().as_str());
    }
    for (what, body) in [
        ("end", format!("session={}", alice.session())),
        ("end-others", String::new()),
    ] {
        let everything = Ask::post(&format!("/.auth/sessions/{what}"), body)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json");
        let answer = other.send(everything).await;
        match what {
            "end" => assert_eq!(answer.status, 404, "{}", answer.text()),
            _ => assert_eq!(answer.json(), json!({ "ended": 0 })),
        }
        assert_eq!(alice.get("/").await.status, 200, "{what}");
    }
    let revoked = gateway.command(&["session", "revoke", "--user", "alice", "--provider", "evil"]);
    assert!(revoked.status.success(), "{revoked:?}");
    assert_eq!(other.get("/").await.status, 401);
    assert_eq!(alice.get("/").await.status, 200);
}

#[tokio::test]
async fn o10_metadata_of_another_issuer_is_not_used() {
    let app = App::start().await;
    let issuer = Rogue::start().await;
    let wrong = [
        json!("https://evil.example"),
        json!(format!("{}/", issuer.issuer)),
        json!(issuer.issuer.to_ascii_uppercase()),
        json!(issuer.issuer.replace("127.0.0.1", "localhost")),
        json!([issuer.issuer]),
        Value::Null,
    ];
    for said in wrong {
        let value = said.clone();
        issuer.says("discovery", move |metadata| {
            metadata["issuer"] = value.clone()
        });
        let gateway = by(&app, &issuer.table("corp", "")).run();
        issuer.forget();
        let answer = gateway.anon().navigate("/.auth/login/corp?rd=/").await;
        assert!(
            matches!(answer.status, 502 | 503),
            "{said}: {}",
            answer.status
        );
        page_of(&answer, &said.to_string());
        let words = [issuer.issuer.as_str(), "could not be fetched"];
        gateway.until_logged(&words).await;
        assert_eq!(issuer.count("jwks"), 0, "{said}: its keys were fetched");
    }
    // A file with a slash too many is another issuer, too: compared exactly, not as URLs.
    issuer.repent();
    let table = issuer.table("corp", "");
    let table = table.replace(&issuer.issuer, &format!("{}/", issuer.issuer));
    let gateway = by(&app, &table).run();
    let answer = gateway.anon().navigate("/.auth/login/corp?rd=/").await;
    assert!(matches!(answer.status, 502 | 503), "{}", answer.status);
    // Endpoints that are no endpoints.
    for (member, value) in [
        ("authorization_endpoint", json!("javascript:alert(1)")),
        ("authorization_endpoint", json!("data:text/html,x")),
        ("authorization_endpoint", json!("/authorize")),
        ("authorization_endpoint", Value::Null),
        ("token_endpoint", json!("file:///etc/passwd")),
        ("token_endpoint", Value::Null),
        ("jwks_uri", json!("ftp://evil.example/keys")),
        ("jwks_uri", Value::Null),
    ] {
        let value_said = value.clone();
        issuer.says("discovery", move |metadata| {
            metadata[member] = value_said.clone()
        });
        let gateway = by(&app, &issuer.table("corp", "")).run();
        let answer = gateway.anon().navigate("/.auth/login/corp?rd=/").await;
        let what = format!("{member} {value}");
        assert!(
            matches!(answer.status, 502 | 503),
            "{what}: {}",
            answer.status
        );
        page_of(&answer, &what);
    }
}

#[tokio::test]
async fn o12_signing_out_goes_to_the_provider_and_comes_back() {
    let (app, provider) = (App::start().await, Provider::start());
    let gateway = by(&app, &provider.table("corp", "")).run();
    provider.knows(&gateway).await;
    let person = Person::new();
    let alice = gateway.anon();
    let answer = alice.sign_in_by("corp", &person, "alice", "/").await;
    assert_eq!(answer.status, 303);
    let stolen = alice.copy();
    let (to, answer) = alice.leave().await;
    assert!(matches!(answer.status, 200 | 303), "{}", answer.status);
    let to = to.expect("the way to the provider");
    assert!(
        to.starts_with(&format!("{}/session/end?", provider.issuer)),
        "{to}"
    );
    // It is over here before the provider has said anything.
    assert!(alice.access().is_none() && alice.refresh().is_none());
    assert_eq!(stolen.get("/").await.status, 401);
    let hint = crate::harness::browser::claims(&parameter(&to, "id_token_hint"));
    assert_eq!(
        (&hint["iss"], &hint["sub"]),
        (&json!(provider.issuer), &json!("alice"))
    );
    assert!(parameter(&to, "state").len() >= 22);
    let return_to = parameter(&to, "post_logout_redirect_uri");
    assert!(return_to.starts_with(ORIGIN), "{return_to}");
    let back = person.visit(&to, "alice").await;
    assert!(back.starts_with(&return_to), "{back}");
    assert_eq!(parameter(&back, "state"), parameter(&to, "state"));
    let end = alice.come_back(&back).await;
    assert!(matches!(end.status, 200 | 303), "{}", end.text());
    assert!(alice.access().is_none());
    // She has to sign in at the provider again.
    let location = alice.begin("corp", "/").await;
    let again = person
        .send(&Url::parse(&location).unwrap(), Ask::get(""))
        .await;
    assert!(again.header("location").unwrap().contains("/interaction/"));

    // A return that nobody began signs nobody out and says nothing new.
    let bob = gateway.anon().signed_in_by("corp", "bob").await;
    for url in [
        back.clone(),
        with_parameter(&back, "state", None),
        with_parameter(&back, "state", Some("x")),
    ] {
        let answer = bob.come_back(&url).await;
        assert!(
            matches!(answer.status, 200 | 303 | 400),
            "{}",
            answer.status
        );
        assert_eq!(bob.get("/").await.status, 200);
        if let Some(to) = answer.header("location") {
            let to = Url::parse(ORIGIN).unwrap().join(to).unwrap();
            assert_eq!(to.origin().ascii_serialization(), ORIGIN);
        }
    }
    // Another site cannot start it, nor choose where it ends.
    let forged = Ask::post(
        "/.auth/logout?rd=https://evil.example",
        "rd=https://evil.example",
    )
    .header("content-type", "application/x-www-form-urlencoded")
    .header("sec-fetch-site", "same-origin");
    let answer = bob.send(forged).await;
    let to = answer.header("location").unwrap_or("");
    assert!(!to.contains("evil.example"), "{to}");
}
