//! Signing in by OpenID Connect: a real provider, one that lies, and everything in between.

mod backchannel;
mod the_providers;
