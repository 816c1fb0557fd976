//! Fixtures for the tests of the core: one person, one session, one set of keys.

pub(crate) mod foreign;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::auth::access_token::Expect;
use crate::auth::keyset::{KeySet, StoredKey};
use crate::auth::{AccessClaims, Client, ClientAddr, Generation, Identity, SessionId};
use crate::clock::Timestamp;

/// The origin of every test.
pub(crate) const ORIGIN: &str = "https://app.example.com";

/// "Now" of every test: whole seconds.
pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

pub(crate) fn alice() -> Identity {
    Identity {
        user: "alice".to_owned(),
        email: Some("alice@example.com".to_owned()),
        name: Some("Alice 앨리스".to_owned()),
        preferred_username: None,
        groups: vec!["staff".to_owned(), "dev".to_owned()],
        provider: "local".to_owned(),
        auth_time: NOW.minus(Duration::from_secs(60)),
        amr: vec!["pwd".to_owned()],
    }
}

/// Claims of an access token issued now for five minutes.
pub(crate) fn claims() -> AccessClaims {
    AccessClaims {
        identity: alice(),
        session: SessionId::from_bytes([7; 16]),
        generation: Generation(3),
        began_at: NOW.minus(Duration::from_millis(59_999)),
        issued_at: NOW,
        expires_at: NOW.plus(Duration::from_secs(300)),
        token_id: "jti-1".to_owned(),
    }
}

pub(crate) fn expect() -> Expect {
    Expect {
        issuer: ORIGIN.to_owned(),
        audience: ORIGIN.to_owned(),
        max_lifetime: Duration::from_secs(300),
        future_leeway: Duration::from_secs(10),
    }
}

/// A browser at the address `10.0.0.last`.
pub(crate) fn browser(last: u8) -> Client {
    Client {
        user_agent: "Mozilla/5.0".to_owned(),
        addr: ClientAddr(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))),
    }
}

/// One fresh key and the set that it makes.
pub(crate) fn keys() -> (StoredKey, KeySet) {
    let key = StoredKey::generate(NOW).unwrap();
    let set = KeySet::new(std::slice::from_ref(&key), NOW).unwrap();
    (key, set)
}
