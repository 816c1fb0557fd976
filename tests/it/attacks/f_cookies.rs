//! F: cookies of ours, look-alikes of them, and what an app may not do with them.

use super::{QUIET, raw};
use crate::harness::client::status_of;
use crate::harness::{ACCESS, App, Ask, Gateway, REFRESH};

/// Every rule for a cookie of ours.
fn is_proper(line: &str) {
    let lower = line.to_ascii_lowercase();
    let pair = line.split(';').next().unwrap();
    assert!(pair.starts_with("__Host-vestibule-"), "{line}");
    assert!(pair.len() <= 4096, "{} bytes", pair.len());
    let attributes: Vec<&str> = lower.split(';').skip(1).map(str::trim).collect();
    for wanted in ["secure", "httponly", "path=/"] {
        assert!(
            attributes.contains(&wanted),
            "{wanted} is missing in {line}"
        );
    }
    assert!(
        attributes.iter().any(|a| a.starts_with("samesite=")),
        "{line}"
    );
    assert!(
        !attributes.iter().any(|a| a.starts_with("domain")),
        "{line}"
    );
}

#[tokio::test]
async fn f01_every_cookie_has_every_attribute() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).with_clock().run();
    let alice = gateway.anon();
    let signed_in = alice.sign_in("alice", crate::harness::PASSWORD, "/").await;
    gateway.outlive_access_token();
    let renewed = alice.get("/").await;
    let signed_out = alice.sign_out().await;
    for (what, answer) in [
        ("sign-in", signed_in),
        ("renewal", renewed),
        ("logout", signed_out),
    ] {
        let lines = answer.all("set-cookie");
        assert!(lines.len() >= 2, "{what}: {lines:?}");
        for line in &lines {
            is_proper(line);
        }
        for name in [ACCESS, REFRESH] {
            assert_eq!(
                lines
                    .iter()
                    .filter(|l| l.starts_with(&format!("{name}=")))
                    .count(),
                1,
                "{what} {name}"
            );
        }
    }
}

#[tokio::test]
async fn f02_a_tossed_cookie_is_never_picked_by_order() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let alice = gateway.signed_in("alice").await;
    let bob = gateway.signed_in("bob").await;
    let mut cases = Vec::new();
    for (name, good, evil) in [
        (ACCESS, alice.access(), bob.access()),
        (REFRESH, alice.refresh(), bob.refresh()),
    ] {
        let (good, evil) = (good.unwrap(), evil.unwrap());
        for evil in [evil.as_str(), "junk", ""] {
            cases.push(format!("Cookie: {name}={evil}; {name}={good}\r\n"));
            cases.push(format!("Cookie: {name}={good}; {name}={evil}\r\n"));
            cases.push(format!(
                "Cookie: {name}={good}\r\nCookie: {name}={evil}\r\n"
            ));
            cases.push(format!(
                "Cookie: {name}={evil}\r\nX: y\r\nCookie: a=b; {name}={good}\r\n"
            ));
        }
    }
    // An untouched valid access token beside two refresh tokens is a conflict as well.
    cases.push(format!(
        "Cookie: {ACCESS}={}; {REFRESH}={}; {REFRESH}={}\r\n",
        alice.access().unwrap(),
        alice.refresh().unwrap(),
        bob.refresh().unwrap()
    ));
    for case in &cases {
        let (status, answer) =
            raw(&gateway, &format!("GET / HTTP/1.1\r\n{{host}}{case}\r\n")).await;
        assert_eq!(status, 401, "{case}");
        assert!(
            !answer.to_ascii_lowercase().contains("set-cookie"),
            "{answer}"
        );
    }
    assert!(app.seen().is_empty());
    assert!(
        !gateway.logged(&["onflict"]).is_empty(),
        "the conflict is logged"
    );
    // The same value twice is no conflict, and nobody was signed out by any of this.
    let good = alice.access().unwrap();
    let (status, _) = raw(
        &gateway,
        &format!("GET / HTTP/1.1\r\n{{host}}Cookie: {ACCESS}={good}; {ACCESS}={good}\r\n\r\n"),
    )
    .await;
    assert_eq!(status, 200);
    assert_eq!(alice.get("/").await.status, 200);
}

#[tokio::test]
async fn f03_look_alikes_are_just_other_cookies() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let alice = gateway.signed_in("alice").await;
    let token = alice.access().unwrap();
    let look_alikes: Vec<Vec<u8>> = [
        ACCESS.to_ascii_lowercase().into_bytes(),
        ACCESS.to_ascii_uppercase().into_bytes(),
        [&b"\xe2\x80\x80"[..], ACCESS.as_bytes()].concat(),
        [ACCESS.as_bytes(), b"\xc2\xa0"].concat(),
        b"vestibule-access".to_vec(),
        b"__Secure-vestibule-access".to_vec(),
        b"__Host-vestibule-access[0]".to_vec(),
        b"\"__Host-vestibule-access\"".to_vec(),
    ]
    .into();
    for name in &look_alikes {
        let mut bytes = b"GET / HTTP/1.1\r\nHost: app.test\r\nCookie: ".to_vec();
        bytes.extend([name.as_slice(), b"=", token.as_bytes(), b"\r\n\r\n"].concat());
        let status = status_of(&gateway.door().raw(&bytes, QUIET).await);
        assert!(
            matches!(status, 400 | 401),
            "{}: {status}",
            String::from_utf8_lossy(name)
        );
        // Beside the true one it changes nothing.
        let mut bytes =
            format!("GET / HTTP/1.1\r\nHost: app.test\r\nCookie: {ACCESS}={token}; ").into_bytes();
        bytes.extend([name.as_slice(), b"=evil\r\n\r\n"].concat());
        let status = status_of(&gateway.door().raw(&bytes, QUIET).await);
        assert!(
            matches!(status, 200 | 400),
            "{}: {status}",
            String::from_utf8_lossy(name)
        );
    }
    assert!(
        app.seen()
            .iter()
            .all(|seen| seen.one("x-forwarded-user") == Some("alice"))
    );
}

