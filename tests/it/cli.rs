//! The command line as scripts use it: exit codes, data on stdout, words for people on stderr.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::gateway::{inspect, signal};
use crate::harness::home::{Home, code, err, out};
use crate::harness::prepared::{add_user, minimal, run_with_input, try_add_user, vestibule};
use crate::harness::{ACCESS, App, Gateway, PASSWORD};

fn json(output: &Output) -> Value {
    serde_json::from_str(&out(output))
        .unwrap_or_else(|error| panic!("{error}: {} {}", out(output), err(output)))
}

#[test]
fn check_tells_every_problem_with_its_place_and_a_hint() {
    let home = Home::new();
    let good = home.run(&["check"]);
    assert_eq!(code(&good), 0, "{}", err(&good));
    let home = Home::with(
        "[server]\nlisten = [\"127.0.0.1:0\"]\norigin = \"http://app.test\"\nlimts = 3\n[tls]\nself_signed = true\n[session]\naccess_ttl = \"5 lightyears\"\n\
         [login.local]\n[[upstream]]\nname = \"app\"\nurl = \"http://127.0.0.1:9\"\n[[route]]\npath = \"/\"\nupstream = \"ap\"\naccess = \"authenticated\"\n",
    );
    let bad = home.run(&["check"]);
    assert_eq!(code(&bad), 2);
    let said = err(&bad);
    for (place, hint) in [
        (":3:", "https"),
        (":4:", "limits"),
        (":8:", "access_ttl"),
        (":15:", "app"),
    ] {
        assert!(
            said.contains(&format!("gateway.toml{place}")),
            "no {place} in {said}"
        );
        assert!(said.contains(hint), "no {hint} in {said}");
    }
    // As data.
    let listed = home.run(&["check", "--json"]);
    assert_eq!(code(&listed), 2);
    assert!(
        json(&listed).to_string().matches("\"line\"").count() >= 4,
        "{}",
        out(&listed)
    );
    // `run` refuses the same file with the same words, and changes nothing.
    let run = home.run(&["run"]);
    assert_eq!(code(&run), 2);
    assert!(err(&run).contains("gateway.toml:4:"));
    assert!(!home.data().exists());
}

#[test]
fn files_that_are_no_configuration() {
    for text in [
        "",
        "\0\0\0",
        "= = =",
        "[server",
        "[server]\nlisten = 5",
        "\u{feff}[server]",
        "[[route]]",
        &"[".repeat(5000),
    ] {
        let output = Home::with(text).run(&["check"]);
        assert_eq!(code(&output), 2, "{text:?}: {}", err(&output));
        assert!(!err(&output).is_empty());
    }
    let missing = vestibule(&["check", "-c", "/nowhere/gateway.toml"], "");
    assert_eq!(code(&missing), 2);
    assert!(err(&missing).contains("/nowhere/gateway.toml"));
}

#[test]
fn bad_usage_is_exit_code_2_and_help_is_0() {
    for arguments in [
        ["frobnicate"].as_slice(),
        &["run", "--nope"],
        &[],
        &["user"],
        &["user", "add"],
        &["token"],
        &["session", "revoke"],
        &["explain", "GET"],
    ] {
        let output = vestibule(arguments, "");
        assert_eq!(code(&output), 2, "{arguments:?}: {}", err(&output));
    }
    for arguments in [
        ["--help"].as_slice(),
        &["run", "--help"],
        &["user", "add", "--help"],
        &["session", "revoke", "--help"],
        &["--version"],
    ] {
        let output = vestibule(arguments, "");
        assert_eq!(code(&output), 0, "{arguments:?}");
        assert!(!out(&output).is_empty());
    }
}

