//! The labels of metrics whose values are closed lists.

use std::fmt;

/// A closed list of label values.
pub trait Label: Copy + fmt::Debug + Send + Sync + 'static {
    /// The label's name.
    const NAME: &'static str;
    /// Every value, in the order of [`Label::index`].
    const ALL: &'static [Self];
    /// This value's place in [`Label::ALL`].
    fn index(self) -> usize;
    /// How it is written.
    fn text(self) -> &'static str;
}

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident as $label:literal { $($(#[$value_doc:meta])* $value:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$value_doc])* $value,)+ }

        impl Label for $name {
            const NAME: &'static str = $label;
            const ALL: &'static [Self] = &[$($name::$value,)+];
            fn index(self) -> usize {
                self as usize
            }
            fn text(self) -> &'static str {
                match self { $($name::$value => $text,)+ }
            }
        }
    };
}

labels! {
    /// The hundreds of an answer's status.
    Class as "class" {
        /// 1xx: an upgrade.
        Informational = "1xx",
        /// 2xx.
        Success = "2xx",
        /// 3xx.
        Redirection = "3xx",
        /// 4xx.
        ClientError = "4xx",
        /// 5xx.
        ServerError = "5xx",
    }
}

impl Class {
    /// Of a status code.
    pub fn of(status: u16) -> Self {
        match status {
            0..200 => Class::Informational,
            200..300 => Class::Success,
            300..400 => Class::Redirection,
            400..500 => Class::ClientError,
            _ => Class::ServerError,
        }
    }
}

labels! {
    /// What the gateway decided about a request.
    Outcome as "decision" {
        /// Forwarded with an identity.
        Forwarded = "forwarded",
        /// Forwarded without an identity: a public or optional route.
        ForwardedAnonymous = "forwarded_anonymous",
        /// Asked to sign in.
        Challenged = "challenged",
        /// Signed in, but the route does not admit them.
        NotAllowed = "not_allowed",
        /// Refused: possibly made by another site.
        CrossSite = "cross_site",
        /// No such route.
        NoRoute = "no_route",
        /// Refused before any decision: the request could be read two ways, or broke a limit.
        Malformed = "malformed",
        /// Answered by the gateway's own endpoints.
        Own = "own",
        /// A renewal was needed and the store could not answer.
        Unavailable = "unavailable",
        /// Let through, but the upstream did not answer.
        UpstreamFailed = "upstream_failed",
    }
}

labels! {
    /// What a renewal came to.
    RenewalOutcome as "outcome" {
        /// *N* was presented: *N+1* issued.
        Rotated = "rotated",
        /// The same pair again.
        Redelivered = "redelivered",
        /// This request served without cookies.
        Served = "served",
        /// The lost answer replaced by a new generation.
        Reissued = "reissued",
        /// The store had lost its last write.
        Healed = "healed",
        /// Refused; sign in again.
        Refused = "refused",
        /// A replay: the session was revoked.
        Replay = "replay",
        /// Whoever renews could not answer: the store, or the service of `[external]`.
        Unavailable = "unavailable",
        /// The service of `[external]` may have taken the refresh token, and its answer never came.
        Lost = "lost",
    }
}

labels! {
    /// What a provider said when it was asked whether a session may go on.
    ProviderCheck as "outcome" {
        /// It may.
        Welcome = "welcome",
        /// It ends.
        Ended = "ended",
        /// Nobody knows; it goes on for its grace, while there is some left.
        Unknown = "unknown",
    }
}

labels! {
    /// What a bearer token of a configured issuer came to.
    BearerOutcome as "outcome" {
        /// Verified before.
        Remembered = "remembered",
        /// Verified now.
        Verified = "verified",
        /// Refused.
        Refused = "refused",
        /// The issuer's keys were not to be had.
        Unavailable = "unavailable",
    }
}

labels! {
    /// What a sign-in attempt came to.
    SignInOutcome as "outcome" {
        /// Signed in.
        SignedIn = "signed_in",
        /// Wrong name or password, or a blocked account.
        Wrong = "wrong",
        /// Too many attempts.
        Throttled = "throttled",
        /// Too many password checks at once.
        Busy = "busy",
        /// The store could not answer.
        Unavailable = "unavailable",
    }
}

labels! {
    /// Which stream a log line belongs to.
    Stream as "stream" {
        /// Access lines.
        Access = "access",
        /// Tracing events.
        Log = "log",
        /// Audit lines.
        Audit = "audit",
    }
}

labels! {
    /// How a clock was moved.
    ClockChange as "change" {
        /// The wall clock was stepped forward.
        Forward = "forward",
        /// The wall clock was stepped backward.
        Backward = "backward",
        /// The gateway's own time was set back.
        SetBack = "set_back",
    }
}

labels! {
    /// Why no TLS session came about.
    HandshakeFailure as "kind" {
        /// The client took too long.
        Timeout = "timeout",
        /// The client went away or spoke something else.
        Failed = "failed",
    }
}
