//! How long a revocation takes to reach every node, measured: from the moment that somebody asks for it until streams of the
//! session on two other nodes have ended.

use std::time::{Duration, Instant};

use crate::harness::browser::sign_out_form;
use crate::harness::client::H2;
use crate::harness::wait::until;
use crate::harness::{App, Ask, Gateway, Nodes};

const REVOCATIONS: usize = 1000;
const AT_ONCE: usize = 25;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: measures a thousand revocations on three nodes"]
async fn a_thousand_revocations_reach_three_nodes_in_time() {
    let app = App::start().await;
    let nodes = Nodes::three(Gateway::before(&app)).await;
    let mut lines: Vec<H2> = Vec::new();
    for node in 0..3 {
        lines.push(nodes.door(node).h2().await);
    }
    let (mut acknowledged, mut obeyed) = (Vec::new(), Vec::new());
    while obeyed.len() < 2 * REVOCATIONS {
        let mut people = Vec::new();
        for _ in 0..AT_ONCE {
            people.push(nodes.signed_in("alice").await);
        }
        let mut streams = Vec::new();
        for (number, person) in people.iter().enumerate() {
            for other in [1, 2] {
                let line = &lines[(number + other) % 3];
                let stream = line.open(person.dress(Ask::get("/events"))).await;
                assert_eq!(stream.status, 200);
                streams.push((number, stream));
            }
        }
        until("all streams are open", async || {
            (app.listeners() == 2 * AT_ONCE).then_some(())
        })
        .await;
        // One after the other within the batch, each on another node.
        let started: Vec<tokio::sync::watch::Sender<Option<Instant>>> = people
            .iter()
            .map(|_| tokio::sync::watch::Sender::new(None))
            .collect();
        let ends: Vec<_> = streams
            .into_iter()
            .map(|(number, mut stream)| {
                let mut asked = started[number].subscribe();
                tokio::spawn(async move {
                    stream.until_over().await;
                    let ended = Instant::now();
                    let asked = *asked.wait_for(Option::is_some).await.unwrap();
                    ended.duration_since(asked.unwrap())
                })
            })
            .collect();
        for (number, person) in people.iter().enumerate() {
            let asked = Instant::now();
            started[number].send_replace(Some(asked));
            let answer = person.send_on(&lines[number % 3], sign_out_form()).await;
            assert!(matches!(answer.status, 200 | 204 | 303));
            acknowledged.push(asked.elapsed());
        }
        for end in ends {
            obeyed.push(end.await.unwrap());
        }
        until("the app to notice", async || {
            (app.listeners() == 0).then_some(())
        })
        .await;
    }
    tell("acknowledged to who asked", &mut acknowledged);
    tell("obeyed by another node", &mut obeyed);
    assert!(
        *obeyed.last().unwrap() < Duration::from_secs(1),
        "the bound"
    );
}

/// Prints the distribution; sorts.
fn tell(what: &str, times: &mut [Duration]) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "{what}: {} times, p50 {:?}, p99 {:?}, max {:?}",
        times.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}
