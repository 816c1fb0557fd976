//! The engine on the real store, with a clock that the test moves and a store that can be held, hung or broken.

mod cost;
mod ending;
mod nodes;
mod provider;
mod provider_logout;
mod rotation;
mod talker;
mod time;
mod tokens;
mod trouble;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use self::talker::Talker;
use super::*;
use crate::auth::ClientAddr;
use crate::auth::access_token::TokenError;
use crate::auth::decision::{AccessFinding, RefreshFinding};
use crate::auth::keyset::StoredKey;
use crate::auth::refresh_token::RefreshClaims;
use crate::store::{Account, Embedded, Feed, FeedEvent, RevocationRecord, StoreFuture};
use crate::units::Secret;

/// How often the provider of the tests is asked, and how long it may be silent.
const CHECK: Duration = Duration::from_secs(900);
const GRACE: Duration = Duration::from_secs(3600);

const START: Timestamp = Timestamp::from_secs(1_700_000_000);

/// Somebody wants it ended; who makes no difference to what happens.
fn asked() -> Ending {
    Ending::new(Reason::Revoked, By::CommandLine)
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A store that can be held right before or right after a session is replaced, or not answer, or fail.
struct Hand {
    inner: Embedded,
    hold_before: AtomicBool,
    hold_after: AtomicBool,
    held: Notify,
    release: Notify,
    hung: AtomicBool,
    broken: AtomicBool,
    /// How often a session was read.
    reads: std::sync::atomic::AtomicUsize,
    /// The feeds of the nodes on this store; none while there is one node.
    feeds: Mutex<Vec<tokio::sync::mpsc::Sender<FeedEvent>>>,
    silent: Mutex<Vec<tokio::sync::mpsc::Sender<FeedEvent>>>,
    shared: AtomicBool,
    /// Revocations cannot be read, and whether somebody tried.
    unreadable: AtomicBool,
    tried: AtomicBool,
    key_reads: std::sync::atomic::AtomicUsize,
}

impl Hand {
    async fn check(&self) -> Result<(), StoreError> {
        if self.hung.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.broken.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("broken by the test".to_owned()));
        }
        Ok(())
    }

    /// What all nodes are told; whoever was cut off is not.
    fn tell(&self, event: &FeedEvent) {
        for feed in &*self.feeds.lock().unwrap() {
            feed.try_send(event.clone()).unwrap();
        }
    }

    async fn hold(&self, when: &AtomicBool) {
        if when.swap(false, Ordering::SeqCst) {
            self.held.notify_one();
            self.release.notified().await;
        }
    }
}

impl Store for Hand {
    fn session<'a>(&'a self, id: &'a SessionId) -> StoreFuture<'a, Option<Stored<SessionRecord>>> {
        Box::pin(async move {
            self.reads.fetch_add(1, Ordering::SeqCst);
            self.check().await?;
            self.inner.session(id).await
        })
    }
    fn create_session<'a>(&'a self, record: &'a SessionRecord) -> StoreFuture<'a, Revision> {
        Box::pin(async move {
            self.check().await?;
            self.inner.create_session(record).await
        })
    }
    fn replace_session<'a>(
        &'a self,
        record: &'a SessionRecord,
        expected: Revision,
    ) -> StoreFuture<'a, Replaced> {
        Box::pin(async move {
            self.check().await?;
            self.hold(&self.hold_before).await;
            let replaced = self.inner.replace_session(record, expected).await;
            self.hold(&self.hold_after).await;
            replaced
        })
    }
    fn sessions<'a>(
        &'a self,
        user: Option<(&'a str, &'a str)>,
        now: Timestamp,
    ) -> StoreFuture<'a, Vec<SessionRecord>> {
        self.inner.sessions(user, now)
    }
    fn sessions_at_provider<'a>(
        &'a self,
        provider: &'a str,
        name: crate::auth::provider_session::ProviderName<'a>,
        now: Timestamp,
    ) -> StoreFuture<'a, Vec<SessionRecord>> {
        self.inner.sessions_at_provider(provider, name, now)
    }
    fn remove_expired(&self, now: Timestamp) -> StoreFuture<'_, usize> {
        self.inner.remove_expired(now)
    }
    fn put_revocation<'a>(&'a self, revocation: &'a RevocationRecord) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            self.check().await?;
            self.inner.put_revocation(revocation).await?;
            self.tell(&FeedEvent::Revoked(revocation.clone()));
            Ok(())
        })
    }
    fn revocations(&self, now: Timestamp) -> StoreFuture<'_, Vec<RevocationRecord>> {
        Box::pin(async move {
            if self.unreadable.load(Ordering::SeqCst) {
                self.tried.store(true, Ordering::SeqCst);
                return Err(StoreError::Unavailable("unreadable by the test".to_owned()));
            }
            self.inner.revocations(now).await
        })
    }
    fn account<'a>(&'a self, name: &'a str) -> StoreFuture<'a, Option<Stored<Account>>> {
        self.inner.account(name)
    }
    fn accounts(&self) -> StoreFuture<'_, Vec<Account>> {
        self.inner.accounts()
    }
    fn create_account<'a>(&'a self, account: &'a Account) -> StoreFuture<'a, Replaced> {
        self.inner.create_account(account)
    }
    fn replace_account<'a>(
        &'a self,
        account: &'a Account,
        expected: Revision,
    ) -> StoreFuture<'a, Replaced> {
        self.inner.replace_account(account, expected)
    }
    fn remove_account<'a>(&'a self, name: &'a str) -> StoreFuture<'a, bool> {
        self.inner.remove_account(name)
    }
    fn keys_need_sealing_anew(&self) -> StoreFuture<'_, bool> {
        self.inner.keys_need_sealing_anew()
    }
    fn keys(&self) -> StoreFuture<'_, Stored<Vec<StoredKey>>> {
        self.key_reads.fetch_add(1, Ordering::SeqCst);
        self.inner.keys()
    }
    fn replace_keys<'a>(
        &'a self,
        keys: &'a [StoredKey],
        expected: Revision,
    ) -> StoreFuture<'a, Replaced> {
        Box::pin(async move {
            let replaced = self.inner.replace_keys(keys, expected).await?;
            self.tell(&FeedEvent::KeysChanged);
            Ok(replaced)
        })
    }
    fn feed(&self) -> Option<Feed> {
        if !self.shared.load(Ordering::SeqCst) {
            return None;
        }
        let (feed, events) = tokio::sync::mpsc::channel(crate::store::FEED_BOUND);
        feed.try_send(FeedEvent::Attached).unwrap();
        self.feeds.lock().unwrap().push(feed);
        Some(events)
    }
    fn probe(&self) -> StoreFuture<'_, ()> {
        self.inner.probe()
    }
}

