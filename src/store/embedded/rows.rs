//! Rows of the tables within a transaction: reading, writing and removing them together with what points at them.
//!
//! Every session has an entry in the index of ends that is not later than its end, one in the index of users, and one for
//! each name that its provider has for it. Must not know threads.

use std::borrow::Cow;
use std::ops::Bound;

use redb::{ReadTransaction, ReadableTable, TableError};
use serde::Deserialize;

use super::tables::{
    self, ARRANGEMENT, KEYS, PROVIDER_SESSIONS, REVOCATIONS, SESSIONS, Tables, USER_SESSIONS,
};
use super::threads::Stop;
use crate::auth::provider_session::ProviderName;
use crate::auth::rotation::SessionRecord;
use crate::clock::Timestamp;
use crate::store::seal::SealedKey;
use crate::store::{self, Revision, RevocationRecord, StoreError, Stored};

/// Sessions that are held in memory at once while a file is rearranged.
const STEP: usize = 1000;
/// Sessions of one person that are read at once: whoever waits for the same thread waits for no more of them.
const LISTED: usize = 128;

/// The revision of the list of keys: each row carries it.
pub(super) fn list_revision(rows: impl IntoIterator<Item = Revision>) -> Revision {
    rows.into_iter().max().unwrap_or(Revision::NONE)
}

pub(super) fn folded(name: &str) -> String {
    name.to_lowercase()
}

/// The key of a revocation: there is one per target.
pub(super) fn target_key(revocation: &RevocationRecord) -> Result<String, StoreError> {
    serde_json::to_string(&revocation.target)
        .map_err(|error| StoreError::Unavailable(error.to_string()))
}

/// The signing keys as they lie there, each with the revision of the whole list.
pub(super) fn all_keys(transaction: &ReadTransaction) -> Result<Vec<Stored<SealedKey>>, Stop> {
    let mut found = Vec::new();
    if let Some(table) = or_empty(transaction.open_table(KEYS))? {
        for entry in table.iter()? {
            let (_, bytes) = entry?;
            found.push(tables::decode(bytes.value())?);
        }
    }
    Ok(found)
}

/// A table that was never written is an empty one.
pub(super) fn or_empty<T>(result: Result<T, TableError>) -> Result<Option<T>, Stop> {
    match result {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Keeps a session that was not there; `bytes` is the record as it is stored.
pub(super) fn add_session(
    tables: &mut Tables<'_>,
    record: &SessionRecord,
    bytes: &[u8],
) -> Result<(), Stop> {
    let id = record.id.as_bytes();
    let ends = record.ends_at().as_millis();
    tables.sessions()?.insert(id, bytes)?;
    tables.session_ends()?.insert((ends, id), ())?;
    tables.user_sessions()?.insert(user_key(record), ())?;
    for name in provider_names(record) {
        tables
            .provider_sessions()?
            .insert(provider_key(record, name), ())?;
    }
    Ok(())
}

/// What the indexes know of a session.
#[derive(Deserialize)]
struct Indexed<'a> {
    #[serde(borrow)]
    identity: Whose<'a>,
    idle_expires_at: Timestamp,
    absolute_expires_at: Timestamp,
}

#[derive(Deserialize)]
struct Whose<'a> {
    #[serde(borrow)]
    provider: Cow<'a, str>,
    #[serde(borrow)]
    user: Cow<'a, str>,
}

/// What a session is compared with.
pub(super) struct Compared {
    revision: Revision,
    ends_sooner: bool,
    /// Provider and user under which it is listed, when those change.
    listed: Option<(String, String)>,
}

impl Compared {
    /// Which version it is.
    pub(super) fn revision(&self) -> Revision {
        self.revision
    }
}

/// Looks at the session that `next` is to replace; `None` when there is none.
pub(super) fn compare_session(
    tables: &mut Tables<'_>,
    next: &SessionRecord,
) -> Result<Option<Compared>, Stop> {
    let sessions = tables.sessions()?;
    let Some(bytes) = sessions.get(next.id.as_bytes())? else {
        return Ok(None);
    };
    let (current, revision) = tables::decode_part::<Indexed<'_>>(bytes.value())?;
    let whose = current.identity;
    let same = (&*whose.provider, &*whose.user) == (&*next.identity.provider, &*next.identity.user);
    let ends_at = current.idle_expires_at.min(current.absolute_expires_at);
    Ok(Some(Compared {
        revision,
        ends_sooner: next.ends_at() < ends_at,
        listed: (!same).then(|| (whose.provider.into_owned(), whose.user.into_owned())),
    }))
}

