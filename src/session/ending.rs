//! Why sessions are ended before their time, and at whose request: for the audit stream, which must be able to answer
//! "who did that?". Must not influence whether anything is ended.

use std::fmt;

use crate::auth::{ClientAddr, SessionId};

/// Why sessions are ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The person signed out in that browser.
    SignedOut,
    /// The person signed in again in that browser.
    SignedInAnew,
    /// Somebody wanted it ended: the person in another browser, or an operator.
    Revoked,
    /// The account has a new password.
    PasswordChanged,
    /// The account was blocked.
    Blocked,
    /// The account was removed.
    Removed,
    /// A renewal found the account blocked or removed.
    AccountClosed,
    /// All sessions of the person were ended, or the account changed, while this one began.
    Overtaken,
    /// A spent token was presented again: two parties hold the session.
    Replay,
    /// The provider said that it is over: `invalid_grant`.
    EndedAtProvider,
    /// The person signed out at the provider (back-channel logout).
    SignedOutThere,
    /// The configured rules do not allow what the provider now says of the person.
    NotAllowedAnyMore,
    /// The provider answered for somebody else.
    SomebodyElse,
    /// The provider is not configured any more.
    ProviderGone,
    /// The provider has to be asked, and the key that opens the refresh token is not among the master keys any more.
    KeyDropped,
}

impl Reason {
    /// As the audit stream says it.
    pub fn word(self) -> &'static str {
        match self {
            Reason::SignedOut => "signed out",
            Reason::SignedInAnew => "signed in anew",
            Reason::Revoked => "revoked",
            Reason::PasswordChanged => "password changed",
            Reason::Blocked => "account blocked",
            Reason::Removed => "account removed",
            Reason::AccountClosed => "account blocked or removed",
            Reason::Overtaken => "ended while it began",
            Reason::Replay => "replay",
            Reason::EndedAtProvider => "ended at the provider",
            Reason::SignedOutThere => "signed out at the provider",
            Reason::NotAllowedAnyMore => "not allowed any more",
            Reason::SomebodyElse => "the provider answered for somebody else",
            Reason::ProviderGone => "provider not configured any more",
            Reason::KeyDropped => "master key dropped",
        }
    }
}

/// Who ends sessions, or changes accounts and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The browser whose session it is.
    Itself,
    /// The same person in another session.
    Session(SessionId),
    /// An operator with the command line.
    CommandLine,
    /// A program on the admin API.
    AdminApi,
    /// The provider at which the session began.
    Provider,
    /// The gateway, by one of its rules.
    Gateway,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            By::Itself => f.write_str("itself"),
            By::Session(session) => write!(f, "session {session}"),
            By::CommandLine => f.write_str("command line"),
            By::AdminApi => f.write_str("admin API"),
            By::Provider => f.write_str("provider"),
            By::Gateway => f.write_str("gateway"),
        }
    }
}

/// What is known of the end of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Why.
    pub reason: Reason,
    /// At whose request.
    pub by: By,
    /// The address of the request that asked for it, if it was a request.
    pub client: Option<ClientAddr>,
    /// The id of that request.
    pub request_id: Option<String>,
}

impl Ending {
    /// An end that no request on the gateway's listeners asked for.
    pub fn new(reason: Reason, by: By) -> Self {
        Ending {
            reason,
            by,
            client: None,
            request_id: None,
        }
    }

    /// The request that asked for it.
    pub fn from_request(mut self, client: Option<ClientAddr>, request_id: Option<&str>) -> Self {
        self.client = client;
        self.request_id = request_id.map(str::to_owned);
        self
    }
}
