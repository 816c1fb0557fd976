//! What is ended on one node is over on all: for requests, for renewals, and for everything that is still flowing.

use std::time::Duration;

use futures_util::StreamExt as _;
use tokio_tungstenite::tungstenite::Message;

use super::{PAST_GRACE, acknowledged, refused_everywhere};
use crate::attacks::w_upgrade::{echoes, open as open_socket};
use crate::harness::browser::Browser;
use crate::harness::wait::{until, within};
use crate::harness::{ACCESS, App, Ask, Gateway, Nodes, ORIGIN};

#[tokio::test]
async fn l01_a_logout_on_one_node_ends_everything_on_all() {
    let app = App::start().await;
    let nodes = Nodes::three(Gateway::before(&app)).await;
    for node in 0..3 {
        let alice = nodes.signed_in("alice").await;
        let elsewhere = nodes.signed_in("alice").await;
        let stolen = alice.copy();
        for node in 0..3 {
            assert_eq!(nodes.get(&stolen, node, "/").await.status, 200);
        }
        nodes.sign_out(&alice, node).await;
        refused_everywhere(&nodes, &stolen).await;
        // The same person's other browser is another session.
        assert_eq!(elsewhere.get("/").await.status, 200);
    }
}

#[tokio::test]
async fn l01_a_logout_on_one_node_during_a_renewal_on_another_wins() {
    let app = App::start().await;
    let nodes = Nodes::three(Gateway::before(&app)).await;
    let connections = [nodes.door(0).h2().await, nodes.door(1).h2().await];
    let mut served = 0;
    for round in 0..24 {
        let alice = nodes.through(&nodes.signed_in("alice").await, 0);
        let tab = alice.copy();
        tab.drop_cookie(ACCESS);
        // Each round a little later, so that the logout meets the renewal at another of its steps.
        let later = Duration::from_micros(round * 500);
        let logout = Ask::post("/.auth/logout", "")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("sec-fetch-site", "same-origin");
        let (renewed, signed_out) =
            tokio::join!(tab.send_on(&connections[1], Ask::get("/")), async {
                tokio::time::sleep(later).await;
                alice.send_on(&connections[0], logout).await
            });
        assert!(
            matches!(renewed.status, 200 | 401 | 503),
            "{}",
            renewed.status
        );
        if signed_out.status == 503 {
            nodes.sign_out(&alice, 0).await;
        }
        served += usize::from(renewed.status == 200);
        refused_everywhere(&nodes, &tab).await;
    }
    eprintln!("{served} of 24 renewals came before their logout");
}

#[tokio::test]
async fn i06_there_is_no_grace_after_a_logout_on_another_node() {
    let app = App::start().await;
    let nodes = Nodes::three(Gateway::before(&app).with_clock()).await;
    let alice = nodes.signed_in("alice").await;
    nodes.outlive_access_token();
    let parent = alice.copy();
    parent.drop_cookie(ACCESS);
    assert_eq!(nodes.get(&alice, 0, "/").await.status, 200);
    assert_eq!(nodes.get(&alice, 1, "/").await.status, 200);
    acknowledged(&nodes.through(&parent, 2)).await;
    let newest = alice.copy();
    nodes.sign_out(&alice, 1).await;
    for node in [0, 2] {
        for stale in [&parent, &newest] {
            let stale = stale.copy();
            stale.drop_cookie(ACCESS);
            assert_eq!(nodes.get(&stale, node, "/").await.status, 401);
        }
    }
}

#[tokio::test]
async fn l02_another_site_signs_nobody_out_on_any_node() {
    let app = App::start().await;
    let nodes = Nodes::three(Gateway::before(&app)).await;
    let alice = nodes.signed_in("alice").await;
    for node in 0..3 {
        let form = Ask::new("POST", "/.auth/logout")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("origin", "https://evil.example");
        let answer = nodes.through(&alice, node).send(form).await;
        assert_eq!((answer.status, answer.sets_cookies()), (403, false));
    }
    for node in 0..3 {
        assert_eq!(nodes.get(&alice, node, "/").await.status, 200);
    }
}

