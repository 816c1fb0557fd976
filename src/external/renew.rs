//! Who waits for which call: all requests with one refresh token share one, and those that come later share its outcome.
//!
//! A call is a task of its own: a request that goes away does not stop it, because the token may be spent already. A spent
//! token stands for its successor while it is remembered; an answer that comes after the request gave up still counts.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::call::Behalf;
use super::memory::{Begin, Key, Known, Outcome};
use super::{Caller, External, ExternalEvent, Grant, Pair, Renewal, Spender, text};
use crate::clock::Timestamp;
use crate::patience::Charge;

/// How soon a token whose renewal came to nothing may be tried again, and what clients are told then.
pub(super) const PAUSE: Duration = Duration::from_secs(1);
/// How many spent tokens may stand between a straggler and the newest one.
const CHAIN: usize = 8;

/// How a refresh token stands.
pub(super) enum Standing {
    /// Nothing is known of it.
    Unknown,
    /// It is being spent, and that takes longer than a request waits.
    Flying,
    /// What it, or the newest of its successors, came to; and whether it is the asker's own, see [`Grant`].
    Landed(Outcome, bool),
}

/// Puts a flight's outcome into the memory, however the flight ends.
struct Landing {
    external: Arc<External>,
    key: Key,
    landed: watch::Sender<Option<Outcome>>,
    /// Of the address that began it.
    charge: Option<Charge>,
    over: bool,
}

impl Landing {
    fn land(mut self, outcome: Outcome) {
        self.settle(outcome);
    }

    fn settle(&mut self, outcome: Outcome) {
        self.over = true;
        // What a made-up token comes to stays charged.
        let in_vain = matches!(outcome, Outcome::Refused(_) | Outcome::Lost { .. });
        if let (Some(charge), false) = (self.charge, in_vain) {
            self.external.patience.give_back(charge);
        }
        // Remembered first: whoever asks from now on finds it there.
        self.external
            .memory
            .land(self.key, outcome.clone(), Instant::now());
        self.landed.send_replace(Some(outcome));
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if !self.over {
            // Broken off (a panic, or the end of the process): nobody knows how far it came.
            let lost = self.external.lost();
            self.settle(lost);
        }
    }
}

impl Pair {
    /// Whether a browser may be given it: it spent the token, or presents one that goes on.
    fn is_of(&self, spender: Spender) -> bool {
        self.refresh.is_none() || self.spender == spender
    }
}

impl External {
    /// What a refresh token can be spent for, or was. `now` is the request's.
    pub async fn renew(
        self: &Arc<Self>,
        token: &[u8],
        caller: Caller<'_>,
        now: Timestamp,
    ) -> Renewal {
        let Some(token) = text(token) else {
            return Renewal::Refused(Arc::default());
        };
        let deadline = Instant::now() + self.settings.wait;
        let spender = Spender::new(caller.client, caller.user_agent);
        let mut own = true;
        let mut known = match self.begin(token, caller, true) {
            Ok(known) => known,
            Err(wait) => return Renewal::Throttled(wait.max(PAUSE)),
        };
        if matches!(known, Known::Landed(Outcome::Renewed(_))) {
            self.observer.observe(ExternalEvent::Served);
        }
        for _ in 0..CHAIN {
            let pair = match self.landed(known, deadline).await {
                None => return Renewal::Unavailable(PAUSE),
                Some(Outcome::Renewed(pair)) => pair,
                Some(Outcome::Refused(lines)) => return Renewal::Refused(lines),
                Some(Outcome::Paused(until)) => {
                    let left = until.saturating_duration_since(Instant::now());
                    return Renewal::Unavailable(left.max(PAUSE));
                }
                Some(Outcome::Lost { since }) => {
                    // The answer may still be known to the service's operator, and the person may have other tabs; but
                    // nothing else than a new sign-in leads on from here.
                    return match since.elapsed() < self.settings.replay_grace {
                        true => Renewal::Unavailable(PAUSE),
                        false => Renewal::Lost,
                    };
                }
            };
            own = own && pair.is_of(spender);
            let begun = match self.successor(&pair) {
                // Whoever is that late has newer cookies already, or should not have any.
                Some(known) => {
                    own = false;
                    Ok(known)
                }
                None if now < pair.subject.expires_at() => {
                    return Renewal::Renewed(Grant { pair, own });
                }
                // Nothing is spent for a stranger: its owner could not be given what came of it.
                None if !own => return Renewal::Unavailable(PAUSE),
                // Remembered longer than it is good for: the token stands for its successor.
                None => match &pair.refresh {
                    Some((next, _)) => self.begin(next, caller, false),
                    None => {
                        self.memory.forget_renewed(&Key::of(token));
                        self.begin(token, caller, false)
                    }
                },
            };
            known = match begun {
                Ok(known) => known,
                Err(wait) => return Renewal::Throttled(wait.max(PAUSE)),
            };
        }
        Renewal::Unavailable(PAUSE)
    }