/// Replaces the session that was looked at by `next`.
pub(super) fn change_session(
    tables: &mut Tables<'_>,
    current: &Compared,
    next: &SessionRecord,
    bytes: &[u8],
) -> Result<(), Stop> {
    let id = next.id.as_bytes();
    tables.sessions()?.insert(id, bytes)?;
    // A later end needs no entry: whoever finds the one that is there looks at the record.
    if current.ends_sooner {
        let ends = next.ends_at().as_millis();
        tables.session_ends()?.insert((ends, id), ())?;
    }
    if let Some((provider, user)) = &current.listed {
        let users = tables.user_sessions()?;
        users.remove((provider.as_str(), user.as_str(), id))?;
        users.insert(user_key(next), ())?;
    }
    Ok(())
}

fn user_key(record: &SessionRecord) -> (&str, &str, &[u8; 16]) {
    let identity = &record.identity;
    (&identity.provider, &identity.user, record.id.as_bytes())
}

/// What the provider calls a session; nothing without one.
fn provider_names(record: &SessionRecord) -> impl Iterator<Item = ProviderName<'_>> {
    record.provider.iter().flat_map(|provider| provider.names())
}

fn provider_key<'a>(
    record: &'a SessionRecord,
    name: ProviderName<'a>,
) -> (&'a str, u8, &'a str, &'a [u8; 16]) {
    let (kind, name) = kind_of(name);
    (&record.identity.provider, kind, name, record.id.as_bytes())
}

/// A name as the index has it.
pub(super) fn kind_of(name: ProviderName<'_>) -> (u8, &str) {
    match name {
        ProviderName::Subject(subject) => (0, subject),
        ProviderName::Session(session) => (1, session),
    }
}

/// One step through a list of sessions.
#[derive(Default)]
pub(super) struct Stretch {
    pub(super) found: Vec<SessionRecord>,
    /// Where the next step goes on; `None` at the end.
    pub(super) after: Option<[u8; 16]>,
}

impl Stretch {
    fn read(
        ids: impl Iterator<Item = Result<[u8; 16], redb::StorageError>>,
        sessions: &impl ReadableTable<&'static [u8; 16], &'static [u8]>,
    ) -> Result<Self, Stop> {
        let mut stretch = Stretch::default();
        for (number, id) in ids.take(LISTED).enumerate() {
            let id = id?;
            if let Some(bytes) = sessions.get(&id)? {
                stretch.found.push(read_listed(bytes.value())?);
            }
            stretch.after = (number + 1 == LISTED).then_some(id);
        }
        Ok(stretch)
    }
}

/// The ids that come after one, or all.
fn ids_after(after: Option<[u8; 16]>) -> Bound<[u8; 16]> {
    after.map_or(Bound::Included([0; 16]), Bound::Excluded)
}

/// Sessions that a provider knows by a name, whatever became of them.
pub(super) fn sessions_at_provider(
    transaction: &ReadTransaction,
    (provider, kind, name): (&str, u8, &str),
    after: Option<[u8; 16]>,
) -> Result<Stretch, Stop> {
    let (Some(names), Some(sessions)) = (
        or_empty(transaction.open_table(PROVIDER_SESSIONS))?,
        or_empty(transaction.open_table(SESSIONS))?,
    ) else {
        return Ok(Stretch::default());
    };
    let after = ids_after(after);
    let first = after.as_ref().map(|id| (provider, kind, name, id));
    let last = Bound::Included((provider, kind, name, &[0xff; 16]));
    let range = names.range::<(&str, u8, &str, &[u8; 16])>((first, last))?;
    let ids = range.map(|entry| entry.map(|(key, _)| *key.value().3));
    Stretch::read(ids, &sessions)
}

/// A session as lists hold it.
fn read_listed(bytes: &[u8]) -> Result<SessionRecord, StoreError> {
    let stored: Stored<SessionRecord> = tables::decode(bytes)?;
    Ok(store::without_tokens(stored.record))
}

/// Sessions of a user, whatever became of them.
pub(super) fn sessions_of(
    transaction: &ReadTransaction,
    (provider, user): (&str, &str),
    after: Option<[u8; 16]>,
) -> Result<Stretch, Stop> {
    let (Some(users), Some(sessions)) = (
        or_empty(transaction.open_table(USER_SESSIONS))?,
        or_empty(transaction.open_table(SESSIONS))?,
    ) else {
        return Ok(Stretch::default());
    };
    let after = ids_after(after);
    let first = after.as_ref().map(|id| (provider, user, id));
    let last = Bound::Included((provider, user, &[0xff; 16]));
    let range = users.range::<(&str, &str, &[u8; 16])>((first, last))?;
    let ids = range.map(|entry| entry.map(|(key, _)| *key.value().2));
    Stretch::read(ids, &sessions)
}

/// All sessions, whatever became of them.
pub(super) fn all_sessions(
    transaction: &ReadTransaction,
    mut each: impl FnMut(SessionRecord),
) -> Result<(), Stop> {
    let Some(table) = or_empty(transaction.open_table(SESSIONS))? else {
        return Ok(());
    };
    for entry in table.iter()? {
        let (_, bytes) = entry?;
        each(read_listed(bytes.value())?);
    }
    Ok(())
}

