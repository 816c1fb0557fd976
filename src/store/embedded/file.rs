//! The store's file and folder: made once, atomically, private; opened only after it proved readable.
//!
//! Must not write to a file that it refuses.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::{Builder, Database, DatabaseError, StorageError};

use super::disk::{Disk, Unsynced};
use super::rows;
use super::tables::{ARRANGEMENT, META, Tables};
use super::threads::Stop;
use crate::store::{StoreError, folder, owner};

/// The first bytes of every redb file.
const MAGIC: [u8; 9] = *b"redb\x1A\x0A\xA9\x0D\x0A";
/// Pages kept in memory; sessions are small and the operating system caches the file as well.
const CACHE_BYTES: usize = 64 << 20;

/// Makes folder and file where they are missing. A file that is there is not touched.
pub(super) fn prepare(folder: &Path, path: &Path) -> Result<(), StoreError> {
    make_folder(folder)?;
    if path
        .try_exists()
        .map_err(|error| unavailable("cannot look into", folder, &error))?
    {
        return Ok(());
    }
    // Made under another name and linked into place whole: nobody ever sees half a store, and of two processes that
    // start together one makes it and the other finds it.
    let half = folder.join(format!(".store-{}.new", uuid::Uuid::now_v7()));
    let made = make(&half)
        .map(drop)
        .and_then(|()| match fs::hard_link(&half, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(unavailable("cannot write to", folder, &error))
            }
            _ => Ok(()),
        });
    let _ = fs::remove_file(&half);
    made?;
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| unavailable("cannot write to", folder, &error))
}

/// Makes the folder where it is missing, for its owner only.
pub(super) fn make_folder(folder: &Path) -> Result<(), StoreError> {
    folder::make(folder).map_err(|error| unavailable("cannot make the folder", folder, &error))
}

/// Makes an empty store in a file that must not be there yet.
pub(super) fn make(path: &Path) -> Result<Database, StoreError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| unavailable("cannot write to", path, &error))?;
    owner::as_folder(&file, path.parent().unwrap_or(Path::new(".")))
        .map_err(|error| unavailable("cannot give away", path, &error))?;
    let disk = Disk::real(file).map_err(|error| explain(path, &error))?;
    let database = Builder::new()
        .set_cache_size(CACHE_BYTES)
        .create_with_backend(disk)
        .map_err(|error| explain(path, &error))?;
    stamp(&database)?;
    Ok(database)
}

fn unavailable(what: &str, path: &Path, error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("{what} {}: {error}", path.display()))
}

fn stamp(database: &Database) -> Result<(), StoreError> {
    let unavailable = |error: redb::Error| StoreError::Unavailable(error.to_string());
    let transaction = database
        .begin_write()
        .map_err(|error| unavailable(error.into()))?;
    transaction
        .open_table(META)
        .map_err(|error| unavailable(error.into()))?
        .insert("format", ARRANGEMENT)
        .map_err(|error| unavailable(error.into()))?;
    transaction
        .commit()
        .map_err(|error| unavailable(error.into()))
}

/// Opens a file for the first time in this process, once it is proved.
pub(super) fn open(path: &Path, unsynced: &Unsynced) -> Result<Database, StoreError> {
    prove(path)?;
    let database = reopen(path, unsynced)?;
    arrange(path, &database)?;
    Ok(database)
}

/// Proves on trial, without writing, that all of a file can be read.
pub(super) fn prove(path: &Path) -> Result<(), StoreError> {
    let unreadable = |reason: &str| StoreError::Unreadable {
        path: path.display().to_string(),
        reason: reason.to_owned(),
    };
    let mut file = handle(path)?;
    let found = file
        .metadata()
        .map_err(|error| unreadable(&error.to_string()))?;
    private(path, &found)?;
    let mut head = [0; MAGIC.len()];
    match file.read_exact(&mut head) {
        Ok(()) if head == MAGIC => {}
        Ok(()) => return Err(damaged(path, "it is no store file")),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(damaged(path, "it is cut short"));
        }
        Err(error) => return Err(unreadable(&error.to_string())),
    }
    let trial = || -> Result<(), StoreError> {
        let disk = Disk::trial(file).map_err(|error| explain(path, &error))?;
        let database = Builder::new()
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(true)
            .create_with_backend(disk)
            .map_err(|error| explain(path, &error))?;
        format_known(path, &database)
    };
    // redb may panic on a damaged file; here that is one more way to be unreadable.
    catch_unwind(AssertUnwindSafe(trial)).unwrap_or_else(|_| Err(damaged(path, "it is damaged")))
}

