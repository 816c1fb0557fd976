//! That the model can tell: wrong rules are found out, every assumption is needed, and renaming changes no verdict.

use std::collections::HashSet;

use super::explorer::Model as _;
use super::names::MOST_NAMES;
use super::rules::*;
use super::world::World;
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
        (
            "any client, two nodes",
            ELSEWHERE_TWO_NODES,
            ANY_CLIENT,
            thief,
        ),
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
            "a thief that hoards, held to one newer pair",
            Bounds {
                counts_hoards: true,
                ..HOARDER
            },
            "SideBySide",
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

/// Nor does anything else in the world: renamed or not, what can happen next is the same.
#[test]
fn a_renamed_world_goes_on_as_the_other_does() {
    let (failovers, two_phases, lingers) = (true, true, true);
    let (mut renamed, mut far_behind) = (0, 0);
    for bounds in [
        ELSEWHERE,
        ELSEWHERE_TWO_NODES,
        Bounds {
            two_phases,
            failovers,
            ..HOARDER
        },
        Bounds {
            failovers,
            ..LINGERS
        },
        Bounds {
            two_phases,
            lingers,
            ..HOARDER
        },
    ] {
        let session = Session::new(bounds, OURS);
        let mut chance = 0_u64;
        for _ in 0..100 {
            let mut world = session.start();
            while world.broken.is_none() && world.record.newest + 1 < MOST_NAMES {
                let short = session.canonical(world);
                let next = |world: &World| {
                    let mut next = Vec::new();
                    session.next(world, &mut next);
                    next
                };
                let worlds = |steps: &[(_, World)]| -> HashSet<World> {
                    let of = |(_, world): &(_, World)| session.canonical(*world);
                    steps.iter().map(of).collect()
                };
                let steps = next(&world);
                assert_eq!(
                    worlds(&steps),
                    worlds(&next(&short)),
                    "{world:?}\n{short:?}"
                );
                renamed += usize::from(short != world);
                far_behind += usize::from(world.is_read_from_far_behind());
                // Any step; the numbers are Knuth's.
                chance = chance
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let Some(any) = (chance >> 33).checked_rem(steps.len() as u64) else {
                    break;
                };
                world = steps[any as usize].1.in_order();
            }
        }
    }
    assert!(renamed > 1000 && far_behind > 100, "{renamed} {far_behind}");
}
