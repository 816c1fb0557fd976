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

pub struct Chromium {
    driver: Child,
    addr: SocketAddr,
    session: String,
    said: Arc<Mutex<Vec<String>>>,
    _profile: tempfile::TempDir,
}

impl Chromium {
    /// A fresh profile that takes `app.test` to be at `to` and accepts its self-signed certificate.
    pub async fn start(to: SocketAddr) -> Self {
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
        let port: u16 = until("chromedriver says its port", async || {
            said.lock().unwrap().iter().find_map(|line: &String| {
                let (_, rest) = line.split_once("started successfully on port ")?;
                rest.trim_end_matches('.').trim().parse().ok()
            })
        })
        .await;
        let profile = tempfile::tempdir().unwrap();
        let mut chromium = Chromium {
            driver,
            addr: ([127, 0, 0, 1], port).into(),
            session: String::new(),
            said,
            _profile: profile,
        };
        let rules = format!("--host-resolver-rules=MAP {HOST}:443 {to}");
        let profile = format!("--user-data-dir={}", chromium._profile.path().display());
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "acceptInsecureCerts": true,
            "goog:chromeOptions": { "args": [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--disable-dev-shm-usage", "--ignore-certificate-errors", rules, profile,
            ]},
        }}});
        let started = chromium.call("POST", "/session", Some(capabilities)).await;
        chromium.session = started["sessionId"].as_str().unwrap().to_owned();
        chromium
    }

    pub async fn open(&self, path: &str) {
        self.command(
            "POST",
            "/url",
            Some(json!({ "url": format!("https://{HOST}{path}") })),
        )
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

    pub async fn script(&self, text: &str) -> Value {
        self.command(
            "POST",
            "/execute/sync",
            Some(json!({ "script": text, "args": [] })),
        )
        .await
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
        let response = sender.send_request(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
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
