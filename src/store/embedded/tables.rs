//! What is in the file: the tables, how a record becomes bytes and back, and how keys are sealed.
//!
//! Every record begins with its format number, then its revision, then JSON. A format that this program does not know
//! was written by a newer one: refused, never guessed. Must not start threads or transactions.

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf;
use redb::TableDefinition;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::store::{Revision, StoreError, Stored};
use crate::units::Secret;

/// The format that this program writes, and the newest it reads.
pub(super) const FORMAT: u32 = 1;

pub(super) const META: TableDefinition<'_, &str, u32> = TableDefinition::new("meta");
/// Session id -> record.
pub(super) const SESSIONS: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("sessions");
/// (ends at, session id): what is over is found without reading what is not.
pub(super) const SESSION_ENDS: TableDefinition<'_, (i64, &[u8; 16]), ()> =
    TableDefinition::new("session_ends");
/// Target as JSON -> record.
pub(super) const REVOCATIONS: TableDefinition<'_, &str, &[u8]> =
    TableDefinition::new("revocations");
/// Name in lower case -> record.
pub(super) const ACCOUNTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("accounts");
/// Key id -> record, the private part sealed.
pub(super) const KEYS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("keys");

/// Format, revision, JSON.
pub(super) fn encode<T: Serialize>(record: &T, revision: Revision) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::with_capacity(512);
    bytes.extend_from_slice(&FORMAT.to_be_bytes());
    bytes.extend_from_slice(&revision.0.to_be_bytes());
    serde_json::to_writer(&mut bytes, record)
        .map_err(|error| StoreError::Unavailable(format!("a record cannot be written: {error}")))?;
    Ok(bytes)
}

/// The revision alone, without reading the record.
pub(super) fn revision(bytes: &[u8]) -> Result<Revision, StoreError> {
    split(bytes).map(|(revision, _)| revision)
}

/// The record and its revision.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<Stored<T>, StoreError> {
    let (revision, json) = split(bytes)?;
    let record = serde_json::from_slice(json).map_err(|error| damaged(&error))?;
    Ok(Stored { record, revision })
}

fn split(bytes: &[u8]) -> Result<(Revision, &[u8]), StoreError> {
    let (format, rest) = bytes
        .split_first_chunk::<4>()
        .ok_or_else(|| damaged(&"it is too short"))?;
    let found = u32::from_be_bytes(*format);
    if found > FORMAT {
        return Err(StoreError::NewerFormat {
            found,
            known: FORMAT,
        });
    }
    let (revision, json) = rest
        .split_first_chunk::<8>()
        .ok_or_else(|| damaged(&"it is too short"))?;
    Ok((Revision(u64::from_be_bytes(*revision)), json))
}

fn damaged(why: &dyn std::fmt::Display) -> StoreError {
    StoreError::Unavailable(format!("a record is damaged: {why}"))
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

    /// Nonce, then ciphertext and tag; bound to the key's id.
    pub(super) fn seal(&self, kid: &str, private: &Secret) -> Result<Vec<u8>, StoreError> {
        let mut sealed = private.expose().to_vec();
        let nonce = self
            .current
            .seal_in_place_append_tag(Aad::from(kid.as_bytes()), &mut sealed)
            .map_err(|_| StoreError::Unavailable("a signing key cannot be sealed".to_owned()))?;
        let mut bytes = nonce.as_ref().to_vec();
        bytes.append(&mut sealed);
        Ok(bytes)
    }

    /// What [`KeySeal::seal`] sealed, under any of the master keys; `None` if none of them did.
    pub(super) fn open(&self, kid: &str, sealed: &[u8]) -> Option<Secret> {
        let (nonce, sealed) = sealed.split_first_chunk::<12>()?;
        self.all.iter().find_map(|key| {
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
        })
    }
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
    fn a_record_comes_back_with_its_revision() {
        let bytes = encode(&"text", Revision(7)).unwrap();
        let back: Stored<String> = decode(&bytes).unwrap();
        assert_eq!((back.record.as_str(), back.revision), ("text", Revision(7)));
    }

    #[test]
    fn a_newer_format_and_a_damaged_record_are_refused() {
        let mut newer = encode(&"text", Revision(1)).unwrap();
        newer[3] = 2;
        assert!(matches!(
            decode::<String>(&newer),
            Err(StoreError::NewerFormat { found: 2, known: 1 })
        ));
        let whole = encode(&"text", Revision(1)).unwrap();
        for cut in 0..whole.len() {
            assert!(decode::<String>(&whole[..cut]).is_err(), "{cut}");
        }
    }

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
