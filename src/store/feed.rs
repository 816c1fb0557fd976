//! What a store shared by several nodes tells each of them as it happens: revocations, and that the signing keys changed.
//!
//! A feed is never trusted to be complete: each time it is attached anew, its reader loads everything that it could have
//! missed. Must not know any store.

use super::RevocationRecord;

/// Events of one reader, in order. Bounded: a reader that falls behind is detached and attached again.
pub type Feed = tokio::sync::mpsc::Receiver<FeedEvent>;

/// How many events wait for a slow reader.
pub const FEED_BOUND: usize = 4096;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedEvent {
    /// From here on nothing will be missed: load all revocations and the keys now. What is loaded after this event may
    /// come once more as an event.
    Attached,
    /// Something ended.
    Revoked(RevocationRecord),
    /// The list of signing keys was replaced; load it.
    KeysChanged,
    /// Events may be missed from about now (at most a second ago) until the next [`FeedEvent::Attached`]; why.
    Detached(String),
}
