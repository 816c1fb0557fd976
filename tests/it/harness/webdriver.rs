//! A real browser: headless Chromium driven through chromedriver (W3C WebDriver), by JSON over plain HTTP.
//!
//! Only what the tests press and read; no waiting except for conditions.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use super::HOST;
use super::client::PATIENCE;
use super::gateway::collect;
use super::wait::until;

/// The app's page: fires `fetch` calls on demand and shows what became of them.
pub const PAGE: &str = r#"<!doctype html>
<html lang="en"><title>An app that knows nothing of sign-in</title>
<h1 id="ready">the app</h1>
<script>
window.statuses = [];
window.fire = (count, path) => {
  window.statuses = [];
  window.done = false;
  const one = i => fetch(path + "?n=" + i, { cache: "no-store" })
    .then(r => r.text().then(() => r.status), () => 0)
    .then(status => { window.statuses.push(status); });
  Promise.all(Array.from({ length: count }, (_, i) => one(i))).then(() => { window.done = true; });
};
</script>"#;

/// What the browser is like.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Desktop,
    /// 360 points wide, asks for Korean, runs no script: what it does is done by keys, and it is looked at in between.
    KoreanPhoneWithoutScript,
}

pub struct Chromium {
    driver: Child,
    addr: SocketAddr,
    session: String,
    kind: Kind,
    said: Arc<Mutex<Vec<String>>>,
    _profile: tempfile::TempDir,
}

/// A running chromedriver, what it says, and its port. It takes a free port for IPv4 first and then the same one for IPv6, which
/// somebody may have taken meanwhile; then it ends at once, and another one is started.
async fn start_driver() -> (Child, Arc<Mutex<Vec<String>>>, u16) {
    until("a chromedriver", async || {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("chromedriver is installed (apt-get install chromium chromium-driver; scripts/test does it)");
        let said = Arc::new(Mutex::new(Vec::new()));
        collect(driver.stdout.take().unwrap(), said.clone());
        collect(driver.stderr.take().unwrap(), said.clone());
        let port = until("chromedriver says its port, or ends", async || {
            let port = said.lock().unwrap().iter().find_map(|line: &String| {
                let (_, rest) = line.split_once("started successfully on port ")?;
                rest.trim_end_matches('.').trim().parse::<u16>().ok()
            });
            match port {
                Some(port) => Some(Some(port)),
                None => driver.try_wait().unwrap().map(|_| None),
            }
        })
        .await;
        port.map(|port| (driver, said, port))
    })
    .await
}

impl Chromium {
    /// A desktop browser with a fresh profile, which takes `app.test` to be at `to` and accepts its self-signed
    /// certificate.
    pub async fn start(to: SocketAddr) -> Self {
        Chromium::of_kind(to, Kind::Desktop).await
    }

