//! The folder in which a node keeps what is its own: made for its owner only. Must not touch one that is there.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

/// Makes the folder, and those around it, where they are missing (mode 0700).
pub fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}
