//! Servers that fail: every call answers within a second, nothing false is said, and what heals is used again.
