//! The file under redb: the real one, or the same file with every write kept in memory.
//!
//! redb repairs while it opens, and may write to a damaged file before it finds that it cannot be read. So a file is
//! opened *on trial* first: whatever redb would write stays in memory, and a file that is refused is left byte for byte.
//!
//! When a sync fails, the kernel may drop what it could not write and still show it to whoever reads, as if it were on the
//! disk; a later sync that succeeds says nothing about it. So it is remembered what no sync has covered ([`Unsynced`]), and
//! written anew before the file is opened again. Must not know what is stored.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::backends::FileBackend;
use redb::{BackendError, DatabaseError, StorageBackend};

const PAGE: u64 = 4096;

/// What the trial would have written.
#[derive(Debug)]
struct Overlay {
    len: u64,
    /// Bytes of the file at and beyond this are gone (it was shortened), even if the file still has them.
    visible: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

/// Where the file was written since the last sync that succeeded: page numbers. Outlives the file's handles.
#[derive(Clone, Debug, Default)]
pub(super) struct Unsynced(Arc<Mutex<BTreeSet<u64>>>);

impl Unsynced {
    fn pages(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, offset: u64, len: usize) {
        let pages = pieces(offset, len).map(|(number, ..)| number);
        self.pages().extend(pages);
    }
}

/// A file as redb sees it.
#[derive(Debug)]
pub(super) struct Disk {
    file: FileBackend,
    trial: Option<Mutex<Overlay>>,
    unsynced: Unsynced,
    #[cfg(test)]
    fault: Option<std::sync::Arc<std::sync::atomic::AtomicBool>>,
}

impl Disk {
    /// The file itself.
    pub(super) fn real(file: File) -> Result<Self, DatabaseError> {
        Ok(Disk {
            file: FileBackend::new(file)?,
            trial: None,
            unsynced: Unsynced::default(),
            #[cfg(test)]
            fault: None,
        })
    }

    /// The file itself, once everything is on the disk that earlier handles could not bring there.
    pub(super) fn recovered(file: File, unsynced: &Unsynced) -> Result<Self, DatabaseError> {
        let mut disk = Disk::real(file)?;
        disk.unsynced = unsynced.clone();
        disk.write_anew()?;
        Ok(disk)
    }

    /// Reads what no sync has covered and writes it back, so that the kernel tries again. Where it shows old bytes instead,
    /// because it has dropped the new ones, the file then at least is what it seems to be.
    fn write_anew(&self) -> io::Result<()> {
        let pages: Vec<u64> = self.unsynced.pages().iter().copied().collect();
        if pages.is_empty() {
            return Ok(());
        }
        let len = self.file.len()?;
        let mut page = vec![0; PAGE as usize];
        for start in pages.iter().map(|number| number * PAGE) {
            let there = len.saturating_sub(start).min(PAGE);
            // `there` is at most PAGE, the length of `page`.
            if let Some(part) = page.get_mut(..there as usize)
                && there > 0
            {
                self.file.read(start, part)?;
                self.file.write(start, part)?;
            }
        }
        self.sync()
    }

    fn sync(&self) -> io::Result<()> {
        // Taken before, so that what is written meanwhile is not forgotten.
        let covered = std::mem::take(&mut *self.unsynced.pages());
        let synced = self.file.sync_data();
        if synced.is_err() {
            self.unsynced.pages().extend(covered);
        }
        synced
    }

    /// The file, but no write reaches it.
    pub(super) fn trial(file: File) -> Result<Self, DatabaseError> {
        let mut disk = Disk::real(file)?;
        let len = disk.file.len()?;
        disk.trial = Some(Mutex::new(Overlay {
            len,
            visible: len,
            pages: BTreeMap::new(),
        }));
        Ok(disk)
    }

    /// Every write fails as on a full disk while the switch is on.
    #[cfg(test)]
    pub(super) fn failing_while(
        mut self,
        fault: std::sync::Arc<std::sync::atomic::AtomicBool>,
    ) -> Self {
        self.fault = Some(fault);
        self
    }

    fn healthy(&self) -> io::Result<()> {
        #[cfg(test)]
        if let Some(fault) = &self.fault
            && fault.load(std::sync::atomic::Ordering::SeqCst)
        {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(())
    }

    fn file_page(&self, overlay: &Overlay, number: u64) -> io::Result<Vec<u8>> {
        let mut page = vec![0; PAGE as usize];
        let start = number * PAGE;
        let there = overlay.visible.saturating_sub(start).min(PAGE);
        // `there` is at most PAGE, the length of `page`.
        if let Some(part) = page.get_mut(..there as usize)
            && there > 0
        {
            self.file.read(start, part)?;
        }
        Ok(page)
    }
}

fn out_of_range() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "read beyond the end of the file",
    )
}