#[tokio::test]
async fn the_command_line_at_one_node_ends_sessions_on_all() {
    let app = App::start().await;
    let nodes = Nodes::three(Gateway::before(&app)).await;
    for (node, how) in ["sid", "user", "all"].into_iter().enumerate() {
        let alice = nodes.signed_in("alice").await;
        let bob = nodes.signed_in("bob").await;
        for node in 0..3 {
            assert_eq!(nodes.get(&alice, node, "/").await.status, 200);
        }
        let session = alice.session();
        let arguments = match how {
            "sid" => vec!["session", "revoke", &session],
            "user" => vec!["session", "revoke", "--user", "alice"],
            _ => vec!["session", "revoke", "--all"],
        };
        let output = nodes.nodes[node].command(&arguments);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        refused_everywhere(&nodes, &alice).await;
        if how == "all" {
            refused_everywhere(&nodes, &bob).await;
        } else {
            assert_eq!(nodes.get(&bob, node, "/").await.status, 200, "{how}");
        }
        // Whoever signs in afterwards is in, on every node.
        let again = nodes.signed_in("alice").await;
        for node in 0..3 {
            assert_eq!(nodes.get(&again, node, "/").await.status, 200);
        }
        nodes.sign_out(&again, node).await;
    }
}

#[tokio::test]
async fn w05_all_that_flows_on_one_node_ends_with_a_logout_on_another() {
    let app = App::start().await;
    let nodes = Nodes::three(Gateway::before(&app)).await;
    let alice = nodes.through(&nodes.signed_in("alice").await, 0);
    let bob = nodes.signed_in("bob").await;
    let (here, his) = (nodes.through(&alice, 1), nodes.through(&bob, 1));
    let h2 = here.door.h2().await;
    let mut sockets = [
        open_socket(&here, "/socket", ORIGIN).await.unwrap(),
        open_socket(&his, "/socket", ORIGIN).await.unwrap(),
    ];
    for socket in &mut sockets {
        echoes(socket, "before").await;
    }
    let blob = || Ask::get("/blob?size=1099511627776");
    let mut flows = [
        here.door.open(here.dress(Ask::get("/events"))).await,
        h2.open(here.dress(Ask::get("/events"))).await,
        here.door.open(here.dress(blob())).await,
        h2.open(here.dress(blob())).await,
    ];
    let mut his_flow = h2.open(his.dress(blob())).await;
    until("listeners", async || (app.listeners() == 2).then_some(())).await;
    app.publish("before");
    for flow in &mut flows {
        let mut bytes = 0;
        while bytes < 14 {
            bytes += flow.next().await.expect("it flows").len();
        }
    }
    let mut passed = 0;
    while passed < 1 << 20 {
        passed += flows[3].next().await.expect("it flows").len();
        flows[2].next().await.expect("it flows");
        his_flow.next().await.expect("it flows");
    }
    nodes.sign_out(&alice, 0).await;
    let [hers, his_socket] = &mut sockets;
    // Bound of the contract: one second, which `latency.rs` measures; the machine that runs this is busy with other tests.
    let end = within("all of it ends", async {
        for flow in &mut flows {
            flow.until_over().await;
        }
        hers.next().await
    })
    .await;
    assert!(
        matches!(end, None | Some(Err(_) | Ok(Message::Close(_)))),
        "{end:?}"
    );
    // Everybody else's goes on, on the same connection too.
    echoes(his_socket, "after").await;
    for _ in 0..100 {
        his_flow.next().await.expect("it flows on");
    }
    // Gone for the app as well.
    until("the app to notice", async || {
        (app.listeners() == 0).then_some(())
    })
    .await;
}

const CHECKED: &str = r#"
[[route]]
path = "/"
upstream = "app"
access = "authenticated"

[[route]]
path = "/checked"
upstream = "app"
access = "authenticated"
revocation = "checked"
"#;

#[tokio::test]
async fn a_checked_route_asks_the_store_each_time() {
    let app = App::start().await;
    let nodes = Nodes::run(2, Gateway::before(&app).routes(CHECKED)).await;
    let alice = nodes.through(&nodes.signed_in("alice").await, 1);
    assert_eq!(nodes.get(&alice, 1, "/checked").await.status, 200);

    // The store is away: no answer can be given; elsewhere the token is as good as ever.
    nodes.networks[1].down();
    app.forget();
    let answer = alice.get("/checked").await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("retry-after").is_some() && !answer.sets_cookies());
    // Nothing was to be renewed, and nobody is told so.
    let said = answer.json();
    assert_eq!(said["type"], "urn:vestibule:problem:sessions-unavailable");
    assert_eq!(said["title"], "Sessions cannot be looked up now");
    for (language, words) in [
        ("en", "Your session cannot be checked right now"),
        ("ko", "지금은 세션을 확인할 수 없습니다"),
    ] {
        let ask = Ask::get("/checked")
            .header("sec-fetch-mode", "navigate")
            .header("accept", "text/html")
            .header("accept-language", language);
        let page = alice.send(ask).await;
        assert_eq!(page.status, 503);
        assert!(page.text().contains(words), "{}", page.text());
    }
    assert!(app.seen().is_empty());
    assert_eq!(alice.get("/").await.status, 200);
    nodes.networks[1].mend();
    until("the store to be back", async || {
        let answer = alice.get("/checked").await;
        assert!(matches!(answer.status, 200 | 503), "{}", answer.text());
        (answer.status == 200).then_some(())
    })
    .await;

    // Ended elsewhere while this node hears of nothing: refused at once, on the very next request.
    nodes.networks[1].mute("XREAD");
    nodes.networks[1].cut();
    until("the feed to be lost", async || {
        let attached = nodes.nodes[1].metric("vestibule_feed_attached", &[]).await;
        (attached == 0.0).then_some(())
    })
    .await;
    until("the store to answer all the same", async || {
        (alice.get("/checked").await.status == 200).then_some(())
    })
    .await;
    nodes.sign_out(&alice.copy(), 0).await;
    let refused = nodes.get(&alice.copy(), 1, "/checked").await;
    assert_eq!(refused.status, 401);
}

