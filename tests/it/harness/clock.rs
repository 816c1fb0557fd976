//! A wall clock that the test moves under the unmodified binary, by libfaketime (Debian's package `faketime`).
//!
//! Only the wall clock moves: timers run on the monotonic clock, as they must.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
];

pub struct WallClock {
    file: PathBuf,
    /// Milliseconds.
    ahead: Mutex<i64>,
    _folder: Option<tempfile::TempDir>,
}

impl WallClock {
    pub fn in_folder(folder: &Path) -> Self {
        Self::at(folder)
    }

    /// One for several programs, such as a gateway and the provider of its users.
    pub fn shared() -> Arc<Self> {
        let folder = tempfile::tempdir().unwrap();
        Arc::new(Self::at(folder.path()).keeping(folder))
    }

    fn keeping(self, folder: tempfile::TempDir) -> Self {
        WallClock {
            _folder: Some(folder),
            ..self
        }
    }

    fn at(folder: &Path) -> Self {
        let clock = WallClock {
            file: folder.join("wall-clock"),
            ahead: Mutex::new(0),
            _folder: None,
        };
        clock.write(0);
        clock
    }

    /// Puts `command` under this clock.
    pub fn govern(&self, command: &mut Command) {
        let library = LIBRARIES
            .iter()
            .find(|library| Path::new(library).exists())
            .expect("libfaketime is installed (apt-get install faketime; scripts/test does it)");
        command
            .env("LD_PRELOAD", library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1");
    }

    /// Moves it forward.
    pub fn advance(&self, by: Duration) {
        self.step(i64::try_from(by.as_millis()).unwrap());
    }

    /// Moves it by this many milliseconds, backward as well.
    pub fn step(&self, millis: i64) {
        let mut ahead = self.ahead.lock().unwrap();
        *ahead += millis;
        self.write(*ahead);
    }

    /// What the gateway takes for now, in seconds since 1970.
    pub fn now(&self) -> i64 {
        self.millis().div_euclid(1000)
    }

    /// [`Self::now`] in milliseconds.
    pub fn millis(&self) -> i64 {
        let real = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        i64::try_from(real.as_millis()).unwrap() + *self.ahead.lock().unwrap()
    }

    fn write(&self, ahead: i64) {
        let next = self.file.with_extension("next");
        std::fs::write(&next, format!("{:+}s\n", ahead as f64 / 1000.0)).unwrap();
        std::fs::rename(&next, &self.file).unwrap();
    }
}
