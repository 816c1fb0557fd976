//! Rows of the tables within a transaction: reading, writing and removing them together with what points at them.

use redb::{ReadableTable as _, TableError, WriteTransaction};

use super::tables::{self, REVOCATIONS, SESSION_ENDS, SESSIONS};
use super::threads::Stop;
use crate::auth::SessionId;
use crate::auth::rotation::SessionRecord;
use crate::clock::Timestamp;
use crate::store::{Revision, RevocationRecord, Stored};

/// The revision of the list of keys: each row carries it.
pub(super) fn list_revision(rows: impl IntoIterator<Item = Revision>) -> Revision {
    rows.into_iter().max().unwrap_or(Revision::NONE)
}

pub(super) fn folded(name: &str) -> String {
    name.to_lowercase()
}

/// A table that was never written is an empty one.
pub(super) fn or_empty<T>(result: Result<T, TableError>) -> Result<Option<T>, Stop> {
    match result {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn put_session(
    transaction: &WriteTransaction,
    record: &SessionRecord,
    revision: Revision,
) -> Result<(), Stop> {
    let bytes = tables::encode(record, revision)?;
    let id = record.id.as_bytes();
    transaction
        .open_table(SESSIONS)?
        .insert(id, bytes.as_slice())?;
    transaction
        .open_table(SESSION_ENDS)?
        .insert((record.ends_at().as_millis(), id), ())?;
    Ok(())
}

pub(super) fn found_session(
    transaction: &WriteTransaction,
    id: &SessionId,
) -> Result<Option<Stored<SessionRecord>>, Stop> {
    let table = transaction.open_table(SESSIONS)?;
    let found = table.get(id.as_bytes())?;
    Ok(match found {
        Some(bytes) => Some(tables::decode(bytes.value())?),
        None => None,
    })
}

pub(super) fn remove_ended(transaction: &WriteTransaction, now: Timestamp) -> Result<usize, Stop> {
    let mut ends = transaction.open_table(SESSION_ENDS)?;
    let mut sessions = transaction.open_table(SESSIONS)?;
    let mut over = Vec::new();
    for entry in ends.range(..=(now.as_millis(), &[0xff; 16]))? {
        let (key, ()) = entry.map(|(key, value)| (key, value.value()))?;
        let (at, id) = key.value();
        over.push((at, *id));
    }
    for (at, id) in &over {
        ends.remove((*at, id))?;
        sessions.remove(id)?;
    }
    let mut revocations = transaction.open_table(REVOCATIONS)?;
    let mut forgotten = Vec::new();
    for entry in revocations.iter()? {
        let (key, bytes) = entry?;
        let revocation: Stored<RevocationRecord> = tables::decode(bytes.value())?;
        if revocation.record.until <= now {
            forgotten.push(key.value().to_owned());
        }
    }
    for target in &forgotten {
        revocations.remove(target.as_str())?;
    }
    Ok(over.len() + forgotten.len())
}
