//! Refresh tokens: opaque text sealed with a MAC under the master key, so that a forged one never reaches the store and
//! any node can re-create the newest one from the session record (product contract 6.3).
//!
//! Layout before base64url: key id (4) | session id (16) | generation (4, big endian) | issued at, ms (8, big endian) |
//! HMAC-SHA-256 over all of that under a key derived (HKDF) from the master key for this purpose alone.

use aws_lc_rs::{digest, hkdf, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::auth::{Generation, SessionId};
use crate::clock::Timestamp;
use crate::units::Secret;

/// What a refresh token says once its MAC was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RefreshClaims {
    /// Which session.
    pub session: SessionId,
    /// Which generation.
    pub generation: Generation,
    /// When this generation was issued.
    pub issued_at: Timestamp,
}

/// The text is not a refresh token that this gateway sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a refresh token of this gateway")]
pub struct NotOurs;

/// The master key and its predecessors, ready to seal and open.
pub struct MasterKeys {
    current: MacKey,
    previous: Vec<MacKey>,
}

struct MacKey {
    id: [u8; ID_LEN],
    mac: hmac::Key,
}

const ID_LEN: usize = 4;
const BODY_LEN: usize = ID_LEN + 16 + 4 + 8;
const TAG_LEN: usize = 32;
const TOKEN_LEN: usize = BODY_LEN + TAG_LEN;
/// Length of the text: 64 bytes in base64url without padding.
const TEXT_LEN: usize = 86;

impl MacKey {
    /// Derives the MAC key and its id; neither tells anything about the master key (RFC 5869).
    fn derive(master: &Secret) -> Self {
        let prk =
            hkdf::Salt::new(hkdf::HKDF_SHA256, b"vestibule refresh token").extract(master.expose());
        let expand = |info: &'static [&'static [u8]]| {
            // Invariant: expansion fails only for more than 255 hash lengths, and this asks for one.
            #[allow(clippy::expect_used, reason = "one hash length can always be expanded")]
            prk.expand(info, hmac::HMAC_SHA256)
                .expect("one hash length can always be expanded")
        };
        let mut name = [0_u8; 32];
        // Invariant as above: the buffer has exactly the length asked for.
        #[allow(clippy::expect_used, reason = "the buffer has the length asked for")]
        expand(&[b"key id"])
            .fill(&mut name)
            .expect("the buffer has the length asked for");
        let mut id = [0_u8; ID_LEN];
        for (to, from) in id
            .iter_mut()
            .zip(digest::digest(&digest::SHA256, &name).as_ref())
        {
            *to = *from;
        }
        MacKey {
            id,
            mac: hmac::Key::from(expand(&[b"mac"])),
        }
    }
}

impl MasterKeys {
    /// Shortest master key that is accepted, in bytes.
    pub const MIN_BYTES: usize = 32;

    /// `current` seals; `current` and `previous` open.
    pub fn new(current: &Secret, previous: &[Secret]) -> Self {
        MasterKeys {
            current: MacKey::derive(current),
            previous: previous.iter().map(MacKey::derive).collect(),
        }
    }

    /// Seals the claims under the current key. Deterministic: the same claims give the same token on every node.
    pub fn seal(&self, claims: &RefreshClaims) -> String {
        let mut token = Vec::with_capacity(TOKEN_LEN);
        token.extend_from_slice(&self.current.id);
        token.extend_from_slice(claims.session.as_bytes());
        token.extend_from_slice(&claims.generation.0.to_be_bytes());
        token.extend_from_slice(&claims.issued_at.as_millis().to_be_bytes());
        let tag = hmac::sign(&self.current.mac, &token);
        token.extend_from_slice(tag.as_ref());
        URL_SAFE_NO_PAD.encode(token)
    }

