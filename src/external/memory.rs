//! What is remembered of refresh tokens: which are being spent, which were and for what, which may have been.
//!
//! Tokens are remembered by their hash, each kind of memory is bounded on its own (made-up tokens must not push out what
//! keeps a spent one from being sent again), and everything is on the monotonic clock. Must not call anybody, and holds
//! its lock over nothing that waits.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use http::HeaderValue;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Pair;
use crate::patience::Charge;

/// How many renewals are remembered at most, and how many refusals, pauses and lost tokens; of each the newest.
const MOST: usize = 10_000;
/// Renewals under way.
const MOST_FLIGHTS: usize = 2_000;
/// How long a lost token is not sent again. Long enough for the browser's owner to have signed in again, in any case.
const LOST_FOR: Duration = Duration::from_secs(24 * 3600);
/// No pause is longer.
const MOST_PAUSE: Duration = Duration::from_secs(60);

/// A refresh token, as far as anybody needs to know it here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

impl Key {
    /// SHA-256: nobody can find another token with the same key.
    pub(super) fn of(token: impl AsRef<[u8]>) -> Self {
        let mut key = [0; 32];
        let hash = digest::digest(&digest::SHA256, token.as_ref());
        key.copy_from_slice(hash.as_ref());
        Key(key)
    }
}

/// What spending a token came to.
#[derive(Clone)]
pub(super) enum Outcome {
    /// New tokens.
    Renewed(Arc<Pair>),
    /// The service does not accept it; what it said about the cookies.
    Refused(Arc<[HeaderValue]>),
    /// Not spent, and not before this moment again.
    Paused(Instant),
    /// It may have been spent, and nothing came back.
    Lost {
        /// Until `replay_grace` is over the browser is asked to try again; then its owner to sign in.
        since: Instant,
    },
}

/// The outcome to be of a renewal under way.
pub(super) type Flight = watch::Receiver<Option<Outcome>>;

/// What is known of a token.
pub(super) enum Known {
    /// It is being spent.
    Flying(Flight),
    /// It was tried.
    Landed(Outcome),
}

/// What to do with a token that is to be spent.
pub(super) enum Begin {
    /// Wait, or take what it came to.
    Known(Known),
    /// Spend it, and tell [`Memory::land`] and the waiters.
    Fly(watch::Sender<Option<Outcome>>, Flight, Option<Charge>),
    /// Too many at once.
    Full,
    /// Not before this has passed.
    Wait(Duration),
}

/// All of it.
pub(super) struct Memory {
    state: Mutex<State>,
}

struct State {
    flights: HashMap<Key, Flight>,
    renewed: Recent<Arc<Pair>>,
    refused: Recent<Arc<[HeaderValue]>>,
    paused: Recent<Instant>,
    lost: Recent<Instant>,
}

impl Memory {
    /// `grace` = how long renewals and refusals are remembered.
    pub(super) fn new(grace: Duration) -> Self {
        Memory {
            state: Mutex::new(State {
                flights: HashMap::new(),
                renewed: Recent::new(grace),
                refused: Recent::new(grace),
                paused: Recent::new(MOST_PAUSE),
                lost: Recent::new(LOST_FOR.max(grace)),
            }),
        }
    }

    /// What is known of a token.
    pub(super) fn find(&self, key: &Key, now: Instant) -> Option<Known> {
        self.state().find(key, now)
    }

    /// Claims a token for spending, unless something is known of it or `charge` says to wait. That must not come back here.
    pub(super) fn begin(
        &self,
        key: Key,
        now: Instant,
        charge: impl FnOnce() -> Result<Option<Charge>, Duration>,
    ) -> Begin {
        let mut state = self.state();
        if let Some(known) = state.find(&key, now) {
            return Begin::Known(known);
        }
        if state.flights.len() >= MOST_FLIGHTS {
            return Begin::Full;
        }
        match state.flights.entry(key) {
            Entry::Occupied(flight) => Begin::Known(Known::Flying(flight.get().clone())),
            Entry::Vacant(place) => {
                let charge = match charge() {
                    Ok(charge) => charge,
                    Err(wait) => return Begin::Wait(wait),
                };
                let (landed, flight) = watch::channel(None);
                place.insert(flight.clone());
                Begin::Fly(landed, flight, charge)
            }
        }
    }

