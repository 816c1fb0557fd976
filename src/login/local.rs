//! Built-in accounts: argon2id off the request threads, the same cost for unknown names, throttling that cannot lock
//! others out.
//!
//! Must not tell an unknown name from a wrong password or a blocked account, neither by its answer nor by its time.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::{Error as HashError, PasswordHasher as _, PasswordVerifier as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::auth::{ClientAddr, Identity};
use crate::clock::{Clock, Timestamp};
use crate::login::throttle::{Limits, Throttle};
use crate::session::{IdentitySource, Refreshed, SourceUnavailable};
use crate::store::{Account, Store, StoreError};
use crate::units::Secret;

/// The provider name of built-in accounts.
pub const PROVIDER: &str = "local";
/// Longest account name, in bytes.
pub const MAX_USERNAME: usize = 256;
/// Longest password, in bytes.
pub const MAX_PASSWORD: usize = 1024;

/// More attempts than this do not wait for a hash: they are told to come back.
const MAX_WAITING: usize = 64;
/// Nor does any of them wait longer than this.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// A log line does not wait longer than this for a name.
const MAX_LOOKUP: Duration = Duration::from_millis(200);

/// How far nodes' clocks may differ.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(60);

/// What a name that nobody has is checked against. Nobody knows its password, and no match is ever believed.
const DUMMY: &str = "$argon2id$v=19$m=19456,t=2,p=1$dmVzdGlidWxlLWR1bW15$sSg7EBGa7nBuOSCzRALwv6pYTIm0oCTMBNeDhLTVLj0";

/// How the built-in accounts behave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Most password hashes at once; further attempts wait their turn for a bounded time, then get 503.
    pub parallel_hashes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { parallel_hashes: 2 }
    }
}

/// What an attempt to sign in came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The password is right.
    SignedIn(Identity),
    /// Unknown name or wrong password: nobody learns which.
    Wrong,
    /// The right password of a blocked account. Only the audit stream may tell it from [`Attempt::Wrong`].
    Blocked,
    /// Too many attempts (429).
    Throttled {
        /// When to try again.
        retry_after: Duration,
    },
    /// Too many hashes are waiting (503).
    Busy,
    /// The store could not be asked (503).
    Unavailable,
}

/// Why a password could not be hashed for keeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Nothing was typed.
    #[error("the password is empty")]
    Empty,
    /// Longer than [`MAX_PASSWORD`].
    #[error("the password is longer than {MAX_PASSWORD} bytes")]
    TooLong,
    /// The system gave no random salt, or not enough memory.
    #[error("the password could not be hashed")]
    Hashing,
}

/// Hashes a password for an account: argon2id with the parameters that OWASP recommends (19 MiB, 2 passes, 1 lane), in
/// PHC format. Takes tens of milliseconds of processor time: never on a thread that serves requests.
pub fn hash_password(password: &Secret) -> Result<String, PasswordError> {
    let password = password.expose();
    if password.is_empty() {
        return Err(PasswordError::Empty);
    }
    if password.len() > MAX_PASSWORD {
        return Err(PasswordError::TooLong);
    }
    match Argon2::default().hash_password(password) {
        Ok(hash) => Ok(hash.to_string()),
        Err(_) => Err(PasswordError::Hashing),
    }
}

