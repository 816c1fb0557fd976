//! What a backup looks like: a stream of records under a MAC, the same on a socket, in a pipe and in a file.
//!
//! The mark and the format, then frames (kind, length, bytes): a header, the records as they are stored, an end that counts
//! them; then HMAC-SHA-256 over all of that under a key derived from the master key. So a backup that was cut short or changed
//! by anybody without the master key is refused, and one that is complete proves so by itself. Private keys are in it as
//! sealed as in the store; the master key is not. Must not know where the records come from or go to.

use std::io::{self, Read, Write};

use aws_lc_rs::{hkdf, hmac};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{Account, RevocationRecord, StoreError, record, seal::SealedKey};
use crate::auth::rotation::SessionRecord;
use crate::clock::Timestamp;
use crate::units::Secret;

/// The bytes of a backup in pieces, as they are read from a running store; an error ends it.
pub type BackupStream = mpsc::Receiver<Result<Vec<u8>, StoreError>>;

/// The first bytes of every backup.
const MARK: &[u8; 16] = b"vestibule-backup";
/// The format that this program writes, and the newest it reads.
const FORMAT: u32 = 1;
/// More than any record has.
const MAX_FRAME: usize = 1 << 20;
const ID_LEN: usize = 4;
const TAG_LEN: usize = 32;

const HEADER: u8 = b'H';
const END: u8 = b'E';

/// Why a backup cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Something else.
    #[error("this is no backup of a store")]
    NotABackup,
    /// It ends too early.
    #[error("the backup is incomplete: it was cut short")]
    CutShort,
    /// Its format, or that of a record, is of a newer version.
    #[error("the backup was made by a newer version of this program")]
    Newer,
    /// It names another master key.
    #[error(
        "the backup was made under another master key; put back the key of that time (see [secret], `previous`)"
    )]
    OtherKey,
    /// Somebody or something changed it.
    #[error("the backup was changed after it was made, or is damaged")]
    Damaged,
}

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A session.
    Session,
    /// A revocation.
    Revocation,
    /// A built-in account.
    Account,
    /// A sealed signing key.
    Key,
}

impl Kind {
    fn letter(self) -> u8 {
        match self {
            Kind::Session => b'S',
            Kind::Revocation => b'R',
            Kind::Account => b'A',
            Kind::Key => b'K',
        }
    }

    fn of(letter: u8) -> Option<Self> {
        [Kind::Session, Kind::Revocation, Kind::Account, Kind::Key]
            .into_iter()
            .find(|kind| kind.letter() == letter)
    }
}

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// When it was taken.
    pub taken_at: Timestamp,
    /// By which version.
    pub version: String,
}

/// How many records of each kind there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Sessions, ended ones too.
    pub sessions: u64,
    /// Revocations.
    pub revocations: u64,
    /// Accounts.
    pub accounts: u64,
    /// Signing keys.
    pub keys: u64,
}

impl Counts {
    fn one_more(&mut self, kind: Kind) {
        let count = match kind {
            Kind::Session => &mut self.sessions,
            Kind::Revocation => &mut self.revocations,
            Kind::Account => &mut self.accounts,
            Kind::Key => &mut self.keys,
        };
        *count += 1;
    }
}

/// The keys that backups are made and checked under.
pub struct BackupKeys {
    current: BackupKey,
    previous: Vec<BackupKey>,
}

struct BackupKey {
    id: [u8; ID_LEN],
    mac: hmac::Key,
}

impl BackupKeys {
    /// `master` makes; `master` and `previous` check.
    pub fn new(master: &Secret, previous: &[Secret]) -> Result<Self, StoreError> {
        Ok(BackupKeys {
            current: derive(master)?,
            previous: previous.iter().map(derive).collect::<Result<_, _>>()?,
        })
    }

    fn by_id(&self, id: [u8; ID_LEN]) -> Option<&BackupKey> {
        std::iter::once(&self.current)
            .chain(&self.previous)
            .find(|key| key.id == id)
    }
}

