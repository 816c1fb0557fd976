//! The session engine: everything with a clock, a cache or a wait around the pure rules of `auth`.
//!
//! Order of trust: a verified-token cache in front of `access_token::verify`; a single-flight renewal around
//! `rotation::judge`; acknowledgements off the request path; revocations in memory; open streams that end with their
//! session. Must not know HTTP beyond cookie values, nor any login method.

mod acknowledge;
mod cache;
mod check;
mod end;
mod ending;
mod event;
mod feed;
mod flight;
mod issue;
mod keys;
mod late;
mod list;
mod provider;
mod renew;
mod revocations;
mod streams;
mod sweep;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use tokio::runtime::Handle;

use self::acknowledge::Acknowledgements;
use self::cache::VerifiedTokens;
use self::feed::Following;
use self::keys::Keys;
use self::revocations::Revocations;
use crate::auth::access_token::Expect;
use crate::auth::refresh_token::MasterKeys;
use crate::auth::rotation::{Lineage, Refusal, SessionRecord, Windows};
use crate::auth::{Client, Generation, Identity, SessionId, Subject};
use crate::clock::{Clock, Timestamp};
use crate::store::{Replaced, Revision, RevocationTarget, Store, StoreError, Stored};

pub use ending::{By, Ending, Reason};
pub use event::{Observer, SessionEvent};
pub use issue::IssueError;
pub use keys::{KeyInfo, KeysError, rotated};
pub use provider::{
    BeganThere, Logout, NoProviders, ProviderAnswer, ProviderEnd, ProviderQuestion, ProviderReply,
    ProviderTalker, Providers, SignedInThere, Sources,
};
pub use streams::{StreamGuard, Streams};

/// How long one call to the store may take before it counts as unavailable; shorter than a request waits.
const STORE_PATIENCE: Duration = Duration::from_millis(800);
/// How long the end of the process waits for calls to providers that are under way.
const PROVIDER_SETTLES: Duration = Duration::from_secs(20);
/// How far nodes' clocks may differ (RFC 8725 allows no more than this to be forgiven).
const CLOCK_LEEWAY: Duration = Duration::from_secs(60);

/// How sessions behave; owned by this engine, filled by the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `iss` and `aud` of access tokens: the configured origin.
    pub origin: String,
    /// Life of an access token.
    pub access_ttl: Duration,
    /// A session ends at sign-in plus this.
    pub absolute_ttl: Duration,
    /// The rotation rule's windows and the idle lifetime.
    pub windows: Windows,
    /// How many verified tokens are remembered.
    pub cache_entries: usize,
}

impl Settings {
    /// After this, no access token of now can be valid on any node: nodes' clocks may differ a little.
    pub fn outlived(&self) -> Duration {
        self.access_ttl.saturating_add(end::MARGIN)
    }
}

/// A freshly issued pair: what goes into the two cookies.
#[derive(Clone)]
pub struct IssuedPair {
    /// Access token.
    pub access: String,
    /// Refresh token.
    pub refresh: String,
    /// Its session.
    pub session: SessionId,
    /// Its generation.
    pub generation: Generation,
    /// When this generation was issued; answers later than a third of the redelivery window carry no cookies.
    pub issued_at: Timestamp,
    /// `Max-Age` of the access cookie ends then.
    pub access_expires_at: Timestamp,
    /// `Max-Age` of the refresh cookie ends then.
    pub refresh_expires_at: Timestamp,
}

/// What a renewal came to.
#[derive(Clone)]
pub enum Renewal {
    /// A pair to hand out, and the identity for this request.
    Issued(Arc<IssuedPair>, Arc<Subject>),
    /// This request is served; no cookie.
    Served(Arc<Subject>),
    /// Definitely refused; cookies may be cleared.
    Refused {
        /// Why.
        refusal: RenewalRefusal,
        /// Whose session it is, where its record was read.
        user: Option<Arc<str>>,
    },
    /// Nothing definite can be said now: 503 + Retry-After, cookies untouched.
    Unavailable(Arc<RenewalTrouble>),
    /// The provider has to be asked first and gives no answer: 503 + Retry-After, cookies untouched.
    ProviderSilent {
        /// When to try again.
        retry_after: Duration,
    },
}

/// Why nothing definite can be said about a renewal now; for the log.
#[derive(Debug, thiserror::Error)]
pub enum RenewalTrouble {
    /// The store could not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody could say whether the account may go on.
    #[error(transparent)]
    Source(#[from] SourceUnavailable),
    /// No pair could be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// It took longer than a request waits.
    #[error("the renewal took too long")]
    Late,
    /// Others changed the session each time before the renewal could be written.
    #[error("the session is changing too fast")]
    Contended,
    /// The provider answered, and the store did not take the answer yet.
    #[error("what the provider answered could not be kept yet")]
    NotKept,
}

impl Renewal {
    fn unavailable(trouble: impl Into<RenewalTrouble>) -> Self {
        Renewal::Unavailable(Arc::new(trouble.into()))
    }
}

/// Why a renewal was definitely refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenewalRefusal {
    /// One of the rule's refusals.
    Rule(Refusal),
    /// A replay: the session was revoked by this very request.
    Replay,
    /// The account was blocked or removed.
    AccountClosed,
    /// The provider is not configured any more.
    ProviderGone,
}

