//! How a provider's tokens are sealed in a session's record: a stolen store holds none that works.
//!
//! Each session has a key of its own, derived from the master key (RFC 5869), so that no key seals more than one session's
//! tokens, and none opens in another session's record. Must not know where records are kept.

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::auth::SessionId;
use crate::auth::provider_session::Sealed;
use crate::units::Secret;

/// Which token of a session; one never opens as the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Refresh,
    Id,
}

impl Kind {
    fn word(self) -> &'static [u8] {
        match self {
            Kind::Refresh => b"refresh token",
            Kind::Id => b"id token",
        }
    }
}

/// Seals under the current master key, opens under that and its predecessors.
pub(super) struct TokenSeal {
    current: hkdf::Prk,
    previous: Vec<hkdf::Prk>,
}

impl TokenSeal {
    pub(super) fn new(master: &Secret, previous: &[Secret]) -> Self {
        let extract = |master: &Secret| {
            hkdf::Salt::new(hkdf::HKDF_SHA256, b"vestibule provider tokens")
                .extract(master.expose())
        };
        TokenSeal {
            current: extract(master),
            previous: previous.iter().map(extract).collect(),
        }
    }

    /// `None` when the system has no random bytes.
    pub(super) fn seal(&self, session: &SessionId, kind: Kind, token: &Secret) -> Option<Sealed> {
        let mut sealed = token.expose().to_vec();
        let nonce = key_of(&self.current, session)?
            .seal_in_place_append_tag(Aad::from(kind.word()), &mut sealed)
            .ok()?;
        let mut bytes = nonce.as_ref().to_vec();
        bytes.append(&mut sealed);
        Some(Sealed(URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// `None` when none of the master keys sealed it, or not for this.
    pub(super) fn open(&self, session: &SessionId, kind: Kind, sealed: &Sealed) -> Option<Secret> {
        let bytes = URL_SAFE_NO_PAD.decode(&sealed.0).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<12>()?;
        let mut keys = std::iter::once(&self.current).chain(&self.previous);
        keys.find_map(|key| {
            let mut token = sealed.to_vec();
            let opened = key_of(key, session)?
                .open_in_place(
                    Nonce::assume_unique_for_key(*nonce),
                    Aad::from(kind.word()),
                    &mut token,
                )
                .ok()
                .map(|bytes| bytes.len())?;
            token.truncate(opened);
            Some(Secret::new(token))
        })
    }
}

fn key_of(prk: &hkdf::Prk, session: &SessionId) -> Option<RandomizedNonceKey> {
    let mut bytes = [0; 32];
    prk.expand(&[session.as_bytes()], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut bytes))
        .ok()?;
    let key = RandomizedNonceKey::new(&AES_256_GCM, &bytes).ok();
    zeroize::Zeroize::zeroize(&mut bytes);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_in_its_place_and_under_its_master_keys_only() {
        let (old, new) = (Secret::new([1; 32]), Secret::new([2; 32]));
        let (here, there) = (
            SessionId::from_bytes([1; 16]),
            SessionId::from_bytes([2; 16]),
        );
        let token = Secret::new("a token");
        let sealed = TokenSeal::new(&old, &[])
            .seal(&here, Kind::Refresh, &token)
            .unwrap();
        let both = TokenSeal::new(&new, std::slice::from_ref(&old));
        let opened = both.open(&here, Kind::Refresh, &sealed).unwrap();
        assert_eq!(opened.expose(), b"a token");
        assert!(both.open(&there, Kind::Refresh, &sealed).is_none());
        assert!(both.open(&here, Kind::Id, &sealed).is_none());
        let stranger = TokenSeal::new(&new, &[]);
        assert!(stranger.open(&here, Kind::Refresh, &sealed).is_none());
        for cut in 0..sealed.0.len() {
            let cut = Sealed(sealed.0[..cut].to_owned());
            assert!(both.open(&here, Kind::Refresh, &cut).is_none());
        }
        assert!(!sealed.0.contains("token"));
        let again = both.seal(&here, Kind::Refresh, &token).unwrap();
        assert_ne!(again, sealed, "the same token never looks the same");
    }
}
