//! A client that does with cookies and Fetch Metadata what a browser does.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::client::{Answer, Ask, Door, H2, Lost};
use super::nodes::patiently;
use super::{ACCESS, ORIGIN, PASSWORD, REFRESH};

/// One browser; clones are its tabs: they share the jar.
#[derive(Clone)]
pub struct Browser {
    pub door: Door,
    pub user_agent: String,
    jar: Arc<Mutex<Jar>>,
}

/// Cookies of one origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Jar(pub Vec<(String, String)>);

impl Browser {
    pub fn new(door: Door) -> Self {
        Browser {
            door,
            user_agent: "Mozilla/5.0 (X11; Linux x86_64) Tests/1.0".to_owned(),
            jar: Arc::default(),
        }
    }

    /// Signs in through the page's form, and is sure that it worked.
    pub async fn signed_in_as(self, user: &str) -> Self {
        let answer = patiently(async || self.sign_in(user, PASSWORD, "/").await).await;
        assert_eq!(answer.status, 303, "sign-in of {user}: {}", answer.text());
        assert!(self.access().is_some() && self.refresh().is_some());
        self
    }

    pub async fn sign_in(&self, user: &str, password: &str, rd: &str) -> Answer {
        self.send(sign_in_form(user, password, rd)).await
    }

    pub async fn sign_out(&self) -> Answer {
        self.send(sign_out_form()).await
    }

    /// As `fetch()` of a page of the origin.
    pub async fn get(&self, target: &str) -> Answer {
        self.send(as_fetch(Ask::get(target))).await
    }

    /// As a person who follows a link or types an address.
    pub async fn navigate(&self, target: &str) -> Answer {
        self.send(
            Ask::get(target)
                .header("sec-fetch-mode", "navigate")
                .header("sec-fetch-dest", "document")
                .header("sec-fetch-site", "none")
                .header("accept", "text/html,*/*;q=0.8"),
        )
        .await
    }

    /// Anything, with this browser's cookies; the answer's cookies go into the jar.
    pub async fn send(&self, ask: Ask) -> Answer {
        self.try_send(ask).await.expect("an answer")
    }

    /// [`Self::send`], where the connection may well be cut.
    pub async fn try_send(&self, ask: Ask) -> Result<Answer, Lost> {
        let answer = self.door.try_ask(self.dress(ask)).await?;
        self.take_cookies(&answer);
        Ok(answer)
    }

    /// [`Self::send`] on a shared HTTP/2 connection.
    pub async fn send_on(&self, connection: &H2, ask: Ask) -> Answer {
        let answer = connection.ask(self.dress(ask)).await;
        self.take_cookies(&answer);
        answer
    }

    /// As [`Self::send_on`], where the connection may well be cut.
    pub async fn try_send_on(&self, connection: &H2, ask: Ask) -> Result<Answer, Lost> {
        let answer = connection.try_ask(self.dress(ask)).await?;
        self.take_cookies(&answer);
        Ok(answer)
    }

    /// The request with the user agent and the cookies of this moment.
    pub fn dress(&self, mut ask: Ask) -> Ask {
        let has = |name: &str| {
            ask.headers
                .iter()
                .any(|(n, _)| n.eq_ignore_ascii_case(name))
        };
        let (cookies, agent) = (has("cookie"), has("user-agent"));
        if !agent {
            ask = ask.header("user-agent", &self.user_agent);
        }
        match self.cookie_line() {
            Some(line) if !cookies => ask.header("cookie", line),
            _ => ask,
        }
    }

    pub fn take_cookies(&self, answer: &Answer) {
        let mut jar = self.jar.lock().unwrap();
        for line in answer.all("set-cookie") {
            jar.apply(&line);
        }
    }

    pub fn cookie_line(&self) -> Option<String> {
        let jar = self.jar.lock().unwrap();
        (!jar.0.is_empty()).then(|| {
            jar.0
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect::<Vec<_>>()
                .join("; ")
        })
    }

    pub fn cookie(&self, name: &str) -> Option<String> {
        self.jar.lock().unwrap().find(name)
    }