#[test]
fn certificates_that_cannot_be_used_stop_the_start_with_their_place() {
    let home = Home::new();
    let folder = home.path();
    let made = rcgen::generate_simple_self_signed(vec!["app.test".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["app.test".to_owned()]).unwrap();
    std::fs::write(folder.join("good.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("good.key"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(folder.join("other.key"), other.signing_key.serialize_pem()).unwrap();
    std::fs::write(
        folder.join("garbage.pem"),
        "-----BEGIN CERTIFICATE-----\nbm90IGEgY2VydA==\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    std::fs::write(folder.join("empty.pem"), "").unwrap();
    let with = |cert: &str, key: &str| {
        let text = minimal(&home.data()).replace(
            "[tls]\nself_signed = true\n",
            &format!("[[tls.certificate]]\ncert = \"{cert}\"\nkey = \"{key}\"\n"),
        );
        assert!(text.contains("tls.certificate"));
        std::fs::write(home.file(), text).unwrap();
        Command::new(env!("CARGO_BIN_EXE_vestibule"))
            .args(["check", "-c", "gateway.toml"])
            .current_dir(folder)
            .output()
            .unwrap()
    };
    let good = with("good.pem", "good.key");
    assert_eq!(code(&good), 0, "{}", err(&good));
    for (cert, key) in [
        ("garbage.pem", "good.key"),
        ("empty.pem", "good.key"),
        ("missing.pem", "good.key"),
        ("good.pem", "other.key"),
        ("good.pem", "good.pem"),
        ("good.pem", "missing.key"),
    ] {
        let bad = with(cert, key);
        let said = err(&bad);
        assert_eq!(code(&bad), 2, "{cert} {key}: {said}");
        assert!(
            said.contains("gateway.toml:"),
            "{cert} {key}: no place in {said}"
        );
        assert!(
            said.contains(cert) || said.contains(key),
            "{cert} {key}: {said}"
        );
        let run = Command::new(env!("CARGO_BIN_EXE_vestibule"))
            .args(["run", "-c", "gateway.toml"])
            .current_dir(folder)
            .output()
            .unwrap();
        assert_eq!(code(&run), 2, "{cert} {key}: {}", err(&run));
    }
}

#[test]
fn a_store_that_cannot_be_read_stops_the_start_and_stays_as_it_is() {
    for garbage in [
        b"this is no store".to_vec(),
        vec![0; 8192],
        vec![0xff; 100_000],
        Vec::new(),
        damaged(),
    ] {
        let home = Home::new();
        add_user(&home.file(), "alice", PASSWORD, &[]);
        let store = home.data().join("store.redb");
        assert!(store.exists(), "the store is where the documentation says");
        std::fs::write(&store, &garbage).unwrap();
        let run = home.run(&["run"]);
        let said = err(&run);
        assert_eq!(code(&run), 1, "{said}");
        assert!(said.contains("store.redb"), "{said}");
        assert!(
            std::fs::read(&store).unwrap() == garbage,
            "the file was touched"
        );
        let list = home.run(&["user", "list"]);
        assert_eq!(code(&list), 1, "{}", err(&list));
        assert!(
            std::fs::read(&store).unwrap() == garbage,
            "the file was touched"
        );
    }
}

/// A true store with a hole in it.
fn damaged() -> Vec<u8> {
    let home = Home::new();
    add_user(&home.file(), "alice", PASSWORD, &[]);
    let mut bytes = std::fs::read(home.data().join("store.redb")).unwrap();
    for byte in &mut bytes[..512] {
        *byte ^= 0x5a;
    }
    bytes
}

#[test]
fn what_is_secret_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::new();
    add_user(&home.file(), "alice", PASSWORD, &[]);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&home.data()), 0o700);
    let mut files = 0;
    for entry in std::fs::read_dir(home.data()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(
            mode(&path) & 0o077,
            0,
            "{} can be read by others",
            path.display()
        );
        files += 1;
    }
    assert!(files >= 2);
    // The password is in none of them.
    for entry in std::fs::read_dir(home.data()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(
            !bytes
                .windows(PASSWORD.len())
                .any(|window| window == PASSWORD.as_bytes())
        );
    }
}

#[tokio::test]
async fn accounts_are_kept_while_the_gateway_runs() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let file = gateway.file();
    gateway.add_user(
        "carol",
        &["--email", "carol@example.com", "--group", "staff"],
    );
    let twice = try_add_user(&file, "Carol", PASSWORD, &[]);
    assert_eq!(code(&twice), 1, "{}", err(&twice));
    let carol = gateway.signed_in("carol").await;
    assert_eq!(carol.get("/staff").await.status, 200);
    let listed = gateway.command(&["user", "list", "--json"]);
    assert_eq!(code(&listed), 0, "{}", err(&listed));
    let users = json(&listed).to_string();
    assert!(
        users.contains("carol@example.com") && users.contains("alice") && !users.contains("argon2"),
        "{users}"
    );

    // Blocked: the session ends and no new one begins.
    assert_eq!(code(&gateway.command(&["user", "block", "carol"])), 0);
    assert_eq!(carol.get("/staff").await.status, 401);
    assert_ne!(
        gateway.anon().sign_in("carol", PASSWORD, "/").await.status,
        303
    );
    assert_eq!(code(&gateway.command(&["user", "unblock", "carol"])), 0);
    let carol = gateway.signed_in("carol").await;

    // A new password: the old one is over, and so are the sessions that it began.
    let changed =
        gateway.command_with(&["user", "password", "carol"], "another good password 99\n");
    assert_eq!(code(&changed), 0, "{}", err(&changed));
    assert_ne!(
        gateway.anon().sign_in("carol", PASSWORD, "/").await.status,
        303
    );
    assert_eq!(
        gateway
            .anon()
            .sign_in("carol", "another good password 99", "/")
            .await
            .status,
        303
    );
    assert_eq!(
        carol.get("/staff").await.status,
        401,
        "a session outlives the password that was changed"
    );

    assert_eq!(code(&gateway.command(&["user", "remove", "carol"])), 0);
    assert_ne!(
        gateway
            .anon()
            .sign_in("carol", "another good password 99", "/")
            .await
            .status,
        303
    );
    for arguments in [
        ["user", "remove", "carol"],
        ["user", "block", "carol"],
        ["user", "unblock", "nobody"],
    ] {
        let output = gateway.command(&arguments);
        assert_eq!(code(&output), 1, "{arguments:?}: {}", err(&output));
    }
    // Passwords never come from an argument, and an empty one is refused.
    for input in ["\n", ""] {
        let output = run_with_input(
            Command::new(env!("CARGO_BIN_EXE_vestibule")).args([
                "user",
                "add",
                "dave",
                "-c",
                file.to_str().unwrap(),
            ]),
            input,
        );
        assert_ne!(code(&output), 0);
        err(&output);
    }
}

