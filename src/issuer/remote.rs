//! The keys of one issuer, from its key set's URL: fetched at the start, refreshed in the background, swapped whole.
//!
//! A fetch is a task of its own; nobody holds a lock while it runs, and a caller that goes away does not stop it. A token
//! with an unknown key makes at most one fetch in [`Settings::interval`], however many such tokens come; one that the issuer handed
//! over itself at most one in [`Settings::floor`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::Uri;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{IssuerError, Metadata, discover, discovery};
use crate::auth::foreign_keys::{Algorithm, ForeignKeys, KeyGeneration, MAX_BYTES};
use crate::outbound::{Limits, Outbound};
use crate::pauses::Pauses;

/// Where an issuer's key set is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// Where its metadata says.
    Discovered,
    /// Here.
    Url(Uri),
}

/// What is fetched, and how often.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The issuer, exactly as its tokens and its metadata write it.
    pub issuer: String,
    /// Where its keys are.
    pub location: Location,
    /// What its keys may be used with.
    pub algorithms: Vec<Algorithm>,
    /// How old keys may grow before they are fetched again.
    pub refresh: Duration,
    /// Shortest time between the beginning of a fetch and one that an unknown key causes.
    pub interval: Duration,
    /// The same of a fetch that nobody but the issuer can cause: by a token that it handed over itself, or by being away when
    /// there are no keys yet.
    pub floor: Duration,
    /// Longest time that a caller waits for a fetch.
    pub wait: Duration,
    /// What one call may cost.
    pub limits: Limits,
}

impl Settings {
    /// The usual pace: fresh every 15 minutes, unknown keys at most every 30 s, by the issuer's own doing every 3 s; 3 s of waiting.
    pub fn new(issuer: String, location: Location, algorithms: Vec<Algorithm>) -> Self {
        Settings {
            issuer,
            location,
            algorithms,
            refresh: Duration::from_secs(15 * 60),
            interval: Duration::from_secs(30),
            floor: Duration::from_secs(3),
            wait: Duration::from_secs(3),
            limits: Limits {
                time: Duration::from_secs(10),
                bytes: MAX_BYTES,
            },
        }
    }
}

/// What one fetch brought.
#[derive(Debug)]
pub struct Fetched {
    /// Where the keys were discovered.
    pub metadata: Option<Metadata>,
    /// The keys.
    pub keys: ForeignKeys,
    at: Instant,
}

/// Counters for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Fetches that brought usable keys.
    pub succeeded: u64,
    /// Fetches that did not.
    pub failed: u64,
    /// How many keys there are now.
    pub keys: usize,
    /// How old they are.
    pub age: Option<Duration>,
}

/// The keys of one issuer.
pub struct RemoteKeys {
    settings: Settings,
    outbound: Outbound,
    runtime: Handle,
    current: ArcSwapOption<Fetched>,
    turn: Mutex<Turn>,
    /// How many fetches have ended, well or not.
    ended: watch::Sender<u64>,
    succeeded: AtomicU64,
    failed: AtomicU64,
}

/// Whose turn it is to fetch. Never held while anything is awaited.
#[derive(Debug, Default)]
struct Turn {
    under_way: bool,
    began: Option<Instant>,
}

/// Between attempts while there is no key at all.
const PAUSES: Pauses = Pauses::doubling(Duration::from_secs(1), Duration::from_secs(60));

impl RemoteKeys {
    /// Begins to fetch on `runtime`, which must outlive the caller's; ends when the last `Arc` is gone.
    pub fn start(settings: Settings, outbound: Outbound, runtime: Handle) -> Arc<Self> {
        let keys = Arc::new(RemoteKeys {
            settings,
            outbound,
            runtime: runtime.clone(),
            current: ArcSwapOption::empty(),
            turn: Mutex::default(),
            ended: watch::Sender::new(0),
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        });
        // Before anybody can ask: a first request waits for this fetch and makes none.
        keys.begin(|_| true);
        runtime.spawn(keep_fresh(Arc::downgrade(&keys)));
        keys
    }

