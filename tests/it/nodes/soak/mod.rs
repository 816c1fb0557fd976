//! The soak: two hundred browsers with tabs on three nodes behind a load balancer that chooses at random, while nodes are
//! killed and started, the store stops, networks fail and answers are lost. Honest people are never signed out, nothing is
//! spent twice, nobody gets another's identity, and every planted thief is found.
//!
//! It goes in rounds: for some seconds everything happens at once; then all is mended, the requests under way end, and the
//! clock moves on by seconds or minutes. So what the contract asks of an honest browser (no request stalls for longer than
//! the grace) holds on any machine, and hours of session life fit into a minute. All two hundred live through each round, but
//! on a machine that is slow, or busy with something else, fewer of them at once: as many as are answered soon.
//!
//! `VESTIBULE_SOAK_SEED` sets the choices, `VESTIBULE_SOAK_SECONDS` the length, `VESTIBULE_SOAK_BROWSERS` how many.

mod fate;
mod person;
mod world;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream;

use self::fate::Fate;
use self::person::Person;
use self::world::{Random, World};
use crate::harness::{App, Gateway, Nodes};

const USERS: usize = 20;
/// How many people are about at once, to begin with.
const FIRST_AT_ONCE: usize = 32;
/// A thief is found after at most so many of the rounds that are followed by more than the grace.
const ROUNDS_TO_FIND: usize = 6;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {text}")),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a minute that wants the machine; scripts/test runs it after the other tests"]
async fn soak_of_a_minute() {
    // Beside whatever else the machine does.
    soak(Duration::from_secs(60), true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: ten minutes"]
async fn soak_of_ten_minutes() {
    soak(Duration::from_secs(600), false).await;
}

/// All do this, so many of them at once.
async fn each(people: &mut [Person], at_once: usize, act: impl AsyncFn(&mut Person)) {
    let acts = stream::iter(people).for_each_concurrent(at_once, |person| act(person));
    acts.await;
}

/// `excused`: whether a few sessions may be lost to a machine that stood still for longer than the grace.
async fn soak(length: Duration, excused: bool) {
    let length = setting("VESTIBULE_SOAK_SECONDS").map_or(length, Duration::from_secs);
    let browsers = setting("VESTIBULE_SOAK_BROWSERS").unwrap_or(200);
    let seed = setting("VESTIBULE_SOAK_SEED").unwrap_or_else(Random::seed);
    println!("VESTIBULE_SOAK_SEED={seed}");
    let mut random = Random::new(seed);

    // Each browser has a connection to each node, in this process and in the nodes'.
    let room = ["--nofile=8192:", "--pid", &std::process::id().to_string()].map(str::to_owned);
    let raised = std::process::Command::new("prlimit").args(room).status();
    assert!(raised.unwrap().success(), "no room for 8192 open files");
    let app = App::start().await;
    let nodes = Nodes::three(
        Gateway::before(&app)
            .with_clock()
            .limits("shutdown_grace = \"2s\"\n"),
    )
    .await;
    let world = Arc::new(World::of(nodes, USERS));
    let mut people: Vec<Person> = (0..browsers)
        .map(|number| Person::new(number, &world, random.split()))
        .collect();
    let mut at_once = FIRST_AT_ONCE;
    each(&mut people, at_once, Person::sign_in).await;
    at_once = world.room_for(at_once, people.len());

    let started = Instant::now();
    let mut rounds = 0;
    let mut most_at_once = 0;
    let mut thieves_left = 0;
    while started.elapsed() < length || (thieves_left > 0 && rounds < 10_000) {
        rounds += 1;
        let over = started.elapsed() >= length;
        if !over {
            for _ in 0..1 + random.below(2) {
                let victim = random.below(people.len());
                people[victim].is_robbed();
            }
        }
        let fate = Fate::begin(&world, random.split());
        each(&mut people, at_once, Person::live).await;
        fate.end().await;
        each(&mut people, at_once, Person::settle).await;
        app.forget();
        most_at_once = most_at_once.max(at_once);
        at_once = world.room_for(at_once, people.len());
        let pause = match random.below(4) {
            0 => Duration::from_secs(random.below(20) as u64),
            1 => Duration::from_secs(40),
            _ => Duration::from_secs(360),
        };
        world.blow(&format!("the clock moves on by {pause:?}"));
        world.nodes.advance(pause);
        let past_grace = pause > super::PAST_GRACE - Duration::from_secs(1);
        for person in &mut people {
            person.time_passes(past_grace, ROUNDS_TO_FIND);
        }
        thieves_left = people.iter().filter(|person| person.has_thief()).count();
    }
    let count = &world.counts;
    let total = |counter: &std::sync::atomic::AtomicUsize| counter.load(Ordering::SeqCst);
    println!(
        "{rounds} rounds in {:?}, up to {most_at_once} people at once: {} requests, {} renewals, {} answers lost, {} told to come again, {} connections lost, \
         {} sign-outs; {} faults ({} nodes killed); {} thieves planted, {} found; {} sessions \
         lost to a machine that stood still",
        started.elapsed(),
        total(&count.requests),
        world.issued(),
        total(&count.lost),
        total(&count.come_again),
        total(&count.broken),
        total(&count.sign_outs),
        total(&count.faults),
        total(&count.kills),
        total(&count.thieves),
        total(&count.found),
        total(&count.stalled),
    );
    assert_eq!(total(&count.thieves), total(&count.found));
    assert!(total(&count.thieves) > 0 && total(&count.faults) > 0);
    let most = if excused { people.len() / 20 } else { 0 };
    assert!(total(&count.stalled) <= most, "too slow a machine to tell");
    assert!(world.issued() > people.len(), "hardly anything was renewed");
}
