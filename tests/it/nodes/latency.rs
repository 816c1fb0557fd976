//! How long a revocation takes to reach every node, measured: from the moment that somebody asks for it until what flows for
//! the session on the two other nodes has ended: events over HTTP/2, a WebSocket, a long download over HTTP/1.1.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;

use crate::attacks::open_socket;
use crate::attacks::w_upgrade::Socket;
use crate::harness::browser::{Browser, sign_out_form};
use crate::harness::client::{Flow, H2};
use crate::harness::wait::{until, within};
use crate::harness::{App, Ask, Gateway, Nodes, ORIGIN};

const REVOCATIONS: usize = 1000;
const AT_ONCE: usize = 25;
/// The target of the contract, and its bound.
const TARGET: Duration = Duration::from_millis(100);
const BOUND: Duration = Duration::from_secs(1);

/// What flows for each session, on each of the two nodes.
const KINDS: [&str; 3] = [
    "events over HTTP/2",
    "a WebSocket",
    "a download over HTTP/1.1",
];

/// Something that flows for one session.
enum Open {
    Body(Flow),
    Socket(Box<Socket>),
}

impl Open {
    /// One of each kind, on the node at `line`'s other end.
    async fn all(person: &Browser, line: &H2) -> [Self; KINDS.len()] {
        let events = line.open(person.dress(Ask::get("/events"))).await;
        let socket = open_socket(person, "/socket", ORIGIN).await.unwrap();
        let download = person.dress(Ask::get(DOWNLOAD));
        let mut download = person.door.open(download).await;
        assert_eq!((events.status, download.status), (200, 200));
        assert_eq!(
            download.next().await.as_deref(),
            Some(&b"the first of it"[..])
        );
        [
            Open::Body(events),
            Open::Socket(Box::new(socket)),
            Open::Body(download),
        ]
    }

    async fn until_over(&mut self) {
        match self {
            Open::Body(flow) => _ = flow.until_over().await,
            Open::Socket(socket) => {
                within("the socket ends", async {
                    while let Some(Ok(_)) = socket.next().await {}
                })
                .await;
            }
        }
    }
}

/// A path whose answer is long and on its way.
const DOWNLOAD: &str = "/long";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: measures a thousand revocations on three nodes"]
async fn a_thousand_revocations_reach_three_nodes_in_time() {
    let app = App::start().await;
    app.script(
        DOWNLOAD,
        "HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\nthe first of it",
    );
    let setup = Gateway::before(&app).limits("body_idle_timeout = \"10m\"\n");
    let nodes = Nodes::three(setup).await;
    let mut lines: Vec<H2> = Vec::new();
    for node in 0..3 {
        lines.push(nodes.door(node).h2().await);
    }
    let mut acknowledged = Vec::new();
    let mut obeyed: [Vec<Duration>; KINDS.len()] = Default::default();
    while acknowledged.len() < REVOCATIONS {
        let mut people = Vec::new();
        for _ in 0..AT_ONCE {
            people.push(nodes.signed_in("alice").await);
        }
        let mut streams = Vec::new();
        for (number, person) in people.iter().enumerate() {
            for other in [1, 2] {
                let node = (number + other) % 3;
                let there = nodes.through(person, node);
                let all = Open::all(&there, &lines[node]).await;
                for (kind, open) in all.into_iter().enumerate() {
                    streams.push((number, kind, open));
                }
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
            .map(|(number, kind, mut open)| {
                let mut asked = started[number].subscribe();
                tokio::spawn(async move {
                    open.until_over().await;
                    let ended = Instant::now();
                    let asked = *asked.wait_for(Option::is_some).await.unwrap();
                    (kind, ended.duration_since(asked.unwrap()))
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
            let (kind, took) = end.await.unwrap();
            obeyed[kind].push(took);
        }
        until("the app to notice", async || {
            (app.listeners() == 0).then_some(())
        })
        .await;
    }
    tell("acknowledged to who asked", &mut acknowledged);
    let judged = obeyed.iter_mut().zip(KINDS).map(|(times, kind)| {
        (
            kind,
            tell(&format!("obeyed by another node, {kind}"), times),
        )
    });
    // All are told before one is found wanting.
    for (kind, (p99, most)) in judged.collect::<Vec<_>>() {
        assert!(p99 <= TARGET, "{kind}: the target, {p99:?}");
        assert!(most < BOUND, "{kind}: the bound, {most:?}");
    }
}

/// Prints the distribution, after sorting; the 99th percentile and the longest.
fn tell(what: &str, times: &mut [Duration]) -> (Duration, Duration) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "{what}: {} times, p50 {:?}, p99 {:?}, max {:?}",
        times.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    (at(0.99), at(1.0))
}
