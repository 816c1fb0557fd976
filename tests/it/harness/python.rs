//! Third-party apps from PyPI in a virtual environment of their own, pinned by `tests/requirements.txt`.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// `target/test-venv/bin`, made when it is not there or when the pinned versions changed.
pub fn venv() -> &'static PathBuf {
    static VENV: OnceLock<PathBuf> = OnceLock::new();
    VENV.get_or_init(|| {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let requirements = root.join("tests/requirements.txt");
        let venv = root.join("target/test-venv");
        let done = venv.join("requirements.txt");
        let wanted = std::fs::read(&requirements).unwrap();
        if std::fs::read(&done).ok().as_ref() != Some(&wanted) {
            eprintln!("making {} (once)", venv.display());
            // A folder that was copied from elsewhere has commands that act on the other one.
            let _ = std::fs::remove_dir_all(&venv);
            run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
            run(Command::new(venv.join("bin/python"))
                .args([
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                    "-r",
                ])
                .arg(&requirements));
            std::fs::write(&done, wanted).unwrap();
        }
        venv.join("bin")
    })
}

fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}
