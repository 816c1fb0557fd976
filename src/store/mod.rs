//! Where sessions, accounts, keys and revocations are kept: one trait, several implementations that all pass one
//! conformance suite. Must not decide anything: rules are in `auth`, this keeps and compares.

pub mod backup;
pub mod embedded;
mod feed;
pub mod folder;
pub mod master_key;
mod owner;
mod record;
pub mod redis;
mod seal;

#[cfg(test)]
pub(crate) mod conformance;

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::auth::SessionId;
use crate::auth::keyset::StoredKey;
use crate::auth::provider_session::ProviderName;
use crate::auth::rotation::SessionRecord;
use crate::clock::{Clock, Timestamp};
use crate::units::Secret;

pub use backup::BackupStream;
pub use embedded::Embedded;
pub use feed::{FEED_BOUND, Feed, FeedEvent};
pub use master_key::{MasterKeyError, master_key};

/// Which store, as the deployer chose it.
#[derive(Clone, Debug, Default)]
pub enum Kind {
    /// One durable file in the node's folder.
    #[default]
    Embedded,
    /// Shared by several nodes.
    Redis(Box<redis::Settings>),
}

/// Opens the store. `folder` is the node's own; signing keys are sealed under `master`, and still open under `previous`.
/// To be called within the runtime that will carry the store's connections.
pub async fn open(
    kind: &Kind,
    folder: &Path,
    master: &Secret,
    previous: &[Secret],
    clock: &Clock,
) -> Result<Arc<dyn Store>, StoreError> {
    let store: Arc<dyn Store> = match kind {
        Kind::Embedded => Arc::new(Embedded::open(folder, master, previous)?),
        #[cfg(feature = "redis")]
        Kind::Redis(settings) => Arc::new(
            redis::Redis::open((**settings).clone(), master, previous, clock.clone()).await?,
        ),
        #[cfg(not(feature = "redis"))]
        Kind::Redis(_) => {
            let _ = clock;
            return Err(StoreError::Unavailable(
                "this build has no Redis store".to_owned(),
            ));
        }
    };
    if !previous.is_empty()
        && let Err(error) = seal_keys_anew(&*store).await
    {
        tracing::warn!(%error, "the signing keys could not be sealed under the present master key; keep `secret.previous`");
    }
    Ok(store)
}

/// How often keys are sealed anew because another node changed them meanwhile.
const TRIES: usize = 8;

/// Seals the signing keys under the current master key, so that the former one need not be known once no refresh token of
/// it is left. What fails now is done at the next start; until then the former one opens them.
async fn seal_keys_anew(store: &dyn Store) -> Result<(), StoreError> {
    for _ in 0..TRIES {
        if !store.keys_need_sealing_anew().await? {
            return Ok(());
        }
        let Stored { record, revision } = store.keys().await?;
        if let Replaced::Committed(_) = store.replace_keys(&record, revision).await? {
            return Ok(());
        }
    }
    Ok(())
}

/// What a store call returns.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Which version of a record was read; a replacement names it, so that nothing is overwritten unseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// Of what was never written.
    pub const NONE: Revision = Revision(0);
}

/// A record together with its revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored<T> {
    /// What was kept.
    pub record: T,
    /// Which version of it.
    pub revision: Revision,
}

/// The outcome of a compare-and-set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// Durable.
    Committed(Revision),
    /// The record changed since it was read; read and judge again.
    Conflict,
    /// There is no such record.
    Missing,
}

/// A built-in account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Unique, case-sensitive as written, compared in lower case.
    pub name: String,
    /// E-mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Groups.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Argon2id hash in PHC string format. Never leaves the store except to be checked.
    pub password_hash: String,
    /// May not sign in while true.
    #[serde(default)]
    pub blocked: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When the password last changed.
    pub password_changed_at: Timestamp,
}

/// That a session, or every session of a user that began before a moment, is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationRecord {
    /// What ended.
    pub target: RevocationTarget,
    /// When; for users and all: sessions created at or before this moment are over.
    pub at: Timestamp,
    /// From then on no access token can be concerned any more and the entry may be forgotten.
    pub until: Timestamp,
}

/// What a revocation concerns.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevocationTarget {
    /// One session.
    Session(SessionId),
    /// All sessions of this user (provider, user).
    User {
        /// Provider name.
        provider: String,
        /// User name at that provider.
        user: String,
    },
    /// Everybody.
    All,
}

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store file is held by another process.
    #[error(
        "the store {path} is in use by another process, perhaps by a gateway that already runs; each needs a `store.path` of its own"
    )]
    InUse {
        /// The file.
        path: String,
    },
    /// The file cannot be read as a store; it is left exactly as it is.
    #[error("the store {path} cannot be read and was left untouched: {reason}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// A record was written by a newer version of this program.
    #[error("a record in the store has format {found}; this version reads up to {known}")]
    NewerFormat {
        /// What was found.
        found: u32,
        /// What is known.
        known: u32,
    },
    /// Reading or writing failed now (disk full, I/O error); nothing was acknowledged. May pass.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
}