    pub fn put_cookie(&self, name: &str, value: &str) {
        self.jar.lock().unwrap().put(name, value);
    }

    /// As a browser does when `Max-Age` is over.
    pub fn drop_cookie(&self, name: &str) {
        self.jar.lock().unwrap().0.retain(|(n, _)| n != name);
    }

    pub fn access(&self) -> Option<String> {
        self.cookie(ACCESS)
    }

    pub fn refresh(&self) -> Option<String> {
        self.cookie(REFRESH)
    }

    /// How often this session has been rotated, as its access token says.
    pub fn generation(&self) -> u64 {
        claims(&self.access().expect("an access token"))["gen"]
            .as_u64()
            .expect("a generation")
    }

    pub fn session(&self) -> String {
        claims(&self.access().expect("an access token"))["sid"]
            .as_str()
            .expect("a session id")
            .to_owned()
    }

    /// The same cookies somewhere else: what a thief has, or a restored backup.
    pub fn copy(&self) -> Browser {
        Browser {
            door: self.door.clone(),
            user_agent: self.user_agent.clone(),
            jar: Arc::new(Mutex::new(self.jar())),
        }
    }

    pub fn jar(&self) -> Jar {
        self.jar.lock().unwrap().clone()
    }

    pub fn restore(&self, jar: Jar) {
        *self.jar.lock().unwrap() = jar;
    }

    /// This browser on another machine.
    pub fn at(mut self, from: &str) -> Self {
        self.door.from = from.parse::<IpAddr>().unwrap();
        self
    }
}

impl Jar {
    pub fn find(&self, name: &str) -> Option<String> {
        self.0
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.clone())
    }

    pub fn put(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(n, _)| n == name) {
            Some(slot) => slot.1 = value.to_owned(),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }

    /// RFC 6265bis "Storage Model", as far as one https origin needs it.
    fn apply(&mut self, line: &str) {
        let mut parts = line.split(';').map(str::trim);
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else {
            return;
        };
        let attributes: Vec<(String, &str)> = parts
            .map(|part| part.split_once('=').unwrap_or((part, "")))
            .map(|(key, value)| (key.trim().to_ascii_lowercase(), value.trim()))
            .collect();
        let attribute = |key: &str| attributes.iter().find(|(k, _)| k == key).map(|(_, v)| *v);
        let lower = name.to_ascii_lowercase();
        let secure = attribute("secure").is_some();
        if (lower.starts_with("__host-")
            && !(secure && attribute("path") == Some("/") && attribute("domain").is_none()))
            || (lower.starts_with("__secure-") && !secure)
            || name.len() + value.len() > 4096
        {
            return;
        }
        let over = attribute("max-age")
            .and_then(|age| age.parse::<i64>().ok())
            .is_some_and(|age| age <= 0);
        if over {
            self.0.retain(|(n, _)| n != name);
        } else {
            self.put(name, value);
        }
    }
}

/// What the sign-in page's form sends.
pub fn sign_in_form(user: &str, password: &str, rd: &str) -> Ask {
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("username", user)
        .append_pair("password", password)
        .append_pair("rd", rd)
        .finish();
    Ask::post("/.auth/login", form)
        .header("content-type", "application/x-www-form-urlencoded")
        .header("sec-fetch-site", "same-origin")
        .header("sec-fetch-mode", "navigate")
        .header("accept", "text/html")
}

/// What the sign-out page's form sends.
pub fn sign_out_form() -> Ask {
    Ask::post("/.auth/logout", "")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("sec-fetch-site", "same-origin")
}

/// The headers `fetch()` adds for a same-origin request.
pub fn as_fetch(ask: Ask) -> Ask {
    let ask = ask
        .header("sec-fetch-mode", "cors")
        .header("sec-fetch-dest", "empty")
        .header("sec-fetch-site", "same-origin")
        .header("accept", "*/*");
    if ask.method == "GET" || ask.headers.iter().any(|(name, _)| name == "origin") {
        ask
    } else {
        ask.header("origin", ORIGIN)
    }
}

/// What a JWT says, unchecked.
pub fn claims(token: &str) -> serde_json::Value {
    let payload = token.split('.').nth(1).expect("a JWT");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}
