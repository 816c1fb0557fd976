//! Breadth-first search through every state of a model; the first broken promise is told with the shortest way to it.
//! Knows nothing of sessions. States are found again by fingerprint and compared whole, so nothing is taken for known that is
//! not.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// Something with states and steps between them.
pub(super) trait Model {
    type State: Copy + Eq + Hash + Debug;
    type Step: Copy + Debug;

    fn start(&self) -> Self::State;
    /// Everything that can happen next, in canonical states.
    fn steps(&self, state: &Self::State, next: &mut Vec<(Self::Step, Self::State)>);
    /// Which sort of step this is, to see that all of them were taken.
    fn sort(&self, step: &Self::Step) -> usize;
    /// The promise that this state breaks.
    fn broken(&self, state: &Self::State) -> Option<String>;
}

/// More sorts of steps than any model has.
const SORTS: usize = 32;

/// What a search found.
pub(super) struct Found {
    /// Different states seen.
    pub(super) states: usize,
    /// Steps taken between them.
    pub(super) steps: usize,
    /// The promise that was broken, and how.
    pub(super) broken: Option<Counterexample>,
    /// How often each sort of step was taken.
    pub(super) sorts: [usize; SORTS],
}

/// The shortest way to a broken promise.
pub(super) struct Counterexample {
    pub(super) promise: String,
    pub(super) story: Vec<String>,
}

/// Searches until a promise breaks or there is nothing new; more than `most` states count as a failure of the bounds.
pub(super) fn explore<M: Model>(model: &M, most: usize) -> Found {
    let start = model.start();
    let mut states = vec![start];
    let mut came: Vec<(u32, Option<M::Step>)> = vec![(0, None)];
    let mut known: HashMap<u64, u32, BuildHasherDefault<Same>> = HashMap::default();
    known.insert(fingerprint(&start), 0);
    let mut next = Vec::new();
    let (mut at, mut steps, mut sorts) = (0, 0, [0; SORTS]);
    while at < states.len() {
        next.clear();
        model.steps(&states[at], &mut next);
        steps += next.len();
        for &(step, state) in &next {
            sorts[model.sort(&step)] += 1;
            let mark = fingerprint(&state);
            if let Some(&index) = known.get(&mark) {
                assert_eq!(states[index as usize], state, "two states, one fingerprint");
                continue;
            }
            assert!(states.len() < most, "more than {most} states");
            known.insert(mark, states.len() as u32);
            states.push(state);
            came.push((at as u32, Some(step)));
            if let Some(promise) = model.broken(&state) {
                let story = story(&states, &came, states.len() - 1);
                return Found {
                    states: states.len(),
                    steps,
                    broken: Some(Counterexample { promise, story }),
                    sorts,
                };
            }
        }
        at += 1;
    }
    Found {
        states: states.len(),
        steps,
        broken: None,
        sorts,
    }
}

fn story<S: Debug, T: Copy + Debug>(
    states: &[S],
    came: &[(u32, Option<T>)],
    mut at: usize,
) -> Vec<String> {
    let mut story = Vec::new();
    while let (from, Some(step)) = came[at] {
        story.push(format!("{step:?}\n      {:?}", states[at]));
        at = from as usize;
    }
    story.reverse();
    story
}

fn fingerprint<S: Hash>(state: &S) -> u64 {
    let mut mix = Mix(0x9e37_79b9_7f4a_7c15);
    state.hash(&mut mix);
    mix.finish()
}

/// A fast hash of small fields; its quality is watched by the comparison of whole states.
struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }
    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }
    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0xf135_7aea_2e62_a9c5);
        self.0 ^= self.0 >> 29;
    }
    fn finish(&self) -> u64 {
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z ^ (z >> 27)
    }
}

/// Fingerprints are hashes already.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only fingerprints are keys");
    }
    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
    fn finish(&self) -> u64 {
        self.0
    }
}
