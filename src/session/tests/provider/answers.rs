//! What the answers of a provider do to a session, and what is kept of them.

use super::*;

#[tokio::test]
async fn i09_a_silent_provider_ends_nothing_and_after_its_grace_renewals_wait_for_it() {
    let bench = bench().await;
    let mut pair = bench.begin_there().await;
    bench.talker.is_silent();
    let mut asked = 0;
    for _ in 0..4 {
        bench.clock.advance(in_background());
        if bench.now().since(START) > CHECK + GRACE {
            break;
        }
        pair = bench.issued(&pair).await;
        asked += 1;
        until("it was asked", async || bench.talker.asked() == asked).await;
        until("and left alone", async || {
            let asking = bench.part(&pair).await.asking;
            asking.is_some_and(|asking| asking.by.is_none())
        })
        .await;
        // Not again at once.
        bench.acknowledge(&pair).await;
        pair = bench.issued(&pair).await;
        assert_eq!(bench.talker.asked(), asked);
    }
    assert!(asked >= 3);
    bench.clock.advance(GRACE);
    for _ in 0..3 {
        match bench.renew(&pair).await {
            Renewal::ProviderSilent { retry_after } => assert!(retry_after <= seconds(5)),
            other => panic!("{}", name(&other)),
        }
    }
    assert_eq!(bench.talker.asked(), asked + 1, "left alone for a moment");
    let record = bench.record(&pair).await;
    assert_eq!(
        (record.revoked_at, record.lineage.newest),
        (None, pair.generation)
    );

    bench.clock.advance(seconds(5));
    bench.talker.say(None);
    bench.issued(&pair).await;
    assert_eq!(bench.seen.endings(), []);
    assert!(!bench.talker.was_poisoned());
}

#[tokio::test]
async fn a_refresh_token_under_a_dropped_master_key_is_a_new_sign_in_after_the_grace() {
    let bench = bench().await;
    let mut pair = bench.begin_there().await;
    let elsewhere = bench.begin_there().await;
    let foreign = bench.part(&elsewhere).await.refresh_token;
    bench
        .edit(&pair, |there| there.refresh_token = foreign)
        .await;
    bench.clock.advance(in_background());
    pair = bench.issued(&pair).await;
    bench.sessions.answers_kept().await;
    assert_eq!(bench.seen.endings(), [], "the key may come yet");
    bench.clock.advance(in_foreground());
    let renewed = bench.renew(&pair).await;
    assert!(name(&renewed).starts_with("refused"), "{}", name(&renewed));
    assert_eq!(bench.seen.endings(), [Reason::KeyDropped]);
    assert_eq!(bench.talker.asked(), 0);
}

#[tokio::test]
async fn i09_invalid_grant_ends_the_session_on_all_nodes_with_its_streams() {
    let ends = [
        (ProviderEnd::InvalidGrant, Reason::EndedAtProvider),
        (ProviderEnd::NotAllowed, Reason::NotAllowedAnyMore),
        (ProviderEnd::SomebodyElse, Reason::SomebodyElse),
    ];
    for (end, reason) in ends {
        for wait in [in_background(), in_foreground()] {
            let nodes = nodes(2).await;
            let (one, other) = (&nodes[0], &nodes[1]);
            let pair = one.begin_there().await;
            let mut another = alice_there();
            another.user = "bob".to_owned();
            let bob = one.begin_as(another, there(Some("bob"))).await;
            let (here, elsewhere) = (stream(one, &pair), stream(other, &pair));
            let bobs = stream(other, &bob);
            one.clock.advance(wait);
            one.talker.say(Some(ProviderAnswer::Ended(end)));
            let renewal = name(&one.renew(&pair).await);
            match wait == in_foreground() {
                true => assert_eq!(renewal, refused(Refusal::Revoked)),
                false => assert_eq!(renewal, "issued 1"),
            }
            here.ended().await;
            elsewhere.ended().await;
            assert!(is_open(&bobs), "nobody else's");
            until("it is told", async || one.seen.endings() == [reason]).await;
            let refusal = refused(Refusal::Revoked);
            assert_eq!(name(&other.renew(&pair).await), refusal);
            assert!(bench_record_is_over(one, &pair).await);
        }
    }
}