/// What one step of a sweep did.
pub(super) struct Swept {
    /// Sessions that were over and are gone.
    pub(super) removed: usize,
    /// Whether there may be more.
    pub(super) more: bool,
}

/// Looks at the first `most` sessions that may be over, and removes those that are.
pub(super) fn sweep_sessions(
    tables: &mut Tables<'_>,
    now: Timestamp,
    most: usize,
) -> Result<Swept, Stop> {
    let mut due = Vec::with_capacity(most);
    for entry in tables
        .session_ends()?
        .range(..=(now.as_millis(), &[0xff; 16]))?
        .take(most)
    {
        let (key, _) = entry?;
        let (at, id) = key.value();
        due.push((at, *id));
    }
    let mut removed = 0;
    for (at, id) in &due {
        tables.session_ends()?.remove((*at, id))?;
        let record = match tables.sessions()?.get(id)? {
            Some(bytes) => tables::decode::<SessionRecord>(bytes.value())?.record,
            None => continue,
        };
        if now < record.ends_at() {
            // It was renewed since.
            let ends = record.ends_at().as_millis();
            tables.session_ends()?.insert((ends, id), ())?;
            continue;
        }
        tables.sessions()?.remove(id)?;
        tables.user_sessions()?.remove(user_key(&record))?;
        for name in provider_names(&record) {
            tables
                .provider_sessions()?
                .remove(provider_key(&record, name))?;
        }
        removed += 1;
    }
    Ok(Swept {
        removed,
        more: due.len() == most,
    })
}

/// The keys of revocations that no longer matter at `now`.
pub(super) fn revocations_over(
    transaction: &ReadTransaction,
    now: Timestamp,
) -> Result<Vec<String>, Stop> {
    let Some(table) = or_empty(transaction.open_table(REVOCATIONS))? else {
        return Ok(Vec::new());
    };
    let mut over = Vec::new();
    for entry in table.iter()? {
        let (key, bytes) = entry?;
        let revocation: Stored<RevocationRecord> = tables::decode(bytes.value())?;
        if revocation.record.until <= now {
            over.push(key.value().to_owned());
        }
    }
    Ok(over)
}

/// Keeps a revocation, unless there is one of a later moment: of two ends of a user's sessions that are under way at once, the
/// earlier one may be written last.
pub(super) fn keep_revocation(
    tables: &mut Tables<'_>,
    revocation: &RevocationRecord,
) -> Result<(), Stop> {
    let key = target_key(revocation)?;
    let bytes = tables::encode(revocation, Revision(1))?;
    let table = tables.revocations()?;
    let later = match table.get(key.as_str())? {
        Some(kept) => tables::decode::<RevocationRecord>(kept.value())?.record.at > revocation.at,
        None => false,
    };
    if !later {
        table.insert(key.as_str(), bytes.as_slice())?;
    }
    Ok(())
}

/// Removes those of `keys` that still do not matter; how many.
pub(super) fn forget_revocations(
    tables: &mut Tables<'_>,
    keys: &[String],
    now: Timestamp,
) -> Result<usize, Stop> {
    let table = tables.revocations()?;
    let mut removed = 0;
    for key in keys {
        // It may have been made anew meanwhile.
        let over = match table.get(key.as_str())? {
            Some(bytes) => {
                tables::decode::<RevocationRecord>(bytes.value())?
                    .record
                    .until
                    <= now
            }
            None => false,
        };
        if over {
            table.remove(key.as_str())?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Brings a file of an older arrangement to the present one; whether there was anything to do. No older one has sessions of
/// a provider.
pub(super) fn rearrange(tables: &mut Tables<'_>) -> Result<bool, Stop> {
    let meta = tables.meta()?;
    let found = meta.get("format")?.map(|format| format.value());
    if found == Some(ARRANGEMENT) {
        return Ok(false);
    }
    meta.insert("format", ARRANGEMENT)?;
    if found == Some(2) {
        return Ok(true);
    }
    tables.user_sessions()?.retain(|_, ()| false)?;
    let mut next = Some([0; 16]);
    while let Some(from) = next {
        // In steps, because no table can be read while another one of them is written to.
        let mut found = Vec::new();
        for entry in tables.sessions()?.range::<&[u8; 16]>(&from..)?.take(STEP) {
            let (_, bytes) = entry?;
            found.push(tables::decode::<SessionRecord>(bytes.value())?.record);
        }
        next = match found.last() {
            Some(last) if found.len() == STEP => after(last.id.as_bytes()),
            _ => None,
        };
        for record in &found {
            tables.user_sessions()?.insert(user_key(record), ())?;
        }
    }
    Ok(true)
}

/// The id after this one.
fn after(id: &[u8; 16]) -> Option<[u8; 16]> {
    Some(u128::from_be_bytes(*id).checked_add(1)?.to_be_bytes())
}
