//! Signing keys are the same on all nodes, also while they change.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::join_all;

use crate::harness::browser::as_fetch;
use crate::harness::nodes::patiently;
use crate::harness::wait::until;
use crate::harness::{ACCESS, App, Ask, Gateway, Nodes};

async fn key_ids(nodes: &Nodes, node: usize) -> Vec<String> {
    let answer = nodes.door(node).ask(Ask::get("/.auth/jwks.json")).await;
    let mut ids: Vec<String> = answer.json()["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn nodes_that_start_together_sign_with_the_same_key() {
    let app = App::start().await;
    let nodes = Nodes::three(Gateway::before(&app)).await;
    let first = key_ids(&nodes, 0).await;
    assert_eq!(first.len(), 1);
    for node in 1..3 {
        assert_eq!(key_ids(&nodes, node).await, first);
    }
}

#[tokio::test]
async fn r14_a_new_signing_key_under_load_refuses_nobody_on_any_node() {
    let app = App::start().await;
    let nodes = Nodes::three(Gateway::before(&app)).await;
    let mut browsers = Vec::new();
    for _ in 0..6 {
        browsers.push(nodes.signed_in("alice").await);
    }
    let mut connections = Vec::new();
    for node in 0..3 {
        connections.push(nodes.door(node).h2().await);
    }
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let load = join_all(browsers.iter().enumerate().map(async |(number, browser)| {
        let mut round = number;
        while !stop.load(Ordering::SeqCst) {
            round += 1;
            if round.is_multiple_of(5) {
                browser.drop_cookie(ACCESS);
            }
            let ask = as_fetch(Ask::get("/"));
            let line = &connections[round % 3];
            let answer = patiently(async || browser.send_on(line, ask.clone()).await).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            asked.fetch_add(1, Ordering::SeqCst);
        }
    }));
    let rotations = async {
        let mut known = key_ids(&nodes, 0).await;
        for round in 0..3 {
            let before = asked.load(Ordering::SeqCst);
            let rotated = nodes.nodes[round].command(&["keys", "rotate"]);
            assert!(rotated.status.success());
            for node in 0..3 {
                known = until("the new key", async || {
                    let ids = key_ids(&nodes, node).await;
                    (ids.len() == round + 2 && known.iter().all(|id| ids.contains(id)))
                        .then_some(ids)
                })
                .await;
            }
            until("load under the new key", async || {
                (asked.load(Ordering::SeqCst) > before + 60).then_some(())
            })
            .await;
        }
        stop.store(true, Ordering::SeqCst);
    };
    tokio::join!(load, rotations);
}
