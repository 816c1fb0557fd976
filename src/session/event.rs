//! What the engine tells those who watch: audit, metrics, logs. Must not contain a token.

use super::provider::ProviderAnswer;
use super::{By, Ending};
use crate::auth::rotation::Refusal;
use crate::auth::{Generation, SessionId};

/// Something that happened to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// Somebody signed in.
    Begun {
        /// Which session.
        session: SessionId,
        /// Whose.
        user: String,
        /// At which provider.
        provider: String,
    },
    /// A refresh token was spent and a newer pair issued.
    Rotated {
        /// Which session.
        session: SessionId,
        /// The new generation.
        generation: Generation,
    },
    /// The newest pair was handed out again.
    Redelivered {
        /// Which session.
        session: SessionId,
        /// The generation.
        generation: Generation,
    },
    /// One request was served without new cookies.
    Served {
        /// Which session.
        session: SessionId,
        /// The generation that it brought.
        generation: Generation,
    },
    /// The newest pair never arrived; another took its place.
    Reissued {
        /// Which session.
        session: SessionId,
        /// The new generation.
        generation: Generation,
    },
    /// The store had lost its last write; the session went on from the client's token.
    Healed {
        /// Which session.
        session: SessionId,
        /// The new generation.
        generation: Generation,
    },
    /// Two parties hold the session; it was revoked.
    Replay {
        /// Which session.
        session: SessionId,
        /// Whose.
        user: String,
        /// At which provider.
        provider: String,
        /// The generation that was presented again.
        generation: Generation,
    },
    /// A renewal was refused by the rule.
    Refused {
        /// Which session.
        session: SessionId,
        /// The generation that was presented.
        generation: Generation,
        /// Why.
        refusal: Refusal,
    },
    /// A session was ended before its time.
    Revoked {
        /// Which, or `None` for all of a user's or everybody's.
        session: Option<SessionId>,
        /// Whose (provider, user), where known; `None` with no session: everybody's.
        user: Option<(String, String)>,
        /// How many sessions that were live.
        sessions: usize,
        /// Why, and by whom.
        ending: Ending,
    },
    /// A provider was asked whether a session may go on.
    ProviderAsked {
        /// Which session.
        session: SessionId,
        /// The provider's configured name.
        provider: String,
        /// What it said.
        answer: ProviderAnswer,
        /// Whether the session's grace was over: it is not renewed before the provider has answered.
        overdue: bool,
    },
    /// There is a new signing key.
    KeyRotated {
        /// Its id.
        kid: String,
        /// At whose request.
        by: By,
    },
    /// The store did not answer when it was needed.
    StoreUnavailable,
    /// What other nodes do does not arrive any more.
    FeedLost {
        /// Why, for the operator.
        reason: String,
    },
    /// It arrives again, and what was missed has been loaded.
    FeedRegained,
}

/// Who is told. Called on the request path: must not block.
pub trait Observer: Send + Sync + 'static {
    /// Something happened.
    fn observe(&self, event: &SessionEvent);
}

/// Nobody is told.
impl Observer for () {
    fn observe(&self, _: &SessionEvent) {}
}
