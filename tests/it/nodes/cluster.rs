//! Three gateways on a Redis cluster of three: a session goes on and ends whichever of both is asked, with a part of the
//! cluster away, and after a failover.

use crate::harness::browser::Browser;
use crate::harness::nodes::patiently;
use crate::harness::redis::{RedisCluster, store_lines};
use crate::harness::wait::until;
use crate::harness::{ACCESS, App, Gateway, PASSWORD};

/// Whoever has these in the cluster has the feed, and the accounts.
const SHARED: &str = "vestibule:{shared}:keys";
const ACCOUNTS: &str = "vestibule:{accounts}";

struct Clustered {
    nodes: Vec<Gateway>,
}

impl Clustered {
    fn three(app: &App, cluster: &RedisCluster) -> Self {
        let lines = store_lines(&cluster.url());
        let node = |_| Gateway::before(app).store(&lines).run();
        Clustered {
            nodes: (0..3).map(node).collect(),
        }
    }

    fn through(&self, browser: &Browser, node: usize) -> Browser {
        let mut browser = browser.clone();
        browser.door.to = self.nodes[node].addr;
        browser
    }

    async fn signed_in(&self, user: &str) -> Browser {
        let browser = self.nodes[0].anon();
        let answer = patiently(async || browser.sign_in(user, PASSWORD, "/").await).await;
        assert_eq!(answer.status, 303, "{}", answer.text());
        browser
    }

    /// Without its access token; what the node says to what it has left.
    async fn renews(&self, browser: &Browser, node: usize) -> u16 {
        let at = self.through(browser, node);
        at.drop_cookie(ACCESS);
        patiently(async || at.get("/").await).await.status
    }

    /// Signs out at a node; all refuse both tokens from then on.
    async fn ends_everywhere(&self, browser: &Browser, node: usize) {
        let stolen = browser.copy();
        for node in 0..3 {
            assert_eq!(self.through(&stolen, node).get("/").await.status, 200);
        }
        let at = self.through(browser, node);
        let answer = patiently(async || at.sign_out().await).await;
        assert_eq!(answer.status, 204, "{}", answer.text());
        self.refuse(&stolen).await;
    }

    async fn refuse(&self, browser: &Browser) {
        for node in 0..3 {
            let at = self.through(browser, node);
            until("the node to obey", async || {
                (at.copy().get("/").await.status == 401).then_some(())
            })
            .await;
            assert_eq!(self.renews(&browser.copy(), node).await, 401);
        }
    }

    async fn hear(&self) {
        for node in &self.nodes {
            until("the node to hear of the others", async || {
                let attached = node.metric("vestibule_feed_attached", &[]).await;
                let ready = node.admin("/ready").await.0;
                (attached == 1.0 && ready == 200).then_some(())
            })
            .await;
        }
    }

    async fn nobody_was_accused(&self) {
        for node in &self.nodes {
            assert_eq!(node.metric("vestibule_replays_total", &[]).await, 0.0);
            assert!(node.logged(&["panicked"]).is_empty());
        }
    }
}

#[tokio::test]
async fn a_session_goes_on_and_ends_on_all_nodes_of_a_cluster() {
    let app = App::start().await;
    let cluster = RedisCluster::start();
    let nodes = Clustered::three(&app, &cluster);
    let alice = nodes.signed_in("alice").await;
    let first = alice.copy();
    for round in 0..6 {
        assert_eq!(nodes.renews(&alice, round % 3).await, 200);
        assert_eq!(alice.generation(), round as u64 + 1);
    }
    nodes.nobody_was_accused().await;
    let bob = nodes.signed_in("bob").await;
    nodes.ends_everywhere(&bob, 1).await;
    // Whoever comes with a spent token is found out, and everybody hears of it.
    assert_eq!(nodes.renews(&first.at("127.0.0.66"), 2).await, 401);
    nodes.refuse(&alice).await;
    nodes.nodes[2].until_logged(&["audit", "\"replay\""]).await;
}