#[derive(Default)]
struct Seen(Mutex<Vec<SessionEvent>>);

impl Observer for Seen {
    fn observe(&self, event: &SessionEvent) {
        self.0.lock().unwrap().push(event.clone());
    }
}

impl Seen {
    fn count(&self, wanted: impl Fn(&SessionEvent) -> bool) -> usize {
        self.0.lock().unwrap().iter().filter(|e| wanted(e)).count()
    }
    fn rotations(&self) -> usize {
        self.count(|event| matches!(event, SessionEvent::Rotated { .. }))
    }
    /// Why sessions were ended, in order.
    fn endings(&self) -> Vec<Reason> {
        let events = self.0.lock().unwrap();
        let reason = |event: &SessionEvent| match event {
            SessionEvent::Revoked { ending, .. } => Some(ending.reason),
            _ => None,
        };
        events.iter().filter_map(reason).collect()
    }
    fn replays(&self) -> usize {
        self.count(|event| matches!(event, SessionEvent::Replay { .. }))
    }
}

#[derive(Default)]
struct Accounts {
    closed: AtomicBool,
    bloated: AtomicBool,
}

impl IdentitySource for Accounts {
    fn refresh<'a>(
        &'a self,
        identity: &'a Identity,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Refreshed, SourceUnavailable>> + Send + 'a>>
    {
        let closed = self.closed.load(Ordering::SeqCst);
        let mut identity = identity.clone();
        if self.bloated.load(Ordering::SeqCst) {
            identity.groups = (0..1000).map(|n| format!("group-{n}")).collect();
        }
        Box::pin(async move {
            Ok(if closed {
                Refreshed::Closed
            } else {
                Refreshed::Identity(Box::new(identity))
            })
        })
    }
}

struct Bench {
    sessions: Arc<Sessions>,
    store: Arc<Hand>,
    accounts: Arc<Accounts>,
    talker: Arc<Talker>,
    seen: Arc<Seen>,
    clock: Clock,
    folder: Arc<tempfile::TempDir>,
}

fn settings() -> Settings {
    Settings {
        origin: "https://app.example.com".to_owned(),
        access_ttl: seconds(300),
        absolute_ttl: seconds(90 * 86_400),
        windows: Windows {
            redelivery: seconds(30),
            replay_grace: seconds(30),
            idle_ttl: seconds(14 * 86_400),
        },
        cache_entries: 1000,
    }
}

async fn start(folder: tempfile::TempDir, clock: Clock) -> Bench {
    start_on(Arc::new(Hand::on(folder.path())), Arc::new(folder), clock).await
}

impl Hand {
    fn on(folder: &Path) -> Self {
        Hand {
            inner: open_store(folder),
            hold_before: AtomicBool::default(),
            hold_after: AtomicBool::default(),
            held: Notify::new(),
            release: Notify::new(),
            hung: AtomicBool::default(),
            broken: AtomicBool::default(),
            reads: Default::default(),
            feeds: Mutex::default(),
            silent: Mutex::default(),
            shared: AtomicBool::default(),
            unreadable: AtomicBool::default(),
            tried: AtomicBool::default(),
            key_reads: Default::default(),
        }
    }
}

