//! N: abuse of renewals. What others than the session's own can send costs no store access, so nobody is counted by address: an
//! office behind one address renews whenever it likes.
//!
//! Other cases of the section stand with what they are about: guessed passwords, codes and tokens of `[external]`, unknown keys.

use futures_util::future::join_all;

use crate::harness::client::Answer;
use crate::harness::forge::{b64, made_up_refresh_token, unb64};
use crate::harness::nodes::patiently;
use crate::harness::wait::until;
use crate::harness::{ACCESS, App, Ask, Gateway, Nodes, REFRESH};

/// Presents these refresh tokens, each by another browser of one address, fifty at a time.
async fn present(gateway: &Gateway, tokens: &[String]) -> Vec<Answer> {
    let client = gateway.door().h2().await;
    let mut answers = Vec::new();
    for (batch, tokens) in tokens.chunks(50).enumerate() {
        let asks = tokens.iter().enumerate().map(|(n, token)| {
            let ask = Ask::get("/")
                .header("user-agent", format!("browser {batch}/{n}"))
                .header("cookie", format!("{REFRESH}={token}"));
            client.ask(ask)
        });
        answers.extend(join_all(asks).await);
    }
    answers
}

fn refused(answers: &[Answer]) {
    assert_eq!(answers.len(), 1000);
    for answer in answers {
        // Not 503: nobody had to ask the store, which is away.
        assert_eq!(answer.status, 401, "{}", answer.text());
        assert!(!answer.sets_cookies());
    }
}

#[tokio::test]
async fn n03_forged_and_spent_refresh_tokens_cost_no_store_access() {
    let app = App::start().await;
    let nodes = Nodes::run(1, Gateway::before(&app).with_clock()).await;
    let (gateway, network) = (&nodes.nodes[0], &nodes.networks[0]);
    let alice = nodes.signed_in("alice").await;
    let bob = nodes.signed_in("bob").await;
    let parent = alice.copy();
    for browser in [&alice, &bob, &parent] {
        browser.drop_cookie(ACCESS);
    }
    app.forget();

    // Noise, and alice's own token with one bit changed.
    let genuine = unb64(&alice.refresh().unwrap());
    let mut forged: Vec<String> = (0..1000 - 8 * genuine.len())
        .map(|_| made_up_refresh_token())
        .collect();
    for bit in 0..8 * genuine.len() {
        let mut changed = genuine.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        forged.push(b64(&changed));
    }
    network.down();
    refused(&present(gateway, &forged).await);
    assert_eq!(alice.get("/").await.status, 503, "the store is away");
    network.mend();
    // Who has a token renews, from the very same address.
    let answer = patiently(async || alice.get("/").await).await;
    assert_eq!((answer.status, alice.generation()), (200, 1));

    // A spent token ends its session, once; from then on it is refused from memory, and so is the newest.
    until("the acknowledgement", async || {
        assert_eq!(alice.get("/").await.status, 200);
        let answer = parent.copy().get("/").await;
        (answer.status == 200 && !answer.sets_cookies()).then_some(())
    })
    .await;
    nodes.advance(std::time::Duration::from_secs(40));
    let answer = patiently(async || parent.copy().get("/").await).await;
    assert_eq!(answer.status, 401, "{}", answer.text());
    app.forget();
    let spent: Vec<String> = [parent.refresh(), alice.refresh()]
        .into_iter()
        .flatten()
        .cycle()
        .take(1000)
        .collect();
    network.down();
    refused(&present(gateway, &spent).await);
    assert_eq!(bob.get("/").await.status, 503, "the store is away");
    network.mend();
    let answer = patiently(async || bob.get("/").await).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(app.only().one("x-forwarded-user"), Some("bob"));
    gateway
        .until_logged(&["audit", "\"event\":\"replay\""])
        .await;
}
