//! What a provider wants ended: by its session, by the person, on every node, and once.

use super::nodes::{is_open, is_revoked, stream, until};
use super::provider::{alice_there, nodes, there};
use super::*;

fn logout<'a>(bench: &Bench, subject: Option<&'a str>, session: Option<&'a str>) -> Logout<'a> {
    Logout {
        provider: "corp",
        issuer: "https://id.example.com",
        subject,
        session,
        issued_at: bench.now(),
    }
}

fn said() -> Ending {
    Ending::new(Reason::SignedOutThere, By::Provider)
}

impl Bench {
    async fn end_there(&self, logout: &Logout<'_>) -> usize {
        self.sessions.end_at_provider(logout, said()).await.unwrap()
    }
}

#[tokio::test]
async fn l04_a_session_of_the_provider_is_over_on_every_node_with_its_streams() {
    let nodes = nodes(3).await;
    let (one, other) = (&nodes[0], &nodes[2]);
    let meant = one.begin_at("first").await;
    let spared = one.begin_at("second").await;
    let local = one.begin().await;
    let streams = [stream(one, &meant), stream(other, &meant)];
    let spared_stream = stream(other, &spared);
    assert_eq!(other.end_there(&logout(one, None, Some("first"))).await, 1);
    for stream in &streams {
        stream.ended().await;
    }
    for node in &nodes {
        assert!(is_revoked(node, &meant));
        let refusal = refused(Refusal::Revoked);
        assert_eq!(name(&node.renew(&meant).await), refusal);
        assert!(!is_revoked(node, &spared) && !is_revoked(node, &local));
    }
    assert!(is_open(&spared_stream));
    assert_eq!(other.seen.endings(), [Reason::SignedOutThere]);
}

#[tokio::test]
async fn all_sessions_of_a_person_are_over_by_their_subject() {
    let bench = bench().await;
    let pairs = [
        bench.begin_at("first").await,
        bench.begin_at("second").await,
    ];
    let somebody = SignedInThere {
        subject: "b-1".to_owned(),
        ..there(Some("third"))
    };
    let other = bench.begin_as(alice_there(), somebody).await;
    assert_eq!(bench.end_there(&logout(&bench, Some("a-1"), None)).await, 2);
    for pair in &pairs {
        assert!(is_revoked(&bench, pair));
    }
    assert!(!is_revoked(&bench, &other));
    assert_eq!(bench.end_there(&logout(&bench, Some("a-1"), None)).await, 0);
}

#[tokio::test]
async fn a_subject_and_a_session_mean_that_session_and_those_without_a_name() {
    let bench = bench().await;
    let (meant, spared) = (
        bench.begin_at("first").await,
        bench.begin_at("second").await,
    );
    let nameless = bench.begin_as(alice_there(), there(None)).await;
    for (subject, session) in [("b-1", "first"), ("a-1x", "first"), ("", "")] {
        let of_others = logout(&bench, Some(subject), Some(session));
        assert_eq!(bench.end_there(&of_others).await, 0, "{subject} {session}");
    }
    let both = logout(&bench, Some("a-1"), Some("first"));
    assert_eq!(bench.end_there(&both).await, 2);
    assert!(is_revoked(&bench, &meant) && is_revoked(&bench, &nameless));
    assert!(!is_revoked(&bench, &spared));
}

#[tokio::test]
async fn another_provider_or_issuer_ends_nothing() {
    let bench = bench().await;
    let pair = bench.begin_at("first").await;
    let good = logout(&bench, Some("a-1"), Some("first"));
    for bad in [
        Logout {
            provider: "partner",
            ..good
        },
        Logout {
            issuer: "https://id.example.com/",
            ..good
        },
        Logout {
            subject: None,
            session: None,
            ..good
        },
    ] {
        assert_eq!(bench.end_there(&bad).await, 0, "{bad:?}");
    }
    assert!(!is_revoked(&bench, &pair));
    assert_eq!(bench.end_there(&good).await, 1);
}

#[tokio::test]
async fn a_logout_that_comes_again_spares_who_signed_in_since() {
    let nodes = nodes(2).await;
    let (one, other) = (&nodes[0], &nodes[1]);
    one.begin_at("first").await;
    let token = logout(one, Some("a-1"), None);
    assert_eq!(one.end_there(&token).await, 1);
    one.clock.advance(CLOCK_LEEWAY);
    let within = one.begin_at("second").await;
    one.clock.advance(Duration::from_millis(1));
    let after = one.begin_at("third").await;
    // As far as clocks may differ it cannot be told.
    assert_eq!(other.end_there(&token).await, 1);
    assert!(is_revoked(one, &within) && !is_revoked(one, &after));
}

#[tokio::test]
async fn a_logout_that_the_store_could_not_take_is_finished_when_it_can() {
    let bench = bench().await;
    let pair = bench.begin_at("first").await;
    let spared = bench.begin_at("second").await;
    bench.store.broken.store(true, Ordering::SeqCst);
    let token = logout(&bench, None, Some("first"));
    let refused = bench.sessions.end_at_provider(&token, said()).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))));
    assert_eq!(bench.seen.endings(), []);
    bench.store.broken.store(false, Ordering::SeqCst);
    // Whether or not the provider says it once more: many never do.
    until("it is told", async || !bench.seen.endings().is_empty()).await;
    assert_eq!(bench.end_there(&token).await, 0);
    assert_eq!(bench.seen.endings(), [Reason::SignedOutThere]);
    assert!(is_revoked(&bench, &pair));
    assert!(!is_revoked(&bench, &spared));
}