#[tokio::test]
async fn sessions_are_listed_and_ended_from_the_command_line() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let (one, two) = (
        gateway.signed_in("alice").await,
        gateway.signed_in("alice").await,
    );
    let bob = gateway.signed_in("bob").await;
    let listed = gateway.command(&["session", "list", "--json"]);
    assert_eq!(code(&listed), 0, "{}", err(&listed));
    let for_people = out(&gateway.command(&["session", "list"]));
    assert!(
        for_people.contains("USER   PROVIDER  SIGNED IN"),
        "{for_people}"
    );
    assert!(for_people.contains("alice  local     "), "{for_people}");
    let stranger = gateway.command(&["session", "revoke", "--user", "bob", "--provider", "loca"]);
    assert_eq!(code(&stranger), 1);
    assert!(
        err(&stranger).contains("there is no provider \"loca\" here: did you mean \"local\"?"),
        "{}",
        err(&stranger)
    );
    let nobody = [
        "session",
        "revoke",
        "--user",
        "nobody",
        "--provider",
        "local",
    ];
    let nobody = gateway.command(&nobody);
    assert_eq!((code(&nobody), &*err(&nobody)), (0, "0 sessions ended\n"));
    let changed = gateway.command(&["user", "change", "bob", "--add-group", "new"]);
    assert!(
        err(&changed).contains(
            "was changed; its sessions have it from their next renewal on, 5m from now at most"
        ),
        "{}",
        err(&changed)
    );
    let sessions = json(&listed).to_string();
    for browser in [&one, &two, &bob] {
        assert!(sessions.contains(&browser.session()), "{sessions}");
        assert!(
            !sessions.contains(&browser.refresh().unwrap())
                && !sessions.contains(&browser.access().unwrap())
        );
    }
    let hers = gateway.command(&["session", "list", "--user", "alice", "--json"]);
    assert!(!json(&hers).to_string().contains(&bob.session()));
    let folded = gateway.command(&["session", "list", "--user", "ALICE", "--json"]);
    assert_eq!(json(&folded), json(&hers), "as `session revoke` does");
    let (_, asked) = gateway.admin("/api/v1/sessions?user=Alice").await;
    assert!(asked.contains(&one.session()), "{asked}");

    let (first, second) = (one.session(), two.session());
    assert_eq!(code(&gateway.command(&["session", "revoke", &first])), 0);
    assert_eq!(one.get("/").await.status, 401);
    assert_eq!(two.get("/").await.status, 200);
    assert_eq!(
        code(&gateway.command(&["session", "revoke", "--user", "alice"])),
        0
    );
    assert_eq!(two.get("/").await.status, 401);
    assert_eq!(bob.get("/").await.status, 200);
    assert_eq!(code(&gateway.command(&["session", "revoke", "--all"])), 0);
    assert_eq!(bob.get("/").await.status, 401);
    assert_eq!(
        gateway.signed_in("bob").await.get("/").await.status,
        200,
        "nobody could sign in after --all"
    );
    let unknown = gateway.command(&["session", "revoke", "AAAAAAAAAAAAAAAAAAAAAA"]);
    assert_eq!(code(&unknown), 1, "{}", err(&unknown));
    let nonsense = gateway.command(&["session", "revoke", "not a session id"]);
    assert_eq!(code(&nonsense), 2, "{}", err(&nonsense));
    assert!(!sessions.is_empty() && first != second);
}

