//! `vestibule store backup`: written under another name and proved before it is given its own.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal as _, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::{Failure, at, contents, is_dash, keys, master};
use crate::cli::operate;
use crate::clock::Clock;
use crate::config::Config;
use crate::control::{Backup, Control, Response};
use crate::observe::say;
use crate::store::backup::{BackupKeys, BackupStream, Counts, Header, Reader};
use crate::store::{Embedded, Store as _, embedded};

pub(super) fn backup(config: &Config, to: &Path, force: bool) -> Result<(), Failure> {
    let folder = &config.store.path;
    if is_dash(to) && io::stdout().is_terminal() {
        return Err(Failure::Terminal);
    }
    if !is_dash(to) && !force && fs::symlink_metadata(to).is_ok() {
        return Err(Failure::Exists(to.display().to_string()));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(Failure::Runtime)?;
    let source: Box<dyn Read> = match runtime.block_on(Control::connect(folder))? {
        Control::Running(client) => match runtime.block_on(client.backup())? {
            Backup::Bytes(bytes) => Box::new(io::BufReader::with_capacity(64 << 10, bytes)),
            Backup::Answer(Response::Refused { message, .. }) => {
                return Err(Failure::Refused(message));
            }
            Backup::Answer(_) => {
                return Err(Failure::Refused(
                    operate::OperateError::Unexpected.to_string(),
                ));
            }
        },
        Control::NotRunning => Box::new(offline(config)?),
    };
    let keys = keys(config)?;
    let (header, counts) = if is_dash(to) {
        copy(source, io::stdout().lock(), &keys, "stdout")?
    } else {
        write(source, to, force, &keys)?
    };
    say!("a backup of {}", contents(&header, &counts));
    Ok(())
}

/// The store that no gateway uses.
fn offline(config: &Config) -> Result<Pieces, Failure> {
    let folder = &config.store.path;
    if !folder.join(embedded::FILE_NAME).exists() {
        return Err(Failure::NoStore(folder.display().to_string()));
    }
    let store = Embedded::open(folder, &master(config)?, &config.store.previous)?;
    let pieces = store
        .backup(Clock::System.now())
        .ok_or_else(|| Failure::NoStore(folder.display().to_string()))?;
    Ok(Pieces {
        pieces,
        rest: io::Cursor::new(Vec::new()),
        _store: store,
    })
}

/// Reads the pieces of a backup one after the other.
struct Pieces {
    pieces: BackupStream,
    rest: io::Cursor<Vec<u8>>,
    _store: Embedded,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.rest.read(buffer)? {
                0 if !buffer.is_empty() => {}
                read => return Ok(read),
            }
            match self.pieces.blocking_recv() {
                Some(Ok(piece)) => self.rest = io::Cursor::new(piece),
                Some(Err(error)) => return Err(io::Error::other(error)),
                None => return Ok(0),
            }
        }
    }
}

/// Writes a backup under another name, reads it back from there, and only then gives it its name.
fn write(
    source: impl Read,
    to: &Path,
    force: bool,
    keys: &BackupKeys,
) -> Result<(Header, Counts), Failure> {
    let folder = match to.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        return Err(Failure::NoFolder(folder.display().to_string()));
    }
    let half = folder.join(format!(".backup-{}.new", uuid::Uuid::now_v7()));
    let written = (|| {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&half)
            .map_err(at(&half))?;
        copy(source, &file, keys, &half.display().to_string())?;
        file.sync_all().map_err(at(&half))?;
        let back = File::open(&half).map_err(at(&half))?;
        let proved = Reader::begin(io::BufReader::new(back), keys)?.verify()?;
        if force {
            fs::rename(&half, to).map_err(at(to))?;
        } else {
            fs::hard_link(&half, to).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => Failure::Exists(to.display().to_string()),
                _ => at(to)(error),
            })?;
        }
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(at(folder))?;
        Ok(proved)
    })();
    let _ = fs::remove_file(&half);
    written
}

/// Copies a backup and proves it on the way.
fn copy(
    source: impl Read,
    to: impl Write,
    keys: &BackupKeys,
    name: &str,
) -> Result<(Header, Counts), Failure> {
    let mut failed = None;
    let through = Through {
        from: source,
        to: io::BufWriter::with_capacity(64 << 10, to),
        failed: &mut failed,
    };
    let proved = Reader::begin(through, keys).and_then(Reader::verify);
    match failed {
        Some(source) => Err(Failure::File {
            path: name.to_owned(),
            source,
        }),
        None => Ok(proved?),
    }
}

/// Hands on what is read through it.
struct Through<'a, R, W: Write> {
    from: R,
    to: io::BufWriter<W>,
    failed: &'a mut Option<io::Error>,
}

impl<R: Read, W: Write> Read for Through<'_, R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        let written = match buffer.get(..read) {
            Some(bytes) if read > 0 => self.to.write_all(bytes),
            // The end, which `Reader` asks for once it has everything.
            _ => self.to.flush(),
        };
        written.map(|()| read).map_err(|error| {
            let kind = error.kind();
            *self.failed = Some(error);
            kind.into()
        })
    }
}
