//! The pure core: who is asking, may they, and what happens next.
//!
//! Nothing in here reads a clock, a socket, a file, a configuration key or a log; everything is a value in and a value
//! out, so that every rule can be tested as a table. What the core allows is a [`Permit`], and only the core makes one.

pub mod access_token;
pub mod allow;
pub mod bearer;
pub mod claims;
pub mod credentials;
pub mod decision;
pub mod foreign_keys;
pub mod foreign_token;
pub mod keyset;
pub mod logout_token;
pub mod path;
pub mod provider_session;
pub mod refresh_token;
pub mod rotation;
pub mod route;
pub(crate) mod strict_json;
pub mod subject;
#[cfg(test)]
pub(crate) mod test_support;

use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

pub use access_token::AccessClaims;
pub use decision::Permit;
pub use subject::Subject;

/// One sign-in on one browser: 128 random bits, written as 22 characters of base64url.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// From raw bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        SessionId(bytes)
    }

    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Reads what [`fmt::Display`] wrote; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        bytes.try_into().ok().map(SessionId)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}

impl Serialize for SessionId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SessionId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        SessionId::parse(&text).ok_or_else(|| serde::de::Error::custom("not a session id"))
    }
}

/// The number of a refresh token within its session: 0, 1, 2 …
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Generation(pub u32);

impl Generation {
    /// The generation after this one; saturates (four thousand million rotations outlast any absolute lifetime).
    pub fn next(self) -> Self {
        Generation(self.0.saturating_add(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The network address a request is believed to come from (after `trusted_proxies`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClientAddr(pub IpAddr);

/// What tells one browser from another: its user agent (bounded by whoever builds this) and its address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// The `User-Agent` text, at most [`Client::MAX_USER_AGENT`] bytes, lossily decoded.
    pub user_agent: String,
    /// Where the request came from.
    pub addr: ClientAddr,
}

impl Client {
    /// Longer user agents are cut here, at a character boundary.
    pub const MAX_USER_AGENT: usize = 256;
}

/// Who the request is from: what a sign-in established and a renewal may refresh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The name by which upstreams know the person (`sub` of our tokens).
    pub user: String,
    /// E-mail address, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Display name, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the person likes to be called by programs, when it differs from `user`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_username: Option<String>,
    /// Groups, in the provider's order, without duplicates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Who authenticated the person: `local`, or a configured provider's name.
    pub provider: String,
    /// When the person proved who they are (OpenID Connect Core section 2, `auth_time`).
    pub auth_time: Timestamp,
    /// How (RFC 8176), for example `["pwd"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
}
