//! Renewals on several nodes: one winner, whoever asks where, however slow the store, whoever dies in between.

use std::time::Duration;

use futures_util::future::join_all;

use super::{PAST_GRACE, acknowledged, refused_everywhere};
use crate::harness::app::{blob_bytes, sha256};
use crate::harness::browser::{Browser, as_fetch};
use crate::harness::client::H2;
use crate::harness::nodes::patiently;
use crate::harness::wait::until;
use crate::harness::{ACCESS, App, Ask, Gateway, Nodes, REFRESH};

async fn renewals(nodes: &Nodes, outcome: &str) -> f64 {
    let label = format!("outcome=\"{outcome}\"");
    nodes.metric("vestibule_renewals_total", &[&label]).await
}

/// One HTTP/2 connection to each node.
async fn connections(nodes: &Nodes) -> Vec<H2> {
    let mut connections = Vec::new();
    for node in &nodes.nodes {
        connections.push(node.door().h2().await);
    }
    connections
}

#[tokio::test]
async fn i01_a_renewal_on_one_node_spends_the_token_on_all() {
    let app = App::start().await;
    let nodes = Nodes::three(Gateway::before(&app).with_clock()).await;
    let alice = nodes.signed_in("alice").await;
    for round in 0..6 {
        let spent = alice.copy();
        spent.drop_cookie(ACCESS);
        nodes.outlive_access_token();
        assert_eq!(nodes.get(&alice, round % 3, "/").await.status, 200);
        assert_eq!(alice.generation(), round as u64 + 1);
        assert_ne!(alice.refresh(), spent.refresh());
        // Any node takes the new pair, and learns by it that it was received.
        assert_eq!(nodes.get(&alice, (round + 1) % 3, "/").await.status, 200);
        acknowledged(&nodes.through(&spent, (round + 2) % 3)).await;
    }
    assert_eq!(renewals(&nodes, "rotated").await, 6.0);
    assert_eq!(renewals(&nodes, "replay").await, 0.0);
}

#[tokio::test]
async fn i02_reuse_on_one_node_ends_the_family_on_all() {
    let app = App::start().await;
    let nodes = Nodes::three(Gateway::before(&app).with_clock()).await;
    let alice = nodes.signed_in("alice").await;
    let thief = alice.copy().at("127.0.0.66");
    thief.drop_cookie(ACCESS);
    nodes.outlive_access_token();
    assert_eq!(nodes.get(&alice, 0, "/").await.status, 200);
    assert_eq!(nodes.get(&alice, 1, "/").await.status, 200);
    acknowledged(&nodes.through(&thief, 2)).await;
    nodes.advance(PAST_GRACE);
    let session = alice.session();
    assert_eq!(nodes.get(&thief, 2, "/").await.status, 401);
    refused_everywhere(&nodes, &alice).await;
    nodes.nodes[2]
        .until_logged(&["audit", "\"replay\"", &session])
        .await;
}