/// Keys for this purpose alone (RFC 5869); neither tells anything about the master key.
fn derive(master: &Secret) -> Result<BackupKey, StoreError> {
    let unavailable = |_| StoreError::Unavailable("a key cannot be derived".to_owned());
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"vestibule backup").extract(master.expose());
    let mut name = [0; 32];
    prk.expand(&[b"key id"], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut name))
        .map_err(unavailable)?;
    let mac = prk
        .expand(&[b"mac"], hmac::HMAC_SHA256)
        .map_err(unavailable)?;
    let mut id = [0; ID_LEN];
    for (to, from) in id.iter_mut().zip(name) {
        *to = from;
    }
    Ok(BackupKey {
        id,
        mac: hmac::Key::from(mac),
    })
}

/// Writes a backup.
pub struct Writer<W> {
    to: W,
    mac: hmac::Context,
    counts: Counts,
}

impl<W: Write> Writer<W> {
    /// Begins one.
    pub fn begin(to: W, keys: &BackupKeys, header: &Header) -> io::Result<Self> {
        let mut writer = Writer {
            to,
            mac: hmac::Context::with_key(&keys.current.mac),
            counts: Counts::default(),
        };
        writer.put(MARK)?;
        writer.put(&FORMAT.to_be_bytes())?;
        writer.put(&keys.current.id)?;
        writer.frame(HEADER, &serde_json::to_vec(header)?)?;
        Ok(writer)
    }

    /// Adds a record as it is stored.
    pub fn record(&mut self, kind: Kind, bytes: &[u8]) -> io::Result<()> {
        self.counts.one_more(kind);
        self.frame(kind.letter(), bytes)
    }

    /// Ends it. Without this nobody accepts it.
    pub fn end(mut self) -> io::Result<()> {
        let counts = serde_json::to_vec(&self.counts)?;
        self.frame(END, &counts)?;
        self.to.write_all(self.mac.sign().as_ref())?;
        self.to.flush()
    }

    fn frame(&mut self, letter: u8, bytes: &[u8]) -> io::Result<()> {
        let len = u32::try_from(bytes.len())
            .ok()
            .filter(|len| *len as usize <= MAX_FRAME)
            .ok_or_else(|| io::Error::other("a record is too large for a backup"))?;
        self.put(&[letter])?;
        self.put(&len.to_be_bytes())?;
        self.put(bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.mac.update(bytes);
        self.to.write_all(bytes)
    }
}

/// Reads a backup. What [`Reader::next_record`] gives is to be believed only when it has given `None`.
pub struct Reader<R> {
    from: R,
    mac: hmac::Context,
    key: hmac::Key,
    header: Header,
    counts: Counts,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Begins to read one.
    pub fn begin(mut from: R, keys: &BackupKeys) -> Result<Self, BackupError> {
        let mut mark = [0; MARK.len()];
        match fill(&mut from, &mut mark) {
            Err(BackupError::CutShort) => return Err(BackupError::NotABackup),
            other => other?,
        }
        if mark != *MARK {
            return Err(BackupError::NotABackup);
        }
        let mut format = [0; 4];
        fill(&mut from, &mut format)?;
        match u32::from_be_bytes(format) {
            FORMAT => {}
            0 => return Err(BackupError::Damaged),
            _ => return Err(BackupError::Newer),
        }
        let mut id = [0; ID_LEN];
        fill(&mut from, &mut id)?;
        let key = keys.by_id(id).ok_or(BackupError::OtherKey)?.mac.clone();
        let mut mac = hmac::Context::with_key(&key);
        mac.update(&mark);
        mac.update(&format);
        mac.update(&id);
        let mut reader = Reader {
            from,
            mac,
            key,
            header: Header {
                taken_at: Timestamp::EPOCH,
                version: String::new(),
            },
            counts: Counts::default(),
            ended: false,
        };
        match reader.frame()? {
            (HEADER, bytes) => {
                reader.header = serde_json::from_slice(&bytes).map_err(|_| BackupError::Damaged)?;
            }
            _ => return Err(BackupError::Damaged),
        }
        Ok(reader)
    }

    /// The next record; `None` once all of them were read and the whole proved genuine.
    pub fn next_record(&mut self) -> Result<Option<(Kind, Vec<u8>)>, BackupError> {
        if self.ended {
            return Ok(None);
        }
        let (letter, bytes) = self.frame()?;
        if letter == END {
            self.prove(&bytes)?;
            return Ok(None);
        }
        let kind = Kind::of(letter).ok_or(BackupError::Damaged)?;
        self.counts.one_more(kind);
        Ok(Some((kind, bytes)))
    }

