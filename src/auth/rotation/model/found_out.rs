//! That the model can tell: wrong rules are found out, every assumption is needed, and renaming changes no verdict.

use super::rules::*;
use super::*;

/// Rules that look plausible and are wrong.
#[test]
fn every_wrong_rule_is_found_out() {
    let refused = ["HonestRefused"].as_slice();
    let thief = ["SideBySide", "BothRenew", "PairForSpent"].as_slice();
    let unnoticed = Bounds {
        follow: true,
        ..ELSEWHERE
    };
    let stuck = Bounds {
        follow: true,
        ..PLAIN
    };
    let forgetful = Bounds {
        remembers: false,
        ..LOGOUT
    };
    for (name, bounds, rules, promises) in [
        ("same for everyone", ELSEWHERE, SAME_FOR_EVERYONE, thief),
        ("any client", ELSEWHERE, ANY_CLIENT, thief),
        ("all mercy", ELSEWHERE, ALL_MERCY, thief),
        ("deaf", ELSEWHERE, DEAF, thief),
        ("silent", unnoticed, SILENT, &["Unnoticed"]),
        ("no mercy", PLAIN, NO_MERCY, refused),
        ("no grace", PLAIN, NO_GRACE, refused),
        ("grace from issue", PLAIN, GRACE_FROM_ISSUE, refused),
        ("short window", PLAIN, SHORT_WINDOW, refused),
        ("never late", PLAIN, NEVER_LATE, refused),
        (
            "re-issue moves the parent",
            PLAIN,
            REISSUE_MOVES_PARENT,
            refused,
        ),
        ("no heal", FAILOVERS, NO_HEAL, refused),
        ("no re-issue", stuck, NO_REISSUE, &["NeverHeals"]),
        ("old time of issue", stuck, OLD_ISSUE, &["NeverHeals"]),
        (
            "nothing abandoned",
            ELSEWHERE,
            NOTHING_ABANDONED,
            &["TwoLive"],
        ),
        ("no end", LOGOUT, NO_END, &["Revived"]),
        ("no memory of the end", forgetful, OURS, &["Revived"]),
        ("judges for nobody", LINGERS, JUDGES_FOR_NOBODY, refused),
        ("blind writes", TWO_PHASES, BLIND_WRITES, &["PairForSpent"]),
        ("numbered writes", LOGOUT, NUMBERS, &["Revived"]),
    ] {
        breaks(name, bounds, rules, promises);
    }
}

/// Each assumption, dropped.
#[test]
fn what_is_assumed_is_needed() {
    for (name, bounds, promise) in [
        (
            "a thief beside the browser",
            Bounds {
                thief: Thief::BesideTheBrowser,
                ..PLAIN
            },
            "BothRenew",
        ),
        (
            "messages slower than a third of the window",
            Bounds {
                flight: 2,
                grace: 3,
                ..PLAIN
            },
            "HonestRefused",
        ),
        (
            "a grace shorter than messages take",
            Bounds { grace: 0, ..PLAIN },
            "HonestRefused",
        ),
        (
            "access tokens that end with the window",
            Bounds { life: 3, ..PLAIN },
            "HonestRefused",
        ),
        (
            "access tokens that end with the window by one node's clock",
            Bounds {
                access_skew: 3,
                ..PLAIN
            },
            "HonestRefused",
        ),
        (
            "windows measured by clocks that differ",
            Bounds {
                window_skew: 1,
                grace: 3,
                ..PLAIN
            },
            "HonestRefused",
        ),
        (
            "windows measured by clocks that differ the other way",
            Bounds {
                window_skew: -6,
                grace: 3,
                ..PLAIN
            },
            "HonestRefused",
        ),
    ] {
        breaks(name, bounds, OURS, &[promise]);
    }
}

/// The renaming of generations is sound: no verdict depends on more than their order and on who is next.
#[test]
fn names_do_not_matter() {
    let windows = Windows {
        redelivery: 3 * world::TICK,
        replay_grace: world::TICK,
        idle_ttl: Duration::from_secs(1_000_000),
    };
    let verdicts = |parent: u32, newest: u32, presented: u32, acknowledged: bool, age: i8| {
        let mut session = world::template();
        session.lineage.parent = Some(Generation(parent));
        session.lineage.newest = Generation(newest);
        session.lineage.issued_at = world::ago(age);
        session.lineage.acknowledged_at = acknowledged.then(|| world::ago(age));
        let (presented, client) = (Generation(presented), world::client(0));
        let now = world::ago(0);
        let verdict = judge(&session, presented, &client, &windows, now);
        (verdict, sight(&session, presented))
    };
    for (parent, newest, presented) in (0..6)
        .flat_map(|parent| (parent + 1..7).map(move |newest| (parent, newest)))
        .flat_map(|(parent, newest)| (0..10).map(move |presented| (parent, newest, presented)))
    {
        for (acknowledged, age) in [(false, 0), (false, 9), (true, 0), (true, 9)] {
            // Stretched below the newest, kept above it, and moved as a whole.
            let renamed = |name: u32| match name < newest {
                true => 40 + 3 * name,
                false => 40 + 3 * newest + (name - newest),
            };
            assert_eq!(
                verdicts(parent, newest, presented, acknowledged, age),
                verdicts(
                    renamed(parent),
                    renamed(newest),
                    renamed(presented),
                    acknowledged,
                    age
                ),
                "{parent} {newest} {presented}"
            );
        }
    }
}
