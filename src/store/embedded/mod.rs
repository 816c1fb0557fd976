//! The embedded store: one durable redb file, one writer with group commit.
//!
//! A file that cannot be read is never replaced, repaired or shortened: the start fails and says why. Must not decide
//! anything: it keeps and compares.

mod disk;
mod file;
mod restore;
mod rows;
mod snapshot;
mod tables;
mod threads;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{ReadTransaction, ReadableTable as _};

use self::disk::Unsynced;
use self::rows::{Stretch, folded, list_revision, or_empty};
use self::tables::{ACCOUNTS, KeySeal, REVOCATIONS, SESSIONS};
use self::threads::{Batch, Holder, Stop, Threads};
use super::backup::{BackupKeys, BackupStream, Header};
use super::seal::OTHER_MASTER_KEY;
use super::{
    Account, Feed, Replaced, Revision, RevocationRecord, Store, StoreError, StoreFuture, Stored,
};
use crate::auth::SessionId;
use crate::auth::keyset::StoredKey;
use crate::auth::provider_session::ProviderName;
use crate::auth::rotation::SessionRecord;
use crate::clock::Timestamp;
use crate::units::Secret;

pub use self::restore::{Extent, RestoreError, Restored, restore};

/// The name of the file within the store's folder.
pub const FILE_NAME: &str = "store.redb";

/// Refuses the file in this folder, if there is one, when [`Embedded::open`] would because others can read it. Opens nothing.
pub fn private(folder: &Path) -> Result<(), StoreError> {
    let path = folder.join(FILE_NAME);
    match std::fs::metadata(&path) {
        Ok(found) => file::private(&path, &found),
        Err(_) => Ok(()),
    }
}
/// How many rows a sweep removes per commit: renewals share those commits and must not wait for long ones.
const SWEEP: usize = 128;

/// A store in one file.
pub struct Embedded {
    path: PathBuf,
    threads: Threads,
    seal: Arc<KeySeal>,
    backup_keys: Arc<BackupKeys>,
}

