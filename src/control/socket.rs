//! The path of the control socket. A unix socket's path has a limit of 107 bytes; longer ones are reached through a
//! handle of their folder. Must not read or write.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

/// Longest path that `sockaddr_un` holds on Linux, without its final zero.
const MAX_PATH: usize = 107;

/// A path that fits, for as long as this lives.
pub(super) struct ShortPath {
    path: PathBuf,
    _folder: Option<File>,
}

impl ShortPath {
    /// For the file `name` in `folder`.
    pub(super) fn of(folder: &Path, name: &str) -> io::Result<Self> {
        let path = folder.join(name);
        if path.as_os_str().len() <= MAX_PATH {
            return Ok(ShortPath {
                path,
                _folder: None,
            });
        }
        let handle = File::open(folder)?;
        Ok(ShortPath {
            path: PathBuf::from(format!("/proc/self/fd/{}/{name}", handle.as_raw_fd())),
            _folder: Some(handle),
        })
    }

    pub(super) fn as_path(&self) -> &Path {
        &self.path
    }
}
