//! What the world is like: what can happen in it, and how long things take.

/// Who else is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thief {
    Nobody,
    /// At another address; keeps its newest pair, as a browser does.
    Elsewhere,
    /// At another address; keeps two pairs and shows any of them.
    Hoarder,
    /// At the browser's address, with its user agent.
    BesideTheBrowser,
}

/// What the world is like: lengths in ticks, of which the redelivery window has three.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) window: i8,
    pub(super) grace: i8,
    /// Life of an access token.
    pub(super) life: i8,
    /// How long a message of the browser is under way at most.
    pub(super) flight: i8,
    /// How far the second node's clock is ahead, where the rule's windows are measured and where access tokens are.
    pub(super) window_skew: i8,
    pub(super) access_skew: i8,
    pub(super) tabs: usize,
    /// The browser changes its address at will.
    pub(super) roams: bool,
    /// The store may lose its last write, if it was made within the last tick and the one before it lasted.
    pub(super) failovers: bool,
    /// The person signs out at some moment.
    pub(super) logout: bool,
    /// A node that knows of the end writes it again after a failover.
    pub(super) remembers: bool,
    /// A node reads, and writes later; otherwise both at once.
    pub(super) two_phases: bool,
    /// A node may hold a request for as long as it likes after it was answered that the store is away: behind others of its
    /// session, or with a write that the store carries out when it comes back. One of them at a time; needs `two_phases`.
    pub(super) lingers: bool,
    pub(super) thief: Thief,
    /// How many pairs a hoarder keeps.
    pub(super) hoards: usize,
    /// A hoarder, too, is held to one newer pair while the browser receives no more either.
    pub(super) counts_hoards: bool,
    /// From every state, what comes if nothing is lost any more is followed to its end.
    pub(super) follow: bool,
}