    /// The issuer.
    pub fn issuer(&self) -> &str {
        &self.settings.issuer
    }

    /// What was fetched last; `None` before the first success. Costs a load.
    pub fn current(&self) -> Option<Arc<Fetched>> {
        self.current.load_full()
    }

    /// What was fetched last, waiting for the first fetch, [`Settings::wait`] at most; begins one when the last that failed began
    /// longer than [`Settings::floor`] ago. `None` = the issuer cannot be reached or has no usable key, which was logged.
    pub async fn ready(self: &Arc<Self>) -> Option<Arc<Fetched>> {
        if let Some(fetched) = self.current() {
            return Some(fetched);
        }
        let mut ended = self.ended.subscribe();
        if self.begin_after(self.settings.floor) || self.turn().under_way {
            self.wait_for(&mut ended).await;
        }
        self.current()
    }

    /// Newer keys than those of `seen`, for a token whose key is not among them. Fetches when the last fetch began longer
    /// than [`Settings::interval`] ago, waits for a fetch under way, and otherwise says at once that there are none.
    pub async fn unknown_key(self: &Arc<Self>, seen: KeyGeneration) -> Option<Arc<Fetched>> {
        let newer = || self.current().filter(|now| now.keys.generation() != seen);
        let mut ended = self.ended.subscribe();
        if let Some(fetched) = newer() {
            return Some(fetched);
        }
        if self.begin_after(self.settings.interval) || self.turn().under_way {
            self.wait_for(&mut ended).await;
        }
        newer()
    }

    /// The same for a token that came from the issuer itself just now, over a connection of ours: so its keys are other ones by
    /// now, and only it can cause such fetches. Waits for a fetch that began after the call, three times [`Settings::wait`] and
    /// [`Settings::floor`] at most.
    pub async fn own_unknown_key(self: &Arc<Self>, seen: KeyGeneration) -> Option<Arc<Fetched>> {
        let asked = Instant::now();
        let newer = || self.current().filter(|now| now.keys.generation() != seen);
        let floor = self.settings.floor;
        // A fetch that was under way, a pause after it, a fetch that sees what is published by now.
        for _ in 0..3 {
            let mut ended = self.ended.subscribe();
            if let Some(fetched) = newer() {
                return Some(fetched);
            }
            let waits = self.begin_after(floor) || self.turn().under_way;
            let began = self.turn().began;
            match began {
                _ if waits => self.wait_for(&mut ended).await,
                Some(began) => tokio::time::sleep_until(began + floor).await,
                None => {}
            }
            let is_last_word = began.is_some_and(|began| began >= asked);
            if waits && is_last_word && !self.turn().under_way {
                break;
            }
        }
        newer()
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        let current = self.current();
        Stats {
            succeeded: self.succeeded.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            keys: current.as_ref().map_or(0, |fetched| fetched.keys.len()),
            age: current.map(|fetched| fetched.at.elapsed()),
        }
    }

    async fn wait_for(&self, ended: &mut watch::Receiver<u64>) {
        // Either way the caller looks at what there is now.
        let _ = tokio::time::timeout(self.settings.wait, ended.changed()).await;
    }

    fn turn(&self) -> std::sync::MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a fetch unless the last one is under way or began less than this ago; whether it did.
    fn begin_after(self: &Arc<Self>, pause: Duration) -> bool {
        self.begin(|began| began.is_none_or(|began| began.elapsed() >= pause))
    }

    /// Begins a fetch unless one is under way or `due` denies it; whether it did.
    fn begin(self: &Arc<Self>, due: impl FnOnce(Option<Instant>) -> bool) -> bool {
        let mut turn = self.turn();
        if turn.under_way || !due(turn.began) {
            return false;
        }
        *turn = Turn {
            under_way: true,
            began: Some(Instant::now()),
        };
        drop(turn);
        let fetching = UnderWay(Arc::clone(self));
        self.runtime.spawn(async move {
            let outcome = fetching.0.fetch().await;
            fetching.0.settle(outcome);
            drop(fetching);
        });
        true
    }

