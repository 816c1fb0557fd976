//! Where the gateways of the tests keep their data: in memory where there is room.
//!
//! Whatever needs the store waits for a sync of the disk. One that others keep busy for a second makes that a 503: a right
//! answer, and not what a test of something else is about. Those that are about the disk ask for one
//! ([`super::gateway::Setup::on_disk`]).

use std::path::Path;
use std::process::Command;

/// A file system in memory on every Linux; a container may have made it small.
const MEMORY: &str = "/dev/shm";
/// In bytes: many times what one gateway needs.
const ROOM: u64 = 32 << 20;

/// A new folder, in memory when there is room.
pub fn in_memory() -> tempfile::TempDir {
    match has_room(Path::new(MEMORY)) {
        true => named().tempdir_in(MEMORY).unwrap_or_else(|_| on_disk()),
        false => on_disk(),
    }
}

/// A new folder where files usually are.
pub fn on_disk() -> tempfile::TempDir {
    named().tempdir().unwrap()
}

fn named() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("vestibule-it-");
    builder
}

/// Asked each time: the tests beside this one take room as well.
fn has_room(folder: &Path) -> bool {
    let told = Command::new("df")
        .args(["--output=fstype,avail", "-B1"])
        .arg(folder)
        .output();
    let Ok(told) = told else { return false };
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    let Some(line) = text.lines().nth(1) else {
        return false;
    };
    let mut words = line.split_whitespace();
    let in_memory = words.next() == Some("tmpfs");
    let room = words.next().and_then(|bytes| bytes.parse::<u64>().ok());
    in_memory && room.is_some_and(|bytes| bytes >= ROOM)
}