/// Refuses a file that others can read: it tells who is signed in.
pub(super) fn private(path: &Path, found: &Metadata) -> Result<(), StoreError> {
    let mode = found.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let path = path.display().to_string();
    Err(StoreError::Unreadable {
        reason: format!("its mode {mode:03o} lets others read it; run: chmod 600 {path}"),
        path,
    })
}

/// Brings a file of an older arrangement to the present one, in one commit.
fn arrange(path: &Path, database: &Database) -> Result<(), StoreError> {
    let outcome = (|| -> Result<(), Stop> {
        let transaction = database.begin_write()?;
        let rearranged = rows::rearrange(&mut Tables::of(&transaction))?;
        if rearranged {
            transaction.commit()?;
        } else {
            transaction.abort()?;
        }
        Ok(())
    })();
    outcome.map_err(|stop| match stop {
        Stop::Refused(error) => error,
        Stop::Failed(reason) => StoreError::Unavailable(format!("{}: {reason}", path.display())),
    })
}

/// Opens a file that was readable before, once what earlier handles wrote in vain is on the disk.
pub(super) fn reopen(path: &Path, unsynced: &Unsynced) -> Result<Database, StoreError> {
    let file = handle(path)?;
    let opened = file.metadata();
    let disk = Disk::recovered(file, unsynced).map_err(|error| explain(path, &error))?;
    let database = Builder::new()
        .set_cache_size(CACHE_BYTES)
        .create_with_backend(disk)
        .map_err(|error| explain(path, &error))?;
    // A restore may have put another file in its place before this one was locked.
    match (opened, fs::metadata(path)) {
        (Ok(opened), Ok(named)) if same_file(&opened, &named) => Ok(database),
        _ => Err(StoreError::InUse {
            path: path.display().to_string(),
        }),
    }
}

/// Whether two names, or a name and a handle, are of one file.
pub(super) fn same_file(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// The file, never a new one.
pub(super) fn handle(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|error| StoreError::Unreadable {
            path: path.display().to_string(),
            reason: match error.kind() {
                io::ErrorKind::PermissionDenied => format!(
                    "{error}; the user who runs vestibule must own it and its folder (`store.path`)"
                ),
                _ => error.to_string(),
            },
        })
}

fn format_known(path: &Path, database: &Database) -> Result<(), StoreError> {
    use redb::ReadableDatabase as _;
    let found = (|| -> Result<Option<u32>, redb::Error> {
        let transaction = database.begin_read()?;
        let table = transaction.open_table(META)?;
        let format = table.get("format")?.map(|format| format.value());
        Ok(format)
    })();
    match found {
        Ok(Some(found)) if found <= ARRANGEMENT => Ok(()),
        Ok(Some(found)) => Err(StoreError::NewerFormat {
            found,
            known: ARRANGEMENT,
        }),
        Ok(None) | Err(redb::Error::TableDoesNotExist(_)) => Err(StoreError::Unreadable {
            path: path.display().to_string(),
            reason: "it belongs to another program".to_owned(),
        }),
        Err(error) => Err(damaged(path, &error.to_string())),
    }
}

/// A file that is no store any more: nothing in it can be mended, so the way out is a backup.
fn damaged(path: &Path, reason: &str) -> StoreError {
    StoreError::Unreadable {
        path: path.display().to_string(),
        reason: format!(
            "{reason}; `vestibule store restore --force BACKUP` puts a backup in its place, and keeps this file under another name"
        ),
    }
}

/// What it means that redb could not open the file.
pub(super) fn explain(path: &Path, error: &DatabaseError) -> StoreError {
    let shown = path.display().to_string();
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            StoreError::InUse { path: shown }
        }
        DatabaseError::Storage(StorageError::Io(io))
            if io.kind() != io::ErrorKind::UnexpectedEof
                && io.kind() != io::ErrorKind::InvalidData =>
        {
            StoreError::Unavailable(format!("{shown}: {io}"))
        }
        other => damaged(path, &other.to_string()),
    }
}