    /// Reads to the end, and every record with it: what it says of itself, and how much is in it.
    pub fn verify(mut self) -> Result<(Header, Counts), BackupError> {
        while let Some((kind, bytes)) = self.next_record()? {
            readable(kind, &bytes)?;
        }
        Ok((self.header, self.counts))
    }

    /// What it says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What was read so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn prove(&mut self, counts: &[u8]) -> Result<(), BackupError> {
        let expected = std::mem::replace(&mut self.mac, hmac::Context::with_key(&self.key)).sign();
        let mut tag = [0; TAG_LEN];
        fill(&mut self.from, &mut tag)?;
        aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_ref(), &tag)
            .map_err(|_| BackupError::Damaged)?;
        let counts: Counts = serde_json::from_slice(counts).map_err(|_| BackupError::Damaged)?;
        let mut more = [0];
        if counts != self.counts || self.from.read(&mut more)? != 0 {
            return Err(BackupError::Damaged);
        }
        self.ended = true;
        Ok(())
    }

    fn frame(&mut self) -> Result<(u8, Vec<u8>), BackupError> {
        let (mut letter, mut len) = ([0], [0; 4]);
        fill(&mut self.from, &mut letter)?;
        fill(&mut self.from, &mut len)?;
        let size = u32::from_be_bytes(len) as usize;
        if size > MAX_FRAME {
            return Err(BackupError::Damaged);
        }
        let mut bytes = vec![0; size];
        fill(&mut self.from, &mut bytes)?;
        for part in [&letter[..], &len, &bytes] {
            self.mac.update(part);
        }
        let [letter] = letter;
        Ok((letter, bytes))
    }
}

/// Whether this version understands a record.
fn readable(kind: Kind, bytes: &[u8]) -> Result<(), BackupError> {
    let outcome = match kind {
        Kind::Session => record::decode::<SessionRecord>(bytes).map(drop),
        Kind::Revocation => record::decode::<RevocationRecord>(bytes).map(drop),
        Kind::Account => record::decode::<Account>(bytes).map(drop),
        Kind::Key => record::decode::<SealedKey>(bytes).map(drop),
    };
    outcome.map_err(|error| match error {
        StoreError::NewerFormat { .. } => BackupError::Newer,
        _ => BackupError::Damaged,
    })
}

fn fill(from: &mut impl Read, buffer: &mut [u8]) -> Result<(), BackupError> {
    from.read_exact(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => BackupError::CutShort,
        _ => BackupError::Io(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Revision;
    use crate::store::conformance::{NOW, session};

    fn keys(byte: u8) -> BackupKeys {
        BackupKeys::new(&Secret::new([byte; 32]), &[]).unwrap()
    }

    fn written() -> Vec<u8> {
        let header = Header {
            taken_at: NOW,
            version: "1.2.3".to_owned(),
        };
        let mut bytes = Vec::new();
        let mut writer = Writer::begin(&mut bytes, &keys(1), &header).unwrap();
        for id in 0..3 {
            let record = record::encode(&session(id, "alice"), Revision(7)).unwrap();
            writer.record(Kind::Session, &record).unwrap();
        }
        writer.end().unwrap();
        bytes
    }

    fn verified(bytes: &[u8], keys: &BackupKeys) -> Result<(Header, Counts), BackupError> {
        Reader::begin(bytes, keys)?.verify()
    }

    #[test]
    fn what_was_written_is_read_and_proves_itself() {
        let bytes = written();
        let (header, counts) = verified(&bytes, &keys(1)).unwrap();
        assert_eq!((header.taken_at, counts.sessions), (NOW, 3));
        let later = BackupKeys::new(&Secret::new([2; 32]), &[Secret::new([1; 32])]).unwrap();
        assert!(verified(&bytes, &later).is_ok());
        assert!(matches!(
            verified(&bytes, &keys(2)),
            Err(BackupError::OtherKey)
        ));
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_refused() {
        let bytes = written();
        for cut in 0..bytes.len() {
            assert!(verified(&bytes[..cut], &keys(1)).is_err(), "{cut}");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(verified(&changed, &keys(1)).is_err(), "{at}");
        }
        let mut longer = bytes;
        longer.push(0);
        assert!(matches!(
            verified(&longer, &keys(1)),
            Err(BackupError::Damaged)
        ));
    }
}
