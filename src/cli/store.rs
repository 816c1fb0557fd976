//! `vestibule store …`: backups of the embedded store, and making one from a backup.

mod backup;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{ConfigFile, count, date};
use crate::clock::Clock;
use crate::config::Config;
use crate::control::{Control, ControlError, SHARED_STORE};
use crate::observe::say;
use crate::store::backup::{BackupError, BackupKeys, Counts, Header, Reader};
use crate::store::embedded::{self, Extent, RestoreError};
use crate::store::master_key::{self, MasterKeyError};
use crate::store::{Kind, StoreError};
use crate::units::Secret;

/// Back up and restore the embedded store
#[derive(Debug, Args)]
pub(crate) struct Store {
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Write a backup of the store as it is now, also while the gateway runs
    ///
    /// It holds accounts with their password hashes, sessions, and signing keys sealed under the master key: keep it as you
    /// keep the store. The master key is not in it, and without that key a backup cannot be restored: keep it elsewhere,
    /// together with gateway.toml and the certificates.
    Backup {
        #[command(flatten)]
        file: ConfigFile,
        /// Where to; - is stdout, whose mode is the shell's: set `umask 077` before `> FILE`
        #[arg(value_name = "BACKUP")]
        to: PathBuf,
        /// Replace a file that is there
        #[arg(long)]
        force: bool,
    },
    /// Read a backup to its end and tell what is in it; changes nothing
    Verify {
        #[command(flatten)]
        file: ConfigFile,
        /// The backup; - is stdin
        #[arg(value_name = "BACKUP")]
        from: PathBuf,
    },
    /// Make the store from a backup; the gateway must not be running
    ///
    /// Accounts come back as they were when the backup was taken. Sessions and signing keys do not, so that nothing that was
    /// ended or spent since can come back to life: everybody signs in again.
    Restore {
        #[command(flatten)]
        file: ConfigFile,
        /// The backup; - is stdin
        #[arg(value_name = "BACKUP")]
        from: PathBuf,
        /// Put it in place of a store that is there, which is kept under another name
        #[arg(long)]
        force: bool,
        /// Bring back sessions and signing keys too: only for a backup that was taken after the gateway had stopped. Otherwise
        /// sessions that were ended since, and tokens that were spent since, work again
        #[arg(long)]
        keep_sessions: bool,
    },
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("there is no store in {0} yet")]
    NoStore(String),
    #[error("{path}: {source}")]
    File { path: String, source: io::Error },
    #[error("there is no folder {0}; make it, or name another file")]
    NoFolder(String),
    #[error("{0} is there already; name another file, or use --force")]
    Exists(String),
    #[error("a backup is not for a terminal; name a file, or send it through a pipe")]
    Terminal,
    #[error("a gateway is running on this store; stop it first")]
    Running,
    #[error("{0}; use --force to put the backup in its place, it is then kept under another name")]
    StoreExists(RestoreError),
    #[error("the master key {0} is missing; put back the one that belongs to the backup first")]
    NoMasterKey(String),
    #[error("{0}")]
    Refused(String),
    #[error("this command cannot start: {0}")]
    Runtime(io::Error),
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error(transparent)]
    Restore(RestoreError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    #[error(transparent)]
    Control(#[from] ControlError),
}

impl Store {
    pub(crate) fn run(self) -> ExitCode {
        let (StoreCommand::Backup { file, .. }
        | StoreCommand::Verify { file, .. }
        | StoreCommand::Restore { file, .. }) = &self.command;
        let config = match file.load() {
            Ok(config) => config,
            Err(code) => return code,
        };
        if !matches!(config.store.kind, Kind::Embedded) {
            return super::bad_usage(SHARED_STORE);
        }
        let done = match &self.command {
            StoreCommand::Backup { to, force, .. } => backup::backup(&config, to, *force),
            StoreCommand::Verify { from, .. } => verify(&config, from),
            StoreCommand::Restore {
                from,
                force,
                keep_sessions,
                ..
            } => restore(&config, from, *force, *keep_sessions),
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => super::failed(&failure.to_string()),
        }
    }
}

fn verify(config: &Config, from: &Path) -> Result<(), Failure> {
    let (header, counts) = reader(from, &keys(config)?)?.verify()?;
    say!("a whole backup of {}", contents(&header, &counts));
    Ok(())
}

fn restore(config: &Config, from: &Path, force: bool, keep: bool) -> Result<(), Failure> {
    let folder = &config.store.path;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::Runtime)?;
    if let Control::Running(_) = runtime.block_on(Control::connect(folder))? {
        return Err(Failure::Running);
    }
    let backup = reader(from, &keys(config)?)?;
    let extent = if keep {
        Extent::Everything
    } else {
        Extent::Accounts
    };
    let restored =
        embedded::restore(folder, backup, extent, force, Clock::System.now()).map_err(|error| {
            match error {
                RestoreError::Exists(_) => Failure::StoreExists(error),
                RestoreError::Store(StoreError::InUse { .. }) => Failure::Running,
                RestoreError::Backup(error) => Failure::Backup(error),
                RestoreError::Store(_) | RestoreError::Io { .. } => Failure::Restore(error),
            }
        })?;
    let (taken, found) = (date(restored.taken_at), restored.found);
    if keep {
        say!(
            "{} and {} are as they were at {taken}; what was ended or spent since works again",
            number(found.accounts, "account"),
            number(found.sessions, "session")
        );
    } else {
        say!(
            "{} restored as of {taken}; everybody signs in again",
            number(found.accounts, "account")
        );
    }
    say!(
        "what was done to accounts since then is undone: passwords, blocks, groups and removals; see: vestibule user list"
    );
    if let Some(kept) = restored.kept_as {
        say!("the store that was there is now {}", kept.display());
    }
    Ok(())
}

fn reader(from: &Path, keys: &BackupKeys) -> Result<Reader<Box<dyn Read>>, Failure> {
    let source: Box<dyn Read> = if is_dash(from) {
        Box::new(io::stdin().lock())
    } else {
        Box::new(io::BufReader::new(File::open(from).map_err(at(from))?))
    };
    Ok(Reader::begin(source, keys)?)
}

fn keys(config: &Config) -> Result<BackupKeys, Failure> {
    Ok(BackupKeys::new(&master(config)?, &config.store.previous)?)
}

/// The master key that is there: a new one would be of no use here.
fn master(config: &Config) -> Result<Secret, Failure> {
    if let Some(master) = &config.store.master {
        return Ok(master.clone());
    }
    let path = config.store.path.join(master_key::FILE_NAME);
    if !path.exists() {
        return Err(Failure::NoMasterKey(path.display().to_string()));
    }
    Ok(master_key::master_key(&config.store.path)?)
}

fn contents(header: &Header, counts: &Counts) -> String {
    format!(
        "{}, {}, {} and {}, taken at {} by version {}",
        number(counts.accounts, "account"),
        number(counts.sessions, "session record"),
        number(counts.revocations, "revocation"),
        number(counts.keys, "signing key"),
        date(header.taken_at),
        header.version
    )
}

fn number(number: u64, word: &str) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), word)
}

fn is_dash(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn at(path: &Path) -> impl Fn(io::Error) -> Failure {
    let path = path.display().to_string();
    move |source| Failure::File {
        path: path.clone(),
        source,
    }
}
