//! What operators see: log set-up, metrics, the access line. No token, cookie, code, password or secret ever gets here.
//!
//! Everything that is written goes through one bounded background writer ([`writer::Lines`]), so that a slow or blocked
//! stderr costs lines (counted), never a request.

pub mod access;
pub mod line;
pub mod logging;
pub mod metrics;
pub mod writer;

pub use access::{AccessLine, AccessLog};
pub use logging::{Logging, LoggingError, init_logging};
pub use metrics::Metrics;

/// A line for people on stderr, at start and end. Unlike `eprintln!` it does not panic when nobody reads any more: a gateway
/// whose terminal or log reader is gone must still serve, and still let requests in flight end.
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($words)*);
    }};
}
pub(crate) use say;

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `json` or `text`.
    pub format: Format,
    /// Whether there is one access line per request.
    pub access: bool,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}
