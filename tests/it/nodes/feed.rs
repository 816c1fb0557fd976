//! A node that starts late, or did not hear of what others did for a while, misses nothing; and says so meanwhile.

use super::refused_everywhere;
use crate::harness::wait::until;
use crate::harness::{ACCESS, App, Ask, Gateway, Nodes};

/// Waits until the node says whether it hears of what others do: in its metrics and in `/ready`.
async fn hears(nodes: &Nodes, node: usize, yes: bool) {
    let gateway = &nodes.nodes[node];
    until("the node to say whether it hears", async || {
        let attached = gateway.metric("vestibule_feed_attached", &[]).await;
        let (status, text) = gateway.admin("/ready").await;
        let (want, code) = if yes { (1.0, 200) } else { (0.0, 503) };
        assert_ne!(status, 0, "the admin listener answers");
        let told = yes || text.contains("revocations by other nodes do not arrive");
        (attached == want && status == code && told).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_node_that_starts_later_knows_every_revocation() {
    let app = App::start().await;
    let mut nodes = Nodes::run(1, Gateway::before(&app)).await;
    let by_session = nodes.signed_in("alice").await;
    let kept = nodes.signed_in("alice").await;
    let by_user = nodes.signed_in("bob").await;
    nodes.sign_out(&by_session.copy(), 0).await;
    let revoked = nodes.nodes[0].command(&["session", "revoke", "--user", "bob"]);
    assert!(revoked.status.success());
    nodes.one_more().await;
    // On its very first requests.
    for ended in [&by_session, &by_user] {
        assert_eq!(nodes.get(&ended.copy(), 1, "/").await.status, 401);
    }
    assert_eq!(nodes.get(&kept, 1, "/").await.status, 200);
}

#[tokio::test]
async fn a_feed_that_is_lost_and_regained_misses_nothing() {
    let app = App::start().await;
    let nodes = Nodes::run(2, Gateway::before(&app)).await;
    // Cut: connections break. Stalled: they stay, and nothing comes.
    for how in ["cut", "stalled"] {
        let alice = nodes.through(&nodes.signed_in("alice").await, 0);
        let here = nodes.through(&alice.copy(), 1);
        assert_eq!(here.get("/").await.status, 200);
        let mut events = here.door.open(here.dress(Ask::get("/events"))).await;
        until("a listener", async || (app.listeners() == 1).then_some(())).await;
        let network = &nodes.networks[1];
        match how {
            "cut" => network.down(),
            _ => network.stall(),
        }
        hears(&nodes, 1, false).await;
        nodes.sign_out(&alice, 0).await;
        // It cannot know: the access token is good here for as long as it lives, and no longer.
        assert_eq!(here.get("/").await.status, 200, "{how}");
        app.publish("still open");
        assert!(events.next().await.is_some());
        network.mend();
        hears(&nodes, 1, true).await;
        assert_eq!(here.copy().get("/").await.status, 401, "{how}");
        events.until_over().await;
        until("the app to notice", async || {
            (app.listeners() == 0).then_some(())
        })
        .await;
        refused_everywhere(&nodes, &here).await;
    }
    let losses = nodes.nodes[1]
        .metric("vestibule_feed_losses_total", &[])
        .await;
    assert!(losses >= 2.0, "{losses}");
    nodes.nodes[1]
        .until_logged(&["revocations by other nodes arrive again"])
        .await;
}

#[tokio::test]
async fn a_store_that_is_killed_and_started_again_is_caught_up_with() {
    let app = App::start().await;
    let mut nodes = Nodes::run(2, Gateway::before(&app)).await;
    let alice = nodes.through(&nodes.signed_in("alice").await, 0);
    let bob = nodes.signed_in("bob").await;
    nodes.sign_out(&alice.copy(), 0).await;
    nodes.redis.kill();
    for node in 0..2 {
        hears(&nodes, node, false).await;
        // Whoever is signed in stays so; what was ended stays ended; who must renew is told to come again.
        assert_eq!(nodes.get(&bob, node, "/").await.status, 200);
        assert_eq!(nodes.get(&alice.copy(), node, "/").await.status, 401);
        let renewing = nodes.through(&bob.copy(), node);
        renewing.drop_cookie(ACCESS);
        let answer = renewing.get("/").await;
        assert_eq!((answer.status, answer.sets_cookies()), (503, false));
        let logout = nodes.through(&bob.copy(), node).sign_out().await;
        assert_eq!((logout.status, logout.sets_cookies()), (503, false));
    }
    nodes.redis.start_again();
    for node in 0..2 {
        hears(&nodes, node, true).await;
    }
    // The logout that could not be kept was obeyed where it was asked for, and is nobody's secret; the person asks again.
    refused_everywhere(&nodes, &alice).await;
    let again = nodes.signed_in("bob").await;
    for node in 0..2 {
        assert_eq!(nodes.get(&again, node, "/").await.status, 200);
    }
    let revoked = nodes.nodes[1].command(&["session", "revoke", "--user", "bob"]);
    assert!(revoked.status.success());
    refused_everywhere(&nodes, &again).await;
}
