//! End-to-end tests: everything goes through the real binary over TLS, to upstreams that record what they received.
//!
//! Nothing here looks inside the gateway; what a test knows, a deployer, a browser or an attacker could know too. The one
//! exception is `harness::forge`, which is given a signing key, because "signed correctly but wrong" cannot be tried
//! without one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    reason = "tests end by panicking, and live in the real time of the machine"
)]

mod harness;

mod accounts;
mod admin_api;
mod apps;
mod attacks;
mod bearer;
mod browser;
mod cli;
mod clock;
mod crash;
mod demo;
mod disk;
mod docs;
mod external;
mod layers;
mod nodes;
mod observing;
mod oidc;
mod oidc_login;
mod outage;
mod own_sessions;
mod proxying;
mod safekeeping;
mod sign_in;
mod stalls;
mod store;
mod tls;
