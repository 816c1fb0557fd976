use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::accounts::Part;
use crate::auth::rotation::Windows;
use crate::auth::{Client as Browser, Identity};
use crate::clock::Clock;
use crate::session;
use crate::units::Secret;

const HASH: &str = "$argon2id$v=19$m=1,t=1,p=1$c2FsdHNhbHQ$aGFzaA";

fn settings() -> session::Settings {
    session::Settings {
        origin: "https://app.example.com".to_owned(),
        access_ttl: Duration::from_secs(300),
        absolute_ttl: Duration::from_secs(86_400),
        windows: Windows {
            redelivery: Duration::from_secs(30),
            replay_grace: Duration::from_secs(30),
            idle_ttl: Duration::from_secs(3600),
        },
        cache_entries: 100,
    }
}

async fn offline(folder: &Path) -> Result<Arc<Operator>, OfflineError> {
    let clock = Clock::manual(Timestamp::from_secs(1_700_000_000));
    Operator::offline(
        &crate::store::Kind::Embedded,
        folder,
        &Secret::new([1; 32]),
        &[],
        settings(),
        clock,
    )
    .await
}

struct Gateway {
    operator: Arc<Operator>,
    shutdown: CancellationToken,
    folder: PathBuf,
}

async fn gateway(folder: &Path) -> Gateway {
    let operator = offline(folder).await.unwrap();
    let shutdown = CancellationToken::new();
    server::start(folder, Arc::clone(&operator), shutdown.clone())
        .await
        .unwrap();
    Gateway {
        operator,
        shutdown,
        folder: folder.to_path_buf(),
    }
}

impl Gateway {
    async fn ask(&self, request: Request) -> Response {
        match Control::connect(&self.folder).await.unwrap() {
            Control::Running(client) => client.execute(&request).await.unwrap(),
            Control::NotRunning => panic!("it runs"),
        }
    }

    async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = UnixStream::connect(self.folder.join(SOCKET_NAME))
            .await
            .unwrap();
        // An answer may come before everything was taken.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }
}

fn add(name: &str) -> Request {
    Request::UserAdd {
        name: name.to_owned(),
        email: Some("a@example.com".to_owned()),
        display_name: None,
        groups: vec!["staff".to_owned(), "staff".to_owned()],
        password_hash: HASH.to_owned(),
    }
}

fn why(response: &Response) -> Option<Why> {
    match response {
        Response::Refused { why, .. } => Some(*why),
        _ => None,
    }
}

async fn sign_in(operator: &Operator, user: &str) -> crate::auth::SessionId {
    let identity = Identity {
        user: user.to_owned(),
        email: None,
        name: None,
        preferred_username: None,
        groups: Vec::new(),
        provider: "local".to_owned(),
        auth_time: Timestamp::from_secs(1_700_000_000),
        amr: vec!["pwd".to_owned()],
    };
    let browser = Browser {
        user_agent: "browser".to_owned(),
        addr: ClientAddr([192, 0, 2, 1].into()),
    };
    let clock = operator.clock();
    clock.advance(Duration::from_secs(1));
    operator
        .sessions()
        .begin(identity, &browser, clock.now())
        .await
        .unwrap()
        .session
}

#[tokio::test]
async fn accounts_through_the_socket() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = gateway(folder.path()).await;
    assert!(matches!(
        gateway.ask(Request::Ping).await,
        Response::Pong { .. }
    ));
    assert_eq!(gateway.ask(add("Alice")).await, Response::Done);
    assert_eq!(why(&gateway.ask(add("alice")).await), Some(Why::Taken));
    assert_eq!(why(&gateway.ask(add("a\nb")).await), Some(Why::Malformed));
    let Response::Users { users } = gateway.ask(Request::UserList).await else {
        panic!("no list");
    };
    assert_eq!(users.len(), 1);
    assert_eq!(
        (users[0].name.as_str(), users[0].groups.as_slice()),
        ("Alice", &["staff".to_owned()][..])
    );

    let name = || "ALICE".to_owned();
    let change = |change: AccountChange| Request::UserChange {
        name: name(),
        change,
    };
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let groups = |groups: &[&str]| {
        change(AccountChange {
            groups: Some(words(groups)),
            ..AccountChange::default()
        })
    };
    assert_eq!(
        why(&gateway.ask(groups(&["a,b"])).await),
        Some(Why::Malformed)
    );
    assert_eq!(
        gateway.ask(groups(&["dev", "ops", "dev"])).await,
        Response::Done
    );
    let Response::Users { users } = gateway.ask(Request::UserList).await else {
        panic!("no list");
    };
    assert_eq!(users[0].groups, ["dev", "ops"]);
    assert_eq!(users[0].email.as_deref(), Some("a@example.com"));
    let request = change(AccountChange {
        email: Part::Remove,
        display_name: Part::Set("Alice L.".to_owned()),
        add_groups: words(&["staff", "dev"]),
        remove_groups: words(&["ops", "unheard of"]),
        ..AccountChange::default()
    });
    assert_eq!(gateway.ask(request).await, Response::Done);
    let Response::Users { users } = gateway.ask(Request::UserList).await else {
        panic!("no list");
    };
    assert_eq!(users[0].groups, ["dev", "staff"]);
    assert_eq!(users[0].email, None);
    assert_eq!(users[0].display_name.as_deref(), Some("Alice L."));
    for malformed in [
        AccountChange {
            email: Part::Set("no address".to_owned()),
            ..AccountChange::default()
        },
        AccountChange {
            display_name: Part::Set(String::new()),
            ..AccountChange::default()
        },
    ] {
        let answer = gateway.ask(change(malformed)).await;
        assert_eq!(why(&answer), Some(Why::Malformed));
    }
    for request in [
        Request::UserPassword {
            name: name(),
            password_hash: HASH.to_owned(),
        },
        Request::UserBlock { name: name() },
        Request::UserRemove { name: name() },
    ] {
        let session = sign_in(&gateway.operator, "Alice").await;
        assert_eq!(
            gateway.ask(request.clone()).await,
            Response::Ended { sessions: 1 },
            "{request:?}"
        );
        let now = gateway.operator.clock().now();
        assert!(
            !gateway
                .operator
                .sessions()
                .is_live(session, now)
                .await
                .unwrap()
        );
    }
    let unblock = Request::UserUnblock { name: name() };
    assert_eq!(why(&gateway.ask(unblock).await), Some(Why::Unknown));
}

