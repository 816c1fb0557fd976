//! What a request pays for the revocations that are held.

use tokio::time::Instant;

use super::*;
use crate::store::RevocationTarget;

const ROUNDS: u32 = 200_000;

/// Nanoseconds for one check of a known access token.
fn check(bench: &Bench, pair: &IssuedPair) -> f64 {
    let best = (0..7).map(|_| {
        let started = Instant::now();
        for _ in 0..ROUNDS {
            let found = bench.sessions.check_access(pair.access.as_bytes(), START);
            assert!(matches!(
                std::hint::black_box(found),
                AccessFinding::Valid(_)
            ));
        }
        started.elapsed()
    });
    best.min().unwrap().as_secs_f64() * 1e9 / f64::from(ROUNDS)
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
#[ignore = "long: measures; only an optimised build says something"]
async fn a_hundred_thousand_revocations_cost_a_request_nothing_measurable() {
    let bench = bench().await;
    let pair = bench.begin().await;
    let none = check(&bench, &pair);
    let hold = |target| {
        bench.sessions.revocations.obey(
            &RevocationRecord {
                target,
                at: START,
                until: START.plus(seconds(360)),
            },
            bench.now(),
        );
    };
    let before = resident();
    for number in 0..80_000u32 {
        let mut id = [0; 16];
        aws_lc_rs::rand::fill(&mut id).unwrap();
        hold(RevocationTarget::Session(SessionId::from_bytes(id)));
        if number == 0 {
            println!("one held: {:.0} ns", check(&bench, &pair));
        }
    }
    let sessions = check(&bench, &pair);
    for number in 0..20_000 {
        hold(RevocationTarget::User {
            provider: "local".to_owned(),
            user: format!("user{number}@example.com"),
        });
    }
    let all = check(&bench, &pair);
    println!(
        "a check of a known access token: {none:.0} ns with no revocation, {sessions:.0} ns with 80,000 of sessions, \
         {all:.0} ns with 20,000 of users besides (ratio {:.2}); {} KiB for all of them",
        all / none,
        resident() - before
    );
    // A fifteenth of what a request costs, to spare a machine that does something else meanwhile; a look at each of them would
    // take a thousand times that.
    assert!(all - none < 1000.0, "{none:.0} ns became {all:.0} ns");
    let started = Instant::now();
    bench.sessions.revocations.forget(START.plus(seconds(400)));
    println!("forgetting all of them: {:?}", started.elapsed());
    assert_eq!(bench.sessions.held().0, 0);
}
