//! The master key: what refresh tokens and stored signing keys are sealed under.
//!
//! Made once, atomically, readable by its owner only. Must not keep or print it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{embedded, owner};
use crate::units::Secret;

/// The name of the file within the store's folder.
pub const FILE_NAME: &str = "master.key";
const BYTES: usize = 32;
/// More than any master key file has.
const MAX_FILE: u64 = 4096;

/// Why there is no master key.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The file could not be read or written.
    #[error("the master key {path}: {source}{}", hint(source))]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A store is there, and the key that it was sealed under is not.
    #[error(
        "the master key {path} is missing, and there is a store that was sealed under it; restore the key from where you keep \
         a copy. To give up accounts and sessions and begin anew, move the store away"
    )]
    Missing {
        /// The file.
        path: String,
    },
    /// Others than its owner may read the file.
    #[error(
        "the master key {path} has mode {mode:03o} and can be read by others; run: chmod 600 {path}"
    )]
    Exposed {
        /// The file.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// The file holds something else.
    #[error(
        "the master key {path} must hold at least 32 bytes as base64 text; it was left untouched: restore the key from where you keep \
         a copy"
    )]
    Malformed {
        /// The file.
        path: String,
    },
    /// The system has no random bytes.
    #[error("the system has no random bytes")]
    Random,
}

/// What to do about a file that the system refuses.
fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            "; the user who runs vestibule must own the store's folder (`store.path`)"
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::NotADirectory => {
            "; choose another folder with `store.path`"
        }
        _ => "",
    }
}

/// Reads the master key in the store's folder, or makes one when there is neither a key nor a store. The folder is made when
/// missing, with mode 0700.
pub fn master_key(folder: &Path) -> Result<Secret, MasterKeyError> {
    match existing(folder)? {
        Some(key) => Ok(key),
        None => {
            let path = folder.join(FILE_NAME);
            make(folder, &path)?;
            read(&path)
        }
    }
}

/// Reads the master key in the store's folder; `None` when there is neither a key nor a store. Makes nothing.
pub fn existing(folder: &Path) -> Result<Option<Secret>, MasterKeyError> {
    let path = folder.join(FILE_NAME);
    // Looked for first: whoever makes a store has made its key before.
    let has_store = fs::symlink_metadata(folder.join(embedded::FILE_NAME)).is_ok();
    match read(&path) {
        Err(MasterKeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            match has_store {
                true => Err(MasterKeyError::Missing {
                    path: path.display().to_string(),
                }),
                false => Ok(None),
            }
        }
        result => result.map(Some),
    }
}

fn failed(path: &Path, source: io::Error) -> MasterKeyError {
    MasterKeyError::Io {
        path: path.display().to_string(),
        source,
    }
}

fn read(path: &Path) -> Result<Secret, MasterKeyError> {
    let file = File::open(path).map_err(|error| failed(path, error))?;
    let mode = file
        .metadata()
        .map_err(|error| failed(path, error))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        return Err(MasterKeyError::Exposed {
            path: path.display().to_string(),
            mode: mode & 0o777,
        });
    }
    let mut text = zeroize::Zeroizing::new(Vec::new());
    file.take(MAX_FILE)
        .read_to_end(&mut text)
        .map_err(|error| failed(path, error))?;
    let malformed = || MasterKeyError::Malformed {
        path: path.display().to_string(),
    };
    let key = STANDARD
        .decode(text.trim_ascii())
        .map_err(|_| malformed())?;
    let key = Secret::new(key);
    if key.expose().len() < BYTES {
        return Err(malformed());
    }
    Ok(key)
}

fn make(folder: &Path, path: &Path) -> Result<(), MasterKeyError> {
    super::folder::make(folder).map_err(|error| failed(path, error))?;
    let mut key = zeroize::Zeroizing::new([0; BYTES]);
    SystemRandom::new()
        .fill(key.as_mut())
        .map_err(|_| MasterKeyError::Random)?;
    let text = zeroize::Zeroizing::new(format!("{}\n", STANDARD.encode(key.as_ref())));
    // Written whole under another name and linked into place: a crash leaves no half key, and of two processes that
    // start together both read the same one.
    let half = folder.join(format!(".master-{}.new", uuid::Uuid::now_v7()));
    let made = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&half)?;
        owner::as_folder(&file, folder)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        match fs::hard_link(&half, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        File::open(folder)?.sync_all()
    })();
    let _ = fs::remove_file(&half);
    made.map_err(|error| failed(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_private_and_the_same_ever_after() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let path = data.join(FILE_NAME);
        let first = master_key(&data).unwrap();
        assert_eq!(first.expose().len(), 32);
        assert_eq!(master_key(&data).unwrap().expose(), first.expose());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_lost_key_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(embedded::FILE_NAME), "a store").unwrap();
        let refusal = master_key(folder.path()).unwrap_err();
        assert!(
            matches!(refusal, MasterKeyError::Missing { .. }),
            "{refusal}"
        );
        assert!(!folder.path().join(FILE_NAME).exists());
    }

    #[test]
    fn an_exposed_or_malformed_key_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        for text in [
            "",
            "short",
            "AAAA\n",
            "not base64 at all, but long enough to be one",
        ] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(
                master_key(folder.path()),
                Err(MasterKeyError::Malformed { .. })
            ));
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let refusal = master_key(folder.path()).unwrap_err().to_string();
        assert!(refusal.contains("chmod 600"), "{refusal}");
    }
}
