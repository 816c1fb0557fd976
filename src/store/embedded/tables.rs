//! What is in the file: its tables, and the version of their arrangement. Must not start threads or transactions.

use redb::{Key, Table, TableDefinition, Value, WriteTransaction};

use super::threads::Stop;
pub(super) use crate::store::record::{decode, decode_part, encode, encode_session, revision};
pub(super) use crate::store::seal::KeySeal;

/// The arrangement of tables that this program writes, and the newest it reads; records have a format of their own.
///
/// 2 added [`USER_SESSIONS`], and lets a session's entry in [`SESSION_ENDS`] name an earlier end than the session has by now.
/// A program that knows 1 only would remove such a session, so it must refuse the file. A file of 1 is brought to 2 when it
/// is opened.
///
/// 3 added [`PROVIDER_SESSIONS`] and sessions of a format that a program which knows 2 only cannot read: it would never
/// remove them, nor anything else that is due with them.
pub(super) const ARRANGEMENT: u32 = 3;

/// `format` -> [`ARRANGEMENT`].
pub(super) const META: TableDefinition<'_, &str, u32> = TableDefinition::new("meta");
/// Session id -> record.
pub(super) const SESSIONS: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("sessions");
/// (ends not before, session id): what is over is found without reading what is not. A renewal leaves it as it is, so that it
/// changes one row and not three; whoever finds an entry looks at the record.
pub(super) const SESSION_ENDS: TableDefinition<'_, (i64, &[u8; 16]), ()> =
    TableDefinition::new("session_ends");
/// (provider, user, session id): whose sessions there are, without reading those of others.
pub(super) const USER_SESSIONS: TableDefinition<'_, (&str, &str, &[u8; 16]), ()> =
    TableDefinition::new("user_sessions");
/// (provider, kind of name, name, session id): which sessions a provider speaks of. Written when a session is created, and
/// never changed.
pub(super) const PROVIDER_SESSIONS: TableDefinition<'_, (&str, u8, &str, &[u8; 16]), ()> =
    TableDefinition::new("provider_sessions");
/// Target as JSON -> record.
pub(super) const REVOCATIONS: TableDefinition<'_, &str, &[u8]> =
    TableDefinition::new("revocations");
/// Name in lower case -> record.
pub(super) const ACCOUNTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("accounts");
/// Key id -> record, the private part sealed.
pub(super) const KEYS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("keys");

/// An open table of records by id.
pub(super) type ById<'t> = Table<'t, &'static [u8; 16], &'static [u8]>;
/// An open index of ends.
pub(super) type ByEnd<'t> = Table<'t, (i64, &'static [u8; 16]), ()>;
/// An open index of users.
pub(super) type ByUser<'t> = Table<'t, (&'static str, &'static str, &'static [u8; 16]), ()>;
/// An open index of what providers call sessions.
pub(super) type ByProvider<'t> = Table<'t, (&'static str, u8, &'static str, &'static [u8; 16]), ()>;
/// An open table of records by name.
pub(super) type ByName<'t> = Table<'t, &'static str, &'static [u8]>;

/// The tables of one transaction, each opened when it is first asked for: many operations share one transaction, and opening
/// costs as much as a lookup.
pub(super) struct Tables<'t> {
    transaction: &'t WriteTransaction,
    meta: Option<Table<'t, &'static str, u32>>,
    sessions: Option<ById<'t>>,
    session_ends: Option<ByEnd<'t>>,
    user_sessions: Option<ByUser<'t>>,
    provider_sessions: Option<ByProvider<'t>>,
    revocations: Option<ByName<'t>>,
    accounts: Option<ByName<'t>>,
    keys: Option<ByName<'t>>,
}

impl<'t> Tables<'t> {
    pub(super) fn of(transaction: &'t WriteTransaction) -> Self {
        Tables {
            transaction,
            meta: None,
            sessions: None,
            session_ends: None,
            user_sessions: None,
            provider_sessions: None,
            revocations: None,
            accounts: None,
            keys: None,
        }
    }

    pub(super) fn meta(&mut self) -> Result<&mut Table<'t, &'static str, u32>, Stop> {
        opened(&mut self.meta, self.transaction, META)
    }

    pub(super) fn sessions(&mut self) -> Result<&mut ById<'t>, Stop> {
        opened(&mut self.sessions, self.transaction, SESSIONS)
    }

    pub(super) fn session_ends(&mut self) -> Result<&mut ByEnd<'t>, Stop> {
        opened(&mut self.session_ends, self.transaction, SESSION_ENDS)
    }

    pub(super) fn user_sessions(&mut self) -> Result<&mut ByUser<'t>, Stop> {
        opened(&mut self.user_sessions, self.transaction, USER_SESSIONS)
    }

    pub(super) fn provider_sessions(&mut self) -> Result<&mut ByProvider<'t>, Stop> {
        opened(
            &mut self.provider_sessions,
            self.transaction,
            PROVIDER_SESSIONS,
        )
    }

    pub(super) fn revocations(&mut self) -> Result<&mut ByName<'t>, Stop> {
        opened(&mut self.revocations, self.transaction, REVOCATIONS)
    }

    pub(super) fn accounts(&mut self) -> Result<&mut ByName<'t>, Stop> {
        opened(&mut self.accounts, self.transaction, ACCOUNTS)
    }

    pub(super) fn keys(&mut self) -> Result<&mut ByName<'t>, Stop> {
        opened(&mut self.keys, self.transaction, KEYS)
    }
}

fn opened<'s, 't, K: Key + 'static, V: Value + 'static>(
    slot: &'s mut Option<Table<'t, K, V>>,
    transaction: &'t WriteTransaction,
    definition: TableDefinition<'_, K, V>,
) -> Result<&'s mut Table<'t, K, V>, Stop> {
    match slot {
        Some(table) => Ok(table),
        None => Ok(slot.insert(transaction.open_table(definition)?)),
    }
}
