//! How people sign in: built-in accounts and the pages for it. Must not issue sessions: it says who somebody is.
//!
//! [`local`] checks a name and a password behind [`throttle`], [`backchannel`] a logout token; [`form`] and [`return_to`] read
//! what a browser sends; [`pages`], [`problem`], [`me`] and [`sessions`] are complete answers. Nothing here writes a cookie.

pub mod backchannel;
pub mod device;
pub mod form;
pub mod language;
pub mod local;
pub mod me;
pub mod oidc;
pub mod pages;
pub mod problem;
pub mod return_to;
pub mod sessions;
pub mod throttle;