async fn start_on(store: Arc<Hand>, folder: Arc<tempfile::TempDir>, clock: Clock) -> Bench {
    start_asking(store, folder, clock, Arc::default()).await
}

/// A node that asks this provider.
async fn start_asking(
    store: Arc<Hand>,
    folder: Arc<tempfile::TempDir>,
    clock: Clock,
    talker: Arc<Talker>,
) -> Bench {
    let accounts = Arc::new(Accounts::default());
    let seen = Arc::new(Seen::default());
    let sessions = Sessions::open(
        settings(),
        Arc::clone(&store) as Arc<dyn Store>,
        MasterKeys::new(&Secret::new([1; 32]), &[]),
        Sources {
            accounts: Arc::clone(&accounts) as Arc<dyn IdentitySource>,
            providers: Providers::new(
                Arc::clone(&talker) as Arc<dyn ProviderTalker>,
                &Secret::new([1; 32]),
                &[],
            ),
        },
        clock.clone(),
        Arc::clone(&seen) as Arc<dyn Observer>,
        Handle::current(),
    )
    .await
    .unwrap();
    Bench {
        sessions,
        store,
        accounts,
        talker,
        seen,
        clock,
        folder,
    }
}

fn open_store(folder: &Path) -> Embedded {
    Embedded::open(folder, &Secret::new([1; 32]), &[]).unwrap()
}

async fn bench() -> Bench {
    start(tempfile::tempdir().unwrap(), Clock::manual(START)).await
}

fn alice() -> Identity {
    Identity {
        user: "alice".to_owned(),
        email: Some("alice@example.com".to_owned()),
        name: None,
        preferred_username: None,
        groups: vec!["staff".to_owned()],
        provider: "local".to_owned(),
        auth_time: START,
        amr: vec!["pwd".to_owned()],
    }
}

fn browser(last: u8) -> Client {
    Client {
        user_agent: "browser".to_owned(),
        addr: ClientAddr([192, 0, 2, last].into()),
    }
}

impl Bench {
    /// The same folder and clock after the process ended and began again.
    async fn restarted(self) -> Bench {
        let Bench {
            sessions,
            store,
            folder,
            clock,
            talker,
            ..
        } = self;
        let gone = Arc::downgrade(&sessions);
        drop((sessions, store));
        while gone.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
        let store = Arc::new(Hand::on(folder.path()));
        start_asking(store, folder, clock, talker).await
    }
    fn now(&self) -> Timestamp {
        self.clock.now()
    }
    async fn begin(&self) -> Arc<IssuedPair> {
        self.sessions
            .begin(alice(), &browser(1), self.now())
            .await
            .unwrap()
    }
    fn sealed(&self, pair: &IssuedPair) -> RefreshClaims {
        match self.sessions.open_refresh(pair.refresh.as_bytes()) {
            RefreshFinding::Sealed(claims) => claims,
            other => panic!("{other:?}"),
        }
    }
    async fn renew_as(&self, pair: &IssuedPair, client: &Client) -> Renewal {
        self.sessions
            .renew(self.sealed(pair), client, self.now())
            .await
    }
    async fn renew(&self, pair: &IssuedPair) -> Renewal {
        self.renew_as(pair, &browser(1)).await
    }
    async fn issued(&self, pair: &IssuedPair) -> Arc<IssuedPair> {
        match self.renew(pair).await {
            Renewal::Issued(pair, _) => pair,
            other => panic!("{}", name(&other)),
        }
    }
    fn check(&self, pair: &IssuedPair) -> AccessFinding {
        self.sessions
            .check_access(pair.access.as_bytes(), self.now())
    }
    /// The client shows its access token, and the store knows of it.
    async fn acknowledge(&self, pair: &IssuedPair) {
        assert!(matches!(self.check(pair), AccessFinding::Valid(_)));
        self.sessions.settled().await;
    }
    /// Waits until so many ends were told.
    async fn until_told(&self, ends: usize) {
        let told = async {
            while self.seen.endings().len() < ends {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(seconds(20), told).await.unwrap();
    }
    async fn record(&self, pair: &IssuedPair) -> SessionRecord {
        self.store
            .inner
            .session(&pair.session)
            .await
            .unwrap()
            .unwrap()
            .record
    }
}

fn name(renewal: &Renewal) -> String {
    match renewal {
        Renewal::Issued(pair, _) => format!("issued {}", pair.generation),
        Renewal::Served(_) => "served".to_owned(),
        Renewal::Refused { refusal, .. } => format!("refused {refusal:?}"),
        Renewal::Unavailable(_) => "unavailable".to_owned(),
        Renewal::ProviderSilent { .. } => "silent".to_owned(),
    }
}

fn refused(refusal: Refusal) -> String {
    format!("refused Rule({refusal:?})")
}
