//! What is in the file: its tables. Must not start threads or transactions.

use redb::TableDefinition;

pub(super) use crate::store::record::{FORMAT, decode, encode, revision};
pub(super) use crate::store::seal::KeySeal;

pub(super) const META: TableDefinition<'_, &str, u32> = TableDefinition::new("meta");
/// Session id -> record.
pub(super) const SESSIONS: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("sessions");
/// (ends at, session id): what is over is found without reading what is not.
pub(super) const SESSION_ENDS: TableDefinition<'_, (i64, &[u8; 16]), ()> =
    TableDefinition::new("session_ends");
/// Target as JSON -> record.
pub(super) const REVOCATIONS: TableDefinition<'_, &str, &[u8]> =
    TableDefinition::new("revocations");
/// Name in lower case -> record.
pub(super) const ACCOUNTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("accounts");
/// Key id -> record, the private part sealed.
pub(super) const KEYS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("keys");
