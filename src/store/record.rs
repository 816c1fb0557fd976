//! How a record becomes bytes and back, the same in every store.
//!
//! Every record begins with its format number, then its revision, then JSON. A format that this program does not know
//! was written by a newer one: refused, never guessed, so that old and new nodes can share a store. A record is written in
//! the oldest format that can hold it, so that an older node refuses only what it would spoil. Must not know where the
//! bytes are kept.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Revision, StoreError, Stored};
use crate::auth::rotation::SessionRecord;

/// The newest format that this program reads.
pub(super) const FORMAT: u32 = WITH_PROVIDER;
/// What every version reads.
const PLAIN: u32 = 1;
/// A session with a part of its provider. Whoever does not know that part would lose it at the next renewal, and the
/// provider's refresh token with it.
const WITH_PROVIDER: u32 = 2;

/// A session's record.
pub(super) fn encode_session(
    record: &SessionRecord,
    revision: Revision,
) -> Result<Vec<u8>, StoreError> {
    let format = match record.provider {
        Some(_) => WITH_PROVIDER,
        None => PLAIN,
    };
    encode_as(format, record, revision)
}

/// Any other record.
pub(super) fn encode<T: Serialize>(record: &T, revision: Revision) -> Result<Vec<u8>, StoreError> {
    encode_as(PLAIN, record, revision)
}

/// Format, revision, JSON.
fn encode_as<T: Serialize>(
    format: u32,
    record: &T,
    revision: Revision,
) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::with_capacity(512);
    bytes.extend_from_slice(&format.to_be_bytes());
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
    use crate::store::conformance;

    #[test]
    fn a_record_comes_back_with_its_revision() {
        let bytes = encode(&"text", Revision(7)).unwrap();
        let back: Stored<String> = decode(&bytes).unwrap();
        assert_eq!((back.record.as_str(), back.revision), ("text", Revision(7)));
    }

    #[test]
    fn only_a_session_with_a_provider_needs_the_newer_format() {
        let local = conformance::session(1, "alice");
        let corp = conformance::session_at_provider(1, "alice", "1234", Some("there"));
        for (record, format) in [(local, 1), (corp, 2)] {
            let bytes = encode_session(&record, Revision(7)).unwrap();
            assert_eq!(bytes[..4], [0, 0, 0, format]);
            assert_eq!(decode::<SessionRecord>(&bytes).unwrap().record, record);
        }
    }

    #[test]
    fn a_session_of_a_version_without_providers_still_reads() {
        let record = conformance::session(1, "alice");
        let bytes = encode_session(&record, Revision(7)).unwrap();
        let json = std::str::from_utf8(&bytes[12..]).unwrap();
        // What such a version wrote: the same bytes, without a word about a provider's session.
        assert!(!json.contains("\"provider\":{"), "{json}");
        assert!(!json.contains("\"provider\":null"), "{json}");
    }

    #[test]
    fn a_newer_format_and_a_damaged_record_are_refused() {
        let mut newer = encode(&"text", Revision(1)).unwrap();
        newer[3] = 3;
        assert!(matches!(
            decode::<String>(&newer),
            Err(StoreError::NewerFormat { found: 3, known: 2 })
        ));
        let whole = encode(&"text", Revision(1)).unwrap();
        for cut in 0..whole.len() {
            assert!(decode::<String>(&whole[..cut]).is_err(), "{cut}");
        }
    }
}
