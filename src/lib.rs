//! Vestibule: a reverse-proxy auth gateway.
//!
//! The path a request takes, and the modules in reading order:
//!
//! 1. [`server`] accepts, terminates TLS and refuses what is no well-formed request;
//! 2. [`gateway`] takes one snapshot and one "now", and reads top to bottom:
//! 3. [`auth`] (pure) finds the route, reads the credentials, decides, and makes the permit;
//! 4. [`bearer`] verifies the tokens that API clients bring, and [`session`] checks tokens it has seen before, renews those that ran out, ends sessions, on top of [`store`];
//! 5. [`upstream`] writes the identity headers and forwards with that permit;
//! 6. [`login`] signs people in on pages of its own;
//! 7. [`external`] does for the tokens of a service of the deployer's what [`session`] does for ours;
//! 8. [`outbound`] is how the gateway itself calls others, and [`issuer`] keeps the keys of those whose tokens it believes.
//!
//! Around it: [`config`] reads `gateway.toml`, [`app`] wires, [`cli`] is the command line, which acts on a
//! running gateway through [`control`] and on [`accounts`], and asks others by [`online`]; [`admin`], [`audit`] and
//! [`observe`] tell operators what happened. [`headers`], [`body`], [`clock`], `deadline`, [`listening`], [`patience`], `pauses`, `token_cache` and [`units`] are leaves.

pub mod accounts;
pub mod admin;
pub mod app;
pub mod audit;
pub mod auth;
pub mod bearer;
pub mod body;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
mod deadline;
pub mod demo;
mod door;
pub mod error;
pub mod external;
pub mod gateway;
pub mod headers;
mod impatient;
pub mod issuer;
pub mod listening;
pub mod login;
pub mod observe;
pub mod online;
pub mod outbound;
pub mod patience;
mod pauses;
pub mod server;
pub mod session;
pub mod store;
mod token_cache;
pub mod units;
pub mod upstream;
