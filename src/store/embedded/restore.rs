//! A store made from a backup, put in place whole or not at all.
//!
//! It is built beside the present one under another name, proved readable, and only then given the store's name; a store that
//! was there is kept under a third name. The store's lock is held meanwhile, so that no gateway can be running on it. Must not
//! decide what may be restored: the caller says.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use redb::Database;

use super::rows::{self, folded};
use super::tables::{self, Tables};
use super::threads::Stop;
use super::{FILE_NAME, file};
use crate::auth::rotation::SessionRecord;
use crate::clock::Timestamp;
use crate::store::backup::{BackupError, Counts, Kind, Reader};
use crate::store::seal::SealedKey;
use crate::store::{Account, RevocationRecord, StoreError};

/// Records per commit.
const STEP: usize = 10_000;

/// How much of a backup comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Accounts, and nothing that lets anybody in: no session and no signing key.
    Accounts,
    /// All of it, for a backup since which no gateway has run.
    Everything,
}

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    /// When the backup was taken.
    pub taken_at: Timestamp,
    /// What was in it.
    pub found: Counts,
    /// Where the store is now that was there before.
    pub kept_as: Option<PathBuf>,
}

/// Why nothing was restored. The store is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The new store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is a store already.
    #[error("there is a store already: {0}")]
    Exists(String),
    /// A file could not be read, written or renamed.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
}

fn io_at(path: &Path) -> impl Fn(io::Error) -> RestoreError {
    let path = path.display().to_string();
    move |source| RestoreError::Io {
        path: path.clone(),
        source,
    }
}

/// Makes the store in `folder` from a backup. A store that is there is an error unless `replace` is given; then it is kept
/// under another name.
pub fn restore(
    folder: &Path,
    backup: Reader<impl Read>,
    extent: Extent,
    replace: bool,
    now: Timestamp,
) -> Result<Restored, RestoreError> {
    let path = folder.join(FILE_NAME);
    file::make_folder(folder)?;
    let lock = hold(&path)?;
    if lock.is_some() && !replace {
        return Err(RestoreError::Exists(path.display().to_string()));
    }
    let half = folder.join(format!(".store-{}.new", uuid::Uuid::now_v7()));
    let outcome = build(&half, backup, extent).and_then(|restored| {
        file::prove(&half)?;
        place(
            folder,
            &half,
            &path,
            lock.is_some().then_some(now),
            restored,
        )
    });
    let _ = fs::remove_file(&half);
    outcome
}

/// The lock of the store that is there, whatever state it is in; `None` when there is no file.
fn hold(path: &Path) -> Result<Option<File>, RestoreError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(io_at(path))?,
    };
    let in_use = || StoreError::InUse {
        path: path.display().to_string(),
    };
    match file.try_lock() {
        Ok(()) => {
            let (held, named) = (
                file.metadata().map_err(io_at(path))?,
                fs::metadata(path).map_err(io_at(path))?,
            );
            // Another restore may have put a new store in its place before this one was locked.
            if !file::same_file(&held, &named) {
                return Err(in_use().into());
            }
            Ok(Some(file))
        }
        Err(TryLockError::WouldBlock) => Err(in_use().into()),
        Err(TryLockError::Error(error)) => Err(io_at(path)(error)),
    }
}

fn build(
    half: &Path,
    mut backup: Reader<impl Read>,
    extent: Extent,
) -> Result<Restored, RestoreError> {
    let database = file::make(half)?;
    let mut more = true;
    while more {
        let mut records = Vec::new();
        while records.len() < STEP {
            match backup.next_record()? {
                Some((kind, bytes)) if extent == Extent::Everything || kind == Kind::Account => {
                    records.push((kind, bytes));
                }
                Some(_) => {}
                None => {
                    more = false;
                    break;
                }
            }
        }
        write(&database, &records).map_err(|stop| match stop {
            Stop::Refused(StoreError::NewerFormat { .. }) => BackupError::Newer.into(),
            Stop::Refused(error) => RestoreError::Store(error),
            Stop::Failed(reason) => StoreError::Unavailable(reason).into(),
        })?;
    }
    drop(database);
    Ok(Restored {
        taken_at: backup.header().taken_at,
        found: backup.counts(),
        kept_as: None,
    })
}

fn write(database: &Database, records: &[(Kind, Vec<u8>)]) -> Result<(), Stop> {
    let transaction = database.begin_write()?;
    let mut tables = Tables::of(&transaction);
    for (kind, bytes) in records {
        let bytes = bytes.as_slice();
        match kind {
            Kind::Session => {
                let session = tables::decode::<SessionRecord>(bytes)?.record;
                rows::add_session(&mut tables, &session, bytes)?;
            }
            Kind::Revocation => {
                let revocation = tables::decode::<RevocationRecord>(bytes)?.record;
                let key = rows::target_key(&revocation)?;
                tables.revocations()?.insert(key.as_str(), bytes)?;
            }
            Kind::Account => {
                let account = tables::decode::<Account>(bytes)?.record;
                let key = folded(&account.name);
                tables.accounts()?.insert(key.as_str(), bytes)?;
            }
            Kind::Key => {
                let key = tables::decode::<SealedKey>(bytes)?.record;
                tables.keys()?.insert(key.kid.as_str(), bytes)?;
            }
        }
    }
    drop(tables);
    transaction.commit()?;
    Ok(())
}

/// Gives the new store its name. There is no moment without a store where there was one: a gateway that starts now finds the
/// old one locked, or the new one.
fn place(
    folder: &Path,
    half: &Path,
    path: &Path,
    replaced_at: Option<Timestamp>,
    mut restored: Restored,
) -> Result<Restored, RestoreError> {
    if let Some(now) = replaced_at {
        let date = jiff::Timestamp::from_second(now.as_secs()).map_or_else(
            |_| now.as_secs().to_string(),
            |now| now.strftime("%Y%m%dT%H%M%SZ").to_string(),
        );
        // Its random end: two of one second are told apart.
        let id = uuid::Uuid::now_v7().simple().to_string();
        let id = id.get(24..).unwrap_or(&id);
        let aside = folder.join(format!("{FILE_NAME}.replaced-{date}-{id}"));
        fs::hard_link(path, &aside).map_err(io_at(&aside))?;
        fs::rename(half, path).map_err(io_at(path))?;
        restored.kept_as = Some(aside);
    } else {
        // Fails if a gateway was started meanwhile and made one.
        fs::hard_link(half, path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => RestoreError::Exists(path.display().to_string()),
            _ => io_at(path)(error),
        })?;
    }
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(io_at(folder))?;
    Ok(restored)
}