/// The built-in accounts.
pub struct Local {
    store: Arc<dyn Store>,
    clock: Clock,
    throttle: Throttle,
    hashing: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Local {
    /// Accounts from `store`.
    pub fn new(store: Arc<dyn Store>, settings: Settings, clock: Clock) -> Self {
        Local {
            store,
            clock,
            throttle: Throttle::new(Limits::default()),
            hashing: Arc::new(Semaphore::new(settings.parallel_hashes.max(1))),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Checks a name and a password that came from `addr`. If the caller goes away the attempt still counts.
    pub async fn attempt(
        &self,
        user: &str,
        password: &Secret,
        addr: ClientAddr,
        now: Timestamp,
    ) -> Attempt {
        // Phones like to add a space after a word.
        let name = user.trim().to_lowercase();
        let admission = match self.throttle.admit(&name, addr, now) {
            Ok(admission) => admission,
            Err(retry_after) => return Attempt::Throttled { retry_after },
        };
        // Says nothing about any account, so it may be quick.
        if name.is_empty() || name.len() > MAX_USERNAME || password.expose().len() > MAX_PASSWORD {
            return Attempt::Wrong;
        }
        let Some(turn) = self.turn().await else {
            self.throttle.forgiven(admission);
            return Attempt::Busy;
        };
        match self.check(&name, password, turn).await {
            Ok(Checked::Good(account)) => {
                // Waiting for a turn may have taken a while.
                let now = self.clock.now();
                self.throttle.succeeded(admission, now);
                Attempt::SignedIn(identity(*account, now))
            }
            Ok(Checked::Blocked) => Attempt::Blocked,
            Ok(Checked::Wrong) => Attempt::Wrong,
            Err(error) => {
                self.throttle.forgiven(admission);
                tracing::error!(%error, "accounts cannot be read");
                Attempt::Unavailable
            }
        }
    }

    /// The account's name if there is one of that name: what may be logged of a refused attempt. People type passwords
    /// into the wrong field, so a name that nobody has is nobody's to read.
    pub async fn known(&self, user: &str) -> Option<String> {
        let name = user.trim().to_lowercase();
        let account = tokio::time::timeout(MAX_LOOKUP, self.store.account(&name));
        Some(account.await.ok()?.ok()??.record.name)
    }

    /// A place among the parallel hashes, or `None` when too many wait or it takes too long.
    async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        let _waiting = Waiting::enter(&self.waiting)?;
        tokio::time::timeout(MAX_WAIT, Arc::clone(&self.hashing).acquire_owned())
            .await
            .ok()?
            .ok()
    }

    /// What name and password come to.
    async fn check(
        &self,
        name: &str,
        password: &Secret,
        turn: OwnedSemaphorePermit,
    ) -> Result<Checked, StoreError> {
        let account = self.store.account(name).await?.map(|stored| stored.record);
        let hash = account
            .as_ref()
            .map_or_else(|| DUMMY.to_owned(), |account| account.password_hash.clone());
        let password = password.clone();
        // The turn goes with the work: a client that goes away frees no place while its hash still runs.
        let matches = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            verify(&password, &hash)
        })
        .await
        .unwrap_or(false);
        let Some(account) = account.filter(|_| matches) else {
            return Ok(Checked::Wrong);
        };
        if account.blocked {
            return Ok(Checked::Blocked);
        }
        // Read again: what was changed while the hash ran is obeyed, above all a block.
        let current = self.store.account(name).await?.map(|stored| stored.record);
        let same = |current: &Account| {
            current.password_hash == account.password_hash
                && current.created_at == account.created_at
        };
        Ok(match current.filter(same) {
            Some(current) if current.blocked => Checked::Blocked,
            Some(current) => Checked::Good(Box::new(current)),
            None => Checked::Wrong,
        })
    }
}

/// What a name and a password come to.
enum Checked {
    Good(Box<Account>),
    /// The right password, of an account that may not sign in.
    Blocked,
    Wrong,
}

/// Whether the password makes this hash; costs the same whether it does or not.
fn verify(password: &Secret, hash: &str) -> bool {
    match Argon2::default().verify_password(password.expose(), hash) {
        Ok(()) => true,
        Err(HashError::PasswordInvalid) => false,
        Err(_) => {
            tracing::error!("an account's password hash is damaged; set its password anew");
            // An unreadable hash took no time to refuse: spend it.
            let _ = Argon2::default().verify_password(password.expose(), DUMMY);
            false
        }
    }
}

/// One of those who wait for a turn.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Option<Self> {
        let before = count.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(count);
        (before < MAX_WAITING).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn identity(account: Account, auth_time: Timestamp) -> Identity {
    Identity {
        user: account.name,
        email: account.email,
        name: account.display_name,
        preferred_username: None,
        groups: account.groups,
        provider: PROVIDER.to_owned(),
        auth_time,
        amr: vec!["pwd".to_owned()],
    }
}

