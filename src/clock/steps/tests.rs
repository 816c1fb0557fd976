use super::*;

const SETTLE: Duration = Duration::from_secs(360);
const TICK: Duration = Duration::from_millis(250);
const START: Timestamp = Timestamp::from_secs(1_800_000_000);
const HOUR: i64 = 3600;

/// A machine: the true time, and a wall clock that differs from it by what a hand has added.
struct Machine {
    steps: Discipline,
    passed: Duration,
    off: i64,
    ticks: Vec<Tick>,
}

impl Machine {
    fn new() -> Self {
        Machine {
            steps: Discipline::new(SETTLE, START),
            passed: Duration::ZERO,
            off: 0,
            ticks: Vec::new(),
        }
    }

    /// Moves the wall clock by hand.
    fn step(mut self, seconds: i64) -> Self {
        self.off += seconds * 1000;
        self
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(START.plus(self.passed).as_millis() + self.off)
    }

    /// Lets time pass.
    fn run(mut self, seconds: u64) -> Self {
        let until = self.passed + Duration::from_secs(seconds);
        while self.passed < until {
            self.passed += TICK;
            let tick = self.steps.tick(self.passed, self.wall());
            if tick != Tick::default() {
                self.ticks.push(tick);
            }
        }
        self
    }

    /// How far the node's time is from the true one, in milliseconds.
    fn error(&self) -> i64 {
        self.steps.now().millis_after(START.plus(self.passed))
    }

    fn stepped(&self) -> Vec<i64> {
        let steps = self.ticks.iter().filter_map(|tick| tick.stepped);
        steps.map(|step| step.millis / 1000).collect()
    }

    fn set_back(&self) -> Vec<i64> {
        let steps = self.ticks.iter().filter_map(|tick| tick.set_back);
        steps
            .map(|step| (step.millis - 500).div_euclid(1000))
            .collect()
    }
}

#[test]
fn an_even_clock_and_small_adjustments_are_no_step() {
    let mut machine = Machine::new().run(10);
    for adjustment in [700, -700, 1_900, -1_900, 0] {
        machine.off += adjustment;
        machine = machine.run(30);
        assert_eq!(machine.error(), machine.off);
    }
    assert!(machine.stepped().is_empty() && machine.steps.is_settled());
}

#[test]
fn forward_is_followed_at_once_and_stays_in_doubt_until_all_tokens_of_before_are_over() {
    for hours in [1, 25] {
        let machine = Machine::new().run(5).step(hours * HOUR).run(1);
        assert_eq!(machine.error(), hours * HOUR * 1000);
        assert_eq!(machine.stepped(), [hours * HOUR]);
        assert!(!machine.steps.is_settled());
        let machine = machine.run(SETTLE.as_secs() - 2);
        assert!(!machine.steps.is_settled());
        let machine = machine.run(2);
        assert!(machine.steps.is_settled());
        assert_eq!(machine.ticks.iter().filter(|tick| tick.settled).count(), 1);
        assert!(machine.set_back().is_empty());
    }
}

#[test]
fn a_forward_step_in_doubt_that_is_corrected_is_taken_back_at_once() {
    for hours in [1, 25, 24 * 365] {
        let machine = Machine::new().run(5).step(hours * HOUR).run(300);
        let machine = machine.step(-hours * HOUR).run(1);
        assert_eq!(machine.error(), 0);
        assert_eq!(machine.set_back().len(), 1);
        assert!(machine.steps.is_settled());
        assert_eq!(machine.stepped(), [hours * HOUR, -hours * HOUR]);
    }
    // Several steps in doubt are taken back together.
    let machine = Machine::new().step(360).run(10).step(40).run(10).step(-400);
    assert_eq!(machine.run(1).error(), 0);
}

#[test]
fn backward_is_not_followed_and_no_moment_comes_twice() {
    for seconds in [3, 59, 360, HOUR, 25 * HOUR] {
        let mut machine = Machine::new().run(5).step(-seconds);
        let mut last = machine.steps.now();
        for _ in 0..300 {
            machine = machine.run(1);
            assert!(machine.steps.now() > last, "{seconds}");
            last = machine.steps.now();
        }
        assert!(machine.set_back().is_empty());
        assert_eq!(machine.stepped(), [-seconds]);
    }
}