/// What the engine needs to know of a login method at renewal.
pub trait IdentitySource: Send + Sync + 'static {
    /// The identity to put into the renewed tokens: the same, refreshed, or `Closed`.
    fn refresh<'a>(
        &'a self,
        identity: &'a Identity,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Refreshed, SourceUnavailable>> + Send + 'a>>;

    /// Whether a sign-in that was judged a moment ago would be judged so still. Asked when its session is in the store:
    /// whoever changes the account on another node afterwards finds the session there and ends it.
    fn confirm<'a>(
        &'a self,
        identity: &'a Identity,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Refreshed, SourceUnavailable>> + Send + 'a>>
    {
        self.refresh(identity)
    }
}

/// What a login method says of an identity at renewal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// Go on with this identity.
    Identity(Box<Identity>),
    /// The account is gone or blocked: the session ends.
    Closed,
}

/// The login method could not be asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the identity source is unavailable")]
pub struct SourceUnavailable;

/// Why the engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The signing keys could not be read or made.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// What other nodes do cannot be followed.
    #[error("the revocations of other nodes do not arrive: {0}")]
    Feed(String),
}

/// Why a session could not begin.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The identity does not fit into a cookie; for the person to see.
    #[error(transparent)]
    TooLarge(IssueError),
    /// No pair could be made.
    #[error(transparent)]
    Issue(IssueError),
    /// The store could not keep it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// All sessions of this person were ended, or the account changed, while this one began.
    #[error("all sessions of this user were ended meanwhile")]
    Ended,
}

impl From<IssueError> for BeginError {
    fn from(error: IssueError) -> Self {
        match error {
            IssueError::TooLarge => BeginError::TooLarge(error),
            IssueError::Key(_) | IssueError::Random => BeginError::Issue(error),
        }
    }
}

/// The session engine of one node.
pub struct Sessions {
    settings: Settings,
    /// What access tokens must match.
    expect: Expect,
    store: Arc<dyn Store>,
    master: MasterKeys,
    accounts: Arc<dyn IdentitySource>,
    providers: Providers,
    clock: Clock,
    observer: Arc<dyn Observer>,
    /// Where work runs that outlives a request.
    control: Handle,
    keys: Keys,
    verified: VerifiedTokens,
    revocations: Arc<Revocations>,
    streams: Streams,
    acknowledgements: Acknowledgements,
    following: Arc<Following>,
    /// Ends that the store has yet to confirm.
    unconfirmed: DashMap<RevocationTarget, late::Unconfirmed>,
    /// Renewals under way.
    flights: DashMap<flight::FlightKey, flight::Flight>,
    /// Flights of one session take turns.
    turns: DashMap<SessionId, Arc<tokio::sync::Mutex<()>>>,
    /// How many access tokens had to be verified by their signature.
    verifications: AtomicU64,
}

impl Sessions {
    /// Starts the engine: loads keys (makes the first one) and all revocations before it returns.
    pub async fn open(
        settings: Settings,
        store: Arc<dyn Store>,
        master: MasterKeys,
        sources: impl Into<Sources>,
        clock: Clock,
        observer: Arc<dyn Observer>,
        control: Handle,
    ) -> Result<Arc<Self>, OpenError> {
        let Sources {
            accounts,
            providers,
        } = sources.into();
        // The feed first: what is loaded after it is attached misses nothing.
        let feed = feed::attach(&*store).await?;
        let now = clock.now();
        let keys = Keys::open(&*store, now).await?;
        let revocations = Arc::new(Revocations::default());
        let (acknowledgements, seen) = Acknowledgements::new();
        let sessions = Arc::new(Sessions {
            expect: Expect {
                issuer: settings.origin.clone(),
                audience: settings.origin.clone(),
                max_lifetime: settings.access_ttl,
                future_leeway: CLOCK_LEEWAY,
            },
            verified: VerifiedTokens::new(settings.cache_entries),
            streams: Streams::new(Arc::clone(&revocations), clock.clone()),
            flights: DashMap::new(),
            turns: DashMap::new(),
            verifications: AtomicU64::new(0),
            settings,
            store,
            master,
            accounts,
            providers,
            clock,
            observer,
            keys,
            revocations,
            acknowledgements,
            following: Arc::default(),
            unconfirmed: DashMap::new(),
            control,
        });
        sessions.load_revocations().await?;
        if let Some(feed) = feed {
            feed::start(&sessions, feed);
        }
        let background = Arc::downgrade(&sessions);
        sessions
            .control
            .spawn(acknowledge::work(background.clone(), seen));
        sessions.control.spawn(sweep::work(background));
        Ok(sessions)
    }