    /// [`Self::start`] with another kind of browser.
    pub async fn of_kind(to: SocketAddr, kind: Kind) -> Self {
        let (driver, said, port) = start_driver().await;
        let profile = tempfile::tempdir().unwrap();
        let mut chromium = Chromium {
            driver,
            addr: ([127, 0, 0, 1], port).into(),
            session: String::new(),
            kind: Kind::Desktop,
            said,
            _profile: profile,
        };
        let rules = format!("--host-resolver-rules=MAP {HOST}:443 {to}");
        let profile = format!("--user-data-dir={}", chromium._profile.path().display());
        let mut options = json!({ "args": [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-dev-shm-usage", "--ignore-certificate-errors", rules, profile,
        ]});
        if kind == Kind::KoreanPhoneWithoutScript {
            let agent = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36";
            options["mobileEmulation"] = json!({
                "deviceMetrics": { "width": 360, "height": 740, "pixelRatio": 2.0 },
                "userAgent": agent,
            });
            options["prefs"] = json!({ "intl.accept_languages": "ko-KR,ko" });
        }
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "acceptInsecureCerts": true,
            "goog:chromeOptions": options,
        }}});
        let started = chromium.call("POST", "/session", Some(capabilities)).await;
        chromium.session = started["sessionId"].as_str().unwrap().to_owned();
        chromium.kind = kind;
        chromium.allow_scripts(kind == Kind::Desktop).await;
        chromium
    }

    pub async fn open(&self, path: &str) {
        self.open_at(&format!("https://{HOST}{path}")).await;
    }

    /// Anywhere.
    pub async fn open_at(&self, url: &str) {
        self.command("POST", "/url", Some(json!({ "url": url })))
            .await;
    }

    /// Path and query of where it is.
    pub async fn place(&self) -> String {
        let url = self.command("GET", "/url", None).await;
        let url = url.as_str().unwrap();
        url.strip_prefix(&format!("https://{HOST}"))
            .unwrap_or(url)
            .to_owned()
    }

    pub async fn fill(&self, css: &str, text: &str) {
        let element = self.find(css).await;
        self.command(
            "POST",
            &format!("/element/{element}/value"),
            Some(json!({ "text": text })),
        )
        .await;
    }

    pub async fn click(&self, css: &str) {
        let element = self.find(css).await;
        self.command(
            "POST",
            &format!("/element/{element}/click"),
            Some(json!({})),
        )
        .await;
    }

    pub async fn text(&self) -> String {
        self.script("return document.body.innerText;")
            .await
            .as_str()
            .unwrap_or("")
            .to_owned()
    }

    /// Without scripts, only for this one of the driver's: pages that were loaded before do not begin to run theirs.
    pub async fn script(&self, text: &str) -> Value {
        if self.kind != Kind::Desktop {
            self.allow_scripts(true).await;
        }
        let value = self
            .command(
                "POST",
                "/execute/sync",
                Some(json!({ "script": text, "args": [] })),
            )
            .await;
        if self.kind != Kind::Desktop {
            self.allow_scripts(false).await;
        }
        value
    }

    /// Types into whatever has the focus.
    pub async fn types(&self, text: &str) {
        self.devtools("Input.insertText", json!({ "text": text }))
            .await;
    }

    /// Presses and releases Tab or Enter.
    pub async fn press(&self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            other => panic!("no such key here: {other}"),
        };
        for kind in ["keyDown", "keyUp"] {
            let event = json!({
                "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code,
                "text": if kind == "keyDown" { text } else { "" },
            });
            self.devtools("Input.dispatchKeyEvent", event).await;
        }
    }

    async fn allow_scripts(&self, allowed: bool) {
        let off = json!({ "value": !allowed });
        self.devtools("Emulation.setScriptExecutionDisabled", off)
            .await;
    }

    async fn devtools(&self, command: &str, parameters: Value) {
        let call = json!({ "cmd": command, "params": parameters });
        self.command("POST", "/goog/cdp/execute", Some(call)).await;
    }

    /// Waits until a script yields something other than null and false.
    pub async fn until(&self, script: &str) -> Value {
        until(script, async || {
            let value = self.script(script).await;
            (!value.is_null() && value != false).then_some(value)
        })
        .await
    }

    /// The jar, `HttpOnly` cookies included.
    pub async fn cookies(&self) -> Vec<(String, String)> {
        let cookies = self.command("GET", "/cookie", None).await;
        cookies
            .as_array()
            .unwrap()
            .iter()
            .map(|cookie| {
                (
                    cookie["name"].as_str().unwrap().to_owned(),
                    cookie["value"].as_str().unwrap().to_owned(),
                )
            })
            .collect()
    }

    pub async fn cookie(&self, name: &str) -> Option<String> {
        let cookies = self.cookies().await;
        assert!(
            cookies.iter().filter(|(n, _)| n == name).count() < 2,
            "{name} twice"
        );
        cookies
            .into_iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value)
    }

    /// A PNG of what a person would see, for a look by hand.
    pub async fn screenshot(&self, to: &std::path::Path) {
        use base64::Engine as _;
        let image = self.command("GET", "/screenshot", None).await;
        let png = base64::engine::general_purpose::STANDARD
            .decode(image.as_str().unwrap())
            .unwrap();
        std::fs::write(to, png).unwrap();
    }

    /// Signs in on the page as a person does.
    pub async fn sign_in(&self, user: &str, password: &str) {
        self.fill("input[name=username]", user).await;
        self.fill("input[name=password]", password).await;
        self.click("form button[type=submit], form button:not([type])")
            .await;
    }

    /// Signs in at a provider's form (`tests/provider/server.mjs`), where the browser is by now.
    pub async fn sign_in_at_provider(&self, login: &str) {
        self.until("return document.querySelector('form[data-prompt=login]') !== null;")
            .await;
        self.fill("input[name=login]", login).await;
        self.fill("input[name=password]", "anything").await;
        self.click("button[name=go][value=yes]").await;
    }

    /// The tab that it acts in.
    pub async fn tab(&self) -> String {
        let handle = self.command("GET", "/window", None).await;
        handle.as_str().unwrap().to_owned()
    }

    /// Opens another tab and acts in it from now on.
    pub async fn new_tab(&self) -> String {
        let tab = self
            .command("POST", "/window/new", Some(json!({ "type": "tab" })))
            .await;
        let handle = tab["handle"].as_str().unwrap().to_owned();
        self.to_tab(&handle).await;
        handle
    }

    pub async fn to_tab(&self, handle: &str) {
        self.command("POST", "/window", Some(json!({ "handle": handle })))
            .await;
    }

    async fn find(&self, css: &str) -> String {
        let found = self
            .command(
                "POST",
                "/element",
                Some(json!({ "using": "css selector", "value": css })),
            )
            .await;
        found
            .as_object()
            .unwrap()
            .values()
            .next()
            .unwrap()
            .as_str()
            .unwrap()
            .to_owned()
    }

    async fn command(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let path = format!("/session/{}{path}", self.session);
        self.call(method, &path, body).await
    }

    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let stream = tokio::net::TcpStream::connect(self.addr).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let running = tokio::spawn(connection);
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.addr.to_string())
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(
                body.map_or(String::new(), |body| body.to_string()),
            )))
            .unwrap();
        let (status, bytes) = tokio::time::timeout(PATIENCE, async {
            let response = sender.send_request(request).await.unwrap();
            let status = response.status();
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            (status, bytes)
        })
        .await
        .unwrap_or_else(|_| panic!("the browser does not answer {method} {path}"));
        running.abort();
        let answer: Value = serde_json::from_slice(&bytes).unwrap();
        assert!(
            status.is_success(),
            "{method} {path}: {answer}\n{}",
            self.said.lock().unwrap().join("\n")
        );
        answer["value"].clone()
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // Ends the browser by ending its session; the driver itself by its process id.
        let (addr, path) = (self.addr, format!("/session/{}", self.session));
        let _ = std::thread::spawn(move || {
            use std::io::{Read as _, Write as _};
            let Ok(mut stream) = std::net::TcpStream::connect(addr) else {
                return;
            };
            let _ = stream.set_read_timeout(Some(std::time::Duration::from_secs(10)));
            let _ = write!(
                stream,
                "DELETE {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n"
            );
            let _ = stream.read(&mut [0; 512]);
        })
        .join();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
