//! The feed: what a node hears, and that it knows when it may have missed something.
