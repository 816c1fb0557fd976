//! What operators are told: refusals in words, accounts and sessions without what is nobody's business.

use crate::accounts::AccountError;
use crate::auth::rotation::SessionRecord;
use crate::control::{Response, SessionInfo, UserInfo, Why};
use crate::session::KeysError;
use crate::store::{Account, StoreError};

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(
        "{0}; the gateway refuses those sessions already, tries again until the store confirms it, and tells the audit stream then"
    )]
    Unconfirmed(#[source] StoreError),
    #[error(
        "{0}; the gateway refuses sessions of exactly this name already, and tries again until the store confirms it; should a \
         built-in account's name be written in another case, give the command again once the store answers"
    )]
    UnconfirmedName(#[source] StoreError),
    #[error("there is no live session with that id")]
    NoSession,
    #[error("a backup is only given through the control socket")]
    Socket,
}

impl From<Failure> for Response {
    fn from(failure: Failure) -> Self {
        let why = match &failure {
            Failure::Account(AccountError::Taken) => Why::Taken,
            Failure::Account(AccountError::Unknown) | Failure::NoSession => Why::Unknown,
            Failure::Account(AccountError::Store(_))
            | Failure::Store(_)
            | Failure::Unconfirmed(_)
            | Failure::UnconfirmedName(_)
            | Failure::Keys(_) => Why::Unavailable,
            Failure::Socket
            | Failure::Account(
                AccountError::Name
                | AccountError::Email
                | AccountError::DisplayName
                | AccountError::Group
                | AccountError::Hash,
            ) => Why::Malformed,
        };
        Response::Refused {
            why,
            message: failure.to_string(),
        }
    }
}

impl From<Account> for UserInfo {
    fn from(account: Account) -> Self {
        UserInfo {
            name: account.name,
            email: account.email,
            display_name: account.display_name,
            groups: account.groups,
            blocked: account.blocked,
            created_at: account.created_at,
            password_changed_at: account.password_changed_at,
        }
    }
}

impl From<SessionRecord> for SessionInfo {
    fn from(record: SessionRecord) -> Self {
        SessionInfo {
            session: record.id,
            ends_at: record.ends_at(),
            user: record.identity.user,
            provider: record.identity.provider,
            created_at: record.created_at,
            last_seen_at: record.last_seen_at,
            addr: record.lineage.client.addr,
            user_agent: record.lineage.client.user_agent,
        }
    }
}