    /// Opens a token; constant-time in the MAC; any deviation (length, alphabet, padding, MAC) is the same error.
    pub fn open(&self, token: &str) -> Result<RefreshClaims, NotOurs> {
        if token.len() != TEXT_LEN {
            return Err(NotOurs);
        }
        // Two bytes more than needed: the decoder wants room for whole groups of four characters.
        let mut buffer = [0_u8; TOKEN_LEN + 2];
        let len = URL_SAFE_NO_PAD
            .decode_slice(token, &mut buffer)
            .map_err(|_| NotOurs)?;
        let bytes: &[u8; TOKEN_LEN] = buffer
            .get(..len)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(NotOurs)?;
        let (body, tag) = bytes.split_at(BODY_LEN);
        let (id, rest) = body.split_at(ID_LEN);
        std::iter::once(&self.current)
            .chain(&self.previous)
            .filter(|key| key.id == id)
            .find(|key| hmac::verify(&key.mac, body, tag).is_ok())
            .ok_or(NotOurs)?;
        read_claims(rest).ok_or(NotOurs)
    }
}

impl std::fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MasterKeys({} previous)", self.previous.len())
    }
}

/// Session, generation and time of issue, in the order of the layout.
fn read_claims(body: &[u8]) -> Option<RefreshClaims> {
    let (session, body) = body.split_first_chunk::<16>()?;
    let (generation, body) = body.split_first_chunk::<4>()?;
    let (issued_at, _) = body.split_first_chunk::<8>()?;
    Some(RefreshClaims {
        session: SessionId::from_bytes(*session),
        generation: Generation(u32::from_be_bytes(*generation)),
        issued_at: Timestamp::from_millis(i64::from_be_bytes(*issued_at)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> RefreshClaims {
        RefreshClaims {
            session: SessionId::from_bytes([7; 16]),
            generation: Generation(41),
            issued_at: Timestamp::from_millis(1_800_000_000_123),
        }
    }

    fn master(byte: u8) -> Secret {
        Secret::new(vec![byte; 32])
    }

    #[test]
    fn what_was_sealed_opens_and_is_the_same_on_every_node() {
        let here = MasterKeys::new(&master(1), &[]);
        let there = MasterKeys::new(&master(1), &[master(9)]);
        let token = here.seal(&claims());
        assert_eq!(token.len(), TEXT_LEN);
        assert_eq!(token, there.seal(&claims()));
        assert_eq!(there.open(&token), Ok(claims()));
    }

    #[test]
    fn a_previous_key_opens_but_does_not_seal() {
        let old = MasterKeys::new(&master(1), &[]);
        let new = MasterKeys::new(&master(2), &[master(1)]);
        assert_eq!(new.open(&old.seal(&claims())), Ok(claims()));
        assert_eq!(old.open(&new.seal(&claims())), Err(NotOurs));
        assert_eq!(
            MasterKeys::new(&master(2), &[]).open(&old.seal(&claims())),
            Err(NotOurs)
        );
    }

    #[test]
    fn every_changed_bit_is_refused() {
        let keys = MasterKeys::new(&master(1), &[]);
        let bytes = URL_SAFE_NO_PAD.decode(keys.seal(&claims())).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut forged = bytes.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                keys.open(&URL_SAFE_NO_PAD.encode(&forged)),
                Err(NotOurs),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        let keys = MasterKeys::new(&master(1), &[]);
        let good = keys.seal(&claims());
        let last = good.chars().last().unwrap();
        // The last character carries four unused bits: another character that decodes to the same bytes is refused.
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let twin = alphabet
            .chars()
            .nth(alphabet.find(last).unwrap() ^ 1)
            .unwrap();
        for bad in [
            String::new(),
            good[..85].to_owned(),
            format!("{good}A"),
            format!("{good}="),
            format!("{good}=="),
            format!(" {}", &good[1..]),
            format!("{}{twin}", &good[..85]),
            format!("{}+", &good[..85]),
            "é".repeat(43),
        ] {
            assert_eq!(keys.open(&bad), Err(NotOurs), "{bad:?}");
        }
    }

    #[test]
    fn the_key_id_is_not_a_hash_of_the_key() {
        let key = MacKey::derive(&master(1));
        let naked = digest::digest(&digest::SHA256, master(1).expose());
        assert_ne!(key.id.as_slice(), &naked.as_ref()[..ID_LEN]);
    }
}
