use super::*;
use crate::auth::test_support::{NOW, alice, browser};

const MILLI: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(86_400);

const WINDOWS: Windows = Windows {
    redelivery: Duration::from_secs(30),
    replay_grace: Duration::from_secs(20),
    idle_ttl: Duration::from_secs(14 * 86_400),
};

/// A session of the browser 1 that signed in a day ago and was last rotated now.
fn session(parent: Option<u32>, newest: u32, acknowledged_at: Option<Timestamp>) -> SessionRecord {
    let created_at = NOW.minus(DAY);
    SessionRecord {
        id: SessionId::from_bytes([7; 16]),
        identity: alice(),
        lineage: Lineage {
            newest: Generation(newest),
            parent: parent.map(Generation),
            issued_at: NOW,
            acknowledged_at,
            client: browser(1),
        },
        created_at,
        last_seen_at: NOW,
        idle_expires_at: NOW.plus(WINDOWS.idle_ttl),
        absolute_expires_at: created_at.plus(90 * DAY),
        revoked_at: None,
        provider: None,
    }
}

#[track_caller]
fn check(session: &SessionRecord, presented: u32, client: u8, now: Timestamp, want: Verdict) {
    let found = judge(
        session,
        Generation(presented),
        &browser(client),
        &WINDOWS,
        now,
    );
    assert_eq!(found, want, "generation {presented} by {client} at {now:?}");
}

#[test]
fn each_row_of_the_table() {
    use Refusal::Ahead;
    use Verdict::{Heal, Redeliver, Refuse, Reissue, Replay, Rotate, Serve};
    let later = NOW.plus(DAY);
    // P = 3, N = 7; 4, 5 and 6 are abandoned.
    let waiting = session(Some(3), 7, None);
    let received = session(Some(3), 7, Some(NOW));
    for (generation, own, other, own_later, own_received, own_received_later) in [
        (0, Replay, Replay, Replay, Replay, Replay),
        (2, Replay, Replay, Replay, Replay, Replay),
        (3, Redeliver, Serve, Reissue, Serve, Replay),
        (4, Replay, Replay, Replay, Replay, Replay),
        (6, Replay, Replay, Replay, Replay, Replay),
        (7, Rotate, Rotate, Rotate, Rotate, Rotate),
        (8, Heal, Heal, Heal, Heal, Heal),
        (
            9,
            Refuse(Ahead),
            Refuse(Ahead),
            Refuse(Ahead),
            Refuse(Ahead),
            Refuse(Ahead),
        ),
        (
            u32::MAX,
            Refuse(Ahead),
            Refuse(Ahead),
            Refuse(Ahead),
            Refuse(Ahead),
            Refuse(Ahead),
        ),
    ] {
        check(&waiting, generation, 1, NOW, own);
        check(&waiting, generation, 2, NOW, other);
        check(&waiting, generation, 1, later, own_later);
        check(&waiting, generation, 2, later, own_later);
        check(&received, generation, 1, NOW, own_received);
        check(&received, generation, 2, NOW, own_received);
        check(&received, generation, 1, later, own_received_later);
        check(&received, generation, 2, later, own_received_later);
    }
    // Just signed in: there is no parent.
    for acknowledged_at in [None, Some(NOW)] {
        let fresh = session(None, 0, acknowledged_at);
        for now in [NOW, later] {
            check(&fresh, 0, 1, now, Rotate);
            check(&fresh, 1, 2, now, Heal);
            check(&fresh, 2, 1, now, Refuse(Ahead));
        }
    }
    // The last generation of all is its own successor and must not count as ahead of itself.
    let last = session(Some(u32::MAX - 1), u32::MAX, None);
    check(&last, u32::MAX, 1, NOW, Rotate);
}

#[test]
fn every_boundary_of_both_windows() {
    let waiting = session(Some(3), 4, None);
    let end = NOW.plus(WINDOWS.redelivery);
    for (now, own, other) in [
        (NOW.minus(DAY), Verdict::Redeliver, Verdict::Serve),
        (NOW, Verdict::Redeliver, Verdict::Serve),
        (end.minus(MILLI), Verdict::Redeliver, Verdict::Serve),
        (end, Verdict::Redeliver, Verdict::Serve),
        (end.plus(MILLI), Verdict::Reissue, Verdict::Reissue),
    ] {
        check(&waiting, 3, 1, now, own);
        check(&waiting, 3, 2, now, other);
    }
    // The grace is counted from the acknowledgement, not from the issue.
    let acknowledged_at = NOW.plus(Duration::from_secs(100));
    let received = session(Some(3), 4, Some(acknowledged_at));
    let end = acknowledged_at.plus(WINDOWS.replay_grace);
    for (now, want) in [
        (NOW, Verdict::Serve),
        (acknowledged_at, Verdict::Serve),
        (end.minus(MILLI), Verdict::Serve),
        (end, Verdict::Serve),
        (end.plus(MILLI), Verdict::Replay),
    ] {
        check(&received, 3, 1, now, want);
        check(&received, 3, 2, now, want);
    }
}

#[test]
fn the_same_client_is_the_same_user_agent_at_the_same_address() {
    let waiting = session(Some(3), 4, None);
    let other_agent = Client {
        user_agent: "curl".to_owned(),
        ..browser(1)
    };
    for (client, want) in [
        (browser(1), Verdict::Redeliver),
        (browser(2), Verdict::Serve),
        (other_agent, Verdict::Serve),
    ] {
        let found = judge(&waiting, Generation(3), &client, &WINDOWS, NOW);
        assert_eq!(found, want, "{client:?}");
    }
}

