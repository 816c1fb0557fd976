//! Renewal at an RFC 6749 token endpoint: the cookies are written by the gateway then.

use std::time::Duration;

use futures_util::future::join_all;

use super::{
    ACCESS, CLIENT_SECRET, REFRESH, ROUTES, Service, aside, cookie_of, outlive, signed_in, touches,
};
use crate::harness::Gateway;
use crate::harness::wait::until;
use crate::oidc::online::asked;

impl Service {
    fn endpoint(&self, client: &str) -> String {
        format!(
            "{}token_endpoint = \"http://{}/oauth/token\"\n{client}\n",
            self.basics(),
            self.addr
        )
    }
}

#[tokio::test]
async fn tokens_of_a_token_endpoint_become_cookies_and_thirty_requests_cost_one_call() {
    let service = Service::start().await;
    let client = format!(
        "client_id = \"gateway\"\nclient_secret_file = {:?}",
        service.file("client")
    );
    let gateway = service.gateway_with(&service.endpoint(&client)).run();
    let alice = signed_in(&gateway, "alice").await;
    for generation in 1..=2 {
        outlive(&gateway, &service).await;
        let spent = alice.cookie(REFRESH).unwrap();
        service.forget().await;
        let answers = join_all((0..30).map(|_| aside(&alice, "/data"))).await;
        let straggler = aside(&alice, "/data").await;
        for answer in answers.iter().chain([&straggler]) {
            assert_eq!(answer.status, 200, "{}", answer.text());
            let lines = answer.all("set-cookie");
            assert_eq!(lines, straggler.all("set-cookie"));
            let seen = answer.json();
            assert_eq!(seen["user"], "alice");
            let [access, refresh] = [ACCESS, REFRESH].map(|name| cookie_of(&seen, name).unwrap());
            assert_ne!(refresh, spent);
            let access_line = &lines[0];
            assert!(access_line.starts_with(&format!(
                "{ACCESS}={access}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age="
            )));
            let life: u64 = access_line.rsplit('=').next().unwrap().parse().unwrap();
            assert!((280..=300).contains(&life), "{access_line}");
            assert_eq!(
                lines[1],
                format!(
                    "{REFRESH}={refresh}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=1209600"
                )
            );
        }
        let calls = service.state().await["refreshes"].clone();
        assert_eq!(
            calls.as_array().unwrap().len(),
            1,
            "generation {generation}"
        );
        assert_eq!(calls[0]["token"], spent);
        assert_eq!(calls[0]["headers"].get("cookie"), None);
        assert!(
            calls[0]["headers"]["authorization"]
                .as_str()
                .unwrap()
                .starts_with("Basic ")
        );
        assert_eq!(
            calls[0]["headers"]["content-type"],
            "application/x-www-form-urlencoded"
        );
        alice.take_cookies(&straggler);
    }
    assert_eq!(service.ended().await, (0, 0));
}

#[tokio::test]
async fn a_refused_grant_is_a_challenge_and_a_refused_client_is_the_operators_to_mend() {
    let service = Service::start().await;
    std::fs::write(service.file("wrong"), "a wrong secret").unwrap();
    let client = |file: &str| {
        let file = service.file(file);
        service.endpoint(&format!(
            "client_id = \"gateway\"\nclient_secret_file = {file:?}"
        ))
    };
    let gateway = service.gateway_with(&client("wrong")).run();
    let alice = signed_in(&gateway, "alice").await;
    outlive(&gateway, &service).await;
    let answer = alice.navigate("/data").await;
    assert_eq!((answer.status, touches(&answer)), (503, false));
    gateway.until_logged(&["refuses the gateway itself"]).await;
    assert!(gateway.logged(&["a wrong secret"]).is_empty());
    drop(gateway);
    // The next one has a clock of its own.
    service.set(serde_json::json!({ "clock": 0 })).await;

    let gateway = service.gateway_with(&client("client")).run();
    let bob = signed_in(&gateway, "bob").await;
    let spent = bob.copy();
    bob.drop_cookie(ACCESS);
    until("the first renewal", async || {
        (bob.get("/data").await.status == 200).then_some(())
    })
    .await;
    // The service takes a second use for theft, behind the gateway's back.
    let url = url::Url::parse(&format!("http://{}/auth/refresh", service.addr)).unwrap();
    let reuse = crate::harness::Ask::new("POST", "/auth/refresh").header(
        "cookie",
        format!("{REFRESH}={}", spent.cookie(REFRESH).unwrap()),
    );
    assert_eq!(
        crate::harness::plain::ask(&url, reuse)
            .await
            .unwrap()
            .status,
        401
    );
    gateway.clock().advance(Duration::from_secs(1));
    outlive(&gateway, &service).await;
    let answer = bob.navigate("/data").await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, Some("/login?rd=/data"))
    );
    assert!(!touches(&answer), "the endpoint said nothing about cookies");
    assert!(!CLIENT_SECRET.is_empty() && gateway.logged(&["s3cret"]).is_empty());
}

#[tokio::test]
async fn check_online_finds_the_endpoint_and_spends_nothing() {
    const TABLE: &str = "[external]";
    let service = Service::start().await;
    let alice_of = service.gateway("").run();
    let alice = signed_in(&alice_of, "alice").await;
    service.forget().await;
    let addr = service.addr;
    let check = |external: String| async move {
        asked(&Gateway::at(addr).login(&external).routes(ROUTES)).await
    };
    let found = check(service.external("")).await;
    assert_eq!(found.code(), 0, "{}", found.words);
    found.tells(
        TABLE,
        "good",
        &["refresh_url: ", "/auth/refresh", "status 401"],
    );
    let client = |file: &str| {
        format!(
            "client_id = \"gateway\"\nclient_secret_file = {:?}",
            service.file(file)
        )
    };
    let found = check(service.endpoint(&client("client"))).await;
    assert_eq!(found.code(), 0, "{}", found.words);
    found.tells(TABLE, "good", &["client: ", "\"gateway\" is accepted"]);
    std::fs::write(service.file("wrong"), "not the secret").unwrap();
    let found = check(service.endpoint(&client("wrong"))).await;
    assert_eq!((found.code(), found.problems()), (2, 1), "{}", found.words);
    found.tells(
        TABLE,
        "problem",
        &["client: ", "\"gateway\" is not accepted"],
    );
    let nowhere = service.external("").replace("/auth/refresh", "/page");
    let found = check(nowhere).await;
    assert_eq!(found.code(), 0, "{}", found.words);
    // This app has a page for everything.
    found.tells(TABLE, "warning", &["refresh_url: ", "/page", "status 200"]);
    // Nobody's sign-in was touched by any of that.
    assert_eq!(service.ended().await, (0, 0));
    outlive(&alice_of, &service).await;
    assert_eq!(aside(&alice, "/data").await.status, 200);
}
