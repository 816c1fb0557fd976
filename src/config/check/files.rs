//! Files that the configuration names: whether others can read or change what is secret, and whether the store's folder can
//! be written. Must leave nothing behind.

use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::Reader;

/// What everybody on the machine may do with a file.
const ANYBODY_WRITES: u32 = 0o002;
const ANYBODY_READS: u32 = 0o004;

/// Whether a secret can be trusted to be the deployer's: what everybody can write is none. What everybody can read is
/// warned about. A group may have both, because services are given their secrets that way.
pub(super) fn kept_from_others(reader: &Reader<'_>, span: Range<usize>, path: &Path) -> bool {
    let Ok(mode) = fs::metadata(path).map(|found| found.permissions().mode()) else {
        return true;
    };
    let shown = path.display();
    let hint = format!("run: chmod o-rwx {shown}");
    if mode & ANYBODY_WRITES != 0 {
        reader.problems.error(
            span,
            format!("{shown} can be changed by everybody on this machine, so it is no secret"),
            &format!("make a new one that others cannot write; {hint}"),
        );
        return false;
    }
    if mode & ANYBODY_READS != 0 {
        reader.problems.warning(
            span,
            format!("{shown} is secret, and everybody on this machine can read it"),
            &hint,
        );
    }
    true
}

/// Whether this user can make files in the store's folder, or the folder itself in the nearest one around it that is there, as far
/// as that can be told.
pub(super) fn writable(reader: &Reader<'_>, span: Range<usize>, folder: &Path) -> bool {
    let nearest = folder
        .ancestors()
        .map(|path| match path.as_os_str().is_empty() {
            true => Path::new("."),
            false => path,
        })
        .find(|path| path.exists());
    let Some(place) = nearest else { return true };
    if !place.is_dir() {
        if place != folder {
            reader.problems.error(
                span,
                format!(
                    "the folder of `store.path` cannot be made: {} is not a folder",
                    place.display()
                ),
                "name another folder with `store.path`",
            );
        }
        return false;
    }
    let trial = place.join(format!(".vestibule-check-{}", uuid::Uuid::now_v7()));
    let made = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&trial);
    let refused = match made {
        Ok(_) => {
            let _ = fs::remove_file(&trial);
            return true;
        }
        Err(error) => error,
    };
    if matches!(
        refused.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
    ) {
        reader.problems.error(
            span,
            format!(
                "nothing can be written in the folder of `store.path`, {}: {refused}",
                place.display()
            ),
            "the user who runs vestibule must own it; or name another folder with `store.path`",
        );
        return false;
    }
    true
}
