//! The store that several nodes share: Redis or Valkey, one server, with Sentinels, or a cluster.
//!
//! Each change is one script on the server, so that it is atomic for all nodes. Every call answers within a second, whatever
//! the server does. Records leave by Redis's own expiry some time after they are over: what is over is judged by the nodes, by
//! their own clocks. Must not decide anything: it keeps and compares.

pub mod address;

#[cfg(feature = "redis")]
mod accounts;
#[cfg(feature = "redis")]
mod feed;
#[cfg(feature = "redis")]
mod link;
#[cfg(feature = "redis")]
mod look;
#[cfg(feature = "redis")]
mod names;
#[cfg(feature = "redis")]
mod scripts;
#[cfg(feature = "redis")]
mod sessions;
#[cfg(feature = "redis")]
mod shared;
#[cfg(feature = "redis")]
mod store;
#[cfg(feature = "redis")]
mod wire;

#[cfg(test)]
#[cfg(feature = "redis")]
mod tests;

use crate::units::Secret;

pub use address::Address;
#[cfg(feature = "redis")]
pub use look::look;
#[cfg(feature = "redis")]
pub use store::Redis;

/// A build without it cannot ask.
#[cfg(not(feature = "redis"))]
#[allow(clippy::unused_async, reason = "the same shape as with it")]
pub async fn look(_: Settings) -> Result<Look, crate::store::StoreError> {
    Err(crate::store::StoreError::Unavailable(
        "this build has no Redis store".to_owned(),
    ))
}

/// What a look at a server came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// Its user may not use what the gateway keeps there; the server's words, and what it needs.
    Denied(String),
    /// All is well, but the user may not ask what the server is (`INFO`).
    Silent,
    /// All is well, and this is what it is.
    Told(Told),
}

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its name and version.
    pub server: String,
    /// Whether its data outlives a restart (`appendonly`).
    pub append_only: Option<bool>,
    /// What it does when its memory is full (`maxmemory-policy`).
    pub eviction: Option<String>,
}

/// How the store is reached.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it is.
    pub address: Address,
    /// User name for AUTH; without one, the default user.
    pub user: Option<String>,
    /// Password for AUTH.
    pub password: Option<Secret>,
    /// Password of the Sentinels, which have their own.
    pub sentinel_password: Option<Secret>,
    /// Certificate authorities as PEM instead of the system's.
    pub ca: Option<Vec<u8>>,
    /// How many replicas must confirm a write before it is acknowledged.
    pub replicas: usize,
}
