//! Programs for Node.js with packages from npm, pinned by `tests/provider/package-lock.json`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// `target/test-node`, made when it is not there or when the pinned versions changed.
pub fn modules() -> &'static PathBuf {
    static MODULES: OnceLock<PathBuf> = OnceLock::new();
    MODULES.get_or_init(|| {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let home = root.join("target/test-node");
        let lock = root.join("tests/provider/package-lock.json");
        let done = home.join("installed-lock.json");
        let wanted = std::fs::read(&lock).unwrap();
        if std::fs::read(&done).ok().as_ref() != Some(&wanted) {
            eprintln!("making {} (once)", home.display());
            install(&root, &home);
            std::fs::write(&done, wanted).unwrap();
        }
        home
    })
}

fn install(root: &Path, home: &Path) {
    std::fs::create_dir_all(home).unwrap();
    for file in ["package.json", "package-lock.json"] {
        std::fs::copy(root.join("tests/provider").join(file), home.join(file)).unwrap();
    }
    let status = Command::new("npm")
        .args(["ci", "--prefer-offline", "--no-audit", "--no-fund"])
        .args(["--omit=dev", "--loglevel=error"])
        .current_dir(home)
        .status()
        .expect("npm is installed (scripts/test --install)");
    assert!(status.success(), "npm ci in {}: {status}", home.display());
}
