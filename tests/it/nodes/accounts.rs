//! What happens to an account at one node holds on every node: at once, or from the next renewal on.

use super::refused_everywhere;
use crate::harness::nodes::patiently;
use crate::harness::{ACCESS, App, Gateway, Nodes, PASSWORD};

const OTHER: &str = "another correct horse 8!";

fn done(output: &std::process::Output) {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
async fn a_block_and_a_new_password_take_effect_at_once_on_every_node() {
    let app = App::start().await;
    let nodes = Nodes::three(Gateway::before(&app)).await;
    let alice = nodes.signed_in("alice").await;
    let bob = nodes.signed_in("bob").await;
    for node in 0..3 {
        assert_eq!(nodes.get(&alice, node, "/").await.status, 200);
    }
    done(&nodes.nodes[0].command(&["user", "block", "alice"]));
    refused_everywhere(&nodes, &alice).await;
    for node in 0..3 {
        let anon = nodes.through(&nodes.anon(), node);
        let answer = patiently(async || anon.sign_in("alice", PASSWORD, "/").await).await;
        assert!(!answer.sets_cookies(), "{}", answer.status);
    }
    done(&nodes.nodes[1].command(&["user", "unblock", "alice"]));
    // What was ended stays so.
    refused_everywhere(&nodes, &alice).await;
    let again = nodes.signed_in("alice").await;

    done(&nodes.nodes[2].command_with(&["user", "password", "alice"], &format!("{OTHER}\n")));
    refused_everywhere(&nodes, &again).await;
    for node in 0..2 {
        let anon = nodes.through(&nodes.anon(), node);
        let old = patiently(async || anon.sign_in("alice", PASSWORD, "/").await).await;
        assert!(!old.sets_cookies(), "{}", old.status);
        let new = patiently(async || anon.sign_in("alice", OTHER, "/").await).await;
        assert_eq!(new.status, 303);
    }
    assert_eq!(nodes.get(&bob, 0, "/").await.status, 200);
}

#[tokio::test]
async fn new_groups_hold_from_the_next_renewal_on_whichever_node_does_it() {
    let app = App::start().await;
    let nodes = Nodes::three(Gateway::before(&app)).await;
    let bob = nodes.signed_in("bob").await;
    let staff = async |node: usize| nodes.get(&bob, node, "/staff").await.status;
    assert_eq!(staff(1).await, 403);
    done(&nodes.nodes[0].command(&["user", "change", "bob", "--group", "staff"]));
    assert_eq!(staff(1).await, 403, "the token says so until it is renewed");
    bob.drop_cookie(ACCESS);
    assert_eq!(staff(2).await, 200);
    assert_eq!(app.last().one("x-forwarded-groups"), Some("staff"));
    done(&nodes.nodes[1].command(&["user", "groups", "bob", "--no-groups"]));
    bob.drop_cookie(ACCESS);
    assert_eq!(staff(0).await, 403);
}
