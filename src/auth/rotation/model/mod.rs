//! The rotation rule, in every history of a small world: two nodes, one store, a browser with its tabs, a thief.
//!
//! The rule under test is the real one (`judge`, `apply`, `sight`, `is_late`). Around it, messages are lost, reordered and
//! delayed, answers wait for their upstream, acknowledgements get lost, nodes write between each other's reading and writing,
//! or hold a request long after it was answered that the store is away, the store fails over and loses its last write, the person signs out, a thief copies the cookies at any moment. Nothing is
//! bounded but what is in `Bounds`: time and the number of rotations are not, because a world that differs from another only
//! in the names of generations and in what is over is the same world.
//!
//! What is assumed, and shown to be needed by `what_is_assumed_is_needed`:
//! - a message of the honest browser that arrives does so within a third of the redelivery window, and no longer than the
//!   replay grace;
//! - nodes' clocks agree: they may differ by a third of the window if messages take no longer than a sixth of it and the grace
//!   is no shorter than the window. Where only access tokens are measured by clocks that differ, those must last longer than
//!   the window by more than that;
//! - a failover loses no more than the last write, made within the last third of a window, and not two times in a row;
//! - the thief is elsewhere: on the browser's address with its user agent nothing tells them apart;
//! - of a session that was ended, some node that knows lives long enough to write it again after a failover.
//!
//! What a thief can collect: a browser-like one receives one newer pair. A hoarder that asks for the stolen token again and
//! again receives every pair that is abandoned on its way; only the newest can renew, and showing another ends the session.
//!
//! Must not know an engine, a store or HTTP: what those add to the rule is tested with them.

mod bounds;
mod browser;
mod explorer;
mod found_out;
mod names;
mod promises;
pub(super) mod rules;
mod steps;
mod thief;
mod world;

use super::*;
use bounds::{Bounds, Thief};
use explorer::{Found, explore};
use rules::{OURS, Rules};
use steps::Session;

/// Two tabs, all at its defaults; the redelivery window is three ticks.
const PLAIN: Bounds = Bounds {
    window: 3,
    grace: 1,
    life: 6,
    flight: 1,
    window_skew: 0,
    access_skew: 0,
    tabs: 2,
    roams: false,
    failovers: false,
    logout: false,
    remembers: true,
    two_phases: false,
    lingers: false,
    thief: Thief::Nobody,
    hoards: 2,
    counts_hoards: false,
    follow: false,
};

const FAILOVERS: Bounds = Bounds {
    failovers: true,
    ..PLAIN
};

const TWO_PHASES: Bounds = Bounds {
    two_phases: true,
    ..PLAIN
};

const LINGERS: Bounds = Bounds {
    lingers: true,
    ..TWO_PHASES
};

/// Ticks of a sixth of the window.
const FINER: Bounds = Bounds {
    window: 6,
    life: 12,
    grace: 6,
    flight: 2,
    ..PLAIN
};

/// The person signs out while two nodes renew and the store fails over.
const LOGOUT: Bounds = Bounds {
    logout: true,
    failovers: true,
    ..TWO_PHASES
};

const ELSEWHERE: Bounds = Bounds {
    thief: Thief::Elsewhere,
    ..PLAIN
};

const ELSEWHERE_TWO_NODES: Bounds = Bounds {
    thief: Thief::Elsewhere,
    ..TWO_PHASES
};

const HOARDER: Bounds = Bounds {
    thief: Thief::Hoarder,
    ..PLAIN
};

/// More states than this would mean that the bounds do not bound.
const MOST: usize = 40_000_000;

fn search(name: &str, bounds: Bounds, rules: Rules) -> Found {
    let found = explore(&Session::new(bounds, rules), MOST);
    let outcome = match &found.broken {
        None => "every promise holds".to_owned(),
        Some(broken) => format!("{} after {} steps", broken.promise, broken.story.len()),
    };
    println!(
        "{name}: {} states, {} steps between them, {outcome}",
        found.states, found.steps,
    );
    found
}

/// Searches everything and finds nothing broken; each of these sorts of steps was taken.
#[track_caller]
fn holds(name: &str, bounds: Bounds, sorts: &[usize]) {
    let found = search(name, bounds, OURS);
    if let Some(broken) = found.broken {
        panic!(
            "{name}: {}\n  {}\n{bounds:?}",
            broken.promise,
            broken.story.join("\n  ")
        );
    }
    for &sort in sorts {
        assert!(
            found.sorts[sort] > 0,
            "{name}: step of sort {sort} never taken"
        );
    }
}

/// Finds a history in which the promise is broken.
#[track_caller]
fn breaks(name: &str, bounds: Bounds, rules: Rules, promises: &[&str]) {
    let found = search(name, bounds, rules);
    let Some(broken) = found.broken else {
        panic!("{name}: not found out in {} states", found.states);
    };
    assert!(
        promises.contains(&&*broken.promise),
        "{name}: {} instead\n  {}",
        broken.promise,
        broken.story.join("\n  ")
    );
}

/// Sorts of steps (`Step::sort`): those that an honest browser meets, and a few more.
const HONEST_SORTS: [usize; 9] = [0, 2, 3, 4, 7, 8, 9, 10, 17];
const HEALED: usize = 1;
const REPLAYED: usize = 5;
const REFUSED: usize = 6;
const FAILED_OVER: usize = 11;
const CONFLICTED: usize = 12;
const WRITTEN_UNHEARD: usize = 18;

