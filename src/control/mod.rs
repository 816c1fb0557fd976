//! The control socket: how the command line acts on a running gateway.
//!
//! One request is one line of JSON, one answer is one line of JSON, over a unix socket in the store's folder that only its
//! owner can open. Without a running gateway the command line opens the store and executes the same requests itself.
//! No password travels, only its hash.

mod client;
mod operator;
pub mod server;
mod socket;
mod token;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::accounts::AccountChange;
use crate::auth::{ClientAddr, SessionId};
use crate::clock::Timestamp;
use crate::session::KeyInfo;

pub use client::{Backup, Client, Control};
pub use operator::{OfflineError, Operator, SHARED_STORE};
pub use token::{Judgement, RefreshInfo, TokenText};

/// The name of the socket within the store's folder.
pub const SOCKET_NAME: &str = "control.sock";
/// Longest request.
const MAX_REQUEST: u64 = 64 * 1024;
/// Longest answer: a list of many sessions.
const MAX_ANSWER: u64 = 256 * 1024 * 1024;

/// What to do about a socket that the system refuses.
fn hint(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::PermissionDenied => "; run this as the user who runs the gateway",
        _ => "",
    }
}

/// Why the control socket could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The socket could not be made or reached.
    #[error("the control socket {path}: {source}{}", hint(source))]
    Socket {
        /// Where.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Another gateway listens in this folder.
    #[error("another gateway runs in {folder}; each node needs a `store.path` of its own")]
    Taken {
        /// Which folder.
        folder: String,
    },
    /// The gateway took too long.
    #[error("the running gateway did not answer in time")]
    Timeout,
    /// The gateway said something else than an answer; perhaps it is of another version.
    #[error("the running gateway gave no answer that this version understands: {0}")]
    Answer(#[from] serde_json::Error),
}

/// What an operator asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Is anybody there?
    Ping,
    /// Make an account.
    UserAdd {
        /// Its name.
        name: String,
        /// Its e-mail address.
        #[serde(default)]
        email: Option<String>,
        /// Its display name.
        #[serde(default)]
        display_name: Option<String>,
        /// Its groups.
        #[serde(default)]
        groups: Vec<String>,
        /// From [`crate::login::local::hash_password`].
        password_hash: String,
    },
    /// List accounts.
    UserList,
    /// Set a password; ends the account's sessions.
    UserPassword {
        /// Whose.
        name: String,
        /// From [`crate::login::local::hash_password`].
        password_hash: String,
    },
    /// Change what apps learn about a person; the account's sessions have it from their next renewal on.
    UserChange {
        /// Whose.
        name: String,
        /// What.
        change: AccountChange,
    },
    /// Keep an account from signing in; ends its sessions.
    UserBlock {
        /// Whom.
        name: String,
    },
    /// Let it sign in again.
    UserUnblock {
        /// Whom.
        name: String,
    },
    /// Remove an account; ends its sessions.
    UserRemove {
        /// Whom.
        name: String,
    },
    /// List live sessions.
    SessionList {
        /// Only of this user, whatever the provider.
        #[serde(default)]
        user: Option<String>,
    },
    /// End one session.
    SessionRevoke {
        /// Which.
        session: SessionId,
    },
    /// End all sessions of a user.
    SessionRevokeUser {
        /// Whose.
        user: String,
        /// At which provider; default: at every one.
        #[serde(default)]
        provider: Option<String>,
    },
    /// End all sessions.
    SessionRevokeAll,
    /// List signing keys.
    KeysList,
    /// Make a new signing key; the old ones verify until nothing they signed can live.
    KeysRotate,
    /// Read out the whole store as it is now.
    StoreBackup,
    /// Judge a token; changes nothing.
    TokenCheck {
        /// The token.
        token: TokenText,
    },
}

/// What the gateway answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Response {
    /// Here I am.
    Pong {
        /// Version of the running gateway.
        version: String,
    },
    /// Done.
    Done,
    /// Done, and so many sessions were ended by it.
    Ended {
        /// How many.
        sessions: usize,
    },
    /// Accounts, by name.
    Users {
        /// They.
        users: Vec<UserInfo>,
    },
    /// Live sessions, oldest first.
    Sessions {
        /// They.
        sessions: Vec<SessionInfo>,
    },
    /// Signing keys, oldest first.
    Keys {
        /// They.
        keys: Vec<KeyInfo>,
    },
    /// A new key signs.
    KeyRotated {
        /// Its id.
        kid: String,
    },
    /// The bytes of the backup follow this line, to the end of the connection.
    Backup,
    /// What a token is worth here.
    Token {
        /// It.
        judgement: Judgement,
    },
    /// Not done.
    Refused {
        /// Which sort of reason.
        why: Why,
        /// The reason, for people.
        message: String,
    },
}

/// Sorts of reasons for not doing what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The request makes no sense.
    Malformed,
    /// There is one already.
    Taken,
    /// There is none.
    Unknown,
    /// The store could not do it.
    Unavailable,
}

/// What may be told of an account: everything but its password hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserInfo {
    /// Its name.
    pub name: String,
    /// Its e-mail address.
    pub email: Option<String>,
    /// Its display name.
    pub display_name: Option<String>,
    /// Its groups.
    pub groups: Vec<String>,
    /// Whether it may not sign in.
    pub blocked: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its password last changed.
    pub password_changed_at: Timestamp,
}

/// What may be told of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionInfo {
    /// Its id.
    pub session: SessionId,
    /// Whose.
    pub user: String,
    /// At which provider.
    pub provider: String,
    /// When it began.
    pub created_at: Timestamp,
    /// When it was last renewed.
    pub last_seen_at: Timestamp,
    /// When it ends if it is not used.
    pub ends_at: Timestamp,
    /// From where it was last renewed.
    pub addr: ClientAddr,
    /// By which user agent.
    pub user_agent: String,
}