#[tokio::test]
async fn sessions_of_a_provider_that_is_gone_end_at_their_renewal() {
    let bench = bench().await;
    let pair = bench.begin_there().await;
    let local = bench.begin().await;
    bench.talker.gone.store(true, Ordering::SeqCst);
    assert_eq!(name(&bench.renew(&pair).await), "refused ProviderGone");
    assert_eq!(bench.seen.endings(), [Reason::ProviderGone]);
    bench.issued(&local).await;
}

#[tokio::test]
async fn an_identity_that_outgrew_its_cookie_is_not_taken_over() {
    let bench = bench().await;
    let pair = bench.begin_there().await;
    bench.clock.advance(in_foreground());
    let many: Vec<String> = (0..1000).map(|n| format!("group-{n}")).collect();
    let many = many.iter().map(String::as_str).chain(["staff"]);
    bench.talker.give_groups(&many.collect::<Vec<_>>());
    let next = bench.issued(&pair).await;
    assert_eq!(bench.groups(&next), ["staff"]);
    assert_eq!(bench.part(&next).await.checked_at, bench.now());
}

#[tokio::test]
async fn whoever_outgrows_the_cookie_keeps_nothing_that_the_provider_took_away() {
    let is_now = async |change: &dyn Fn(&mut Identity)| {
        let bench = bench().await;
        let mut before = alice_there();
        before.groups = vec!["staff".to_owned(), "dev".to_owned()];
        let pair = bench.begin_as(before.clone(), there(Some("a"))).await;
        bench.clock.advance(in_foreground());
        let mut now = before.clone();
        change(&mut now);
        let welcome = ProviderAnswer::Welcome(Box::new(now));
        bench.talker.say(Some(welcome));
        let next = bench.issued(&pair).await;
        (before, bench.record(&next).await.identity)
    };
    // What people call themselves is theirs to choose, so it must not keep anything else from being taken over.
    let endless = || Some("\"".repeat(1000));
    let (before, now) = is_now(&|now: &mut Identity| {
        (now.name, now.preferred_username) = (endless(), endless());
        now.groups = vec!["guests".to_owned()];
    })
    .await;
    assert_eq!(
        (now.groups, now.name),
        (vec!["guests".to_owned()], before.name)
    );
    // Where something else is too large, what was there and is still said stays, and nothing else.
    let (before, now) = is_now(&|now: &mut Identity| {
        now.groups = (0..1000).map(|n| format!("group-{n}")).collect();
        now.groups.push("dev".to_owned());
        now.email = Some("another@example.com".to_owned());
    })
    .await;
    assert_eq!((now.groups, now.email), (vec!["dev".to_owned()], None));
    assert_eq!((now.user, now.name), (before.user, before.name));
}

#[tokio::test]
async fn a_provider_that_keeps_its_refresh_tokens_is_asked_with_the_same_one() {
    let bench = bench().await;
    bench.talker.keeps_tokens.store(true, Ordering::SeqCst);
    let mut pair = bench.begin_there().await;
    let sealed = bench.part(&pair).await.refresh_token;
    for _ in 0..3 {
        bench.clock.advance(in_foreground());
        pair = bench.issued(&pair).await;
    }
    assert_eq!(bench.part(&pair).await.refresh_token, sealed);
    assert_eq!(bench.talker.asked(), 3);
}

#[tokio::test]
async fn tokens_of_the_provider_are_not_in_the_store_and_too_long_ones_are_not_kept() {
    let bench = bench().await;
    let pair = bench.begin_there().await;
    let began = bench.sessions.began_there(pair.session).await.unwrap();
    let began = began.unwrap();
    assert_eq!(
        (&*began.provider, &*began.issuer),
        ("corp", "https://id.example.com")
    );
    assert_eq!(began.id_token.unwrap().expose(), b"an id token");
    let local = bench.begin().await;
    let nowhere = bench.sessions.began_there(local.session).await.unwrap();
    assert!(nowhere.is_none());

    let long = SignedInThere {
        refresh_token: Some(Secret::new(vec![b'r'; 16 * 1024 + 1])),
        id_token: Some(Secret::new(vec![b'i'; 8 * 1024 + 1])),
        ..there(None)
    };
    let pair = bench.begin_as(alice_there(), long).await;
    let part = bench.part(&pair).await;
    assert_eq!((part.refresh_token, part.id_token), (None, None));

    let file = bench.folder.path().join(crate::store::embedded::FILE_NAME);
    let bytes = std::fs::read(file).unwrap();
    let holds = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    assert!(holds(b"https://id.example.com"), "this is the file");
    assert!(!holds(token(0).expose()) && !holds(b"an id token"));
}
