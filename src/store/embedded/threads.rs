//! The threads that touch the file: one writes with group commit, one reads, and one reads what takes long.
//!
//! The writer takes everything that is waiting, applies it in one transaction and answers each caller only after the
//! commit is on the disk: many callers share one fsync. After an I/O error redb refuses further work, so the database is
//! closed and the next caller finds it opened again. Must not know
//! the records.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use redb::Database;
use tokio::sync::oneshot;

use super::tables::Tables;
use crate::store::StoreError;

/// Most operations that share one commit; bounds the memory of a transaction, not the throughput.
const BATCH: usize = 512;
/// Most operations that wait; beyond it callers are refused at once instead of piling up behind a dead disk.
const QUEUE: usize = 8192;

/// How the file is opened, again and again.
pub(super) type Opener = Box<dyn Fn() -> Result<Database, StoreError> + Send>;

/// The open database, or the means to open it.
pub(super) struct Holder {
    open: Mutex<(Option<Arc<Database>>, Opener)>,
}

impl Holder {
    pub(super) fn new(database: Database, opener: Opener) -> Self {
        Holder {
            open: Mutex::new((Some(Arc::new(database)), opener)),
        }
    }

    /// The database; opened again if it failed before.
    pub(super) fn database(&self) -> Result<Arc<Database>, StoreError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = &open.0 {
            return Ok(Arc::clone(database));
        }
        let database = Arc::new(open.1()?);
        open.0 = Some(Arc::clone(&database));
        Ok(database)
    }

    /// Lets go of a database that failed; it closes when its last user has let go too.
    fn discard(&self, failed: &Arc<Database>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open
            .0
            .as_ref()
            .is_some_and(|database| Arc::ptr_eq(database, failed))
        {
            open.0 = None;
        }
    }
}

/// Why an operation inside a transaction stopped.
pub(super) enum Stop {
    /// This operation is refused; the others of the batch go on. It has written nothing.
    Refused(StoreError),
    /// The database failed; the whole batch fails with it.
    Failed(String),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Stop::Refused(error)
    }
}

/// Any redb error inside an operation.
impl<E: Into<redb::Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Stop::Failed(error.into().to_string())
    }
}

/// The tables of a transaction that several operations share.
pub(super) struct Batch<'t> {
    tables: Tables<'t>,
    dirty: bool,
}

impl<'t> Batch<'t> {
    /// The tables, to be written to.
    pub(super) fn change(&mut self) -> &mut Tables<'t> {
        self.dirty = true;
        &mut self.tables
    }

    /// The tables, to be read only: a batch that changed nothing costs no fsync.
    pub(super) fn look(&mut self) -> &mut Tables<'t> {
        &mut self.tables
    }
}

trait Operation: Send {
    /// Runs once; keeps its result until `answer`.
    fn apply(&mut self, batch: &mut Batch<'_>) -> Result<(), String>;
    /// Tells the caller: its own result if the batch is durable, else why not.
    fn answer(self: Box<Self>, durable: Result<(), &str>);
}

struct Pending<T, F> {
    run: Option<F>,
    result: Option<Result<T, StoreError>>,
    caller: oneshot::Sender<Result<T, StoreError>>,
}

impl<T: Send, F: FnOnce(&mut Batch<'_>) -> Result<T, Stop> + Send> Operation for Pending<T, F> {
    fn apply(&mut self, batch: &mut Batch<'_>) -> Result<(), String> {
        let Some(run) = self.run.take() else {
            return Ok(());
        };
        self.result = Some(match run(batch) {
            Ok(value) => Ok(value),
            Err(Stop::Refused(error)) => Err(error),
            Err(Stop::Failed(reason)) => return Err(reason),
        });
        Ok(())
    }

    fn answer(self: Box<Self>, durable: Result<(), &str>) {
        let answer = match (durable, self.result) {
            (Ok(()), Some(result)) => result,
            (Ok(()), None) => Err(stopped()),
            (Err(reason), _) => Err(StoreError::Unavailable(reason.to_owned())),
        };
        // A caller that went away does not undo what was written.
        let _ = self.caller.send(answer);
    }
}

type Look = Box<dyn FnOnce(&Holder) + Send>;

/// Where operations are handed in.
pub(super) struct Threads {
    holder: Arc<Holder>,
    writes: Option<mpsc::SyncSender<Box<dyn Operation>>>,
    reads: Option<mpsc::SyncSender<Look>>,
    scans: Option<mpsc::SyncSender<Look>>,
    running: Vec<std::thread::JoinHandle<()>>,
}

impl Threads {
    pub(super) fn start(holder: Holder) -> Result<Self, StoreError> {
        let holder = Arc::new(holder);
        let (writes, queue) = mpsc::sync_channel::<Box<dyn Operation>>(QUEUE);
        let for_writer = Arc::clone(&holder);
        let writer = spawn("store-writer", move || write_loop(&queue, &for_writer))?;
        let (reads, reader) = look_loop("store-reader", &holder)?;
        let (scans, scanner) = look_loop("store-scanner", &holder)?;
        Ok(Threads {
            holder,
            writes: Some(writes),
            reads: Some(reads),
            scans: Some(scans),
            running: vec![writer, reader, scanner],
        })
    }

    /// What they work on.
    pub(super) fn holder(&self) -> &Arc<Holder> {
        &self.holder
    }