    /// What is known of the token that a token was spent for.
    fn successor(&self, pair: &Pair) -> Option<Known> {
        let (_, key) = pair.refresh.as_ref()?;
        self.memory.find(key, Instant::now())
    }

    /// Whether a pair is the newest as far as this node knows, and still good: then a browser may be given it. Otherwise the
    /// browser may have a newer one, which must not be overwritten.
    pub(super) fn is_newest(&self, pair: &Pair, now: Timestamp) -> bool {
        now < pair.subject.expires_at() && self.successor(pair).is_none()
    }

    /// How a token stands; spends nothing, waits for a call that is under way.
    pub(super) async fn newest(&self, token: &[u8], spender: Spender) -> Standing {
        let mut own = true;
        let deadline = Instant::now() + self.settings.wait;
        let Some(mut known) = self.memory.find(&Key::of(token), Instant::now()) else {
            return Standing::Unknown;
        };
        for _ in 0..CHAIN {
            let Some(outcome) = self.landed(known, deadline).await else {
                return Standing::Flying;
            };
            known = match &outcome {
                Outcome::Renewed(pair) => {
                    own = own && pair.is_of(spender);
                    match self.successor(pair) {
                        Some(known) => {
                            own = false;
                            known
                        }
                        None => return Standing::Landed(outcome, own),
                    }
                }
                _ => return Standing::Landed(outcome, own),
            };
        }
        Standing::Flying
    }

    /// Waits for a flight; `None`: not in time.
    async fn landed(&self, known: Known, deadline: Instant) -> Option<Outcome> {
        match known {
            Known::Landed(outcome) => Some(outcome),
            Known::Flying(mut flight) => {
                let landed = flight.wait_for(Option::is_some);
                let landed = tokio::time::timeout_at(deadline, landed).await.ok()?.ok()?;
                (*landed).clone()
            }
        }
    }

    /// The flight or the outcome of a token; a new flight where there is neither. One that the service did not give us is
    /// `charged` to the caller's address, and may have to wait.
    fn begin(
        self: &Arc<Self>,
        token: &str,
        caller: Caller<'_>,
        charged: bool,
    ) -> Result<Known, Duration> {
        let key = Key::of(token);
        let now = Instant::now();
        let charge = || match charged {
            true => self
                .patience
                .charge(caller.client.0, self.clock.now())
                .map(Some),
            false => Ok(None),
        };
        Ok(match self.memory.begin(key, now, charge) {
            Begin::Known(known) => known,
            Begin::Full => Known::Landed(self.paused(None)),
            Begin::Wait(wait) => return Err(wait),
            Begin::Fly(landed, flight, charge) => {
                let landing = Landing {
                    external: Arc::clone(self),
                    key,
                    landed,
                    charge,
                    over: false,
                };
                self.fly(token.to_owned(), caller.into(), landing);
                Known::Flying(flight)
            }
        })
    }

    fn fly(&self, token: String, behalf: Behalf, landing: Landing) {
        self.control.spawn(async move {
            let external = Arc::clone(&landing.external);
            // Nothing is sent while waiting for a turn, so giving up here costs nothing.
            let turn = tokio::time::timeout(external.settings.wait, external.calls.acquire());
            let outcome = match turn.await {
                Ok(Ok(_turn)) => external.spend(&token, &behalf).await,
                Ok(Err(_)) | Err(_) => external.paused(None),
            };
            landing.land(outcome);
        });
    }
}
