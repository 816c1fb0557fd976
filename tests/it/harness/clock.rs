//! A wall clock that the test moves under the unmodified binary, by a small library that is preloaded (tests/clock), compiled
//! at its first use.
//!
//! Only the wall clock moves: timers run on the monotonic clock, as they must.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The compiled library.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = LIBRARY.get_or_init(|| {
        // In the build's folder: a test binary that is killed leaves nothing elsewhere.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = folder.path().join("wallclock.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clock/wallclock.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-o"])
            .args([&path, &source])
            .status()
            .expect("a C compiler is installed");
        assert!(compiled.success(), "{}", source.display());
        (folder, path)
    });
    path
}

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
        std::fs::write(&clock.file, [0; 16]).unwrap();
        clock
    }

    /// Puts `command` under this clock.
    pub fn govern(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", library())
            .env("TEST_CLOCK", &self.file);
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

    /// The number twice, the second first: see the library.
    fn write(&self, ahead: i64) {
        let number = ahead.to_ne_bytes();
        let file = File::options().write(true).open(&self.file).unwrap();
        file.write_all_at(&number, 8).unwrap();
        file.write_all_at(&number, 0).unwrap();
    }
}
