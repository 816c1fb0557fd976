//! Header rules that are leaves: names, hop-by-hop fields, cookies, forwarding data. Must not know sessions or routes.

pub mod cookie;
pub mod forwarded;
pub mod hop_by_hop;
pub mod media_type;
pub mod names;
