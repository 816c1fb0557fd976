//! Identity headers: a verified identity -> header values, once per token and upstream mapping.
//!
//! Must not read the request: what a client sent under these names is gone before this runs.
//!
//! **Values.** A claim is sent as it is unless that could not be a header or could be misread. Percent-encoded (as UTF-8)
//! are: control characters, everything outside ASCII, blanks at either end, and a `%` that is followed by two hexadecimal
//! digits. So whoever percent-decodes always gets the claim, and whoever does not is right for ordinary values. Groups are
//! encoded one by one, with `,` encoded too, and joined by `,`. An absent or empty claim is an absent header.

use std::fmt::Write as _;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::auth::{Identity, Subject};
use crate::upstream::assertion::Assertion;
use crate::upstream::{Claim, HeaderMapping, Settings};

/// What was derived from one verified token for all upstreams; kept in [`Subject::memo`].
pub(super) struct Derived {
    /// The configuration it was derived under; after a reload it no longer applies.
    settings: Arc<[Settings]>,
    upstreams: Vec<ForUpstream>,
}

/// The part of [`Derived`] for one upstream.
pub(super) struct ForUpstream {
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The newest assertion, while it lives.
    pub(super) assertion: ArcSwapOption<Assertion>,
}

impl ForUpstream {
    fn new(identity: &Identity, settings: &Settings) -> Self {
        ForUpstream {
            headers: values(identity, &settings.headers),
            assertion: ArcSwapOption::empty(),
        }
    }

    /// Writes the identity headers; whatever else stands under these names is replaced.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
    }
}

/// Calls `then` with what is derived for upstream `index`, deriving it at most once per token.
pub(super) fn with<T>(
    subject: &Subject,
    settings: &Arc<[Settings]>,
    index: usize,
    then: impl FnOnce(&ForUpstream) -> T,
) -> Option<T> {
    let identity = subject.identity();
    let derived = subject.memo(|| Derived {
        settings: Arc::clone(settings),
        upstreams: settings
            .iter()
            .map(|upstream| ForUpstream::new(identity, upstream))
            .collect(),
    });
    match derived {
        Some(derived) if Arc::ptr_eq(&derived.settings, settings) => {
            derived.upstreams.get(index).map(then)
        }
        // The token outlived a reload: it is derived anew for each of its last requests.
        _ => settings
            .get(index)
            .map(|upstream| then(&ForUpstream::new(identity, upstream))),
    }
}

/// The identity headers of `mapping`, in its order; absent claims are left out.
pub fn values(identity: &Identity, mapping: &HeaderMapping) -> Vec<(HeaderName, HeaderValue)> {
    mapping
        .0
        .iter()
        .filter_map(|(name, claim)| {
            let text = match claim {
                Claim::User => encode(&identity.user, false),
                Claim::Email => encode(identity.email.as_deref()?, false),
                Claim::Name => encode(identity.name.as_deref()?, false),
                Claim::PreferredUsername => encode(
                    identity
                        .preferred_username
                        .as_deref()
                        .unwrap_or(&identity.user),
                    false,
                ),
                Claim::Groups => join(&identity.groups),
            };
            if text.is_empty() {
                return None;
            }
            // The encoding leaves visible ASCII and inner blanks, which are always header text.
            let value = HeaderValue::try_from(text).ok()?;
            Some((name.clone(), value))
        })
        .collect()
}

fn join(groups: &[String]) -> String {
    let mut joined = String::new();
    for group in groups.iter().filter(|group| !group.is_empty()) {
        if !joined.is_empty() {
            joined.push(',');
        }
        joined.push_str(&encode(group, true));
    }
    joined
}

/// The documented rule; `in_list` also encodes `,`.
fn encode(value: &str, in_list: bool) -> String {
    let bytes = value.as_bytes();
    let start = bytes.len() - bytes.trim_ascii_start().len();
    let end = bytes.trim_ascii_end().len();
    let mut encoded = String::with_capacity(value.len());
    for (at, byte) in bytes.iter().copied().enumerate() {
        let raw = match byte {
            b' ' => at >= start && at < end,
            b'%' => {
                !matches!(bytes.get(at + 1..at + 3), Some([a, b]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit())
            }
            b',' => !in_list,
            _ => byte.is_ascii_graphic(),
        };
        if raw {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use proptest::prelude::*;

    #[track_caller]
    fn check(value: &str, expected: &str) {
        assert_eq!(encode(value, false), expected);
    }

    #[test]
    fn a08_only_what_cannot_be_a_header_is_encoded() {
        check("alice", "alice");
        check("Alice Liddell", "Alice Liddell");
        check("a,b;c=\"d\"", "a,b;c=\"d\"");
        check("a\r\nX-Role: admin", "a%0D%0AX-Role: admin");
        check("nul\0", "nul%00");
        check("김철수", "%EA%B9%80%EC%B2%A0%EC%88%98");
        check(" a b ", "%20a b%20");
        check("   ", "%20%20%20");
        check("100%", "100%");
        check("100%25", "100%2525");
        check("%zz%4", "%zz%4");
        check("\u{7f}", "%7F");
    }

    proptest! {
        #[test]
        fn decoding_always_gives_the_claim_back(value in "\\PC*|[%0-9a-f, \\r\\n]{0,12}") {
            let encoded = encode(&value, false);
            prop_assert!(HeaderValue::try_from(encoded.as_str()).is_ok());
            prop_assert_eq!(encoded.trim(), encoded.as_str());
            let decoded: Vec<u8> = percent_encoding::percent_decode_str(&encoded).collect();
            prop_assert_eq!(decoded, value.as_bytes());
        }

        #[test]
        fn groups_can_be_told_apart(groups in proptest::collection::vec("[a-c, %é]{1,5}", 0..5)) {
            let joined = join(&groups);
            let back: Vec<String> = joined
                .split(',')
                .filter(|group| !group.is_empty())
                .map(|group| percent_encoding::percent_decode_str(group).decode_utf8_lossy().into_owned())
                .collect();
            prop_assert_eq!(back, groups);
        }
    }

    #[test]
    fn a04_an_absent_claim_is_an_absent_header() {
        let identity = Identity {
            user: "alice".into(),
            email: None,
            name: Some(String::new()),
            preferred_username: None,
            groups: vec![],
            provider: "local".into(),
            auth_time: Timestamp::EPOCH,
            amr: vec![],
        };
        let mapping = HeaderMapping(vec![
            (HeaderName::from_static("a"), Claim::User),
            (HeaderName::from_static("b"), Claim::Email),
            (HeaderName::from_static("c"), Claim::Name),
            (HeaderName::from_static("d"), Claim::PreferredUsername),
            (HeaderName::from_static("e"), Claim::Groups),
        ]);
        let values = values(&identity, &mapping);
        let values: Vec<_> = values
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        assert_eq!(values, [("a", "alice"), ("d", "alice")]);
    }
}