impl Embedded {
    /// Opens the store under `folder` (made with mode 0700 when missing), or makes an empty one when there is no file.
    /// Signing keys are sealed under `master`; keys that were sealed under one of `previous` still open.
    pub fn open(folder: &Path, master: &Secret, previous: &[Secret]) -> Result<Self, StoreError> {
        let path = folder.join(FILE_NAME);
        let seal = Arc::new(KeySeal::new(master, previous)?);
        file::prepare(folder, &path)?;
        let unsynced = Unsynced::default();
        let database = file::open(&path, &unsynced)?;
        let again = path.clone();
        let holder = Holder::new(database, Box::new(move || file::reopen(&again, &unsynced)));
        Ok(Embedded {
            threads: Threads::start(holder)?,
            path,
            seal,
            backup_keys: Arc::new(BackupKeys::new(master, previous)?),
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A list of live sessions, step by step: somebody may have a great many, and renewals are read by the same thread.
    async fn listed(
        &self,
        now: Timestamp,
        step: impl Fn(&ReadTransaction, Option<[u8; 16]>) -> Result<Stretch, Stop>
        + Clone
        + Send
        + 'static,
    ) -> Result<Vec<SessionRecord>, StoreError> {
        let mut live = Vec::new();
        let mut after = None;
        loop {
            let step = step.clone();
            let look = move |transaction: &ReadTransaction| step(transaction, after);
            let stretch = self.threads.read(look).await?;
            live.extend(super::listed(stretch.found, now));
            after = stretch.after;
            if after.is_none() {
                return Ok(live);
            }
        }
    }

    #[cfg(test)]
    fn open_failing_while(
        folder: &Path,
        fault: Arc<std::sync::atomic::AtomicBool>,
    ) -> Result<Self, StoreError> {
        let path = folder.join(FILE_NAME);
        file::prepare(folder, &path)?;
        let again = path.clone();
        let opener = move || {
            let disk = disk::Disk::real(file::handle(&again)?)
                .map_err(|error| file::explain(&again, &error))?
                .failing_while(Arc::clone(&fault));
            redb::Builder::new()
                .create_with_backend(disk)
                .map_err(|error| file::explain(&again, &error))
        };
        Ok(Embedded {
            threads: Threads::start(Holder::new(opener()?, Box::new(opener)))?,
            path,
            seal: Arc::new(KeySeal::new(&Secret::new([7; 32]), &[])?),
            backup_keys: Arc::new(BackupKeys::new(&Secret::new([7; 32]), &[])?),
        })
    }
}

impl Store for Embedded {
    fn session<'a>(&'a self, id: &'a SessionId) -> StoreFuture<'a, Option<Stored<SessionRecord>>> {
        let id = *id;
        Box::pin(self.threads.read(move |transaction| {
            let Some(table) = or_empty(transaction.open_table(SESSIONS))? else {
                return Ok(None);
            };
            Ok(match table.get(id.as_bytes())? {
                Some(bytes) => Some(tables::decode(bytes.value())?),
                None => None,
            })
        }))
    }

    fn create_session<'a>(&'a self, record: &'a SessionRecord) -> StoreFuture<'a, Revision> {
        let record = record.clone();
        Box::pin(async move {
            let bytes = tables::encode_session(&record, Revision(1))?;
            self.threads
                .write(move |batch| {
                    let taken = batch
                        .look()
                        .sessions()?
                        .get(record.id.as_bytes())?
                        .is_some();
                    if taken {
                        let taken = "the session id is taken".to_owned();
                        return Err(StoreError::Unavailable(taken).into());
                    }
                    rows::add_session(batch.change(), &record, &bytes)?;
                    Ok(Revision(1))
                })
                .await
        })
    }

    fn replace_session<'a>(
        &'a self,
        record: &'a SessionRecord,
        expected: Revision,
    ) -> StoreFuture<'a, Replaced> {
        let record = record.clone();
        let revision = Revision(expected.0.saturating_add(1));
        Box::pin(async move {
            // Here and not on the writer's thread, which everybody waits for.
            let bytes = tables::encode_session(&record, revision)?;
            self.threads
                .write(move |batch| {
                    let Some(current) = rows::compare_session(batch.look(), &record)? else {
                        return Ok(Replaced::Missing);
                    };
                    if current.revision() != expected {
                        return Ok(Replaced::Conflict);
                    }
                    rows::change_session(batch.change(), &current, &record, &bytes)?;
                    Ok(Replaced::Committed(revision))
                })
                .await
        })
    }

    fn sessions<'a>(
        &'a self,
        user: Option<(&'a str, &'a str)>,
        now: Timestamp,
    ) -> StoreFuture<'a, Vec<SessionRecord>> {
        let user = user.map(|(provider, user)| (provider.to_owned(), user.to_owned()));
        Box::pin(async move {
            let found = match user {
                Some((provider, user)) => {
                    self.listed(now, move |transaction, after| {
                        rows::sessions_of(transaction, (&provider, &user), after)
                    })
                    .await?
                }
                None => {
                    let look = move |transaction: &ReadTransaction| {
                        let mut found = Vec::new();
                        rows::all_sessions(transaction, |record| {
                            if record.revoked_at.is_none() && now < record.ends_at() {
                                found.push(record);
                            }
                        })?;
                        Ok(found)
                    };
                    self.threads.scan(look).await?
                }
            };
            Ok(super::listed(found, now))
        })
    }

    fn sessions_at_provider<'a>(
        &'a self,
        provider: &'a str,
        name: ProviderName<'a>,
        now: Timestamp,
    ) -> StoreFuture<'a, Vec<SessionRecord>> {
        let (kind, name) = rows::kind_of(name);
        let (provider, name) = (provider.to_owned(), name.to_owned());
        Box::pin(async move {
            let found = self
                .listed(now, move |transaction, after| {
                    rows::sessions_at_provider(transaction, (&provider, kind, &name), after)
                })
                .await?;
            Ok(super::listed(found, now))
        })
    }

    fn remove_expired(&self, now: Timestamp) -> StoreFuture<'_, usize> {
        Box::pin(async move {
            let mut removed = 0;
            loop {
                let step =
                    move |batch: &mut Batch<'_>| rows::sweep_sessions(batch.change(), now, SWEEP);
                let swept = self.threads.write(step).await?;
                removed += swept.removed;
                if !swept.more {
                    break;
                }
            }
            let look =
                move |transaction: &ReadTransaction| rows::revocations_over(transaction, now);
            let over = self.threads.scan(look).await?;
            for keys in over.chunks(SWEEP) {
                let keys = keys.to_vec();
                let step = move |batch: &mut Batch<'_>| {
                    rows::forget_revocations(batch.change(), &keys, now)
                };
                removed += self.threads.write(step).await?;
            }
            Ok(removed)
        })
    }

    fn put_revocation<'a>(&'a self, revocation: &'a RevocationRecord) -> StoreFuture<'a, ()> {
        let revocation = revocation.clone();
        Box::pin(
            self.threads
                .write(move |batch| rows::keep_revocation(batch.change(), &revocation)),
        )
    }

    fn revocations(&self, now: Timestamp) -> StoreFuture<'_, Vec<RevocationRecord>> {
        Box::pin(self.threads.scan(move |transaction| {
            let Some(table) = or_empty(transaction.open_table(REVOCATIONS))? else {
                return Ok(Vec::new());
            };
            let mut found = Vec::new();
            for entry in table.iter()? {
                let (_, bytes) = entry?;
                let record = tables::decode::<RevocationRecord>(bytes.value())?.record;
                if now < record.until {
                    found.push(record);
                }
            }
            Ok(found)
        }))
    }

    fn account<'a>(&'a self, name: &'a str) -> StoreFuture<'a, Option<Stored<Account>>> {
        let key = folded(name);
        Box::pin(self.threads.read(move |transaction| {
            let Some(table) = or_empty(transaction.open_table(ACCOUNTS))? else {
                return Ok(None);
            };
            Ok(match table.get(key.as_str())? {
                Some(bytes) => Some(tables::decode(bytes.value())?),
                None => None,
            })
        }))
    }

    fn accounts(&self) -> StoreFuture<'_, Vec<Account>> {
        Box::pin(self.threads.read(move |transaction| {
            let Some(table) = or_empty(transaction.open_table(ACCOUNTS))? else {
                return Ok(Vec::new());
            };
            let mut found = Vec::new();
            for entry in table.iter()? {
                let (_, bytes) = entry?;
                found.push(tables::decode::<Account>(bytes.value())?.record);
            }
            Ok(found)
        }))
    }

    fn create_account<'a>(&'a self, account: &'a Account) -> StoreFuture<'a, Replaced> {
        let account = account.clone();
        Box::pin(self.threads.write(move |batch| {
            let key = folded(&account.name);
            let taken = batch.look().accounts()?.get(key.as_str())?.is_some();
            if taken {
                return Ok(Replaced::Conflict);
            }
            let bytes = tables::encode(&account, Revision(1))?;
            batch
                .change()
                .accounts()?
                .insert(key.as_str(), bytes.as_slice())?;
            Ok(Replaced::Committed(Revision(1)))
        }))
    }

    fn replace_account<'a>(
        &'a self,
        account: &'a Account,
        expected: Revision,
    ) -> StoreFuture<'a, Replaced> {
        let account = account.clone();
        Box::pin(self.threads.write(move |batch| {
            let key = folded(&account.name);
            let found = match batch.look().accounts()?.get(key.as_str())? {
                Some(bytes) => Some(tables::revision(bytes.value())?),
                None => None,
            };
            match found {
                None => return Ok(Replaced::Missing),
                Some(current) if current != expected => return Ok(Replaced::Conflict),
                Some(_) => {}
            }
            let revision = Revision(expected.0.saturating_add(1));
            let bytes = tables::encode(&account, revision)?;
            batch
                .change()
                .accounts()?
                .insert(key.as_str(), bytes.as_slice())?;
            Ok(Replaced::Committed(revision))
        }))
    }

    fn remove_account<'a>(&'a self, name: &'a str) -> StoreFuture<'a, bool> {
        let key = folded(name);
        Box::pin(self.threads.write(move |batch| {
            let table = batch.change().accounts()?;
            let removed = table.remove(key.as_str())?.is_some();
            Ok(removed)
        }))
    }

    fn keys_need_sealing_anew(&self) -> StoreFuture<'_, bool> {
        let seal = Arc::clone(&self.seal);
        Box::pin(self.threads.read(move |transaction| {
            let found = rows::all_keys(transaction)?;
            let sealed: Vec<_> = found.into_iter().map(|key| key.record).collect();
            Ok(seal.needs_sealing_anew(&sealed))
        }))
    }

    fn keys(&self) -> StoreFuture<'_, Stored<Vec<StoredKey>>> {
        let seal = Arc::clone(&self.seal);
        let path = self.path.clone();
        Box::pin(self.threads.read(move |transaction| {
            let found = rows::all_keys(transaction)?;
            let revision = list_revision(found.iter().map(|key| key.revision));
            let keys = seal
                .open_all(found.into_iter().map(|key| key.record).collect())
                .ok_or_else(|| StoreError::Unreadable {
                    path: path.display().to_string(),
                    reason: OTHER_MASTER_KEY.to_owned(),
                })?;
            Ok(Stored {
                record: keys,
                revision,
            })
        }))
    }

    fn replace_keys<'a>(
        &'a self,
        keys: &'a [StoredKey],
        expected: Revision,
    ) -> StoreFuture<'a, Replaced> {
        let keys = keys.to_vec();
        let seal = Arc::clone(&self.seal);
        Box::pin(self.threads.write(move |batch| {
            let mut revisions = Vec::new();
            for entry in batch.look().keys()?.iter()? {
                let (_, bytes) = entry?;
                revisions.push(tables::revision(bytes.value())?);
            }
            if list_revision(revisions) != expected {
                return Ok(Replaced::Conflict);
            }
            let revision = Revision(expected.0.saturating_add(1));
            let mut rows = Vec::with_capacity(keys.len());
            for key in seal.seal_all(&keys)? {
                rows.push((key.kid.clone(), tables::encode(&key, revision)?));
            }
            let table = batch.change().keys()?;
            table.retain(|_, _| false)?;
            for (kid, bytes) in &rows {
                table.insert(kid.as_str(), bytes.as_slice())?;
            }
            Ok(Replaced::Committed(revision))
        }))
    }

    fn feed(&self) -> Option<Feed> {
        None
    }

    fn backup(&self, taken_at: Timestamp) -> Option<BackupStream> {
        let header = Header {
            taken_at,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let holder = Arc::clone(self.threads.holder());
        Some(snapshot::start(
            holder,
            Arc::clone(&self.backup_keys),
            header,
        ))
    }

    fn probe(&self) -> StoreFuture<'_, ()> {
        Box::pin(self.threads.write(|batch| {
            batch
                .change()
                .meta()?
                .insert("format", tables::ARRANGEMENT)?;
            Ok(())
        }))
    }
}
