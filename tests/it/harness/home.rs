//! A folder with a configuration, for commands that need no gateway beside them; and what they said.

use std::path::{Path, PathBuf};
use std::process::Output;

use super::prepared::{minimal, vestibule};

pub struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    /// With the smallest configuration.
    pub fn new() -> Self {
        let home = Home {
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::write(home.file(), minimal(&home.data())).unwrap();
        home
    }

    /// With this one.
    pub fn with(text: &str) -> Self {
        let home = Home::new();
        std::fs::write(home.file(), text).unwrap();
        home
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn file(&self) -> PathBuf {
        self.path().join("gateway.toml")
    }

    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        let file = self.file();
        let mut all = arguments.to_vec();
        all.extend(["-c", file.to_str().unwrap()]);
        vestibule(&all, "")
    }
}

pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

/// The words for people.
pub fn err(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!text.contains("panicked"), "{text}");
    text
}

/// The data.
pub fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