#[tokio::test]
async fn a_part_of_a_cluster_that_is_away_signs_nobody_out_and_holds_up_nobody_else() {
    let app = App::start().await;
    // The others go on without it.
    let mut cluster = RedisCluster::with("cluster-require-full-coverage no");
    let nodes = Clustered::three(&app, &cluster);
    // One of the three has neither the accounts nor what all nodes share.
    let kept = [cluster.owner_of(SHARED), cluster.owner_of(ACCOUNTS)];
    let lost = (0..3).find(|node| !kept.contains(node)).unwrap();
    let (mut there, mut elsewhere) = (Vec::new(), Vec::new());
    while there.is_empty() || elsewhere.len() < 2 {
        let browser = nodes.signed_in("alice").await;
        let session = browser.session();
        let key = cluster.nodes.iter().find_map(|node| {
            let found = node.cli(&["KEYS", &format!("*:{session}")]);
            (!found.is_empty()).then_some(found)
        });
        match cluster.owner_of(&key.unwrap()) == lost {
            true => there.push(browser),
            false => elsewhere.push(browser),
        }
    }
    let there = there.remove(0);

    cluster.nodes[lost].kill();
    // Whoever is signed in stays so; who must renew is told to come again, and keeps what they have.
    assert_eq!(there.get("/").await.status, 200);
    let jar = there.jar();
    for node in 0..3 {
        let renewing = nodes.through(&there.copy(), node);
        renewing.drop_cookie(ACCESS);
        let answer = renewing.get("/").await;
        assert_eq!((answer.status, answer.sets_cookies()), (503, false));
        assert!(answer.header("retry-after").is_some());
        until("readiness to tell", async || {
            let (status, why) = nodes.nodes[node].admin("/ready").await;
            (status == 503 && why.contains("a part of it is away")).then_some(())
        })
        .await;
    }
    let signed_out = nodes.through(&there, 1).sign_out().await;
    assert_eq!((signed_out.status, signed_out.sets_cookies()), (503, false));
    assert_eq!(there.jar(), jar);
    // All others renew and end their sessions.
    for (number, browser) in elsewhere.iter().enumerate() {
        assert_eq!(nodes.renews(browser, number % 3).await, 200);
        nodes.ends_everywhere(browser, (number + 1) % 3).await;
    }

    cluster.nodes[lost].start_again();
    cluster.settled();
    nodes.hear().await;
    // The end that could not be confirmed is, by now.
    nodes.refuse(&there).await;
    let again = nodes.signed_in("alice").await;
    assert_eq!(nodes.renews(&again, 2).await, 200);
    nodes.nobody_was_accused().await;
}

#[tokio::test]
async fn a_failover_within_a_cluster_is_followed_and_signs_nobody_out() {
    let app = App::start().await;
    let mut cluster = RedisCluster::start();
    let nodes = Clustered::three(&app, &cluster);
    let mut browsers = Vec::new();
    for round in 0..6 {
        let browser = nodes.signed_in("alice").await;
        assert_eq!(nodes.renews(&browser, round % 3).await, 200);
        browsers.push(browser);
    }
    // The one that goes has the feed.
    let master = cluster.owner_of(SHARED);
    let replica = cluster.add_replica_of(master);
    cluster.nodes[master].kill();
    for browser in &browsers {
        assert_eq!(browser.get("/").await.status, 200);
    }
    until("a node to notice that it hears nothing", async || {
        let losses = nodes.nodes[0].metric("vestibule_feed_losses_total", &[]);
        (losses.await > 0.0).then_some(())
    })
    .await;
    cluster.take_over(replica);
    nodes.hear().await;
    for (number, browser) in browsers.iter().enumerate() {
        assert_eq!(nodes.renews(browser, number % 3).await, 200);
        nodes.ends_everywhere(browser, (number + 1) % 3).await;
    }
    nodes.nobody_was_accused().await;
}