#[tokio::test]
async fn sessions_and_keys_through_the_socket() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = gateway(folder.path()).await;
    let first = sign_in(&gateway.operator, "alice").await;
    sign_in(&gateway.operator, "alice").await;
    sign_in(&gateway.operator, "bob").await;
    let list = |user: Option<&str>| Request::SessionList {
        user: user.map(str::to_owned),
    };
    let count = |response: Response| match response {
        Response::Sessions { sessions } => sessions.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(count(gateway.ask(list(None)).await), 3);
    assert_eq!(count(gateway.ask(list(Some("alice"))).await), 2);
    let revoke = Request::SessionRevoke { session: first };
    assert_eq!(
        gateway.ask(revoke.clone()).await,
        Response::Ended { sessions: 1 }
    );
    assert_eq!(why(&gateway.ask(revoke).await), Some(Why::Unknown));
    let of_alice = Request::SessionRevokeUser {
        user: "alice".to_owned(),
        provider: None,
    };
    assert_eq!(gateway.ask(of_alice).await, Response::Ended { sessions: 1 });
    assert_eq!(
        gateway.ask(Request::SessionRevokeAll).await,
        Response::Ended { sessions: 1 }
    );
    assert_eq!(count(gateway.ask(list(None)).await), 0);

    let Response::KeyRotated { kid } = gateway.ask(Request::KeysRotate).await else {
        panic!("not rotated");
    };
    let Response::Keys { keys } = gateway.ask(Request::KeysList).await else {
        panic!("no list");
    };
    assert_eq!(keys.len(), 2);
    assert_eq!((keys[1].kid.as_str(), keys[1].retires_at), (&*kid, None));
}

#[tokio::test]
async fn garbage_gets_an_answer_and_harms_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = gateway(folder.path()).await;
    let deep = "[".repeat(10_000);
    let long = vec![b'x'; 200_000];
    for garbage in [
        &b"\n"[..],
        b"{}\n",
        b"{\"do\":\"ping\"}",
        b"{\"do\":\"nothing\"}\n",
        b"{\"do\":\"user_block\"}\n",
        b"{\"do\":\"session_revoke\",\"session\":\"../..\"}\n",
        b"\xff\xfe\x00\n",
        deep.as_bytes(),
        &long,
    ] {
        let answer = gateway.raw(garbage).await;
        assert!(
            answer.is_empty() || answer.contains("malformed"),
            "{answer}"
        );
    }
    assert_eq!(gateway.raw(b"").await, "");
    assert!(matches!(
        gateway.ask(Request::Ping).await,
        Response::Pong { .. }
    ));
}

#[tokio::test]
async fn the_socket_is_private_replaces_a_stale_one_and_is_removed_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(
        Control::connect(folder.path()).await.unwrap(),
        Control::NotRunning
    ));
    let path = folder.path().join(SOCKET_NAME);
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(matches!(
        Control::connect(folder.path()).await.unwrap(),
        Control::NotRunning
    ));
    let gateway = gateway(folder.path()).await;
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(matches!(
        gateway.ask(Request::Ping).await,
        Response::Pong { .. }
    ));
    assert!(
        matches!(
            offline(folder.path()).await,
            Err(OfflineError::Store(crate::store::StoreError::InUse { .. }))
        ),
        "two on one folder"
    );
    gateway.shutdown.cancel();
    while path.exists() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_folder_with_a_long_path_works_too() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("d".repeat(120)).join("e".repeat(120));
    assert!(matches!(
        Control::connect(&folder).await.unwrap(),
        Control::NotRunning
    ));
    let gateway = gateway(&folder).await;
    assert!(matches!(
        gateway.ask(Request::Ping).await,
        Response::Pong { .. }
    ));
}

#[tokio::test]
async fn a_second_node_does_not_take_the_socket_of_one_that_runs() {
    let folder = tempfile::tempdir().unwrap();
    let first = gateway(folder.path()).await;
    let second = server::start(
        folder.path(),
        Arc::clone(&first.operator),
        CancellationToken::new(),
    )
    .await;
    let refusal = second.unwrap_err();
    assert!(matches!(refusal, ControlError::Taken { .. }), "{refusal}");
    assert!(matches!(
        first.ask(Request::Ping).await,
        Response::Pong { .. }
    ));
}