    /// Runs `run` in a transaction and returns its result once that is durable.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut Batch<'_>) -> Result<T, Stop> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (caller, answer) = oneshot::channel();
        let operation = Box::new(Pending {
            run: Some(run),
            result: None,
            caller,
        });
        self.writes
            .as_ref()
            .ok_or_else(stopped)?
            .try_send(operation)
            .map_err(|_| stopped())?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Runs `run`, which takes microseconds, on a snapshot.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        run: impl FnOnce(&redb::ReadTransaction) -> Result<T, Stop> + Send + 'static,
    ) -> Result<T, StoreError> {
        ask(self.reads.as_ref(), run).await
    }

    /// Runs `run`, which may read everything there is, on a snapshot; renewals do not wait for it.
    pub(super) async fn scan<T: Send + 'static>(
        &self,
        run: impl FnOnce(&redb::ReadTransaction) -> Result<T, Stop> + Send + 'static,
    ) -> Result<T, StoreError> {
        ask(self.scans.as_ref(), run).await
    }
}

async fn ask<T: Send + 'static>(
    lane: Option<&mpsc::SyncSender<Look>>,
    run: impl FnOnce(&redb::ReadTransaction) -> Result<T, Stop> + Send + 'static,
) -> Result<T, StoreError> {
    let (caller, answer) = oneshot::channel();
    let look: Look = Box::new(move |holder| {
        let _ = caller.send(look(holder, run));
    });
    lane.ok_or_else(stopped)?
        .try_send(look)
        .map_err(|_| stopped())?;
    answer.await.unwrap_or_else(|_| Err(stopped()))
}

impl Drop for Threads {
    /// Ends the threads and waits for them, so that the file is closed and unlocked when the store is gone.
    fn drop(&mut self) {
        self.writes = None;
        self.reads = None;
        self.scans = None;
        for thread in self.running.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A thread that looks, and where it is asked to.
fn look_loop(
    name: &str,
    holder: &Arc<Holder>,
) -> Result<(mpsc::SyncSender<Look>, std::thread::JoinHandle<()>), StoreError> {
    let (lane, looks) = mpsc::sync_channel::<Look>(QUEUE);
    let holder = Arc::clone(holder);
    let thread = spawn(name, move || {
        while let Ok(look) = looks.recv() {
            // A damaged page can make redb panic; the caller then hears that it was not answered.
            let _ = catch_unwind(AssertUnwindSafe(|| look(&holder)));
        }
    })?;
    Ok((lane, thread))
}

fn spawn(
    name: &str,
    run: impl FnOnce() + Send + 'static,
) -> Result<std::thread::JoinHandle<()>, StoreError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|error| StoreError::Unavailable(format!("no thread for the store: {error}")))
}

fn stopped() -> StoreError {
    StoreError::Unavailable("the store does not answer".to_owned())
}

fn look<T>(
    holder: &Holder,
    run: impl FnOnce(&redb::ReadTransaction) -> Result<T, Stop>,
) -> Result<T, StoreError> {
    use redb::ReadableDatabase as _;
    let database = holder.database()?;
    let result = database
        .begin_read()
        .map_err(Stop::from)
        .and_then(|transaction| run(&transaction));
    match result {
        Ok(value) => Ok(value),
        Err(Stop::Refused(error)) => Err(error),
        Err(Stop::Failed(reason)) => {
            holder.discard(&database);
            Err(StoreError::Unavailable(reason))
        }
    }
}

fn write_loop(queue: &mpsc::Receiver<Box<dyn Operation>>, holder: &Holder) {
    while let Ok(first) = queue.recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH {
            match queue.try_recv() {
                Ok(next) => batch.push(next),
                Err(_) => break,
            }
        }
        // A damaged page can make redb panic; that fails the batch, not the thread.
        let durable = catch_unwind(AssertUnwindSafe(|| commit(holder, &mut batch)))
            .unwrap_or_else(|_| Err("the store file is damaged".to_owned()));
        for operation in batch {
            operation.answer(durable.as_ref().copied().map_err(String::as_str));
        }
    }
}

fn commit(holder: &Holder, operations: &mut [Box<dyn Operation>]) -> Result<(), String> {
    let database = holder.database().map_err(|error| match error {
        StoreError::Unavailable(reason) => reason,
        other => other.to_string(),
    })?;
    let attempt = || -> Result<(), String> {
        let transaction = database.begin_write().map_err(|error| error.to_string())?;
        let mut batch = Batch {
            tables: Tables::of(&transaction),
            dirty: false,
        };
        for operation in operations {
            operation.apply(&mut batch)?;
        }
        let dirty = batch.dirty;
        // Closes the tables, without which there is no commit.
        drop(batch);
        if dirty {
            // One fsync: whether a commit is whole is told by its checksums. The other way (quick repair) takes two, and
            // spares a look at every page after a crash, which opening takes in any case.
            transaction.commit().map_err(|error| error.to_string())
        } else {
            transaction.abort().map_err(|error| error.to_string())
        }
    };
    let result = catch_unwind(AssertUnwindSafe(attempt))
        .unwrap_or_else(|_| Err("the store file is damaged".to_owned()));
    if result.is_err() {
        holder.discard(&database);
    }
    result
}