/// Copies `len` bytes between two places; both ranges are there, because `pieces` stays within page and data.
fn copy(to: &mut [u8], at: usize, from: &[u8], start: usize, len: usize) -> io::Result<()> {
    let to = to.get_mut(at..at + len).ok_or_else(out_of_range)?;
    let from = from.get(start..start + len).ok_or_else(out_of_range)?;
    to.copy_from_slice(from);
    Ok(())
}

/// Cuts `offset..offset + len` into (page number, start within the page, start within the range, length).
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize, usize)> {
    let mut done = 0usize;
    std::iter::from_fn(move || {
        if done >= len {
            return None;
        }
        let at = offset + done as u64;
        let within = (at % PAGE) as usize;
        let take = (len - done).min(PAGE as usize - within);
        let piece = (at / PAGE, within, done, take);
        done += take;
        Some(piece)
    })
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        match &self.trial {
            None => self.file.len(),
            Some(overlay) => Ok(overlay.lock().unwrap_or_else(PoisonError::into_inner).len),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let Some(overlay) = &self.trial else {
            return self.file.read(offset, out);
        };
        let overlay = overlay.lock().unwrap_or_else(PoisonError::into_inner);
        match offset.checked_add(out.len() as u64) {
            Some(end) if end <= overlay.len => {}
            _ => return Err(out_of_range()),
        }
        for (number, within, done, take) in pieces(offset, out.len()) {
            let unwritten;
            let page = match overlay.pages.get(&number) {
                Some(page) => page,
                None => {
                    unwritten = self.file_page(&overlay, number)?;
                    &unwritten
                }
            };
            copy(&mut *out, done, page, within, take)?;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let Some(overlay) = &self.trial else {
            self.healthy()?;
            return self.file.set_len(len);
        };
        let mut overlay = overlay.lock().unwrap_or_else(PoisonError::into_inner);
        overlay.visible = overlay.visible.min(len);
        overlay.len = len;
        overlay.pages.retain(|number, page| {
            let keep = len.saturating_sub(number * PAGE).min(PAGE) as usize;
            if let Some(cut) = page.get_mut(keep..) {
                cut.fill(0);
            }
            keep > 0
        });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.trial.is_some() {
            return Ok(());
        }
        self.healthy()?;
        self.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let Some(overlay) = &self.trial else {
            self.healthy()?;
            self.unsynced.note(offset, data.len());
            return self.file.write(offset, data);
        };
        let mut overlay = overlay.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, within, done, take) in pieces(offset, data.len()) {
            let mut page = match overlay.pages.remove(&number) {
                Some(page) => page,
                None => self.file_page(&overlay, number)?,
            };
            copy(&mut page, within, data, done, take)?;
            overlay.pages.insert(number, page);
        }
        overlay.len = overlay.len.max(offset + data.len() as u64);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn bytes(file: &File) -> Vec<u8> {
        let disk = FileBackend::new(file.try_clone().unwrap()).unwrap();
        let mut bytes = vec![0; disk.len().unwrap() as usize];
        disk.read(0, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_no_sync_has_covered_is_written_anew_and_then_forgotten() {
        let file = tempfile::tempfile().unwrap();
        let unsynced = Unsynced::default();
        let broken = Arc::new(AtomicBool::new(false));
        let disk = Disk::recovered(file.try_clone().unwrap(), &unsynced)
            .unwrap()
            .failing_while(Arc::clone(&broken));
        disk.set_len(5 * PAGE).unwrap();
        disk.write(10, &[1; 20]).unwrap();
        disk.sync_data().unwrap();
        assert!(unsynced.pages().is_empty());

        disk.write(2 * PAGE - 1, &[2; 2]).unwrap();
        disk.write(4 * PAGE, &[3; 10]).unwrap();
        broken.store(true, Ordering::SeqCst);
        assert!(disk.sync_data().is_err());
        assert_eq!(*unsynced.pages(), BTreeSet::from([1, 2, 4]));
        drop(disk);

        // Shorter by now: what is gone needs no writing, and the rest comes whole.
        file.set_len(4 * PAGE + 5).unwrap();
        let before = bytes(&file);
        let disk = Disk::recovered(file.try_clone().unwrap(), &unsynced).unwrap();
        assert!(unsynced.pages().is_empty());
        assert_eq!(bytes(&file), before);
        drop(disk);
    }
}