    /// Ends the flight of a token, if there was one, and remembers what it came to.
    pub(super) fn land(&self, key: Key, outcome: Outcome, now: Instant) {
        let mut state = self.state();
        state.flights.remove(&key);
        match outcome {
            Outcome::Renewed(pair) => state.renewed.put(key, pair, now),
            Outcome::Refused(lines) => state.refused.put(key, lines, now),
            Outcome::Paused(until) => state.paused.put(key, until, now),
            Outcome::Lost { since } => state.lost.put(key, since, now),
        }
    }

    /// The service itself has ended or replaced a token: nothing of it is given to anybody any more.
    pub(super) fn end(&self, key: Key, now: Instant) {
        self.state().refused.put(key, Arc::default(), now);
    }

    /// Forgets a renewal whose token was not replaced by it: it may be sent again.
    pub(super) fn forget_renewed(&self, key: &Key) {
        self.state().renewed.map.remove(key);
    }

    /// How many renewals are under way, and how many outcomes are remembered.
    pub(super) fn held(&self) -> (usize, usize) {
        let state = self.state();
        let remembered = state.renewed.map.len()
            + state.refused.map.len()
            + state.paused.map.len()
            + state.lost.map.len();
        (state.flights.len(), remembered)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A refusal beats a renewal: what the service ended stays ended.
    fn find(&self, key: &Key, now: Instant) -> Option<Known> {
        if let Some(flight) = self.flights.get(key) {
            return Some(Known::Flying(flight.clone()));
        }
        let landed = if let Some(lines) = self.refused.get(key, now) {
            Outcome::Refused(Arc::clone(lines))
        } else if let Some(pair) = self.renewed.get(key, now) {
            Outcome::Renewed(Arc::clone(pair))
        } else if let Some(&since) = self.lost.get(key, now) {
            Outcome::Lost { since }
        } else {
            let &until = self.paused.get(key, now)?;
            if until <= now {
                return None;
            }
            Outcome::Paused(until)
        };
        Some(Known::Landed(landed))
    }
}

/// The newest entries of one kind, each for the same time.
struct Recent<V> {
    keep: Duration,
    map: HashMap<Key, (V, Instant)>,
    /// In the order of their moments; an entry that was put anew has an older place as well.
    order: VecDeque<(Instant, Key)>,
}

impl<V> Recent<V> {
    fn new(keep: Duration) -> Self {
        Recent {
            keep,
            map: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    fn get(&self, key: &Key, now: Instant) -> Option<&V> {
        let (value, at) = self.map.get(key)?;
        (now.saturating_duration_since(*at) < self.keep).then_some(value)
    }

    fn put(&mut self, key: Key, value: V, now: Instant) {
        self.map.insert(key, (value, now));
        self.order.push_back((now, key));
        while let Some(&(at, oldest)) = self.order.front() {
            let over = now.saturating_duration_since(at) >= self.keep;
            if !over && self.order.len() <= MOST {
                break;
            }
            self.order.pop_front();
            if self.map.get(&oldest).is_some_and(|(_, put)| *put == at) {
                self.map.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(30);

    fn key(n: usize) -> Key {
        Key::of(n.to_string())
    }

    fn refused() -> Outcome {
        Outcome::Refused(Arc::default())
    }

    fn word(known: Option<Known>) -> &'static str {
        match known {
            None => "unknown",
            Some(Known::Flying(_)) => "flying",
            Some(Known::Landed(Outcome::Renewed(_))) => "renewed",
            Some(Known::Landed(Outcome::Refused(_))) => "refused",
            Some(Known::Landed(Outcome::Paused(_))) => "paused",
            Some(Known::Landed(Outcome::Lost { .. })) => "lost",
        }
    }

    #[test]
    fn one_flight_for_a_token_and_its_outcome_for_the_grace() {
        let (memory, start) = (Memory::new(GRACE), Instant::now());
        let Begin::Fly(..) = memory.begin(key(1), start, || Ok(None)) else {
            panic!("it was free")
        };
        assert!(matches!(
            memory.begin(key(1), start, || Ok(None)),
            Begin::Known(Known::Flying(_))
        ));
        assert!(matches!(
            memory.begin(key(2), start, || Ok(None)),
            Begin::Fly(..)
        ));
        memory.land(key(1), refused(), start);
        let last = start + GRACE - Duration::from_millis(1);
        assert_eq!(word(memory.find(&key(1), last)), "refused");
        assert!(matches!(
            memory.begin(key(1), last, || Ok(None)),
            Begin::Known(Known::Landed(_))
        ));
        assert_eq!(word(memory.find(&key(1), start + GRACE)), "unknown");
        assert!(matches!(
            memory.begin(key(1), start + GRACE, || Ok(None)),
            Begin::Fly(..)
        ));
    }

    #[test]
    fn a_pause_ends_by_itself_and_a_lost_token_stays_lost() {
        let (memory, start) = (Memory::new(GRACE), Instant::now());
        let until = start + Duration::from_secs(2);
        memory.land(key(1), Outcome::Paused(until), start);
        memory.land(key(2), Outcome::Lost { since: start }, start);
        assert_eq!(
            word(memory.find(&key(1), until - Duration::from_millis(1))),
            "paused"
        );
        assert_eq!(word(memory.find(&key(1), until)), "unknown");
        assert_eq!(
            word(memory.find(&key(2), start + Duration::from_secs(3600))),
            "lost"
        );
        assert!(matches!(
            memory.begin(key(2), start + GRACE * 2, || Ok(None)),
            Begin::Known(Known::Landed(_))
        ));
    }

    #[test]
    fn made_up_tokens_push_out_only_their_like() {
        let (memory, start) = (Memory::new(GRACE), Instant::now());
        memory.land(key(0), Outcome::Lost { since: start }, start);
        for n in 1..=MOST + 5 {
            memory.land(key(n), refused(), start);
        }
        assert_eq!(word(memory.find(&key(0), start)), "lost");
        assert_eq!(word(memory.find(&key(5), start)), "unknown");
        assert_eq!(word(memory.find(&key(6), start)), "refused");
        assert_eq!(memory.held(), (0, MOST + 1));
        // What is over goes with the next that comes.
        memory.land(key(1), refused(), start + GRACE);
        assert_eq!(memory.held(), (0, 2));
    }

    #[test]
    fn an_entry_put_anew_lives_on_from_then() {
        let (memory, start) = (Memory::new(GRACE), Instant::now());
        memory.land(key(1), refused(), start);
        memory.land(key(1), refused(), start + GRACE / 2);
        memory.land(key(2), refused(), start + GRACE);
        assert_eq!(word(memory.find(&key(1), start + GRACE)), "refused");
        assert_eq!(word(memory.find(&key(1), start + GRACE * 3 / 2)), "unknown");
    }

    #[test]
    fn flights_are_bounded() {
        let (memory, start) = (Memory::new(GRACE), Instant::now());
        let mut flights = Vec::new();
        for n in 0..MOST_FLIGHTS {
            flights.push(memory.begin(key(n), start, || Ok(None)));
        }
        assert!(matches!(
            memory.begin(key(MOST_FLIGHTS), start, || Ok(None)),
            Begin::Full
        ));
        assert!(matches!(
            memory.begin(key(0), start, || Ok(None)),
            Begin::Known(Known::Flying(_))
        ));
        memory.land(key(0), refused(), start);
        assert!(matches!(
            memory.begin(key(MOST_FLIGHTS), start, || Ok(None)),
            Begin::Fly(..)
        ));
    }
}