#[test]
fn an_honest_browser_alone_is_never_logged_out_and_heals() {
    let follow = true;
    let bounds = Bounds { follow, ..PLAIN };
    holds("honest browser", bounds, &HONEST_SORTS);
    let roams = true;
    let bounds = Bounds { roams, ..bounds };
    holds("honest browser that roams", bounds, &HONEST_SORTS);
    let bounds = Bounds {
        follow,
        ..FAILOVERS
    };
    let sorts = [HEALED, FAILED_OVER];
    holds("honest browser, failovers", bounds, &sorts);
    let (tabs, grace) = (3, 3);
    let bounds = Bounds {
        tabs,
        grace,
        ..PLAIN
    };
    holds("honest browser, three tabs", bounds, &HONEST_SORTS);
}

#[test]
fn two_nodes_that_write_in_between_break_nothing() {
    let (roams, two_phases) = (true, true);
    let bounds = Bounds {
        roams,
        two_phases,
        ..FAILOVERS
    };
    let sorts = [HEALED, FAILED_OVER, CONFLICTED];
    holds("honest browser, two nodes, failovers", bounds, &sorts);
}

/// What a node holds longer than anybody waits for it comes to nothing that an honest browser would notice.
#[test]
fn what_nobody_waits_for_any_more_does_no_harm() {
    let sorts = [CONFLICTED, WRITTEN_UNHEARD];
    holds("a request that lingers", LINGERS, &sorts);
    let failovers = true;
    let bounds = Bounds {
        failovers,
        ..LINGERS
    };
    holds("a request that lingers, failovers", bounds, &sorts);
}

#[test]
fn an_end_of_the_session_wins() {
    let sorts = [FAILED_OVER, CONFLICTED, REFUSED];
    holds("signing out", LOGOUT, &sorts);
}

#[test]
fn a_thief_elsewhere_and_the_browser_receive_one_newer_pair_each_at_most() {
    holds("thief elsewhere", ELSEWHERE, &[REPLAYED]);
    let sorts = [REPLAYED, CONFLICTED];
    holds("thief elsewhere, two nodes", ELSEWHERE_TWO_NODES, &sorts);
    // What goes on is noticed.
    let (tabs, follow) = (1, true);
    let bounds = Bounds {
        tabs,
        follow,
        ..ELSEWHERE
    };
    holds("thief elsewhere, followed", bounds, &[REPLAYED]);
}

#[test]
fn a_thief_that_hoards_pairs_renews_with_none_that_the_browser_could() {
    holds("hoarder", HOARDER, &[REPLAYED]);
}

#[test]
fn nodes_may_disagree_about_when_an_access_token_ends() {
    for access_skew in [-3, -1, 1, 3] {
        let life = PLAIN.window + 3 + 1;
        let bounds = Bounds {
            access_skew,
            life,
            ..PLAIN
        };
        holds("clocks differ, one measures the windows", bounds, &[]);
    }
}

#[test]
fn clocks_may_differ_by_a_third_of_the_window_if_messages_take_a_sixth() {
    for skew in [-2, 2] {
        let bounds = Bounds {
            window: 6,
            grace: 6,
            life: 12,
            window_skew: skew,
            access_skew: skew,
            ..PLAIN
        };
        holds("clocks differ", bounds, &[]);
    }
}

#[test]
#[ignore = "long: larger bounds, millions of states"]
fn larger_worlds_of_an_honest_browser() {
    let (roams, failovers, two_phases) = (true, true, true);
    let tabs = 3;
    let bounds = Bounds {
        tabs,
        roams,
        failovers,
        two_phases,
        ..PLAIN
    };
    holds("honest, three tabs, everything at once", bounds, &[]);
    let follow = true;
    let bounds = Bounds {
        roams,
        failovers,
        follow,
        ..FINER
    };
    holds("honest, finer time, roams, failovers", bounds, &[]);
    let bounds = Bounds { tabs, ..LOGOUT };
    holds("signing out, three tabs", bounds, &[]);
}

#[test]
#[ignore = "long: larger bounds, millions of states"]
fn larger_worlds_with_a_thief() {
    let one_tab = Bounds { tabs: 1, ..PLAIN };
    for thief in [Thief::Elsewhere, Thief::Hoarder] {
        let (roams, failovers, two_phases, lingers, follow) = (true, true, true, true, true);
        let bounds = Bounds {
            thief,
            two_phases,
            ..one_tab
        };
        holds("thief, two nodes", bounds, &[CONFLICTED, REPLAYED]);
        let bounds = Bounds { lingers, ..bounds };
        holds("thief, a request that lingers", bounds, &[CONFLICTED]);
        let bounds = Bounds {
            thief,
            roams,
            ..one_tab
        };
        holds("thief, browser that roams", bounds, &[]);
        let bounds = Bounds {
            thief,
            failovers,
            follow,
            ..one_tab
        };
        holds("thief, failovers, followed", bounds, &[]);
        let bounds = Bounds {
            thief,
            tabs: 1,
            ..FINER
        };
        holds("thief, finer time", bounds, &[]);
    }
    let (thief, hoards) = (Thief::Hoarder, 3);
    let bounds = Bounds {
        thief,
        hoards,
        ..one_tab
    };
    holds("hoarder of three", bounds, &[]);
    let (roams, lingers) = (true, true);
    let bounds = Bounds {
        roams,
        ..ELSEWHERE_TWO_NODES
    };
    let sorts = [REPLAYED, CONFLICTED];
    holds("thief, two tabs, two nodes, roams", bounds, &sorts);
    // With failovers as well there are more than forty million states.
    let bounds = Bounds {
        lingers,
        ..ELSEWHERE_TWO_NODES
    };
    holds("thief, two tabs, a request that lingers", bounds, &sorts);
}