#[tokio::test]
async fn i03_fifty_requests_on_three_nodes_share_one_renewal() {
    let app = App::start().await;
    let nodes = Nodes::three(Gateway::before(&app).with_clock()).await;
    let alice = nodes.signed_in("alice").await;
    nodes.outlive_access_token();
    alice.drop_cookie(ACCESS);
    let connections = connections(&nodes).await;
    let answers = join_all((0..51).map(|i| {
        let (alice, connection) = (alice.clone(), connections[i % 3].clone());
        async move {
            let ask = as_fetch(Ask::get(&format!("/herd/{i}")));
            patiently(async || alice.send_on(&connection, ask.clone()).await).await
        }
    }))
    .await;
    for answer in &answers {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let mut pairs: Vec<String> = answers
        .iter()
        .flat_map(|answer| answer.all("set-cookie"))
        .filter(|line| line.starts_with(REFRESH))
        .map(|line| line.split(';').next().unwrap().to_owned())
        .collect();
    assert!(!pairs.is_empty());
    pairs.dedup();
    assert_eq!(pairs.len(), 1, "several refresh tokens were handed out");
    assert_eq!(renewals(&nodes, "rotated").await, 1.0);
    assert_eq!(app.seen().len(), 51);
}

#[tokio::test]
async fn i04_an_answer_lost_by_one_node_is_delivered_again_by_another() {
    let app = App::start().await;
    let nodes = Nodes::three(Gateway::before(&app).with_clock()).await;
    let alice = nodes.signed_in("alice").await;
    nodes.outlive_access_token();
    alice.drop_cookie(ACCESS);
    let old = alice.jar();
    assert_eq!(nodes.get(&alice, 0, "/").await.status, 200);
    let successor = alice.refresh();
    alice.restore(old.clone());
    nodes.advance(Duration::from_secs(5));
    assert_eq!(nodes.get(&alice, 1, "/").await.status, 200);
    assert_eq!(alice.refresh(), successor, "the same successor");
    // Lost for good: the third node makes a newer one, and whoever shows up with the lost one is a thief.
    let lost = alice.copy().at("127.0.0.66");
    alice.restore(old);
    nodes.advance(PAST_GRACE);
    assert_eq!(nodes.get(&alice, 2, "/").await.status, 200);
    assert_eq!(alice.generation(), 2);
    let _ = nodes.get(&lost, 0, "/").await;
    refused_everywhere(&nodes, &alice).await;
}

#[tokio::test]
async fn i05_grace_does_not_span_generations_across_nodes() {
    let app = App::start().await;
    let nodes = Nodes::three(Gateway::before(&app)).await;
    let alice = nodes.signed_in("alice").await;
    let first = alice.copy();
    for node in 0..2 {
        alice.drop_cookie(ACCESS);
        assert_eq!(nodes.get(&alice, node, "/").await.status, 200);
    }
    assert_eq!(alice.generation(), 2);
    first.drop_cookie(ACCESS);
    assert_eq!(nodes.get(&first, 2, "/").await.status, 401);
    refused_everywhere(&nodes, &alice).await;
}

#[tokio::test]
async fn i10_a_body_waits_for_the_renewal_while_another_node_renews_too() {
    let app = App::start().await;
    let nodes = Nodes::three(Gateway::before(&app).with_clock()).await;
    let alice = nodes.signed_in("alice").await;
    nodes.outlive_access_token();
    alice.drop_cookie(ACCESS);
    let body = blob_bytes(0, 10 << 20);
    let ask = as_fetch(Ask::post("/upload", body.clone()));
    let here = nodes.through(&alice, 0);
    let (uploaded, other) = tokio::join!(
        patiently(async || here.send(ask.clone()).await),
        nodes.get(&alice, 1, "/other")
    );
    assert_eq!((uploaded.status, other.status), (200, 200));
    let uploads: Vec<_> = app
        .seen()
        .into_iter()
        .filter(|seen| seen.target == "/upload")
        .collect();
    assert_eq!(uploads.len(), 1);
    assert_eq!(uploads[0].body_hash, sha256(&body));
    assert_eq!(alice.generation(), 1);
}

#[tokio::test]
async fn i12_a_session_ends_at_its_absolute_age_whichever_nodes_it_visits() {
    let app = App::start().await;
    let nodes = Nodes::three(Gateway::before(&app).with_clock()).await;
    let alice = nodes.signed_in("alice").await;
    let day = Duration::from_secs(86_400);
    for round in 1..=8 {
        nodes.advance(day * 10);
        alice.drop_cookie(ACCESS);
        let answer = nodes.get(&alice, round % 3, "/").await;
        assert_eq!(answer.status, 200, "after {} days", round * 10);
        assert_eq!(nodes.get(&alice, (round + 1) % 3, "/").await.status, 200);
    }
    nodes.advance(day * 10 + Duration::from_secs(1));
    refused_everywhere(&nodes, &alice).await;
}

const SESSIONS: usize = 25;
const ROUNDS: usize = 40;

#[tokio::test]
async fn r12_one_token_on_two_nodes_at_once_a_thousand_times_has_one_winner_each() {
    let app = App::start().await;
    let nodes = Nodes::three(Gateway::before(&app)).await;
    let connections = connections(&nodes).await;
    let mut browsers = Vec::new();
    for _ in 0..SESSIONS {
        browsers.push(nodes.signed_in("alice").await);
    }
    join_all(browsers.iter().enumerate().map(async |(number, browser)| {
        for round in 0..ROUNDS {
            browser.drop_cookie(ACCESS);
            let spent = browser.refresh();
            let at = |step: usize| &connections[(number + round + step) % 3];
            // Each time a little earlier or later.
            let later = Duration::from_micros((round * 173 % 4000) as u64);
            // Both with what the browser had when both were sent.
            let ask = |target: &str| {
                let cookie = format!("{REFRESH}={}", spent.clone().unwrap());
                as_fetch(Ask::get(target)).header("cookie", cookie)
            };
            let (one, other) = tokio::join!(
                patiently(async || browser.send_on(at(0), ask("/one")).await),
                async {
                    tokio::time::sleep(later).await;
                    patiently(async || browser.send_on(at(1), ask("/other")).await).await
                }
            );
            assert_eq!((one.status, other.status), (200, 200));
            assert_eq!(browser.generation(), round as u64 + 1);
            assert_eq!(
                browser
                    .send_on(at(2), as_fetch(Ask::get("/used")))
                    .await
                    .status,
                200
            );
        }
    }))
    .await;
    assert_eq!(
        renewals(&nodes, "rotated").await,
        (SESSIONS * ROUNDS) as f64
    );
    for never in ["replay", "refused", "healed", "reissued"] {
        assert_eq!(renewals(&nodes, never).await, 0.0, "{never}");
    }
}

#[tokio::test]
async fn a_slow_store_signs_nobody_out_and_spends_nothing_twice() {
    let app = App::start().await;
    let nodes = Nodes::three(Gateway::before(&app)).await;
    let mut browsers = Vec::new();
    for _ in 0..8 {
        let browser = nodes.signed_in("alice").await;
        assert_eq!(nodes.get(&browser, 0, "/").await.status, 200);
        browsers.push(browser);
    }
    for most in [Duration::from_millis(200), Duration::from_secs(5)] {
        for network in &nodes.networks {
            network.delay(Duration::ZERO, most);
        }
        // Each asks two nodes at once, and again while the answer is "not now".
        join_all(browsers.iter().map(async |browser| {
            browser.drop_cookie(ACCESS);
            for round in 0..4 {
                let before = browser.jar();
                let (here, there) = (
                    nodes.through(browser, round % 3),
                    nodes.through(browser, (round + 1) % 3),
                );
                let (one, other) = tokio::join!(here.get("/"), there.get("/"));
                for answer in [&one, &other] {
                    assert!(matches!(answer.status, 200 | 503), "{}", answer.text());
                    assert!(answer.status == 200 || answer.header("retry-after").is_some());
                    assert!(answer.status == 200 || !answer.sets_cookies());
                }
                if one.status == 503 && other.status == 503 {
                    assert_eq!(browser.jar(), before);
                }
            }
        }))
        .await;
    }
    nodes.networks.iter().for_each(|network| network.mend());
    for (number, browser) in browsers.iter().enumerate() {
        let at = nodes.through(browser, number % 3);
        until("the session to go on", async || {
            let answer = at.get("/").await;
            assert!(matches!(answer.status, 200 | 503), "{}", answer.text());
            (answer.status == 200).then_some(())
        })
        .await;
        at.drop_cookie(ACCESS);
        until("the session to be renewed", async || {
            let answer = at.get("/").await;
            assert!(matches!(answer.status, 200 | 503), "{}", answer.text());
            (answer.status == 200).then_some(())
        })
        .await;
    }
    assert_eq!(renewals(&nodes, "replay").await, 0.0);
    assert_eq!(renewals(&nodes, "refused").await, 0.0);
}

/// Ends node 0 by force after the store has committed its renewal and before it hears of that.
async fn die_after_commit(nodes: &mut Nodes, browser: &Browser) {
    let commits = nodes.store_calls("evalsha");
    nodes.networks[0].swallow_answers_to("EVALSHA");
    let lost = nodes.through(&browser.copy(), 0);
    let asked = tokio::spawn(async move { lost.try_send(as_fetch(Ask::get("/"))).await });
    until("the commit", async || {
        let committed = nodes.store_calls("evalsha") > commits;
        (committed && nodes.networks[0].swallowed() > 0).then_some(())
    })
    .await;
    nodes.nodes[0].kill();
    let answer = asked.await.unwrap();
    assert!(answer.is_err() || answer.unwrap().status == 503);
    nodes.networks[0].mend();
    nodes.networks[0].cut();
}

#[tokio::test]
async fn a_node_that_dies_between_commit_and_answer_loses_no_session() {
    let app = App::start().await;
    let mut nodes = Nodes::three(Gateway::before(&app).with_clock()).await;
    let alice = nodes.through(&nodes.signed_in("alice").await, 1);
    // The scripts are known to the store, and nothing else is under way.
    alice.drop_cookie(ACCESS);
    assert_eq!(nodes.get(&alice, 1, "/").await.status, 200);
    let mut generation = 1;
    for wait in [Duration::ZERO, PAST_GRACE] {
        assert_eq!(nodes.get(&alice, 1, "/").await.status, 200);
        nodes.outlive_access_token();
        alice.drop_cookie(ACCESS);
        die_after_commit(&mut nodes, &alice).await;
        nodes.advance(wait);
        // The same browser asks the next node with what it has.
        let answer = nodes.get(&alice, 1, "/").await;
        assert_eq!((answer.status, answer.sets_cookies()), (200, true));
        generation += if wait.is_zero() { 1 } else { 2 };
        assert_eq!(alice.generation(), generation);
        nodes.nodes[0].start_again();
        assert_eq!(nodes.get(&alice, 0, "/").await.status, 200);
    }
    assert_eq!(renewals(&nodes, "replay").await, 0.0);
}