#[tokio::test]
async fn f04_legacy_syntax_means_nothing() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let token = gateway.signed_in("alice").await.access().unwrap();
    let (status, _) = raw(
        &gateway,
        &format!("GET / HTTP/1.1\r\n{{host}}Cookie: $Version=1; {ACCESS}=\"x\"; $Path=/\r\n\r\n"),
    )
    .await;
    assert_eq!(status, 401);
    let (status, _) = raw(
        &gateway,
        &format!("GET / HTTP/1.1\r\n{{host}}Cookie: $Version=1; {ACCESS}=\"{token}\"\r\n\r\n"),
    )
    .await;
    assert_eq!(status, 401);
    let (status, _) = raw(
        &gateway,
        &format!("GET / HTTP/1.1\r\n{{host}}Cookie: $Version=1; {ACCESS}={token}; $Path=/\r\n\r\n"),
    )
    .await;
    assert_eq!(status, 200);
    assert_eq!(app.only().one("cookie"), Some("$Version=1; $Path=/"));
}

#[tokio::test]
async fn f05_an_app_cannot_set_our_cookies() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    app.script(
        "/sets",
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: app=1; Path=/\r\nSet-Cookie: {ACCESS}=evil; Secure; Path=/\r\n\
             Set-Cookie: {REFRESH}=; Secure; Path=/; Max-Age=0\r\nset-cookie:   __host-VESTIBULE-access=evil; Secure; Path=/\r\n\
             Set-Cookie: __Host-vestibule-login=evil; Secure; Path=/\r\nSet-Cookie: __Secure-vestibule-access=evil; Secure\r\n\
             Set-Cookie: other=2; HttpOnly\r\n\r\nok"
        ),
    );
    let alice = gateway.signed_in("alice").await;
    let before = alice.jar();
    let answer = alice.get("/sets").await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.all("set-cookie"),
        ["app=1; Path=/", "other=2; HttpOnly"]
    );
    assert_eq!(alice.access(), before.find(ACCESS));
    assert_eq!(alice.refresh(), before.find(REFRESH));
}

#[tokio::test]
async fn f06_logout_really_empties_the_jar() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let alice = gateway.signed_in("alice").await;
    let answer = alice.sign_out().await;
    assert!(
        matches!(answer.status, 200 | 204 | 303),
        "{}",
        answer.status
    );
    for line in answer.all("set-cookie") {
        is_proper(&line);
        assert!(line.to_ascii_lowercase().contains("max-age=0"), "{line}");
    }
    // The jar obeys a deletion only when its attributes are those of a __Host- cookie, as browsers do.
    assert_eq!(alice.cookie_line(), None);
}

#[tokio::test]
async fn f07_strange_cookie_headers_cost_nothing() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let many = (0..2000)
        .map(|i| format!("c{i}=v"))
        .collect::<Vec<_>>()
        .join("; ");
    let before = gateway.resident();
    for case in [
        ";".to_owned(),
        ";;;; ; ;".to_owned(),
        "=".to_owned(),
        "=; =x".to_owned(),
        format!("{ACCESS}_chunks=99999999"),
        format!("{ACCESS}_chunks=2; {ACCESS}_0=a; {ACCESS}_2=c"),
        format!("{ACCESS}_1=b; {ACCESS}_0=a"),
        format!("{ACCESS}="),
        ACCESS.to_owned(),
        format!("{ACCESS}=; {REFRESH}="),
        format!("{ACCESS}={}", ".".repeat(5000)),
        format!("{REFRESH}={}", "A".repeat(20_000)),
        many,
    ] {
        let (status, _) = raw(
            &gateway,
            &format!("GET / HTTP/1.1\r\n{{host}}Cookie: {case}\r\n\r\n"),
        )
        .await;
        assert!(
            matches!(status, 401 | 431),
            "{status} for {}",
            &case[..case.len().min(80)]
        );
    }
    let grown = gateway.resident().saturating_sub(before);
    assert!(grown < 32 << 20, "grew by {grown} bytes");
    assert!(app.seen().is_empty());
    assert!(gateway.logged(&["panicked"]).is_empty());
}

#[tokio::test]
async fn f08_cookie_crumbs_of_http2_are_joined() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let alice = gateway.signed_in("alice").await;
    let connection = gateway.door().h2().await;
    let answer = connection
        .ask(
            Ask::get("/")
                .header("cookie", "a=1")
                .header("cookie", format!("{ACCESS}={}", alice.access().unwrap()))
                .header("cookie", format!("{REFRESH}={}", alice.refresh().unwrap()))
                .header("cookie", "b=2; c=3"),
        )
        .await;
    assert_eq!(answer.status, 200);
    let seen = app.only();
    assert_eq!(seen.one("cookie"), Some("a=1; b=2; c=3"));
    assert_eq!(seen.one("x-forwarded-user"), Some("alice"));
}
