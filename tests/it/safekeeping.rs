//! What must not be lost or laid open: the master key, the files' owners and modes, certificates in time.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use crate::harness::PASSWORD;
use crate::harness::prepared::{add_user, minimal, run_with_input};

/// A user that owns nothing else here.
const NOBODY: u32 = 65534;

struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let home = Home {
            folder: tempfile::tempdir().unwrap(),
        };
        home.configure(|text| text);
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn configure(&self, change: impl Fn(String) -> String) {
        let text = change(minimal(&self.path("data")));
        std::fs::write(self.path("gateway.toml"), text).unwrap();
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        std::fs::write(self.path(name), text).unwrap();
        permit(&self.path(name), mode);
    }

    fn run(&self, arguments: &[&str]) -> Told {
        self.run_as(None, arguments)
    }

    fn run_as(&self, user: Option<u32>, arguments: &[&str]) -> Told {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
        command.args(arguments).current_dir(self.folder.path());
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        Told::of(run_with_input(&mut command, &format!("{PASSWORD}\n")))
    }
}

/// What a command said, and how it ended.
#[derive(Debug)]
struct Told {
    code: i32,
    err: String,
    out: String,
}

impl Told {
    fn of(output: Output) -> Self {
        let told = Told {
            code: output.status.code().unwrap(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
        };
        assert!(!told.err.contains("panicked"), "{told:?}");
        told
    }

    #[track_caller]
    fn is(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        for word in words {
            // Messages are wrapped for people.
            let flat = self.err.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(flat.contains(word), "no {word:?} in {self:?}");
        }
    }
}

fn permit(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn owner(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().uid()
}

fn is_root() -> bool {
    owner(Path::new("/proc/self")) == 0
}

#[test]
fn a_lost_master_key_is_never_replaced() {
    let home = Home::new();
    add_user(&home.path("gateway.toml"), "ana", PASSWORD, &[]);
    let key = home.path("data/master.key");
    std::fs::remove_file(&key).unwrap();
    let before = std::fs::read(home.path("data/store.redb")).unwrap();
    for (command, code) in [
        (["check"].as_slice(), 2),
        (&["run"], 2),
        (&["user", "list"], 1),
        (&["user", "add", "bo"], 1),
    ] {
        home.run(command)
            .is(code, &["master.key is missing", "restore"]);
        assert!(!key.exists(), "{command:?} made another");
    }
    assert_eq!(std::fs::read(home.path("data/store.redb")).unwrap(), before);
}

#[test]
fn a_master_key_that_is_no_secret_or_no_key_is_told_by_check_as_by_run() {
    let home = Home::new();
    add_user(&home.path("gateway.toml"), "ana", PASSWORD, &[]);
    let key = home.path("data/master.key");
    home.run(&["check"]).is(0, &[]);
    for mode in [0o640, 0o644, 0o664, 0o666] {
        permit(&key, mode);
        for command in ["check", "run"] {
            let words = format!("has mode {mode:o} and can be read by others");
            home.run(&[command])
                .is(2, &["gateway.toml:7:8", &words, "run: chmod 600"]);
        }
    }
    permit(&key, 0o600);
    home.run(&["check"]).is(0, &[]);
    std::fs::write(&key, "c2hvcnQ=\n").unwrap();
    for command in ["check", "run"] {
        home.run(&[command]).is(
            2,
            &["gateway.toml:7:8", "at least 32 bytes", "restore the key"],
        );
    }
}

#[test]
fn a_store_that_others_can_read_is_told_by_check_as_by_run() {
    let home = Home::new();
    add_user(&home.path("gateway.toml"), "ana", PASSWORD, &[]);
    let store = home.path("data/store.redb");
    for mode in [0o640, 0o644, 0o604] {
        permit(&store, mode);
        let words = format!("its mode {mode:o} lets others read it");
        home.run(&["check"])
            .is(2, &["gateway.toml:7:8", &words, "run: chmod 600"]);
        home.run(&["run"]).is(2, &[&words, "run: chmod 600"]);
    }
    permit(&store, 0o600);
    home.run(&["check"]).is(0, &[]);
}

#[test]
fn a_folder_that_cannot_be_made_is_told_by_check() {
    let home = Home::new();
    home.write("file", "", 0o600);
    for (path, code) in [("file/data", 2), ("none/deep/data", 0)] {
        let data = format!("{:?}", home.path("data"));
        home.configure(|text| text.replace(&data, &format!("{path:?}")));
        let words: &[&str] = match code {
            2 => &["gateway.toml:7:8", "file is not a folder"],
            _ => &[],
        };
        home.run(&["check"]).is(code, words);
    }
    assert!(!home.path("none").exists(), "check leaves nothing behind");
    home.configure(|text| text.replace("data", "file/data"));
    home.run(&["run"]).is(2, &["is not a folder"]);
}

#[test]
fn what_root_makes_belongs_to_the_owner_of_the_folder() {
    if !is_root() {
        return; // nobody else can make files for others
    }
    let home = Home::new();
    permit(home.folder.path(), 0o755);
    let data = home.path("data");
    std::fs::create_dir(&data).unwrap();
    chown(&data, Some(NOBODY), Some(NOBODY)).unwrap();
    home.run(&["user", "add", "ana"]).is(0, &[]);
    home.run(&["store", "backup", "backup"]).is(0, &[]);
    home.run(&["store", "restore", "--force", "backup"])
        .is(0, &[]);
    let mut seen = 0;
    for entry in std::fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(owner(&path), NOBODY, "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 3, "key, store and the one that was replaced");
    let listed = home.run_as(Some(NOBODY), &["user", "list"]);
    listed.is(0, &[]);
    assert!(listed.out.contains("ana"), "{listed:?}");

    // What root owns all the same is told with a hint.
    chown(data.join("store.redb"), Some(0), Some(0)).unwrap();
    home.run_as(Some(NOBODY), &["user", "list"])
        .is(1, &["store.redb", "the user who runs vestibule must own"]);
}

#[test]
fn a_former_master_key_can_be_given_up_once_it_was_listed() {
    let home = Home::new();
    for (name, letter) in [("one", "1"), ("two", "2"), ("three", "3")] {
        home.write(name, &letter.repeat(40), 0o600);
    }
    let with = |secret: &str| {
        home.configure(|text| format!("{text}[secret]\n{secret}\n"));
    };
    let keys = || {
        let told = home.run(&["keys", "list", "--json"]);
        told.is(0, &[]);
        told.out
    };
    with("file = \"one\"");
    home.run(&["user", "add", "ana"]).is(0, &[]);
    let before = keys();
    assert!(before.contains("kid"), "{before}");

    with("file = \"two\"");
    home.run(&["keys", "list"])
        .is(1, &["another master key", "secret.previous"]);
    with("file = \"two\"\nprevious = [\"one\"]");
    assert_eq!(keys(), before);
    with("file = \"two\"");
    assert_eq!(keys(), before, "sealed anew when `previous` was there");
    with("file = \"three\"\nprevious = [\"one\"]");
    home.run(&["keys", "list"]).is(1, &["another master key"]);
}

/// A certificate for these names, valid for so many days around now, and its key.
fn certificate(home: &Home, name: &str, names: &[&str], from_days: i64, to_days: i64) {
    let day = |days: i64| {
        let now = SystemTime::now();
        let by = Duration::from_secs(days.unsigned_abs() * 86_400);
        if days < 0 { now - by } else { now + by }
    };
    let key = rcgen::KeyPair::generate().unwrap();
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.not_before = day(from_days).into();
    params.not_after = day(to_days).into();
    let made = params.self_signed(&key).unwrap();
    home.write(&format!("{name}.pem"), &made.pem(), 0o644);
    home.write(&format!("{name}.key"), &key.serialize_pem(), 0o600);
}

fn with_certificate(home: &Home, name: &str, more: &str) {
    home.configure(|text| {
        let tls = format!("[[tls.certificate]]\ncert = \"{name}.pem\"\nkey = \"{name}.key\"\n");
        text.replace("[tls]\nself_signed = true\n", &tls) + more
    });
}

#[test]
fn check_warns_of_certificates_that_browsers_refuse() {
    let home = Home::new();
    let warned = |names: &[&str], from: i64, to: i64, more: &str, words: &[&str]| {
        certificate(&home, "c", names, from, to);
        with_certificate(&home, "c", more);
        let told = home.run(&["check"]);
        told.is(0, words);
        assert_eq!(told.err.contains("warning"), !words.is_empty(), "{told:?}");
    };
    warned(&["app.test"], -30, 60, "", &[]);
    warned(
        &["app.test"],
        -30,
        -2,
        "",
        &["gateway.toml:5:8", "c.pem expired on", "renew"],
    );
    warned(
        &["app.test"],
        2,
        30,
        "",
        &["gateway.toml:5:8", "is not valid before"],
    );
    warned(
        &["app.test"],
        -30,
        13,
        "",
        &["gateway.toml:5:8", "expires on", "renew"],
    );
    warned(&["app.test"], -30, 15, "", &[]);
    warned(
        &["other.test"],
        -30,
        60,
        "",
        &["gateway.toml:3:", "no certificate is for app.test", "c.pem"],
    );
    let route = "[[route]]\nhost = \"deep.app.test\"\nupstream = \"app\"\n";
    warned(
        &["app.test"],
        -30,
        60,
        route,
        &["no certificate is for deep.app.test"],
    );
    warned(&["app.test", "*.app.test"], -30, 60, route, &[]);
}

#[test]
fn commands_that_serve_nobody_need_no_certificate() {
    let home = Home::new();
    home.run(&["user", "add", "ana"]).is(0, &[]);
    with_certificate(&home, "gone", "");
    home.run(&["user", "list"]).is(0, &[]);
    home.run(&["explain", "GET", "https://app.test/"])
        .is(0, &[]);
    home.run(&["check"]).is(2, &["gone.pem"]);
    home.run(&["run"]).is(2, &["gone.pem"]);
}

#[test]
fn secrets_are_for_their_owner() {
    let home = Home::new();
    certificate(&home, "c", &["app.test"], -1, 60);
    home.write("secret", &"s".repeat(40), 0o600);
    with_certificate(&home, "c", "[secret]\nfile = \"secret\"\n");
    let told = home.run(&["check"]);
    told.is(0, &[]);
    assert!(!told.err.contains("warning"), "{told:?}");
    for name in ["secret", "c.key"] {
        for (mode, code, words) in [
            (0o640, 0, [].as_slice()),
            (
                0o644,
                0,
                &["everybody on this machine can read it", "chmod o-rwx"],
            ),
            (0o646, 2, &["can be changed by everybody", "chmod o-rwx"]),
        ] {
            permit(&home.path(name), mode);
            let told = home.run(&["check"]);
            told.is(code, words);
            assert_eq!(
                told.err.contains(&format!("{name} ")),
                !words.is_empty(),
                "{told:?}"
            );
        }
        permit(&home.path(name), 0o600);
    }
}

#[test]
fn a_key_with_a_passphrase_is_told_apart() {
    let home = Home::new();
    certificate(&home, "c", &["app.test"], -1, 60);
    with_certificate(&home, "c", "");
    for text in [
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIBvTBXBgkq\n-----END ENCRYPTED PRIVATE KEY-----\n",
        "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nMIIB\n-----END EC PRIVATE KEY-----\n",
    ] {
        home.write("c.key", text, 0o600);
        home.run(&["check"])
            .is(2, &["gateway.toml:6:7", "has a passphrase", "openssl pkey"]);
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_a_problem_of_the_configuration() {
    let home = Home::new();
    permit(home.folder.path(), 0o755);
    let data = home.path("data");
    std::fs::create_dir(&data).unwrap();
    permit(&data, 0o500);
    let user = is_root().then_some(NOBODY);
    for command in ["check", "run"] {
        home.run_as(user, &[command]).is(
            2,
            &[
                "gateway.toml:7:8",
                "nothing can be written",
                "store.path",
                "own",
            ],
        );
    }
    permit(&data, 0o700);
    if is_root() {
        chown(&data, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    home.run_as(user, &["check"]).is(0, &[]);
    assert_eq!(
        std::fs::read_dir(&data).unwrap().count(),
        0,
        "something is left behind"
    );
}