#[test]
fn refusals_come_before_everything_else() {
    let expired = Verdict::Refuse(Refusal::Expired);
    let revoked = Verdict::Refuse(Refusal::Revoked);
    let later = NOW.plus(DAY);
    for generation in [0, 3, 4, 7, 8, 99] {
        let idle = SessionRecord {
            idle_expires_at: later,
            ..session(Some(3), 7, None)
        };
        let absolute = SessionRecord {
            absolute_expires_at: later,
            ..session(Some(3), 7, None)
        };
        for session in [idle, absolute] {
            assert_eq!(session.ends_at(), later);
            check(&session, generation, 1, later, expired);
            check(&session, generation, 1, later.plus(MILLI), expired);
            let before = judge(
                &session,
                Generation(generation),
                &browser(1),
                &WINDOWS,
                later.minus(MILLI),
            );
            assert_ne!(before, expired);
            let ended = SessionRecord {
                revoked_at: Some(NOW),
                ..session
            };
            check(&ended, generation, 1, NOW, revoked);
            check(&ended, generation, 1, later, revoked);
        }
    }
}

#[test]
fn what_each_verdict_leaves_behind() {
    let before = session(Some(3), 7, Some(NOW));
    let now = NOW.plus(DAY);
    let after = |verdict, presented| {
        let presented = Generation(presented);
        apply(&before, verdict, presented, &browser(2), &WINDOWS, now)
    };
    let issued = |parent, newest| SessionRecord {
        lineage: Lineage {
            newest: Generation(newest),
            parent: Some(Generation(parent)),
            issued_at: now,
            acknowledged_at: None,
            client: browser(2),
        },
        last_seen_at: now,
        idle_expires_at: now.plus(WINDOWS.idle_ttl),
        ..before.clone()
    };
    assert_eq!(after(Verdict::Rotate, 7), issued(7, 8));
    assert_eq!(after(Verdict::Heal, 8), issued(8, 9));
    assert_eq!(after(Verdict::Reissue, 3), issued(3, 8));
    for unchanged in [
        Verdict::Redeliver,
        Verdict::Serve,
        Verdict::Refuse(Refusal::Unknown),
        Verdict::Refuse(Refusal::Revoked),
        Verdict::Refuse(Refusal::Expired),
        Verdict::Refuse(Refusal::Ahead),
    ] {
        assert_eq!(after(unchanged, 3), before, "{unchanged:?}");
    }
    let revoked = SessionRecord {
        revoked_at: Some(now),
        ..before.clone()
    };
    assert_eq!(after(Verdict::Replay, 3), revoked);
    // The first end is the one that is remembered.
    let again = apply(
        &revoked,
        Verdict::Replay,
        Generation(3),
        &browser(1),
        &WINDOWS,
        now.plus(DAY),
    );
    assert_eq!(again, revoked);
}

#[test]
fn the_absolute_end_never_moves_and_the_idle_end_never_passes_it() {
    let mut session = session(None, 0, None);
    let absolute = session.absolute_expires_at;
    let mut now = NOW;
    let mut renewals = 0;
    while judge(&session, session.lineage.newest, &browser(1), &WINDOWS, now) == Verdict::Rotate {
        let newest = session.lineage.newest;
        session = apply(
            &session,
            Verdict::Rotate,
            newest,
            &browser(1),
            &WINDOWS,
            now,
        );
        assert_eq!(session.absolute_expires_at, absolute);
        assert_eq!(
            session.idle_expires_at,
            now.plus(WINDOWS.idle_ttl).min(absolute)
        );
        now = now.plus(DAY);
        renewals += 1;
    }
    assert_eq!((now, renewals), (absolute, 89));
}

#[test]
fn sightings() {
    let check = |session: &SessionRecord, seen: u32, want: Sighting| {
        let found = sight(session, Generation(seen));
        assert_eq!(found, want, "{seen}");
        let now = NOW.plus(DAY);
        let after = apply_sighting(session, found, now);
        let mut expected = session.clone();
        match want {
            Sighting::Nothing => {}
            Sighting::Acknowledges => expected.lineage.acknowledged_at = Some(now),
            Sighting::Replay => expected.revoked_at = Some(now),
        }
        assert_eq!(after, expected, "{seen}");
    };
    let waiting = session(Some(3), 7, None);
    let received = session(Some(3), 7, Some(NOW));
    let revoked = SessionRecord {
        revoked_at: Some(NOW),
        ..waiting.clone()
    };
    for (seen, of_waiting, of_received) in [
        (0, Sighting::Nothing, Sighting::Nothing),
        (3, Sighting::Nothing, Sighting::Nothing),
        (4, Sighting::Replay, Sighting::Replay),
        (6, Sighting::Replay, Sighting::Replay),
        (7, Sighting::Acknowledges, Sighting::Nothing),
        (8, Sighting::Nothing, Sighting::Nothing),
    ] {
        check(&waiting, seen, of_waiting);
        check(&received, seen, of_received);
        check(&revoked, seen, Sighting::Nothing);
    }
    let fresh = session(None, 0, None);
    check(&fresh, 0, Sighting::Acknowledges);
    check(&fresh, 1, Sighting::Nothing);
}
