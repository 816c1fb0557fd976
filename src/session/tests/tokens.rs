//! Access tokens and the keys that sign them.

use super::*;

#[tokio::test]
async fn a_verified_token_is_remembered_until_it_expires_exactly() {
    let bench = bench().await;
    let first = bench.begin().await;
    let AccessFinding::Valid(one) = bench.check(&first) else {
        panic!("refused")
    };
    let AccessFinding::Valid(two) = bench.check(&first) else {
        panic!("refused")
    };
    assert!(Arc::ptr_eq(&one, &two), "the second check was a lookup");
    bench.clock.advance(seconds(300) - Duration::from_millis(1));
    assert!(matches!(bench.check(&first), AccessFinding::Valid(_)));
    bench.clock.advance(Duration::from_millis(1));
    assert!(matches!(
        bench.check(&first),
        AccessFinding::Bad(TokenError::Expired)
    ));
    assert_eq!(bench.sessions.held().1, 0);
    let mut forged = first.access.clone();
    forged.replace_range(..1, "f");
    assert!(matches!(
        bench.sessions.check_access(forged.as_bytes(), START),
        AccessFinding::Bad(_)
    ));
}

#[tokio::test]
async fn keys_overlap_and_retire() {
    let bench = bench().await;
    let first = bench.begin().await;
    assert!(matches!(bench.check(&first), AccessFinding::Valid(_)));
    let kid = bench
        .sessions
        .rotate_keys(By::CommandLine, bench.now())
        .await
        .unwrap();
    assert!(matches!(bench.check(&first), AccessFinding::Valid(_)));
    let keys = bench.sessions.key_list().await;
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[1].kid, kid);
    assert_eq!(keys[0].retires_at, Some(START.plus(seconds(360))));
    bench.clock.advance(seconds(299));
    assert!(matches!(bench.check(&first), AccessFinding::Valid(_)));
    bench.clock.advance(seconds(61));
    bench.sessions.forget_over(bench.now()).await;
    assert_eq!(bench.sessions.key_list().await.len(), 1);
    assert!(matches!(
        bench.sessions.check_access(first.access.as_bytes(), START),
        AccessFinding::Bad(TokenError::Unknown)
    ));
}

#[tokio::test]
async fn what_does_not_fit_a_cookie_is_refused_at_sign_in_and_never_later() {
    let bench = bench().await;
    let mut large = alice();
    large.groups = (0..1000).map(|n| format!("group-{n}")).collect();
    assert!(matches!(
        bench.sessions.begin(large, &browser(1), START).await,
        Err(BeginError::TooLarge(_))
    ));
    assert!(bench.store.sessions(None, START).await.unwrap().is_empty());
    let first = bench.begin().await;
    bench.accounts.bloated.store(true, Ordering::SeqCst);
    assert_eq!(bench.issued(&first).await.generation, Generation(1));
    assert_eq!(bench.record(&first).await.identity, alice());
}