impl IdentitySource for Local {
    /// The account as it is now. One that was made after the sign-in is somebody else's with the same name.
    fn refresh<'a>(
        &'a self,
        identity: &'a Identity,
    ) -> Pin<Box<dyn Future<Output = Result<Refreshed, SourceUnavailable>> + Send + 'a>> {
        Box::pin(async move {
            Ok(match self.account_of(identity).await? {
                Some(account) => Refreshed::Identity(Box::new(Identity {
                    email: account.email,
                    name: account.display_name,
                    groups: account.groups,
                    ..identity.clone()
                })),
                None => Refreshed::Closed,
            })
        })
    }

    /// Neither blocked nor given another password since the attempt began.
    fn confirm<'a>(
        &'a self,
        identity: &'a Identity,
    ) -> Pin<Box<dyn Future<Output = Result<Refreshed, SourceUnavailable>> + Send + 'a>> {
        Box::pin(async move {
            let account = self.account_of(identity).await?;
            // A change in the far future is one from before the clock was set back, and none of this attempt's.
            let during = identity.auth_time..=self.clock.now().plus(CLOCK_DIFFERENCE);
            let same = |account: Account| {
                let changed_at = account.password_changed_at;
                changed_at == identity.auth_time || !during.contains(&changed_at)
            };
            Ok(match account.is_some_and(same) {
                true => Refreshed::Identity(Box::new(identity.clone())),
                false => Refreshed::Closed,
            })
        })
    }
}