    /// How sessions behave.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Begins a session for somebody who has just signed in with an account of ours.
    pub async fn begin(
        &self,
        identity: Identity,
        client: &Client,
        now: Timestamp,
    ) -> Result<Arc<IssuedPair>, BeginError> {
        let record = self.new_record(identity, client, now)?;
        self.begin_with(record, now).await
    }

    /// Begins a session for somebody who has just signed in at a provider, whose name is `identity.provider`.
    pub async fn begin_at_provider(
        &self,
        identity: Identity,
        there: SignedInThere,
        client: &Client,
        now: Timestamp,
    ) -> Result<Arc<IssuedPair>, BeginError> {
        let mut record = self.new_record(identity, client, now)?;
        let part = self.providers.part(&record.id, there, now)?;
        record.provider = Some(Box::new(part));
        self.begin_with(record, now).await
    }

    fn new_record(
        &self,
        identity: Identity,
        client: &Client,
        now: Timestamp,
    ) -> Result<SessionRecord, BeginError> {
        let absolute_expires_at = now.plus(self.settings.absolute_ttl);
        Ok(SessionRecord {
            id: issue::new_session_id()?,
            identity,
            lineage: Lineage {
                newest: Generation(0),
                parent: None,
                issued_at: now,
                acknowledged_at: None,
                client: client.clone(),
            },
            created_at: now,
            last_seen_at: now,
            idle_expires_at: now
                .plus(self.settings.windows.idle_ttl)
                .min(absolute_expires_at),
            absolute_expires_at,
            revoked_at: None,
            provider: None,
        })
    }

    async fn begin_with(
        &self,
        record: SessionRecord,
        now: Timestamp,
    ) -> Result<Arc<IssuedPair>, BeginError> {
        let (pair, _) = self.pair(&record, now)?;
        self.timed(self.store.create_session(&record)).await?;
        let confirming = async {
            match record.provider {
                // The provider has just said so itself.
                Some(_) => Ok(Refreshed::Identity(Box::new(record.identity.clone()))),
                None => self.accounts.confirm(&record.identity).await,
            }
        };
        let confirmed = match confirming.await {
            Ok(Refreshed::Identity(_)) => true,
            Ok(Refreshed::Closed) => false,
            Err(SourceUnavailable) => {
                return Err(BeginError::Store(StoreError::Unavailable(
                    "the account cannot be read".to_owned(),
                )));
            }
        };
        if !confirmed || self.revocations.concerns_record(&record) {
            let ending = Ending::new(Reason::Overtaken, By::Gateway);
            self.end_now(record.id, ending).await?;
            return Err(BeginError::Ended);
        }
        self.observer.observe(&SessionEvent::Begun {
            session: record.id,
            user: record.identity.user.clone(),
            provider: record.identity.provider.clone(),
        });
        Ok(pair)
    }

    /// Whether a session is live, asked of the store each time.
    pub async fn is_live(&self, session: SessionId, now: Timestamp) -> Result<bool, StoreError> {
        if self.revocations.concerns_session(&session) {
            return Ok(false);
        }
        let Some(Stored { record, .. }) = self.load(&session).await? else {
            return Ok(false);
        };
        Ok(record.revoked_at.is_none()
            && now < record.ends_at()
            && !self.revocations.concerns_record(&record))
    }

    /// Open streams.
    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// Resolves when everything noted so far has reached the store; for a graceful end.
    pub async fn settled(&self) {
        self.acknowledgements.settled().await;
    }

    /// Resolves when no provider is being asked and what they answered has reached the store, or after a while; for a graceful
    /// end. An answer that is lost may have held the refresh token with which the provider is to be asked next.
    pub async fn answers_kept(&self) {
        self.providers.settled(PROVIDER_SETTLES).await;
    }

    /// How many access tokens had to be verified by their signature so far; the others were remembered.
    pub fn verifications(&self) -> u64 {
        self.verifications.load(Ordering::Relaxed)
    }

    /// How many revocations are held in memory, and how many verified tokens.
    pub fn held(&self) -> (usize, usize) {
        (self.revocations.len(), self.verified.len())
    }

    async fn load(&self, id: &SessionId) -> Result<Option<Stored<SessionRecord>>, StoreError> {
        self.timed(self.store.session(id)).await
    }

    async fn replace(
        &self,
        record: &SessionRecord,
        expected: Revision,
    ) -> Result<Replaced, StoreError> {
        self.timed(self.store.replace_session(record, expected))
            .await
    }

    async fn timed<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.timed_for(STORE_PATIENCE, call).await
    }

    async fn timed_for<T>(
        &self,
        patience: Duration,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let result = tokio::time::timeout(patience, call)
            .await
            .unwrap_or_else(|_| {
                Err(StoreError::Unavailable(
                    "it did not answer in time".to_owned(),
                ))
            });
        if result.is_err() {
            self.observer.observe(&SessionEvent::StoreUnavailable);
        }
        result
    }
}
