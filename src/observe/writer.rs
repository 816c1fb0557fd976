//! The bounded background writer of all log lines.
//!
//! A line is copied into a shared batch and written by one thread, many lines with one call; a request never waits for
//! stderr. When stderr is slower than the lines, access lines are dropped first, then log lines, audit lines last: each
//! stream has its own share of the memory, and what was dropped is counted. A process that is killed loses what the last
//! `PAUSE` brought; a regular end writes everything.

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::observe::metrics::{Counts, Stream};

/// How long lines gather before they are written together.
const PAUSE: Duration = Duration::from_millis(10);

/// How full the batch may be for a line of each stream to be still accepted.
fn share(stream: Stream) -> usize {
    match stream {
        Stream::Access => 1 << 20,
        Stream::Log => 2 << 20,
        Stream::Audit => 16 << 20,
    }
}

/// A batch larger than this is given back to the allocator once it is written.
const KEEP: usize = 1 << 20;

/// The writer's handle: cheap to share; the last one dropped writes what is left and ends the thread.
pub struct Lines {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    /// Something to write, or the end.
    work: Condvar,
    /// A batch was written.
    written: Condvar,
    dropped: Counts<Stream>,
}

#[derive(Default)]
struct State {
    batch: Vec<u8>,
    writing: bool,
    closing: bool,
}

impl Shared {
    /// A panic elsewhere cannot leave a half line here: lines are appended whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    /// Starts the writer's thread over `sink`.
    pub fn start(sink: impl Write + Send + 'static) -> std::io::Result<Arc<Lines>> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            written: Condvar::new(),
            dropped: Counts::default(),
        });
        let thread = std::thread::Builder::new().name("log".to_owned()).spawn({
            let shared = shared.clone();
            move || run(&shared, sink)
        })?;
        Ok(Arc::new(Lines {
            shared,
            thread: Some(thread),
        }))
    }

    /// Hands over one complete line (with its line end). Never waits for the sink.
    pub fn push(&self, stream: Stream, line: &[u8]) {
        let mut state = self.shared.lock();
        if state.batch.len() + line.len() > share(stream) {
            drop(state);
            self.shared.dropped.add(stream);
            return;
        }
        let was_empty = state.batch.is_empty();
        state.batch.extend_from_slice(line);
        drop(state);
        if was_empty {
            self.shared.work.notify_one();
        }
    }

    /// How many lines of each stream were dropped; a handle to register as a metric.
    pub fn dropped(&self) -> Counts<Stream> {
        self.shared.dropped.clone()
    }

    /// Waits until everything pushed before has been written, at most `limit`; says whether it was. For the end of the
    /// process (a blocked stderr must not keep it alive) and for tests.
    pub fn flush(&self, limit: Duration) -> bool {
        let state = self.shared.lock();
        let (_state, waited) = self
            .shared
            .written
            .wait_timeout_while(state, limit, |state| {
                state.writing || !state.batch.is_empty()
            })
            .unwrap_or_else(PoisonError::into_inner);
        !waited.timed_out()
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.take() {
            // The thread cannot panic but by its sink, and then there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, mut sink: impl Write) {
    let mut spare = Vec::new();
    loop {
        let mut state = shared.lock();
        while state.batch.is_empty() && !state.closing {
            state = shared
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if !state.closing {
            // Further lines gather meanwhile; only the end cuts the pause short.
            state = shared
                .work
                .wait_timeout_while(state, PAUSE, |state| !state.closing)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        std::mem::swap(&mut state.batch, &mut spare);
        let last = state.closing;
        state.writing = true;
        drop(state);

        // A sink that is gone (a closed pipe) must not end the gateway; its lines are lost by the operator's choice.
        let _ = sink.write_all(&spare).and_then(|()| sink.flush());
        spare.clear();
        spare.shrink_to(KEEP);

        let mut state = shared.lock();
        state.writing = false;
        let done = last && state.batch.is_empty();
        drop(state);
        shared.written.notify_all();
        if done {
            return;
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A sink that keeps everything.
    #[derive(Clone, Default)]
    pub(in crate::observe) struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Memory {
        pub(in crate::observe) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// A sink that accepts nothing until its sender is dropped.
    struct Blocked(mpsc::Receiver<()>);

    impl Write for Blocked {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_arrive_whole_and_in_order_from_each_thread() {
        let memory = Memory::default();
        let lines = Lines::start(memory.clone()).unwrap();
        std::thread::scope(|scope| {
            for name in ["a", "b", "c"] {
                let lines = &lines;
                scope.spawn(move || {
                    for n in 0..500 {
                        lines.push(Stream::Access, format!("{name} {n}\n").as_bytes());
                    }
                });
            }
        });
        drop(lines);
        let text = memory.text();
        for name in ["a", "b", "c"] {
            let numbers: Vec<usize> = text
                .lines()
                .filter_map(|line| line.strip_prefix(name)?.trim().parse().ok())
                .collect();
            assert_eq!(numbers, (0..500).collect::<Vec<_>>(), "{name}");
        }
    }

    #[test]
    fn flush_waits_for_what_was_pushed() {
        let memory = Memory::default();
        let lines = Lines::start(memory.clone()).unwrap();
        lines.push(Stream::Audit, b"one\n");
        assert!(lines.flush(Duration::from_secs(60)));
        assert_eq!(memory.text(), "one\n");
    }

    #[test]
    fn a_blocked_sink_costs_access_lines_but_no_audit_line_and_no_time() {
        let (release, blocked) = mpsc::channel();
        let lines = Lines::start(Blocked(blocked)).unwrap();
        let line = vec![b'x'; 1000];
        for _ in 0..5000 {
            lines.push(Stream::Access, &line);
        }
        let dropped = lines.dropped();
        assert!(dropped.count(Stream::Access) > 2000);
        lines.push(Stream::Log, &line);
        lines.push(Stream::Audit, &line);
        assert_eq!(dropped.count(Stream::Log), 0);
        assert_eq!(dropped.count(Stream::Audit), 0);
        drop(release);
    }
}
