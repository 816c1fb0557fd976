//! What the keys in Redis are called.
//!
//! What one script touches shares a hash tag (the part in braces), and so one slot of a cluster. Must not hold values.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::auth::SessionId;
use crate::auth::provider_session::ProviderName;
use crate::clock::Timestamp;

/// The signing keys, one record.
pub(super) const KEYS: &str = "vestibule:{shared}:keys";
/// Target -> revocation.
pub(super) const REVOCATIONS: &str = "vestibule:{shared}:revocations";
/// Targets by the end of their revocation.
pub(super) const REVOCATION_ENDS: &str = "vestibule:{shared}:revocation-ends";
/// What happens, for every node to read.
pub(super) const FEED: &str = "vestibule:{shared}:feed";
/// How many events there ever were.
pub(super) const FEED_COUNT: &str = "vestibule:{shared}:feed-count";
/// Written to see whether writing is possible.
pub(super) const PROBE: &str = "vestibule:{shared}:probe";
/// Name in lower case -> account.
pub(super) const ACCOUNTS: &str = "vestibule:{accounts}";

/// In how many parts the sessions lie, each in a slot of its own.
pub(super) const PARTS: u16 = 256;

/// A session's record.
pub(super) fn session(id: &SessionId) -> String {
    format!("{}{id}", session_prefix(part(id)))
}

/// What the names of the sessions of one part begin with.
pub(super) fn session_prefix(part: u8) -> String {
    format!("vestibule:{{s{part:02x}}}:")
}

/// The sessions of one part by their end.
pub(super) fn ends(part: u8) -> String {
    format!("vestibule:{{s{part:02x}}}:ends")
}

/// Which part a session lies in: ids are random, so any byte spreads them evenly.
pub(super) fn part(id: &SessionId) -> u8 {
    let [first, ..] = *id.as_bytes();
    first
}

/// The sessions of one user by their latest possible end.
pub(super) fn sessions_of(provider: &str, user: &str) -> String {
    list('u', provider, user)
}

/// The sessions that a provider knows by one name, by their latest possible end.
pub(super) fn sessions_at(provider: &str, name: ProviderName<'_>) -> String {
    match name {
        ProviderName::Subject(subject) => list('p', provider, subject),
        ProviderName::Session(session) => list('q', provider, session),
    }
}

/// Hashed: a name may hold anything, and be of any length.
fn list(kind: char, provider: &str, name: &str) -> String {
    let mut whose = digest::Context::new(&digest::SHA256);
    whose.update(
        &u64::try_from(provider.len())
            .unwrap_or(u64::MAX)
            .to_be_bytes(),
    );
    whose.update(provider.as_bytes());
    whose.update(name.as_bytes());
    let whose = URL_SAFE_NO_PAD.encode(whose.finish());
    format!("vestibule:{{{kind}{whose}}}:sessions")
}

/// A session within the list of its user: with its birth, so that an entry can be told to be older than its record could
/// be late.
pub(super) fn member(id: &SessionId, created_at: Timestamp) -> String {
    format!("{id}.{}", created_at.as_millis())
}

/// What [`member`] wrote.
pub(super) fn read_member(text: &str) -> Option<(SessionId, Timestamp)> {
    let (id, millis) = text.split_once('.')?;
    Some((
        SessionId::parse(id)?,
        Timestamp::from_millis(millis.parse().ok()?),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_and_the_list_of_its_part_share_a_slot() {
        let tag = |key: &str| {
            let (_, rest) = key.split_once('{').unwrap();
            rest.split_once('}').unwrap().0.to_owned()
        };
        let id = SessionId::from_bytes([0xa7; 16]);
        assert_eq!(tag(&session(&id)), tag(&ends(part(&id))));
        for key in [REVOCATIONS, REVOCATION_ENDS, FEED, FEED_COUNT] {
            assert_eq!(tag(key), tag(KEYS));
        }
    }

    #[test]
    fn users_are_told_apart_and_members_come_back() {
        assert_ne!(sessions_of("a", "bc"), sessions_of("ab", "c"));
        assert!(!sessions_of("local", "x} evil").contains("evil"));
        let names = [
            sessions_of("corp", "x"),
            sessions_at("corp", ProviderName::Subject("x")),
            sessions_at("corp", ProviderName::Session("x")),
            sessions_at("other", ProviderName::Session("x")),
        ];
        let different: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(different.len(), names.len());
        let (id, at) = (SessionId::from_bytes([3; 16]), Timestamp::from_millis(-7));
        assert_eq!(read_member(&member(&id, at)), Some((id, at)));
        assert_eq!(read_member("nothing"), None);
    }
}