#[tokio::test]
async fn keys_are_rotated_without_anybody_noticing() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).with_clock().run();
    let alice = gateway.signed_in("alice").await;
    let jwks = async || {
        gateway.anon().get("/.auth/jwks.json").await.json()["keys"]
            .as_array()
            .unwrap()
            .clone()
    };
    assert_eq!(jwks().await.len(), 1);
    let rotated = gateway.command(&["keys", "rotate"]);
    assert_eq!(code(&rotated), 0, "{}", err(&rotated));
    assert_eq!(jwks().await.len(), 2, "the old key is still published");
    assert_eq!(alice.get("/").await.status, 200, "a token of the old key");
    let bob = gateway.signed_in("bob").await;
    assert_eq!(bob.get("/").await.status, 200, "a token of the new key");
    let listed = gateway.command(&["keys", "list", "--json"]);
    assert_eq!(
        json(&listed).as_array().map(Vec::len),
        Some(2),
        "{}",
        out(&listed)
    );
    gateway
        .until_logged(&["key_rotated", "\"by\":\"command line\""])
        .await;
    gateway.outlive_access_token();
    gateway.outlive_access_token();
    let listed = gateway.command(&["keys", "list", "--json"]);
    assert_eq!(
        json(&listed).as_array().map(Vec::len),
        Some(1),
        "a key whose time is over verifies nothing: {}",
        out(&listed)
    );
    assert_eq!(alice.get("/").await.status, 200);
    assert_eq!(bob.get("/").await.status, 200);
}

#[tokio::test]
async fn a_token_is_inspected_from_stdin() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let alice = gateway.signed_in("alice").await;
    let access = alice.access().unwrap();
    let good = inspect(&gateway, &format!("{access}\n"));
    assert_eq!(code(&good), 0, "{} {}", out(&good), err(&good));
    assert!(out(&good).contains("alice"));
    assert!(
        !out(&good).contains(access.rsplit('.').next().unwrap()),
        "the signature is printed"
    );
    let refresh = inspect(&gateway, &alice.refresh().unwrap());
    assert_eq!(code(&refresh), 0, "{} {}", out(&refresh), err(&refresh));
    assert!(out(&refresh).contains("refresh"), "{}", out(&refresh));
    let forged = inspect(&gateway, &gateway.forged().cookie(ACCESS).unwrap());
    assert_eq!(code(&forged), 1, "{}", out(&forged));
    assert!(
        out(&forged).to_lowercase().contains("signature"),
        "{}",
        out(&forged)
    );
    for nonsense in ["hello", "a.b.c", "....", &"x".repeat(100_000)] {
        let output = inspect(&gateway, nonsense);
        assert_eq!(code(&output), 1, "{}", err(&output));
    }
}

#[test]
fn explain_says_what_would_happen() {
    let home = Home::new();
    let text = std::fs::read_to_string(home.file()).unwrap()
        + "[[route]]\npath = \"/public\"\nupstream = \"app\"\naccess = \"public\"\n[[route]]\npath = \"/staff\"\nupstream = \"app\"\naccess = \"authenticated\"\nallow = { groups = [\"staff\"] }\n";
    std::fs::write(home.file(), text).unwrap();
    let said = |arguments: &[&str]| {
        let output = home.run(arguments);
        assert_eq!(code(&output), 0, "{arguments:?}: {}", err(&output));
        out(&output)
    };
    let anonymous = said(&["explain", "GET", "https://app.test/notes"]);
    assert!(
        anonymous.contains("/.auth/login") || anonymous.contains("303"),
        "{anonymous}"
    );
    let alice = said(&[
        "explain",
        "GET",
        "https://app.test/notes",
        "--user",
        "alice",
        "--group",
        "staff",
    ]);
    assert!(
        alice.to_lowercase().contains("x-forwarded-user: alice"),
        "{alice}"
    );
    assert!(!alice.contains("--group"), "{alice}");
    let bob = said(&["explain", "GET", "https://app.test/staff", "--user", "bob"]);
    assert!(
        bob.contains("403") && bob.contains("name the person's groups with --group"),
        "{bob}"
    );
    assert!(said(&["explain", "GET", "https://app.test/public/../admin"]).contains("400"));
    // Whose tokens are believed here? Nobody's.
    let file = home.file().to_str().unwrap().to_owned();
    let output = vestibule(
        &["explain", "GET", "/notes", "--token", "-c", &file],
        "a.b.c",
    );
    assert_eq!(code(&output), 2, "{}", out(&output));
    assert!(err(&output).contains("[[bearer]]"), "{}", err(&output));
    let public = said(&["explain", "GET", "https://app.test/public/x", "--json"]);
    assert!(serde_json::from_str::<Value>(&public).is_ok(), "{public}");
}

