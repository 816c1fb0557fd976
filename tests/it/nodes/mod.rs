//! Several gateways on one Redis, as behind a load balancer: sessions go on whichever node is asked, end on all of them,
//! and whatever breaks between nodes and store logs nobody out.

mod accounts;
mod cluster;
mod feed;
mod keys;
mod latency;
mod revoke;
mod rotate;
mod soak;

use std::time::Duration;

use crate::harness::browser::Browser;
use crate::harness::nodes::patiently;
use crate::harness::wait::until;
use crate::harness::{ACCESS, Nodes};

/// Longer than `replay_grace` and `redelivery_window`, shorter than `access_ttl`.
const PAST_GRACE: Duration = Duration::from_secs(40);

/// Every node refuses these cookies, soon; and goes on doing so, with the access token as with the refresh token.
pub(crate) async fn refused_everywhere(nodes: &Nodes, browser: &Browser) {
    for node in 0..nodes.nodes.len() {
        let at = nodes.through(&browser.copy(), node);
        until("the node to obey", async || {
            (at.copy().get("/").await.status == 401).then_some(())
        })
        .await;
        at.drop_cookie(ACCESS);
        assert_eq!(
            nodes.get(&at, node, "/").await.status,
            401,
            "the refresh token, node {node}"
        );
    }
}

/// Waits until the store knows that the newest generation was received: `parent`, who has the spent token, is served and
/// no longer brought the newest pair.
async fn acknowledged(parent: &Browser) {
    until("the acknowledgement", async || {
        let answer = patiently(async || parent.copy().get("/").await).await;
        assert_eq!(answer.status, 200);
        (!answer.sets_cookies()).then_some(())
    })
    .await;
}