/// A list of sessions as [`Store::sessions`] returns it, from records that may be over: the oldest first.
fn listed(records: impl IntoIterator<Item = SessionRecord>, now: Timestamp) -> Vec<SessionRecord> {
    let mut live: Vec<_> = records
        .into_iter()
        .filter(|record| record.revoked_at.is_none() && now < record.ends_at())
        .collect();
    live.sort_by_key(|record| (record.created_at, record.id));
    live
}

/// What a list of sessions holds of one: tokens of its provider are long.
fn without_tokens(mut record: SessionRecord) -> SessionRecord {
    record.provider = record
        .provider
        .map(|provider| Box::new(provider.without_tokens()));
    record
}

/// The store. Every method that writes returns only once the write is durable.
pub trait Store: Send + Sync + 'static {
    /// Reads a session; `None` when unknown or removed.
    fn session<'a>(&'a self, id: &'a SessionId) -> StoreFuture<'a, Option<Stored<SessionRecord>>>;
    /// Keeps a new session; its id is fresh.
    fn create_session<'a>(&'a self, record: &'a SessionRecord) -> StoreFuture<'a, Revision>;
    /// Replaces a session if it is still at `expected`.
    fn replace_session<'a>(
        &'a self,
        record: &'a SessionRecord,
        expected: Revision,
    ) -> StoreFuture<'a, Replaced>;
    /// All sessions, or those of one user, that have not ended at `now`; without the tokens of their providers, which are
    /// long: whoever needs them reads the one session.
    fn sessions<'a>(
        &'a self,
        user: Option<(&'a str, &'a str)>,
        now: Timestamp,
    ) -> StoreFuture<'a, Vec<SessionRecord>>;
    /// Sessions that began at a provider and that it knows by this name, as [`Store::sessions`] lists them. What a provider
    /// calls a session is kept when that is created, and never changes.
    fn sessions_at_provider<'a>(
        &'a self,
        provider: &'a str,
        name: ProviderName<'a>,
        now: Timestamp,
    ) -> StoreFuture<'a, Vec<SessionRecord>>;
    /// Removes sessions and revocations that are over at `now`; returns how many.
    fn remove_expired(&self, now: Timestamp) -> StoreFuture<'_, usize>;

    /// Keeps a revocation. An older one that comes late does not replace a newer one of the same target; of the same moment the
    /// newer word counts.
    fn put_revocation<'a>(&'a self, revocation: &'a RevocationRecord) -> StoreFuture<'a, ()>;
    /// All revocations that still matter at `now`.
    fn revocations(&self, now: Timestamp) -> StoreFuture<'_, Vec<RevocationRecord>>;

    /// Reads an account by name (any case).
    fn account<'a>(&'a self, name: &'a str) -> StoreFuture<'a, Option<Stored<Account>>>;
    /// All accounts by name.
    fn accounts(&self) -> StoreFuture<'_, Vec<Account>>;
    /// Keeps a new account; `Conflict` when the name (any case) is taken.
    fn create_account<'a>(&'a self, account: &'a Account) -> StoreFuture<'a, Replaced>;
    /// Replaces an account if it is still at `expected`.
    fn replace_account<'a>(
        &'a self,
        account: &'a Account,
        expected: Revision,
    ) -> StoreFuture<'a, Replaced>;
    /// Removes an account; whether there was one.
    fn remove_account<'a>(&'a self, name: &'a str) -> StoreFuture<'a, bool>;

    /// All signing keys. A list that was never written is empty and at [`Revision::NONE`].
    fn keys(&self) -> StoreFuture<'_, Stored<Vec<StoredKey>>>;
    /// Replaces the whole list of signing keys if it is still at `expected`: of two nodes that start at once, one makes the
    /// first key and the other reads it. Never `Missing`.
    fn replace_keys<'a>(
        &'a self,
        keys: &'a [StoredKey],
        expected: Revision,
    ) -> StoreFuture<'a, Replaced>;

    /// Whether a signing key is still sealed under a former master key; [`Store::replace_keys`] seals all anew.
    fn keys_need_sealing_anew(&self) -> StoreFuture<'_, bool>;

    /// What other nodes on the same store do, from now on; each call gives a feed of its own. `None`: the store has one node
    /// only. To be called within a runtime, which then does the reading. [`Store::put_revocation`] and
    /// [`Store::replace_keys`] publish together with their write, and reach their own node's feed too.
    fn feed(&self) -> Option<Feed>;

    /// A backup of everything as it is now, while others go on. `None`: the store has means of its own.
    fn backup(&self, _taken_at: Timestamp) -> Option<BackupStream> {
        None
    }

    /// What a store with a clock of its own takes for now, to the second.
    fn time(&self) -> StoreFuture<'_, Option<Timestamp>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Whether the store can read and write now.
    fn probe(&self) -> StoreFuture<'_, ()>;
}
