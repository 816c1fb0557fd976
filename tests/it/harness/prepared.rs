//! A store folder that every test gateway starts from: two accounts, made once by the real command, and a known signing
//! key, so that `forge` can sign what the gateway would never sign.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use vestibule::auth::keyset::StoredKey;
use vestibule::clock::Timestamp;

use super::PASSWORD;

pub struct Prepared {
    folder: PathBuf,
    pub key: StoredKey,
}

/// The folder, made by whichever test comes first.
pub fn prepared() -> &'static Prepared {
    static PREPARED: OnceLock<Prepared> = OnceLock::new();
    PREPARED.get_or_init(make)
}

impl Prepared {
    pub fn copy_to(&self, folder: &Path) {
        std::fs::create_dir_all(folder).unwrap();
        let mut copied = 0;
        for entry in std::fs::read_dir(&self.folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
                copied += 1;
            }
        }
        assert!(copied > 0, "the prepared store has no files");
    }
}

fn make() -> Prepared {
    let home = home();
    let file = home.join("gateway.toml");
    std::fs::write(&file, minimal(&home.join("data"))).unwrap();
    add_user(
        &file,
        "alice",
        PASSWORD,
        &[
            "--email",
            "alice@example.com",
            "--group",
            "staff",
            "--group",
            "writers",
        ],
    );
    add_user(&file, "bob", PASSWORD, &[]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let made_at = Timestamp::from_secs(i64::try_from(now.as_secs()).unwrap() - 60);
    let key = StoredKey::generate(made_at).unwrap();
    put_key(&home.join("data"), &key);
    Prepared {
        folder: home.join("data"),
        key,
    }
}

/// A folder of this run under `target/`; those of runs that are over are swept away.
fn home() -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for entry in std::fs::read_dir(root).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let run = name.strip_prefix("prepared-");
        if run.is_some_and(|run| !Path::new("/proc").join(run).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    let home = root.join(format!("prepared-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&home);
    std::fs::create_dir_all(&home).unwrap();
    home
}

fn put_key(folder: &Path, key: &StoredKey) {
    use vestibule::store::Store as _;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let key = key.clone();
    let folder = folder.to_owned();
    std::thread::spawn(move || {
        runtime.block_on(async {
            let master = vestibule::store::master_key::master_key(&folder).unwrap();
            let store = vestibule::store::embedded::Embedded::open(&folder, &master, &[]).unwrap();
            let found = store.keys().await.unwrap().revision;
            store.replace_keys(&[key], found).await.unwrap();
        });
    })
    .join()
    .unwrap();
}

/// The smallest file that `user add` and `check` are content with.
pub fn minimal(data: &Path) -> String {
    format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\norigin = \"{}\"\n[tls]\nself_signed = true\n\
         [store]\npath = {data:?}\n[login.local]\n\
         [[upstream]]\nname = \"app\"\nurl = \"http://127.0.0.1:9\"\n\
         [[route]]\npath = \"/\"\nupstream = \"app\"\naccess = \"authenticated\"\n",
        super::ORIGIN
    )
}

/// Adds an account as an administrator's script would.
pub fn add_user(file: &Path, name: &str, password: &str, options: &[&str]) {
    let output = try_add_user(file, name, password, options);
    assert!(
        output.status.success(),
        "user add {name}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

pub fn try_add_user(file: &Path, name: &str, password: &str, options: &[&str]) -> Output {
    let mut arguments = vec!["user", "add", "-c", file.to_str().unwrap(), name];
    arguments.extend(options);
    vestibule(&arguments, &format!("{password}\n"))
}

/// Runs the real binary to its end with `input` on stdin.
pub fn vestibule(arguments: &[&str], input: &str) -> Output {
    run_with_input(
        Command::new(env!("CARGO_BIN_EXE_vestibule")).args(arguments),
        input,
    )
}

pub fn run_with_input(command: &mut Command, input: &str) -> Output {
    use std::io::Write as _;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that refuses its arguments may be gone before it reads.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}
