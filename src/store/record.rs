//! How a record becomes bytes and back, the same in every store.
//!
//! Every record begins with its format number, then its revision, then JSON. A format that this program does not know
//! was written by a newer one: refused, never guessed, so that old and new nodes can share a store. Must not know where
//! the bytes are kept.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Revision, StoreError, Stored};

/// The format that this program writes, and the newest it reads.
pub(super) const FORMAT: u32 = 1;

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

/// Those fields of the record that `T` has, borrowed from the bytes where they can be, and its revision.
pub(super) fn decode_part<'a, T: Deserialize<'a>>(
    bytes: &'a [u8],
) -> Result<(T, Revision), StoreError> {
    let (revision, json) = split(bytes)?;
    let part = serde_json::from_slice(json).map_err(|error| damaged(&error))?;
    Ok((part, revision))
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
}
