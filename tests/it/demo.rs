//! `vestibule demo`: nothing installed, nothing configured, and somebody is signed in within a minute.

use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::harness::browser::Browser;
use crate::harness::client::Door;
use crate::harness::gateway::{collect, signal};
use crate::harness::wait::{until, until_blocking};
use crate::harness::webdriver::Chromium;
use crate::harness::{ACCESS, Ask};

struct Demo {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
    _folder: tempfile::TempDir,
}

impl Demo {
    fn start(extra: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_vestibule"))
            .args(["demo", "--listen", "127.0.0.1:0"])
            .args(extra)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        collect(child.stdout.take().unwrap(), said.clone());
        collect(child.stderr.take().unwrap(), said.clone());
        Demo {
            child,
            said,
            _folder: folder,
        }
    }

    fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    /// The last word of the first line that has this label.
    async fn value(&self, label: &str) -> String {
        until(&format!("the demo prints its {label}"), async || {
            self.said()
                .iter()
                .find(|line| line.to_ascii_lowercase().contains(label))
                .and_then(|line| line.split_whitespace().last().map(str::to_owned))
        })
        .await
    }

    async fn url(&self) -> url::Url {
        until("the demo prints its URL", async || {
            self.said().iter().find_map(|line| {
                let start = line.find("https://localhost:")?;
                let text = line[start..]
                    .split(|c: char| c.is_whitespace() || c == '"')
                    .next()?;
                url::Url::parse(text).ok()
            })
        })
        .await
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the demo said:\n{}", self.said().join("\n"));
        }
    }
}

#[tokio::test]
async fn the_demo_signs_somebody_in_and_shows_the_headers() {
    let mut demo = Demo::start(&["--access-ttl", "2s"]);
    let url = demo.url().await;
    let origin = url.origin().ascii_serialization();
    let (user, password) = (demo.value("user").await, demo.value("password").await);
    let mut door = Door::new(([127, 0, 0, 1], url.port().unwrap()).into());
    door.host = "localhost".to_owned();
    let browser = Browser::new(door);
    let host = format!("localhost:{}", url.port().unwrap());
    let get = |path: &str| {
        Ask::get(path)
            .header("host", &host)
            .header("sec-fetch-mode", "navigate")
            .header("accept", "text/html")
    };
    let first = browser.send(get("/")).await;
    assert_eq!(first.status, 303, "{}", first.text());
    let form = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs([
            ("username", user.as_str()),
            ("password", password.as_str()),
            ("rd", "/"),
        ])
        .finish();
    let answer = browser
        .send(
            Ask::new("POST", "/.auth/login")
                .header("host", &host)
                .header("origin", &origin)
                .header("content-type", "application/x-www-form-urlencoded")
                .body(form),
        )
        .await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    let page = browser.send(get("/")).await;
    assert_eq!(page.status, 200);
    let text = page.text().to_ascii_lowercase();
    assert!(
        text.contains("x-forwarded-user") && text.contains(&user.to_ascii_lowercase()),
        "{text}"
    );
    assert!(
        !text.contains("vestibule-access") && !text.contains("vestibule-refresh"),
        "the app sees a session cookie"
    );
    // The renewal that the demo is there to show.
    let before = browser.access();
    until("the access token to run out and be renewed", async || {
        assert_eq!(browser.send(get("/")).await.status, 200);
        (browser.access() != before).then_some(())
    })
    .await;
    assert!(browser.cookie(ACCESS).is_some());
    // It ends when asked to.
    signal("INT", demo.child.id());
    let status = until_blocking("the demo ends after Ctrl-C", || {
        demo.child.try_wait().unwrap()
    });
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn a_tab_of_the_demo_notices_that_another_has_signed_out() {
    // No renewal is near that would show it.
    let demo = Demo::start(&["--access-ttl", "1h"]);
    let url = demo.url().await;
    let (user, password) = (demo.value("user").await, demo.value("password").await);
    let chromium = Chromium::start(([127, 0, 0, 1], url.port().unwrap()).into()).await;
    chromium.open_at(url.as_str()).await;
    chromium.sign_in(&user, &password).await;
    chromium
        .until("return document.body.innerText.includes('ends in 3');")
        .await;
    assert!(chromium.text().await.contains("Hello, ada"));
    let first = chromium.tab().await;
    chromium.new_tab().await;
    chromium
        .open_at(url.join("/.auth/logout").unwrap().as_str())
        .await;
    chromium
        .click("form button[type=submit], form button:not([type])")
        .await;
    chromium
        .until("return document.body.innerText.includes('You are signed out');")
        .await;
    chromium.to_tab(&first).await;
    chromium
        .until("return document.body.innerText.includes('You are signed out');")
        .await;
    let text = chromium.text().await;
    assert!(
        !text.contains("Hello") && !text.contains("x-forwarded-user"),
        "{text}"
    );
}

#[test]
fn a_taken_port_is_mended_by_the_option() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_vestibule"))
        .args(["demo", "--listen", &taken.local_addr().unwrap().to_string()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    let mend = "(`--listen ADDRESS:PORT`): the address is in use; stop the other program (another gateway?), or choose \
                another address for `--listen ADDRESS:PORT`";
    assert!(said.contains(mend) && !said.contains("[server]"), "{said}");
}