#[test]
fn the_wall_clock_is_waited_for_at_half_speed() {
    let machine = Machine::new().run(5).step(-HOUR).run(3600);
    assert!(
        (machine.error() + 1_800_000).abs() < 1000,
        "{}",
        machine.error()
    );
    let ahead = machine.ticks.last().unwrap().ahead.as_secs();
    assert!((1795..=1805).contains(&ahead), "{ahead}");
    let machine = machine.run(3700);
    assert_eq!(machine.error(), -HOUR * 1000);
    assert!(machine.set_back().is_empty());
    // A correction meanwhile ends it at once.
    let machine = Machine::new().run(5).step(-HOUR).run(60).step(HOUR).run(1);
    assert_eq!(machine.error(), 0);
}

#[test]
fn a_wall_clock_that_stays_far_behind_is_believed_in_the_end() {
    let machine = Machine::new()
        .run(5)
        .step(-25 * HOUR)
        .run(SETTLE.as_secs() - 1);
    assert!(machine.set_back().is_empty());
    let machine = machine.run(5);
    assert_eq!(machine.set_back().len(), 1);
    assert_eq!(machine.error(), -25 * HOUR * 1000);
}

#[test]
fn a_correction_of_a_step_that_was_believed_is_believed_in_the_end() {
    let machine = Machine::new().step(25 * HOUR).run(SETTLE.as_secs() + 5);
    assert!(machine.steps.is_settled());
    let machine = machine.step(-25 * HOUR).run(1);
    assert!(machine.error() > 24 * HOUR * 1000);
    let machine = machine.run(SETTLE.as_secs() + 5);
    assert_eq!((machine.error(), machine.set_back().len()), (0, 1));
}

#[test]
fn the_clock_of_a_shared_store_says_whom_to_believe() {
    // The wall clock went wrong: the node's time goes on as the other nodes' does, for however long.
    let mut machine = Machine::new().run(5).step(-25 * HOUR).run(1);
    machine.steps.hear(START.plus(machine.passed));
    let before = machine.error();
    let machine = machine.run(2 * SETTLE.as_secs());
    assert_eq!((machine.error(), machine.set_back().len()), (before, 0));
    assert!(before.abs() < 1000, "{before}");
    // It is asked anew after the next step.
    let machine = machine.step(-HOUR).run(2 * SETTLE.as_secs());
    assert_eq!(machine.set_back().len(), 1);

    // The wall clock was put right.
    let machine = Machine::new().step(HOUR).run(SETTLE.as_secs() + 5);
    let mut machine = machine.step(-HOUR).run(1);
    assert!(machine.set_back().is_empty());
    machine.steps.hear(START.plus(machine.passed));
    let machine = machine.run(1);
    assert_eq!((machine.error(), machine.set_back().len()), (0, 1));
    // Of clocks that agree nothing is asked.
    let mut machine = Machine::new().run(5);
    machine.steps.hear(START);
    assert_eq!(machine.run(60).error(), 0);
}

#[test]
fn a_small_way_back_is_never_set_back() {
    let machine = Machine::new().run(5).step(30).run(5).step(-30).run(1);
    assert!(machine.set_back().is_empty());
    assert!((28_000..30_000).contains(&machine.error()));
    let machine = machine.run(60);
    assert_eq!(machine.error(), 0);
}

#[test]
fn a_step_is_no_witness_until_the_clocks_have_agreed_for_long() {
    let machine = Machine::new()
        .run(10)
        .step(25 * HOUR)
        .run(SETTLE.as_secs() + 10);
    assert!(machine.steps.is_settled());
    assert_eq!(
        machine.steps.witnessed(),
        START.plus(machine.passed),
        "what only the step claims has not been seen to pass"
    );
    let machine = machine.run(DOUBT.as_secs());
    assert_eq!(machine.steps.witnessed(), machine.steps.now());
    // Started in a wrong time: what is set back was never there.
    let machine = Machine::new().step(-25 * HOUR).run(SETTLE.as_secs() + 10);
    assert_eq!(machine.steps.witnessed(), machine.steps.now());
}

#[test]
fn a_long_silence_between_ticks_is_no_step() {
    let mut steps = Discipline::new(SETTLE, START);
    let later = Duration::from_secs(500);
    let tick = steps.tick(later, START.plus(later));
    assert_eq!(tick, Tick::default());
    assert_eq!(steps.now(), START.plus(later));
}
