//! What goes over the wire of the admin API, as `docs/openapi.json` describes it. Must not hold a secret: there is no field
//! for a password's hash or a private key.

use serde::{Deserialize, Serialize};

use crate::auth::SessionId;
use crate::clock::Timestamp;
use crate::control::{SessionInfo, UserInfo};
use crate::session::KeyInfo;

/// Which sessions to end: exactly one of `session`, `user` (perhaps of one `provider`) and `all: true`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Revoke {
    pub(super) session: Option<SessionId>,
    pub(super) user: Option<String>,
    pub(super) provider: Option<String>,
    pub(super) all: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    pub(super) user: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

#[derive(Serialize)]
pub(super) struct Ended {
    pub(super) ended: usize,
}

#[derive(Serialize)]
pub(super) struct Rotated {
    pub(super) kid: String,
}

#[derive(Serialize)]
pub(super) struct Sessions<'a> {
    pub(super) sessions: Vec<Session<'a>>,
    pub(super) next: Option<SessionId>,
}

#[derive(Serialize)]
pub(super) struct Session<'a> {
    pub(super) session: SessionId,
    pub(super) user: &'a str,
    pub(super) provider: &'a str,
    pub(super) created_at: String,
    pub(super) last_seen_at: String,
    pub(super) ends_at: String,
    pub(super) address: String,
    pub(super) user_agent: &'a str,
}

impl<'a> Session<'a> {
    pub(super) fn of(info: &'a SessionInfo) -> Self {
        Session {
            session: info.session,
            user: &info.user,
            provider: &info.provider,
            created_at: rfc3339(info.created_at),
            last_seen_at: rfc3339(info.last_seen_at),
            ends_at: rfc3339(info.ends_at),
            address: info.addr.0.to_string(),
            user_agent: &info.user_agent,
        }
    }
}

#[derive(Serialize)]
pub(super) struct Users<'a> {
    pub(super) users: Vec<User<'a>>,
    pub(super) next: Option<String>,
}

#[derive(Serialize)]
pub(super) struct User<'a> {
    pub(super) user: &'a str,
    pub(super) email: Option<&'a str>,
    pub(super) name: Option<&'a str>,
    pub(super) groups: &'a [String],
    pub(super) blocked: bool,
    pub(super) created_at: String,
    pub(super) password_changed_at: String,
}

impl<'a> User<'a> {
    pub(super) fn of(info: &'a UserInfo) -> Self {
        User {
            user: &info.name,
            email: info.email.as_deref(),
            name: info.display_name.as_deref(),
            groups: &info.groups,
            blocked: info.blocked,
            created_at: rfc3339(info.created_at),
            password_changed_at: rfc3339(info.password_changed_at),
        }
    }
}

#[derive(Serialize)]
pub(super) struct Keys<'a> {
    pub(super) keys: Vec<Key<'a>>,
}

#[derive(Serialize)]
pub(super) struct Key<'a> {
    pub(super) kid: &'a str,
    pub(super) created_at: String,
    pub(super) retires_at: Option<String>,
}

impl<'a> Key<'a> {
    pub(super) fn of(info: &'a KeyInfo) -> Self {
        Key {
            kid: &info.kid,
            created_at: rfc3339(info.created_at),
            retires_at: info.retires_at.map(rfc3339),
        }
    }
}

fn rfc3339(at: Timestamp) -> String {
    jiff::Timestamp::from_second(at.as_secs())
        .map(|at| at.to_string())
        .unwrap_or_default()
}
