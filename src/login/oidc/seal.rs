//! What the gateway gives to a browser for the time of a sign-in, sealed: the browser can neither read nor change it, and
//! what was sealed for one purpose opens for no other. Must not know what is inside.

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroize as _;

use crate::units::Secret;

/// Bytes that sealing adds before they become text: nonce and tag.
const OVERHEAD: usize = 12 + 16;

/// What a sealed text is for; it is part of what is authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The login cookie.
    Cookie,
    /// The `state` of an authorization request.
    State,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Purpose::Cookie => b"login cookie",
            Purpose::State => b"state",
        }
    }
}

/// No text of ours, or one that was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not sealed by this gateway")]
pub struct NotOurs;

/// The system could not seal: no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system cannot seal a sign-in")]
pub struct CannotSeal;

/// Seals under a key derived from the master key for this purpose alone, with AES-256-GCM.
pub struct LoginSeal {
    current: RandomizedNonceKey,
    previous: Vec<RandomizedNonceKey>,
}

impl LoginSeal {
    /// `master` seals; `master` and `previous` open.
    pub fn new(master: &Secret, previous: &[Secret]) -> Result<Self, CannotSeal> {
        Ok(LoginSeal {
            current: derive(master)?,
            previous: previous.iter().map(derive).collect::<Result<_, _>>()?,
        })
    }

    /// How long the text of so many bytes becomes.
    pub fn sealed_len(plain: usize) -> usize {
        (plain + OVERHEAD).div_ceil(3) * 4
    }

    /// Seals, as base64url text.
    pub fn seal(&self, purpose: Purpose, plain: &[u8]) -> Result<String, CannotSeal> {
        let mut sealed = plain.to_vec();
        let nonce = self
            .current
            .seal_in_place_append_tag(Aad::from(purpose.label()), &mut sealed)
            .map_err(|_| CannotSeal)?;
        let mut bytes = nonce.as_ref().to_vec();
        bytes.append(&mut sealed);
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Opens what [`LoginSeal::seal`] sealed for the same purpose, under any of the master keys.
    pub fn open(&self, purpose: Purpose, text: &str) -> Result<Vec<u8>, NotOurs> {
        // No cookie and no query of ours is longer.
        if text.len() > 8192 {
            return Err(NotOurs);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| NotOurs)?;
        let (nonce, sealed) = bytes.split_first_chunk::<12>().ok_or(NotOurs)?;
        std::iter::once(&self.current)
            .chain(&self.previous)
            .find_map(|key| {
                let mut plain = sealed.to_vec();
                let nonce = Nonce::assume_unique_for_key(*nonce);
                let opened = key
                    .open_in_place(nonce, Aad::from(purpose.label()), &mut plain)
                    .ok()?
                    .len();
                plain.truncate(opened);
                Some(plain)
            })
            .ok_or(NotOurs)
    }
}

impl std::fmt::Debug for LoginSeal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LoginSeal({} previous)", self.previous.len())
    }
}

/// A key for this alone (RFC 5869); refresh tokens and stored keys are sealed under others.
fn derive(master: &Secret) -> Result<RandomizedNonceKey, CannotSeal> {
    let unavailable = |_: Unspecified| CannotSeal;
    let mut bytes = [0; 32];
    hkdf::Salt::new(hkdf::HKDF_SHA256, b"vestibule")
        .extract(master.expose())
        .expand(&[b"pending sign-ins in the browser"], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut bytes))
        .map_err(unavailable)?;
    let key = RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(unavailable);
    bytes.zeroize();
    key
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::login::oidc) fn seal() -> LoginSeal {
        LoginSeal::new(&Secret::new([7; 32]), &[]).unwrap()
    }

    #[test]
    fn a_text_opens_for_its_purpose_and_under_its_key_only() {
        let (old, new) = (Secret::new([1; 32]), Secret::new([2; 32]));
        let text = LoginSeal::new(&old, &[])
            .unwrap()
            .seal(Purpose::Cookie, b"plain")
            .unwrap();
        assert_eq!(text.len(), 44);
        assert!(LoginSeal::sealed_len(5) >= text.len());
        let both = LoginSeal::new(&new, std::slice::from_ref(&old)).unwrap();
        assert_eq!(both.open(Purpose::Cookie, &text).unwrap(), b"plain");
        assert_eq!(both.open(Purpose::State, &text), Err(NotOurs));
        let stranger = LoginSeal::new(&new, &[]).unwrap();
        assert_eq!(stranger.open(Purpose::Cookie, &text), Err(NotOurs));
    }

    #[test]
    fn any_change_is_noticed() {
        let text = seal().seal(Purpose::State, b"plain").unwrap();
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(seal().open(Purpose::State, &changed), Err(NotOurs), "{at}");
            assert_eq!(seal().open(Purpose::State, &text[..at]), Err(NotOurs));
        }
        for bad in ["", "=", "AAAA", "\u{e9}", &"A".repeat(9000)] {
            assert_eq!(seal().open(Purpose::State, bad), Err(NotOurs), "{bad}");
        }
    }

    #[test]
    fn two_texts_of_one_content_differ() {
        let texts = [(); 2].map(|()| seal().seal(Purpose::Cookie, b"x").unwrap());
        assert_ne!(texts[0], texts[1]);
    }
}