#[test]
fn completions_and_the_manual_page() {
    for shell in ["bash", "zsh", "fish"] {
        let output = vestibule(&["completions", shell], "");
        assert_eq!(code(&output), 0);
        assert!(
            out(&output).contains("vestibule") && out(&output).contains("explain"),
            "{shell}"
        );
    }
    let page = vestibule(&["man"], "");
    assert_eq!(code(&page), 0);
    assert!(out(&page).contains(".TH") && out(&page).contains("gateway.toml"));
}

#[tokio::test]
async fn two_gateways_do_not_share_a_folder() {
    let app = App::start().await;
    let gateway = Gateway::before(&app).run();
    let second = gateway.command(&["run"]);
    assert_eq!(code(&second), 1, "{}", err(&second));
    assert!(err(&second).contains("in use"), "{}", err(&second));
    assert_eq!(gateway.anon().get("/public").await.status, 200);
    let address = gateway.addr.to_string();
    let taken = Home::new();
    let text = std::fs::read_to_string(taken.file())
        .unwrap()
        .replace("127.0.0.1:0", &address);
    std::fs::write(taken.file(), text).unwrap();
    let third = taken.run(&["run"]);
    assert_eq!(code(&third), 1, "{}", err(&third));
    let words = err(&third).split_whitespace().collect::<Vec<_>>().join(" ");
    let begin = format!("cannot listen on {address} (`[server] listen`): the address is in use");
    assert!(words.contains(&begin), "{words}");
}

#[test]
fn a_gateway_whose_stderr_nobody_reads_drains_and_ends_in_order() {
    let home = Home::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_vestibule"))
        .args(["run", "-c", home.file().to_str().unwrap()])
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let listens = lines.any(|line| line.unwrap().starts_with("listening on "));
    drop(lines);
    assert!(listens);
    // The control socket answers: it serves, reader or not.
    assert_eq!(code(&home.run(&["session", "list"])), 0);
    signal("TERM", child.id());
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn sighup_outside_a_terminal_ends_nothing_and_says_so() {
    let app = App::start().await;
    let mut gateway = Gateway::before(&app).run();
    signal("HUP", gateway.pid());
    gateway.until_logged(&["SIGHUP", "restart"]).await;
    let answer = gateway
        .anon()
        .send(crate::harness::Ask::get("/public/here"))
        .await;
    assert_eq!(answer.status, 200);
    assert!(gateway.terminate().success());
}

#[tokio::test]
async fn sigterm_lets_requests_end_and_then_the_process() {
    let app = App::start().await;
    let mut gateway = Gateway::before(&app).run();
    let door = gateway.door();
    let slow =
        tokio::spawn(async move { door.ask(crate::harness::Ask::get("/public/gate")).await });
    crate::harness::wait::until("the app has the request", async || {
        (!app.seen().is_empty()).then_some(())
    })
    .await;
    signal("TERM", gateway.pid());
    let door = gateway.door();
    crate::harness::wait::until("no new connection is taken", async || {
        tokio::net::TcpStream::connect(door.to)
            .await
            .is_err()
            .then_some(())
    })
    .await;
    app.open_gate(1);
    let answer = slow.await.unwrap();
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, "gate passed")
    );
    assert!(gateway.ended().success());
}

#[tokio::test]
async fn a_second_sigterm_ends_at_once() {
    let app = App::start().await;
    let mut gateway = Gateway::before(&app)
        .limits("shutdown_grace = \"1h\"\n")
        .run();
    let door = gateway.door();
    let slow = tokio::spawn(async move {
        door.try_ask(crate::harness::Ask::get("/public/gate"))
            .await
            .is_ok()
    });
    crate::harness::wait::until("the app has the request", async || {
        (!app.seen().is_empty()).then_some(())
    })
    .await;
    signal("TERM", gateway.pid());
    gateway.until_logged(&["once more ends at once"]).await;
    signal("TERM", gateway.pid());
    assert!(gateway.ended().success());
    assert!(!slow.await.unwrap(), "the request was cut");
}
