//! P: what must not be seen.

use super::raw;
use super::w_upgrade::{echoes, open};
use crate::harness::browser::as_fetch;
use crate::harness::wait::within;
use crate::harness::{ACCESS, App, Ask, Gateway, ORIGIN, PASSWORD};

#[tokio::test]
async fn p01_the_admin_listener_is_not_public() {
    let app = App::start().await;
    let gateway = Gateway::before(&app)
        .routes("[[route]]\npath = \"/app\"\nupstream = \"app\"\naccess = \"authenticated\"\n")
        .run();
    let alice = gateway.signed_in("alice").await;
    for path in [
        "/metrics",
        "/live",
        "/ready",
        "/debug",
        "/debug/pprof",
        "/admin",
        "/.auth/metrics",
        "/.auth/admin",
        "/.auth/ready",
        "/.auth/nothing",
    ] {
        for browser in [gateway.anon(), alice.clone()] {
            let answer = browser.get(path).await;
            assert_eq!(answer.status, 404, "{path}");
            assert!(!answer.text().contains("vestibule_"), "{path}");
        }
    }
    // It is there, on its own address, and knows no routes.
    assert_eq!(gateway.admin("/live").await.0, 200);
    assert_eq!(gateway.admin("/ready").await.0, 200);
    assert!(gateway.admin("/metrics").await.1.contains("vestibule_"));
    assert_eq!(gateway.admin("/app").await.0, 404);
    assert!(app.seen().is_empty());
}

#[tokio::test]
async fn p02_no_page_shows_a_token() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let alice = gateway.signed_in("alice").await;
    let (access, refresh) = (alice.access().unwrap(), alice.refresh().unwrap());
    let mut pages = 0;
    for path in [
        "/.auth/me",
        "/.auth/login",
        "/.auth/logout",
        "/.auth/jwks.json",
        "/.auth/nothing",
        "/.auth/sessions",
    ] {
        for answer in [alice.get(path).await, alice.navigate(path).await] {
            pages += 1;
            let text = format!("{}{:?}", answer.text(), answer.headers);
            for secret in [
                access.as_str(),
                refresh.as_str(),
                access.rsplit('.').next().unwrap(),
                PASSWORD,
            ] {
                assert!(!text.contains(secret), "{path} shows a secret");
            }
        }
    }
    assert_eq!(pages, 12);
    let me = alice.get("/.auth/me").await.json();
    assert!(me.to_string().contains("alice@example.com"), "{me}");
}

