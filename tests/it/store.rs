//! Backups of a running store and what comes back from them, with the real binary.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::harness::home::{Home, code, err};
use crate::harness::prepared::{add_user, minimal};
use crate::harness::{ACCESS, App, Gateway, PASSWORD};

/// Asserts that it worked.
fn done(output: &Output) -> String {
    assert_eq!(code(output), 0, "{}", err(output));
    err(output)
}

/// Asserts that it was refused, for this reason.
fn refused(output: &Output, why: &str) {
    assert_eq!(code(output), 1, "{}", err(output));
    assert!(err(output).contains(why), "{}", err(output));
}

fn holds(bytes: &[u8], secret: &str) -> bool {
    bytes
        .windows(secret.len())
        .any(|window| window == secret.as_bytes())
}

/// Files in a folder whose names begin like this.
fn files(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.starts_with(prefix)
        })
        .collect()
}

#[tokio::test]
async fn a_restored_backup_brings_accounts_back_and_nothing_that_was_ended_or_spent() {
    let app = App::start().await;
    let mut gateway = Gateway::before(&app).run();
    let alice = gateway.signed_in("alice").await;
    let file = gateway.folder.join("today.backup");
    let path = file.to_str().unwrap().to_owned();
    let told = done(&gateway.command(&["store", "backup", &path]));
    assert!(
        told.contains("2 accounts") && told.contains("1 session"),
        "{told}"
    );
    let mode = std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let bytes = std::fs::read(&file).unwrap();
    for secret in [
        alice.access().unwrap(),
        alice.refresh().unwrap(),
        PASSWORD.to_owned(),
    ] {
        assert!(!holds(&bytes, &secret));
    }
    gateway.until_logged(&["audit", "store_backup"]).await;
    assert_eq!(alice.get("/").await.status, 200, "a backup disturbs nobody");
    refused(&gateway.command(&["store", "backup", &path]), "--force");
    let nowhere = gateway.folder.join("none/today.backup");
    refused(
        &gateway.command(&["store", "backup", nowhere.to_str().unwrap()]),
        &format!(
            "there is no folder {}",
            gateway.folder.join("none").display()
        ),
    );
    assert_eq!(
        std::fs::read(&file).unwrap(),
        bytes,
        "never written over unasked"
    );
    done(&gateway.command(&["store", "backup", "--force", &path]));
    done(&gateway.command(&["store", "verify", &path]));
    refused(
        &gateway.command(&["store", "restore", "--force", &path]),
        "running",
    );

    // What happens after the backup: an account more, and the thief's session is ended.
    gateway.add_user("carol", &[]);
    let thief = alice.copy();
    done(&gateway.command(&["session", "revoke", &alice.session()]));
    assert_eq!(thief.get("/").await.status, 401);

    assert!(gateway.terminate().success());
    let data = gateway.folder.join("data");
    let before = std::fs::read(data.join("store.redb")).unwrap();
    refused(&gateway.command(&["store", "restore", &path]), "--force");
    assert_eq!(std::fs::read(data.join("store.redb")).unwrap(), before);
    let told = done(&gateway.command(&["store", "restore", "--force", &path]));
    assert!(told.contains("everybody signs in again"), "{told}");
    let aside = files(&data, "store.redb.replaced-");
    assert_eq!(aside.len(), 1, "the store that was there is kept");
    assert_eq!(std::fs::read(&aside[0]).unwrap(), before);
    let name = aside[0].file_name().unwrap().to_string_lossy().into_owned();
    assert!(
        name.starts_with("store.redb.replaced-20") && name.contains('T'),
        "dated: {name}"
    );
    assert!(files(&data, ".store-").is_empty(), "nothing half is left");

    gateway.start_again();
    for browser in [alice, thief] {
        let mut again = browser.copy();
        again.door = gateway.door();
        assert_eq!(
            again.get("/").await.status,
            401,
            "an ended session came back"
        );
        again.drop_cookie(ACCESS);
        assert_eq!(
            again.get("/").await.status,
            401,
            "a refresh token came back"
        );
    }
    assert_eq!(gateway.signed_in("alice").await.get("/").await.status, 200);
    assert_ne!(
        gateway.anon().sign_in("carol", PASSWORD, "/").await.status,
        303,
        "an account of after the backup"
    );
}

#[tokio::test]
async fn kept_sessions_go_on_or_heal_and_never_run_ahead() {
    let app = App::start().await;
    let mut gateway = Gateway::before(&app).run();
    let quiet = gateway.signed_in("alice").await;
    let once = gateway.signed_in("alice").await;
    let twice = gateway.signed_in("bob").await;
    let file = gateway.folder.join("b");
    let path = file.to_str().unwrap().to_owned();
    done(&gateway.command(&["store", "backup", &path]));
    for (browser, times) in [(&once, 1), (&twice, 2)] {
        for _ in 0..times {
            browser.drop_cookie(ACCESS);
            assert_eq!(browser.get("/").await.status, 200);
        }
    }
    assert!(gateway.terminate().success());
    done(&gateway.command(&["store", "restore", "--force", "--keep-sessions", &path]));
    gateway.start_again();
    for (browser, status) in [(quiet, 200), (once, 200), (twice, 401)] {
        let mut again = browser.copy();
        again.door = gateway.door();
        again.drop_cookie(ACCESS);
        assert_eq!(again.get("/").await.status, status);
    }
}

