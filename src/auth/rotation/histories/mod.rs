//! Random histories of one session, driven through the real rule with realistic timings: tabs that fire requests at once,
//! answers that are lost or late, requests that a node holds after they were answered, acknowledgements that are late or never arrive, nodes whose clocks differ, a store that forgets its last
//! write, a thief who copies the jar, a person who signs out. The model beside it is exhaustive and coarse; this is neither.
//!
//! What is assumed of the world, and of nothing else: a message of the honest browser that is not lost arrives within a third of
//! the redelivery window, the replay grace is longer than that, and an access token lasts longer than the window by more than
//! nodes' clocks differ. The thief is bound by none of it. `wrong_rules_are_found_out` shows that the histories can fail.
//!
//! A failure names its seed; `VESTIBULE_SEED=17 VESTIBULE_HISTORIES=1` plays it again.

mod dice;
mod history;

use std::sync::atomic::{AtomicBool, Ordering};

use self::dice::Tally;
use self::history::{History, Other};
use super::model::rules::*;

/// Of each sort, in the default suite: seconds in a debug build.
const SOME: u64 = 50_000;
/// Of each of two sorts, in the long tier.
const MANY: u64 = 1_000_000;

/// From the environment, for a look at one history or at very many.
#[allow(
    clippy::disallowed_methods,
    reason = "a knob of this test, not of the gateway"
)]
fn chosen(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text}")),
        Err(_) => otherwise,
    }
}

/// Plays histories until one breaks a promise; names its seed, with which it can be played again.
fn play(rules: Rules, other: Other, histories: u64) -> Result<Tally, String> {
    // Both cores of a small machine; each plays its own seeds, so that every history is the same on any machine.
    const THREADS: u64 = 2;
    let first = chosen("VESTIBULE_SEED", 0);
    let histories = chosen("VESTIBULE_HISTORIES", histories);
    let broken = AtomicBool::new(false);
    let part = &|offset: u64| -> Result<Tally, String> {
        let mut tally = Tally::default();
        for seed in (first + offset..first + histories).step_by(THREADS as usize) {
            if broken.load(Ordering::Relaxed) {
                break;
            }
            let mut history = History::new(seed, rules, other);
            if let Err(promise) = history.run() {
                broken.store(true, Ordering::Relaxed);
                let mut again = History::new(seed, rules, other);
                again.story = Some(String::new());
                let _ = again.run();
                let story = again.story.unwrap_or_default();
                return Err(format!(
                    "VESTIBULE_SEED={seed} {other:?}: {promise}\n{story}"
                ));
            }
            tally.add(&history.tally);
        }
        Ok(tally)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|offset| scope.spawn(move || part(offset)))
            .collect();
        let mut total = Tally::default();
        for thread in threads {
            total.add(&thread.join().unwrap()?);
        }
        Ok(total)
    })
}

fn honest(histories: u64) {
    let tally = play(OURS, Other::Nobody, histories).unwrap_or_else(|broken| panic!("{broken}"));
    println!("honest browser, {histories} histories: {tally:?}");
    for (what, count) in [
        ("rotated", tally.rotated),
        ("redelivered", tally.redelivered),
        ("served", tally.served),
        ("reissued", tally.reissued),
        ("healed", tally.healed),
        ("lost", tally.lost),
        ("late", tally.late),
        ("unheard", tally.unheard),
        ("roamed", tally.roamed),
        ("ended", tally.ended),
        ("refused", tally.refused),
    ] {
        assert!(count >= histories / 100, "hardly ever {what}: {tally:?}");
    }
}

fn thief(histories: u64) {
    for other in [Other::Browser, Other::Hoarder] {
        let histories = histories / 2;
        let tally = play(OURS, other, histories).unwrap_or_else(|broken| panic!("{broken}"));
        println!("{other:?} as a thief, {histories} histories: {tally:?}");
        // The bound is tight (each does receive one), and most thefts are acted upon by both and noticed.
        assert!(tally.both_received > 0, "{other:?}: {tally:?}");
        assert!(tally.revoked > histories / 2, "{other:?}: {tally:?}");
    }
}

#[test]
fn an_honest_browser_alone_is_never_logged_out() {
    honest(SOME);
}

#[test]
fn a_thief_elsewhere_cannot_live_beside_the_victim() {
    thief(SOME);
}

#[test]
#[ignore = "long: a million histories of each sort"]
fn a_million_histories_without_a_false_logout() {
    honest(MANY);
}

#[test]
#[ignore = "long: a million histories of each sort"]
fn a_million_thefts_are_found_out() {
    thief(MANY);
}

/// The rules that look plausible and fail; were the histories too tame to tell, this test would say so.
#[test]
fn wrong_rules_are_found_out() {
    for (name, rules, other) in [
        ("same for everyone", SAME_FOR_EVERYONE, Other::Browser),
        ("same for everyone", SAME_FOR_EVERYONE, Other::Hoarder),
        ("any client", ANY_CLIENT, Other::Browser),
        ("all mercy", ALL_MERCY, Other::Browser),
        ("silent", SILENT, Other::Browser),
        ("no mercy", NO_MERCY, Other::Nobody),
        ("no grace", NO_GRACE, Other::Nobody),
        ("grace from issue", GRACE_FROM_ISSUE, Other::Nobody),
        ("short window", SHORT_WINDOW, Other::Nobody),
        (
            "re-issue moves the parent",
            REISSUE_MOVES_PARENT,
            Other::Nobody,
        ),
        ("never late", NEVER_LATE, Other::Nobody),
        ("judges for nobody", JUDGES_FOR_NOBODY, Other::Nobody),
        ("no heal", NO_HEAL, Other::Nobody),
        ("no end", NO_END, Other::Nobody),
    ] {
        let found = play(rules, other, 4 * SOME);
        assert!(found.is_err(), "{name} was not found out beside {other:?}");
    }
}
