//! Whose the files in the store's folder are: what root makes there for another user is given to that user, who could not
//! read it otherwise. Must not touch a file that was there before.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::Path;

/// Gives a file that this process has just made in `folder` to the folder's owner. Only root can: whoever else makes a
/// file in another's folder keeps it, and the next reader is told.
pub(super) fn as_folder(file: &File, folder: &Path) -> io::Result<()> {
    let (made, around) = (file.metadata()?, fs::metadata(folder)?);
    if made.uid() == around.uid() {
        return Ok(());
    }
    match fchown(file, Some(around.uid()), Some(around.gid())) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        given => given,
    }
}