    /// When to fetch again without being asked: this long after a failure, and otherwise when the keys of the last fetch,
    /// whoever caused it, are [`Settings::refresh`] old.
    pub(super) fn again_at(&self, after_failure: Option<Duration>) -> Instant {
        let refresh = self.settings.refresh;
        match (after_failure, self.turn().began) {
            (None, Some(began)) => began + refresh,
            (pause, _) => Instant::now() + pause.unwrap_or(refresh),
        }
    }

    async fn fetch(&self) -> Result<Fetched, IssuerError> {
        let Settings {
            issuer,
            location,
            algorithms,
            limits,
            ..
        } = &self.settings;
        let (metadata, place) = match location {
            Location::Url(url) => (None, url.clone()),
            Location::Discovered => {
                let metadata = discover(&self.outbound, issuer, *limits).await?;
                let place = metadata.place("jwks_uri").ok_or(IssuerError::Place)?;
                (Some(metadata), place)
            }
        };
        Ok(Fetched {
            metadata,
            keys: keys_at(&self.outbound, &place, algorithms, *limits).await?,
            at: Instant::now(),
        })
    }

    fn settle(&self, outcome: Result<Fetched, IssuerError>) {
        let issuer = &self.settings.issuer;
        match outcome {
            Ok(fetched) => {
                self.succeeded.fetch_add(1, Ordering::Relaxed);
                let generation = fetched.keys.generation();
                let known = self.current();
                if known.is_none_or(|known| known.keys.generation() != generation) {
                    let left_out = fetched.keys.skipped().len();
                    tracing::info!(issuer, keys = fetched.keys.len(), left_out, "new keys");
                }
                self.current.store(Some(Arc::new(fetched)));
            }
            Err(error) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                let kept = self.stats().keys;
                tracing::warn!(issuer, %error, kept, "keys could not be fetched");
            }
        }
    }
}

/// The key set at a place, once.
pub async fn keys_at(
    outbound: &Outbound,
    place: &Uri,
    algorithms: &[Algorithm],
    limits: Limits,
) -> Result<ForeignKeys, IssuerError> {
    let bytes = discovery::get(outbound, "keys", &place.to_string(), limits).await?;
    Ok(ForeignKeys::from_jwks(&bytes, algorithms)?)
}

/// A fetch under way; however it ends, those who wait are told.
struct UnderWay(Arc<RemoteKeys>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.turn().under_way = false;
        self.0.ended.send_modify(|ended| *ended += 1);
    }
}

/// Fetches again and again: every [`Settings::refresh`] while it goes well, sooner while it does not.
async fn keep_fresh(keys: Weak<RemoteKeys>) {
    let mut pauses = PAUSES;
    let mut failed = 0;
    loop {
        let Some(strong) = keys.upgrade() else { return };
        let mut ended = strong.ended.subscribe();
        let waits = strong.turn().under_way;
        // Not to keep alive what nobody else uses.
        drop(strong);
        if waits && ended.changed().await.is_err() {
            return;
        }
        let Some(strong) = keys.upgrade() else { return };
        let failed_before = std::mem::replace(&mut failed, strong.failed.load(Ordering::Relaxed));
        let went_well = failed == failed_before;
        let pause = match (went_well, strong.current().is_some()) {
            (true, _) => None,
            (false, true) => Some(strong.settings.interval),
            (false, false) => Some(pauses.pause()),
        };
        let at = strong.again_at(pause);
        drop(strong);
        tokio::time::sleep_until(at).await;
        let Some(strong) = keys.upgrade() else { return };
        strong.begin_after(pause.unwrap_or(strong.settings.refresh));
    }
}