impl Local {
    /// The account that signed in as this identity, if it may still.
    async fn account_of(&self, identity: &Identity) -> Result<Option<Account>, SourceUnavailable> {
        if identity.provider != PROVIDER {
            return Ok(None);
        }
        let account = match self.store.account(&identity.user).await {
            Ok(account) => account.map(|stored| stored.record),
            Err(error) => {
                tracing::warn!(%error, "accounts cannot be read");
                return Err(SourceUnavailable);
            }
        };
        // `auth_time` may have travelled through a token, which keeps whole seconds.
        Ok(account.filter(|account| {
            !account.blocked && account.created_at.as_secs() <= identity.auth_time.as_secs()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Revision;
    use crate::store::embedded::Embedded;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    struct House {
        local: Local,
        store: Arc<dyn Store>,
        clock: Clock,
        _folder: tempfile::TempDir,
    }

    fn house() -> House {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> =
            Arc::new(Embedded::open(folder.path(), &Secret::new([7; 32]), &[]).unwrap());
        let clock = Clock::manual(NOW);
        House {
            local: Local::new(Arc::clone(&store), Settings::default(), clock.clone()),
            store,
            clock,
            _folder: folder,
        }
    }

    impl House {
        async fn with(name: &str, password: &str) -> House {
            let house = house();
            house.add(name, password).await;
            house
        }

        async fn add(&self, name: &str, password: &str) {
            let account = Account {
                name: name.to_owned(),
                email: Some(format!("{name}@example.com")),
                display_name: None,
                groups: vec!["staff".to_owned()],
                password_hash: hash_password(&Secret::new(password)).unwrap(),
                blocked: false,
                created_at: self.clock.now(),
                password_changed_at: self.clock.now(),
            };
            self.store.create_account(&account).await.unwrap();
        }

        async fn change(&self, name: &str, change: impl FnOnce(&mut Account)) -> Revision {
            let mut stored = self.store.account(name).await.unwrap().unwrap();
            change(&mut stored.record);
            match self
                .store
                .replace_account(&stored.record, stored.revision)
                .await
                .unwrap()
            {
                crate::store::Replaced::Committed(revision) => revision,
                other => panic!("{other:?}"),
            }
        }

        async fn attempt(&self, user: &str, password: &str) -> Attempt {
            let addr = ClientAddr("192.0.2.1".parse().unwrap());
            self.local
                .attempt(user, &Secret::new(password), addr, self.clock.now())
                .await
        }
    }

    #[test]
    fn hashes_are_argon2id_and_salted() {
        let one = hash_password(&Secret::new("correct horse")).unwrap();
        let two = hash_password(&Secret::new("correct horse")).unwrap();
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{one}");
        assert_ne!(one, two);
        assert!(verify(&Secret::new("correct horse"), &one));
        assert!(!verify(&Secret::new("correct horsf"), &one));
        assert_eq!(hash_password(&Secret::new("")), Err(PasswordError::Empty));
        assert_eq!(
            hash_password(&Secret::new(vec![b'a'; MAX_PASSWORD + 1])),
            Err(PasswordError::TooLong)
        );
        assert!(!verify(&Secret::new("x"), "damaged"));
        assert!(!verify(
            &Secret::new("x"),
            "$argon2id$v=19$m=19456,t=2,p=1$"
        ));
    }

    #[test]
    fn the_dummy_costs_what_a_real_hash_costs() {
        let prefix = |hash: &str| hash.split('$').take(4).collect::<Vec<_>>().join("$");
        let real = hash_password(&Secret::new("x")).unwrap();
        assert_eq!(prefix(DUMMY), prefix(&real));
        assert_eq!(
            Argon2::default().verify_password(b"x", DUMMY),
            Err(HashError::PasswordInvalid)
        );
    }

    #[tokio::test]
    async fn the_right_password_says_who_somebody_is() {
        let house = House::with("Alice", "correct horse").await;
        let want = Identity {
            user: "Alice".into(),
            email: Some("Alice@example.com".into()),
            name: None,
            preferred_username: None,
            groups: vec!["staff".into()],
            provider: "local".into(),
            auth_time: NOW,
            amr: vec!["pwd".into()],
        };
        for name in ["Alice", " aLICE "] {
            let Attempt::SignedIn(identity) = house.attempt(name, "correct horse").await else {
                panic!("not signed in")
            };
            assert_eq!(identity, want);
        }
    }

    #[tokio::test]
    async fn only_names_of_accounts_are_known() {
        let house = House::with("Alice", "correct horse").await;
        assert_eq!(house.local.known(" alice").await.as_deref(), Some("Alice"));
        assert_eq!(house.local.known("correct horse").await, None);
    }

    #[tokio::test]
    async fn nobody_learns_why_it_was_wrong() {
        let house = House::with("alice", "correct horse").await;
        house.add("bob", "battery staple").await;
        house.change("bob", |bob| bob.blocked = true).await;
        for (user, password) in [
            ("alice", "wrong"),
            ("alice", ""),
            ("alice", "Correct horse"),
            ("nobody", "correct horse"),
            ("bob", "wrong"),
            ("", "correct horse"),
            (&"a".repeat(MAX_USERNAME + 1), "correct horse"),
            ("nobody2", &"a".repeat(MAX_PASSWORD + 1)),
            ("alice\0", "correct horse"),
        ] {
            assert_eq!(
                house.attempt(user, password).await,
                Attempt::Wrong,
                "{user:?}"
            );
        }
        let blocked = house.attempt("bob", "battery staple").await;
        assert_eq!(blocked, Attempt::Blocked);
    }

    #[tokio::test]
    async fn unknown_names_take_as_long_as_known_ones() {
        let house = House::with("alice", "correct horse").await;
        let mut fastest = [Duration::MAX; 2];
        for round in 0..4 {
            for (slot, user) in [(0, "alice".to_owned()), (1, format!("nobody{round}"))] {
                let start = tokio::time::Instant::now();
                assert_eq!(house.attempt(&user, "wrong").await, Attempt::Wrong);
                fastest[slot] = fastest[slot].min(start.elapsed());
            }
        }
        let ratio = fastest[1].as_secs_f64() / fastest[0].as_secs_f64();
        // Without its hash an attempt takes a thousandth. The machine may be doing other work at any moment; that both
        // hashes cost the same is `the_dummy_costs_what_a_real_hash_costs`.
        assert!((0.05..20.0).contains(&ratio), "{fastest:?}");
    }

    #[tokio::test]
    async fn guessing_is_throttled_and_patience_helps() {
        let house = House::with("alice", "correct horse").await;
        for _ in 0..4 {
            assert_eq!(house.attempt("alice", "wrong").await, Attempt::Wrong);
        }
        assert_eq!(
            house.attempt("ALICE", "correct horse").await,
            Attempt::Throttled {
                retry_after: Duration::from_secs(1)
            }
        );
        house.clock.advance(Duration::from_secs(1));
        assert!(matches!(
            house.attempt("alice", "correct horse").await,
            Attempt::SignedIn(_)
        ));
    }

    #[tokio::test]
    async fn going_away_does_not_make_an_attempt_free() {
        let house = House::with("alice", "correct horse").await;
        for _ in 0..4 {
            tokio::select! {
                biased;
                attempt = house.attempt("alice", "wrong") => panic!("{attempt:?} without waiting"),
                () = std::future::ready(()) => {}
            }
        }
        assert!(matches!(
            house.attempt("alice", "correct horse").await,
            Attempt::Throttled { .. }
        ));
    }

    #[test]
    fn attempts_may_be_awaited_on_any_thread() {
        fn is_send<T: Send>(value: T) -> T {
            value
        }
        let house = house();
        drop(is_send(house.attempt("alice", "x")));
    }

    #[tokio::test]
    async fn a_full_queue_is_busy_and_costs_no_attempt() {
        let house = House::with("alice", "correct horse").await;
        let waiting: Vec<_> = (0..MAX_WAITING)
            .map(|_| Waiting::enter(&house.local.waiting).unwrap())
            .collect();
        for _ in 0..20 {
            assert_eq!(house.attempt("alice", "correct horse").await, Attempt::Busy);
        }
        drop(waiting);
        assert!(matches!(
            house.attempt("alice", "correct horse").await,
            Attempt::SignedIn(_)
        ));
        assert_eq!(house.local.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_renewal_sees_the_account_as_it_is_now() {
        let house = House::with("alice", "correct horse").await;
        let Attempt::SignedIn(identity) = house.attempt("alice", "correct horse").await else {
            panic!("not signed in")
        };
        let refresh = || house.local.refresh(&identity);
        assert_eq!(
            refresh().await,
            Ok(Refreshed::Identity(Box::new(identity.clone())))
        );
        house
            .change("alice", |alice| {
                alice.groups = vec!["admin".into()];
                alice.email = None;
                alice.display_name = Some("Alice L.".into());
            })
            .await;
        assert_eq!(
            refresh().await,
            Ok(Refreshed::Identity(Box::new(Identity {
                groups: vec!["admin".into()],
                email: None,
                name: Some("Alice L.".into()),
                ..identity.clone()
            })))
        );
        house.change("alice", |alice| alice.blocked = true).await;
        assert_eq!(refresh().await, Ok(Refreshed::Closed));
        house.change("alice", |alice| alice.blocked = false).await;
        assert!(house.store.remove_account("alice").await.unwrap());
        assert_eq!(refresh().await, Ok(Refreshed::Closed));
        // Somebody else of that name.
        house.clock.advance(Duration::from_secs(1));
        house.add("alice", "another").await;
        assert_eq!(refresh().await, Ok(Refreshed::Closed));
        let elsewhere = Identity {
            provider: "corp".into(),
            ..identity.clone()
        };
        assert_eq!(house.local.refresh(&elsewhere).await, Ok(Refreshed::Closed));
    }

    #[tokio::test]
    async fn a_sign_in_is_confirmed_unless_the_account_changed_meanwhile() {
        let house = House::with("alice", "correct horse").await;
        house.clock.advance(Duration::from_secs(5));
        let Attempt::SignedIn(identity) = house.attempt("alice", "correct horse").await else {
            panic!("not signed in")
        };
        let is_confirmed = async || {
            let confirmed = house.local.confirm(&identity).await.unwrap();
            confirmed != Refreshed::Closed
        };
        assert!(is_confirmed().await);
        house
            .change("alice", |alice| alice.groups = vec!["admin".into()])
            .await;
        assert!(is_confirmed().await);
        let changed_after = async |after: Duration| {
            let at = identity.auth_time.plus(after);
            let change = |alice: &mut Account| alice.password_changed_at = at;
            house.change("alice", change).await;
        };
        changed_after(Duration::ZERO).await;
        assert!(is_confirmed().await);
        for after in [Duration::from_millis(1), CLOCK_DIFFERENCE] {
            changed_after(after).await;
            assert!(!is_confirmed().await, "{after:?}");
        }
        changed_after(CLOCK_DIFFERENCE + Duration::from_millis(1)).await;
        assert!(is_confirmed().await);
        house.change("alice", |alice| alice.blocked = true).await;
        assert!(!is_confirmed().await);
    }
}
