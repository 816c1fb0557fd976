//! Issuers of tokens that are somewhere else: their metadata and their keys, fetched and kept fresh.
//!
//! Must not judge a token, nor let a request wait for a fetch that it does not need: keys are swapped whole behind the backs
//! of those who use them, and whatever was fetched last stays when the next fetch fails.

pub mod discovery;
mod remote;

use crate::auth::foreign_keys::ForeignKeysError;
use crate::outbound::OutboundError;

pub use discovery::{Metadata, MetadataError, discover, document};
pub use remote::{Fetched, Location, RemoteKeys, Settings, Stats, keys_at};

/// Why an issuer's metadata or keys cannot be had. Names hosts, members and reasons, never content.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// There was no answer.
    #[error("{what}: {error}")]
    Call {
        /// Which document.
        what: &'static str,
        /// Why not.
        #[source]
        error: OutboundError,
    },
    /// The answer was another one than 200 (a redirect is not followed).
    #[error("{what}: {peer} answered with status {status}")]
    Status {
        /// Which document.
        what: &'static str,
        /// `host[:port]`.
        peer: String,
        /// Its status.
        status: u16,
    },
    /// The metadata cannot be used.
    #[error("metadata: {0}")]
    Metadata(#[from] MetadataError),
    /// The key set cannot be used.
    #[error("keys: {0}")]
    Keys(#[from] ForeignKeysError),
    /// The configured place of the keys is no URL that can be called.
    #[error("the place of the keys is not an http or https URL")]
    Place,
}

#[cfg(test)]
mod tests;
