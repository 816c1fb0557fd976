//! A backup of the file as it is at one moment, while others go on reading and writing.
//!
//! One read transaction sees one state, however long it takes; what is written meanwhile goes to other pages. The pieces go
//! through a channel of few places: who takes them slowly holds up nothing but this thread. Must not write to the file.

use std::io;
use std::sync::Arc;

use redb::{ReadTransaction, ReadableDatabase as _, ReadableTable as _};
use tokio::sync::mpsc;

use super::rows::or_empty;
use super::tables::{ACCOUNTS, KEYS, REVOCATIONS, SESSIONS};
use super::threads::{Holder, Stop};
use crate::store::StoreError;
use crate::store::backup::{BackupKeys, BackupStream, Header, Kind, Writer};

/// Bytes of one piece.
const PIECE: usize = 64 << 10;
/// Pieces that wait to be taken.
const AHEAD: usize = 4;

/// Starts one. It ends when all pieces were taken, or when nobody takes them any more.
pub(super) fn start(holder: Arc<Holder>, keys: Arc<BackupKeys>, header: Header) -> BackupStream {
    let (pieces, stream) = mpsc::channel(AHEAD);
    let failed = pieces.clone();
    let started = std::thread::Builder::new()
        .name("store-backup".to_owned())
        .spawn(move || {
            let outcome = holder.database().and_then(|database| {
                let to = io::BufWriter::with_capacity(PIECE, Pieces(pieces.clone()));
                database
                    .begin_read()
                    .map_err(Stop::from)
                    .and_then(|transaction| copy(&transaction, to, &keys, &header))
                    .map_err(|stop| match stop {
                        Stop::Refused(error) => error,
                        Stop::Failed(reason) => StoreError::Unavailable(reason),
                    })
            });
            if let Err(error) = outcome {
                let _ = pieces.blocking_send(Err(error));
            }
        });
    if let Err(error) = started {
        let reason = format!("no thread for the backup: {error}");
        let _ = failed.try_send(Err(StoreError::Unavailable(reason)));
    }
    stream
}

/// A channel to write to.
struct Pieces(mpsc::Sender<Result<Vec<u8>, StoreError>>);

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .blocking_send(Ok(bytes.to_vec()))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn copy(
    transaction: &ReadTransaction,
    to: io::BufWriter<Pieces>,
    keys: &BackupKeys,
    header: &Header,
) -> Result<(), Stop> {
    let mut backup = Writer::begin(to, keys, header)?;
    if let Some(table) = or_empty(transaction.open_table(SESSIONS))? {
        for entry in table.iter()? {
            backup.record(Kind::Session, entry?.1.value())?;
        }
    }
    for (kind, name) in [
        (Kind::Revocation, REVOCATIONS),
        (Kind::Account, ACCOUNTS),
        (Kind::Key, KEYS),
    ] {
        if let Some(table) = or_empty(transaction.open_table(name))? {
            for entry in table.iter()? {
                backup.record(kind, entry?.1.value())?;
            }
        }
    }
    backup.end()?;
    Ok(())
}