#[tokio::test]
async fn p03_no_log_at_any_level_has_a_secret() {
    let app = App::start().await;
    let mut gateway = Gateway::before(&app)
        .upstream("assertion = true")
        .environment("VESTIBULE_LOG", "trace")
        .with_clock()
        .run();
    let mut secrets = vec![PASSWORD.to_owned(), "wrong-horse-7731".to_owned()];
    let keep = |secrets: &mut Vec<String>, browser: &crate::harness::Browser| {
        secrets.extend(browser.access().into_iter().flat_map(|token| {
            let signature = token.rsplit('.').next().unwrap().to_owned();
            [token, signature]
        }));
        secrets.extend(browser.refresh());
    };
    let mallory = gateway.anon();
    assert!(
        mallory
            .sign_in("alice", "wrong-horse-7731", "/")
            .await
            .status
            >= 400
    );
    assert!(
        mallory
            .sign_in("nobody-of-that-name", "wrong-horse-7731", "/")
            .await
            .status
            >= 400
    );
    let alice = gateway.signed_in("alice").await;
    keep(&mut secrets, &alice);
    let parent = alice.copy();
    alice
        .send(as_fetch(Ask::post("/form", "token=body-secret-5521&x=1")))
        .await;
    secrets.push("body-secret-5521".to_owned());
    let query = alice.get("/search?code=query-secret-9931").await;
    assert_eq!(query.status, 200);
    secrets.push("query-secret-9931".to_owned());
    alice
        .send(Ask::get("/").header("authorization", "Bearer header-secret-1212"))
        .await;
    secrets.push("header-secret-1212".to_owned());
    secrets.push(app.last().one("x-vestibule-assertion").unwrap().to_owned());
    let mut socket = open(&alice, "/socket", ORIGIN).await.unwrap();
    echoes(&mut socket, "hello").await;
    gateway.outlive_access_token();
    assert_eq!(alice.get("/").await.status, 200);
    keep(&mut secrets, &alice);
    assert_eq!(alice.get("/").await.status, 200);
    let forged = gateway.forged();
    keep(&mut secrets, &forged);
    forged.get("/").await;
    // A replay, which is told to audit, and the renewal that it ends.
    alice.drop_cookie(ACCESS);
    alice.get("/").await;
    keep(&mut secrets, &alice);
    parent.drop_cookie(ACCESS);
    assert_eq!(parent.get("/").await.status, 401);
    let bob = gateway.signed_in("bob").await;
    keep(&mut secrets, &bob);
    for arguments in [
        ["session", "list"].as_slice(),
        &["user", "list"],
        &["keys", "list"],
        &["keys", "rotate"],
    ] {
        let output = gateway.command(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let said = [output.stdout, output.stderr].concat();
        no_secret_in(
            &secrets,
            [String::from_utf8_lossy(&said).into_owned()].iter(),
        );
    }
    bob.sign_out().await;
    secrets.push(
        String::from_utf8_lossy(&std::fs::read(gateway.folder.join("data/master.key")).unwrap())
            .trim()
            .to_owned(),
    );
    gateway.terminate();
    let logs = gateway.logs();
    assert!(logs.len() > 20, "only {} lines were logged", logs.len());
    assert!(
        !gateway.logged(&["/search"]).is_empty(),
        "requests are logged"
    );
    assert!(!gateway.logged(&["sign"]).is_empty(), "sign-ins are logged");
    no_secret_in(&secrets, logs.iter());
    assert!(
        secrets.len() >= 15,
        "only {} secrets were looked for",
        secrets.len()
    );
}

fn no_secret_in<'a>(secrets: &[String], lines: impl Iterator<Item = &'a String>) {
    for line in lines {
        for secret in secrets {
            assert!(secret.len() >= 10, "{secret:?} is no secret to look for");
            assert!(!line.contains(secret.as_str()), "{secret:?} is in: {line}");
        }
    }
}

#[tokio::test]
async fn p04_trace_and_connect_are_refused() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let cookies = gateway.signed_in("alice").await.cookie_line().unwrap();
    for request in [
        format!("TRACE /public HTTP/1.1\r\n{{host}}Cookie: {cookies}\r\n\r\n"),
        "CONNECT app.test:443 HTTP/1.1\r\n{host}\r\n".to_owned(),
        "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n".to_owned(),
    ] {
        let (status, answer) = raw(&gateway, &request).await;
        assert!(
            matches!(status, 400 | 405 | 421 | 501),
            "{}: {status}",
            request.split(' ').next().unwrap()
        );
        assert!(!answer.contains(&cookies), "the request was echoed");
    }
    assert!(app.seen().is_empty());
    let h2 = gateway.door().h2().await;
    assert!(matches!(
        h2.ask(Ask::new("TRACE", "/public")).await.status,
        400 | 405 | 501
    ));
    assert!(app.seen().is_empty());
}

#[tokio::test]
async fn p05_a_refused_post_is_forgotten() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let body = "comment=very-private-text-8812";
    for accept in ["text/html", "*/*", "application/json"] {
        let ask = Ask::post("/notes", body)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", accept)
            .header("sec-fetch-mode", "navigate")
            .header("sec-fetch-site", "same-origin");
        let answer = gateway.anon().send(ask).await;
        assert!(matches!(answer.status, 401 | 303), "{}", answer.status);
        let shown = format!("{}{:?}", answer.text(), answer.headers);
        assert!(!shown.contains("private-text"), "{shown}");
        assert!(!answer.sets_cookies());
    }
    assert!(app.seen().is_empty());
    // A large one is not read to its end for nothing.
    let large = Ask::post("/notes", vec![b'x'; 4 << 20]);
    let answer = within("an answer", gateway.door().try_ask(large)).await;
    if let Ok(answer) = answer {
        assert_eq!(answer.status, 401);
    }
    assert_eq!(app.bytes(), 0);
}