/// A store with one account, and no gateway.
fn with_alice() -> Home {
    let home = Home::new();
    add_user(&home.file(), "alice", PASSWORD, &[]);
    home
}

fn place(home: &Home, name: &str) -> String {
    home.path().join(name).to_str().unwrap().to_owned()
}

#[test]
fn a_backup_goes_through_a_pipe_and_to_a_new_machine() {
    let home = with_alice();
    let piped = home.run(&["store", "backup", "-"]);
    done(&piped);
    let path = place(&home, "piped");
    std::fs::write(&path, &piped.stdout).unwrap();
    done(&home.run(&["store", "verify", &path]));

    let machine = with_alice();
    std::fs::remove_dir_all(machine.data()).unwrap();
    // Nothing is made where the key is missing, and another key does not do.
    refused(&machine.run(&["store", "restore", &path]), "master key");
    assert!(!machine.data().exists());
    std::fs::create_dir(machine.data()).unwrap();
    let foreign = with_alice();
    let key = |home: &Home| home.data().join("master.key");
    std::fs::copy(key(&foreign), key(&machine)).unwrap();
    refused(
        &machine.run(&["store", "restore", &path]),
        "another master key",
    );
    assert_eq!(std::fs::read_dir(machine.data()).unwrap().count(), 1);
    std::fs::copy(key(&home), key(&machine)).unwrap();
    let restored = Command::new(env!("CARGO_BIN_EXE_vestibule"))
        .args(["store", "restore", "-", "-c"])
        .arg(machine.file())
        .stdin(std::fs::File::open(&path).unwrap())
        .output()
        .unwrap();
    done(&restored);
    let list = machine.run(&["user", "list", "--json"]);
    assert!(String::from_utf8_lossy(&list.stdout).contains("alice"));
}

#[test]
fn a_backup_that_is_not_whole_is_no_backup() {
    let home = with_alice();
    let path = place(&home, "good");
    done(&home.run(&["store", "backup", &path]));
    let good = std::fs::read(&path).unwrap();
    let store = std::fs::read(home.data().join("store.redb")).unwrap();
    let mut changed = good.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    let short = good[..good.len() - 1].to_vec();
    for (name, bytes) in [
        ("changed", changed),
        ("short", short),
        ("empty", Vec::new()),
        ("other", store.clone()),
    ] {
        let bad = place(&home, name);
        std::fs::write(&bad, &bytes).unwrap();
        refused(&home.run(&["store", "verify", &bad]), "backup");
        refused(&home.run(&["store", "restore", "--force", &bad]), "backup");
        assert!(
            std::fs::read(home.data().join("store.redb")).unwrap() == store,
            "{name}: the store was touched"
        );
        assert!(files(&home.data(), ".store-").is_empty());
    }
    // A disk that is full.
    let full = Command::new(env!("CARGO_BIN_EXE_vestibule"))
        .args(["store", "backup", "-", "-c"])
        .arg(home.file())
        .stdout(Stdio::from(
            std::fs::File::options()
                .write(true)
                .open("/dev/full")
                .unwrap(),
        ))
        .output()
        .unwrap();
    refused(&full, "stdout");
    let nowhere = place(&home, "no/such/folder/b");
    refused(&home.run(&["store", "backup", &nowhere]), "no/such");
    assert!(files(home.path(), ".backup-").is_empty());
}

#[test]
fn a_restore_over_a_damaged_store_is_what_it_is_for() {
    let home = with_alice();
    let path = place(&home, "good");
    done(&home.run(&["store", "backup", &path]));
    let store = home.data().join("store.redb");
    std::fs::write(&store, b"damaged beyond reading").unwrap();
    assert_eq!(code(&home.run(&["user", "list"])), 1);
    done(&home.run(&["store", "restore", "--force", &path]));
    assert!(done(&home.run(&["store", "verify", &path])).contains("1 account"));
    let list = home.run(&["user", "list", "--json"]);
    assert!(String::from_utf8_lossy(&list.stdout).contains("alice"));
}

#[test]
fn a_shared_store_is_not_backed_up_here() {
    let home = with_alice();
    std::fs::write(home.path().join("master"), "m".repeat(48)).unwrap();
    let text = minimal(&home.data()).replace(
        "[store]\n",
        "[secret]\nfile = \"master\"\n[store]\nkind = \"redis\"\nurl = \"redis://127.0.0.1:1\"\n",
    );
    std::fs::write(home.file(), text).unwrap();
    let path = place(&home, "b");
    for arguments in [
        ["store", "backup", &path],
        ["store", "verify", &path],
        ["store", "restore", &path],
    ] {
        let output = home.run(&arguments);
        assert_eq!(code(&output), 2, "{}", err(&output));
        assert!(err(&output).contains("redis-cli --rdb"), "{}", err(&output));
    }
}
