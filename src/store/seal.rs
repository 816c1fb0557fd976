//! How private signing keys are sealed under the master key, the same in every store. Must not know where they are kept.

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf;
use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::auth::keyset::StoredKey;
use crate::clock::Timestamp;
use crate::units::Secret;

/// Why signing keys cannot be opened.
pub(super) const OTHER_MASTER_KEY: &str = "its signing keys were sealed under another master key; put that one back, or list it in \
    `secret.previous` and start once with it: they are then sealed anew";

/// A signing key as it lies in a store.
#[derive(Serialize, Deserialize)]
pub(super) struct SealedKey {
    pub(super) kid: String,
    /// Position in the list.
    pub(super) place: usize,
    sealed: Vec<u8>,
    created_at: Timestamp,
    retires_at: Option<Timestamp>,
}

/// Seals private keys, so that a stolen store alone signs nothing.
pub(super) struct KeySeal {
    current: RandomizedNonceKey,
    all: Vec<RandomizedNonceKey>,
}

impl KeySeal {
    /// `master` seals; `master` and `previous` open.
    pub(super) fn new(master: &Secret, previous: &[Secret]) -> Result<Self, StoreError> {
        let all = std::iter::once(master)
            .chain(previous)
            .map(derive)
            .collect::<Result<_, _>>()?;
        Ok(KeySeal {
            current: derive(master)?,
            all,
        })
    }

    /// The list as it may be stored.
    pub(super) fn seal_all(&self, keys: &[StoredKey]) -> Result<Vec<SealedKey>, StoreError> {
        keys.iter()
            .enumerate()
            .map(|(place, key)| {
                Ok(SealedKey {
                    kid: key.kid.clone(),
                    place,
                    sealed: self.seal(&key.kid, &key.pkcs8)?,
                    created_at: key.created_at,
                    retires_at: key.retires_at,
                })
            })
            .collect()
    }

    /// Whether one of them is sealed under a former master key, which then cannot be given up yet.
    pub(super) fn needs_sealing_anew(&self, sealed: &[SealedKey]) -> bool {
        sealed
            .iter()
            .any(|key| open_with(&self.current, &key.kid, &key.sealed).is_none())
    }

    /// What [`KeySeal::seal_all`] sealed, in the same order; `None` when one of them opens under no master key.
    pub(super) fn open_all(&self, mut sealed: Vec<SealedKey>) -> Option<Vec<StoredKey>> {
        sealed.sort_by_key(|key| key.place);
        sealed
            .into_iter()
            .map(|key| {
                Some(StoredKey {
                    pkcs8: self.open(&key.kid, &key.sealed)?,
                    kid: key.kid,
                    created_at: key.created_at,
                    retires_at: key.retires_at,
                })
            })
            .collect()
    }

    /// Nonce, then ciphertext and tag; bound to the key's id.
    fn seal(&self, kid: &str, private: &Secret) -> Result<Vec<u8>, StoreError> {
        let mut sealed = private.expose().to_vec();
        let nonce = self
            .current
            .seal_in_place_append_tag(Aad::from(kid.as_bytes()), &mut sealed)
            .map_err(|_| StoreError::Unavailable("a signing key cannot be sealed".to_owned()))?;
        let mut bytes = nonce.as_ref().to_vec();
        bytes.append(&mut sealed);
        Ok(bytes)
    }

    /// What `seal` sealed, under any of the master keys; `None` if none of them did.
    fn open(&self, kid: &str, sealed: &[u8]) -> Option<Secret> {
        self.all.iter().find_map(|key| open_with(key, kid, sealed))
    }
}

fn open_with(key: &RandomizedNonceKey, kid: &str, sealed: &[u8]) -> Option<Secret> {
    let (nonce, sealed) = sealed.split_first_chunk::<12>()?;
    let mut private = sealed.to_vec();
    let opened = key
        .open_in_place(
            Nonce::assume_unique_for_key(*nonce),
            Aad::from(kid.as_bytes()),
            &mut private,
        )
        .ok()
        .map(|bytes| bytes.len())?;
    private.truncate(opened);
    Some(Secret::new(private))
}

/// A key for this purpose alone (RFC 5869); refresh tokens are sealed under another.
fn derive(master: &Secret) -> Result<RandomizedNonceKey, StoreError> {
    let unavailable = |_| StoreError::Unavailable("a key cannot be derived".to_owned());
    let mut bytes = [0; 32];
    hkdf::Salt::new(hkdf::HKDF_SHA256, b"vestibule")
        .extract(master.expose())
        .expand(&[b"signing keys in the store"], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut bytes))
        .map_err(unavailable)?;
    let key = RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(unavailable);
    zeroize::Zeroize::zeroize(&mut bytes);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_opens_under_its_master_key_and_its_id_only() {
        let (old, new) = (Secret::new([1; 32]), Secret::new([2; 32]));
        let sealed = KeySeal::new(&old, &[])
            .unwrap()
            .seal("k1", &Secret::new(*b"private"))
            .unwrap();
        let both = KeySeal::new(&new, std::slice::from_ref(&old)).unwrap();
        assert_eq!(both.open("k1", &sealed).unwrap().expose(), b"private");
        assert!(both.open("k2", &sealed).is_none());
        assert!(
            KeySeal::new(&new, &[])
                .unwrap()
                .open("k1", &sealed)
                .is_none()
        );
        assert!(both.open("k1", &sealed[..11]).is_none());
    }
}
