//! The id that ties an answer, its log lines and the upstream's request together: a UUID version 7, or a trusted proxy's
//! own. It is a name, no secret: nothing may be allowed because somebody knows it.

use std::cell::RefCell;

use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Builder;

use crate::clock::Timestamp;

/// Its header, towards the client and towards the upstream.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Random bytes of one id (RFC 9562 section 5.7).
const RANDOM: usize = 10;
/// How many ids one call of the random generator serves: it is a system call.
const AHEAD: usize = 64;

/// A fresh id, or a trusted proxy's own when it is short and plain. Always visible ASCII.
pub(super) fn of(trusted_peer: bool, headers: &HeaderMap, now: Timestamp) -> HeaderValue {
    if trusted_peer
        && let Some(given) = headers.get(REQUEST_ID)
        && is_plain(given.as_bytes())
    {
        return given.clone();
    }
    fresh(now)
}

fn is_plain(given: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (8..=64).contains(&given.len()) && given.iter().all(plain)
}

fn fresh(now: Timestamp) -> HeaderValue {
    let millis = u64::try_from(now.as_millis()).unwrap_or_default();
    let id = Builder::from_unix_timestamp_millis(millis, &random()).into_uuid();
    let mut text = [0; uuid::fmt::Simple::LENGTH];
    let text = id.as_simple().encode_lower(&mut text);
    // Hexadecimal digits are always header text.
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("none"))
}

/// Ten bytes that no other request of this process or another one gets.
fn random() -> [u8; RANDOM] {
    struct Stock {
        bytes: [u8; RANDOM * AHEAD],
        used: usize,
    }
    thread_local! {
        // Scratch space of the worker, no state.
        static STOCK: RefCell<Stock> = const {
            RefCell::new(Stock { bytes: [0; RANDOM * AHEAD], used: RANDOM * AHEAD })
        };
    }
    STOCK.with_borrow_mut(|stock| {
        loop {
            if let Some(bytes) = stock
                .bytes
                .get(stock.used..)
                .and_then(|rest| rest.first_chunk::<RANDOM>())
            {
                stock.used += RANDOM;
                return *bytes;
            }
            if aws_lc_rs::rand::fill(&mut stock.bytes).is_err() {
                // Never seen on a running system; the moment and a version-4 id still tell requests apart.
                let id = uuid::Uuid::now_v7();
                return id.as_bytes().last_chunk().copied().unwrap_or_default();
            }
            stock.used = 0;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_ids_differ_and_tell_the_time() {
        let now = Timestamp::from_millis(0x0199_aabb_ccdd);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..3 * AHEAD {
            let id = fresh(now);
            let text = id.to_str().unwrap();
            assert_eq!(text.len(), 32);
            assert!(text.starts_with("0199aabbccdd7"), "{text}");
            assert!(seen.insert(id));
        }
    }

    #[test]
    fn only_a_trusted_peer_names_its_request() {
        let check = |trusted: bool, given: &str, kept: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, given.parse().unwrap());
            let id = of(trusted, &headers, Timestamp::EPOCH);
            assert_eq!(id == given, kept, "{given:?}");
        };
        check(true, "abcd-EF_9", true);
        check(false, "abcd-EF_9", false);
        check(true, "short", false);
        check(true, &"x".repeat(65), false);
        check(true, "with a blank", false);
        check(true, "\"quoted\"", false);
    }
}