/// Has node 2, which has nothing else to write, ask the store for a write that is carried out and whose answer is lost on the
/// way; then the network is well.
async fn unanswered(nodes: &Nodes, ask: impl Future<Output = ()>) {
    let commits = nodes.store_calls("evalsha");
    nodes.networks[2].swallow_answers_to("EVALSHA");
    let lost = until("the answer of a write to be lost", async || {
        let written = nodes.store_calls("evalsha") > commits;
        (written && nodes.networks[2].swallowed() > 0).then_some(())
    });
    let ((), ()) = tokio::join!(ask, lost);
    nodes.networks[2].mend();
    nodes.networks[2].cut();
}

/// The end of the session has been told to every node, although no renewal comes by: its newest access token is refused.
async fn ended_by_theft(nodes: &Nodes, browser: &Browser) {
    refused_everywhere(nodes, browser).await;
    let session = browser.session();
    for what in ["\"replay\"", "\"revoked\""] {
        nodes.nodes[2]
            .until_logged(&["audit", what, &session])
            .await;
    }
    let replays = nodes.metric("vestibule_replays_total", &[]).await;
    assert_eq!(replays, 1.0, "one theft, found once");
}

#[tokio::test]
async fn i02_a_theft_whose_mark_was_not_confirmed_is_told_to_every_node() {
    let app = App::start().await;
    let nodes = Nodes::three(Gateway::before(&app)).await;
    let alice = nodes.signed_in("alice").await;
    let thief = alice.copy().at("127.0.0.66");
    thief.drop_cookie(ACCESS);
    alice.drop_cookie(ACCESS);
    assert_eq!(nodes.get(&alice, 0, "/").await.status, 200);
    let parent = alice.copy();
    parent.drop_cookie(ACCESS);
    alice.drop_cookie(ACCESS);
    assert_eq!(nodes.get(&alice, 0, "/").await.status, 200);
    assert_eq!(nodes.get(&alice, 1, "/").await.status, 200);
    acknowledged(&nodes.through(&parent, 0)).await;
    let there = nodes.through(&thief, 2);
    unanswered(&nodes, async {
        let answer = there.get("/").await;
        assert_eq!((answer.status, answer.sets_cookies()), (503, false));
    })
    .await;
    ended_by_theft(&nodes, &alice).await;
}

#[tokio::test]
async fn an_abandoned_token_whose_sighting_was_not_confirmed_ends_its_session_on_every_node() {
    let app = App::start().await;
    let nodes = Nodes::three(Gateway::before(&app).with_clock()).await;
    let alice = nodes.signed_in("alice").await;
    alice.drop_cookie(ACCESS);
    let parent = alice.copy();
    assert_eq!(nodes.get(&alice, 0, "/").await.status, 200);
    // The answer went to somebody else, and the browser asks again when it counts as lost.
    let thief = alice.copy().at("127.0.0.66");
    alice.restore(parent.jar());
    nodes.advance(PAST_GRACE);
    assert_eq!(nodes.get(&alice, 0, "/").await.status, 200);
    assert_eq!(alice.generation(), 2);
    assert_eq!(nodes.get(&alice, 1, "/").await.status, 200);
    acknowledged(&nodes.through(&parent, 0)).await;
    let there = nodes.through(&thief, 2);
    unanswered(&nodes, async {
        assert_eq!(there.get("/").await.status, 200);
    })
    .await;
    ended_by_theft(&nodes, &alice).await;
}
