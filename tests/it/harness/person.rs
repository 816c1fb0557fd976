//! A person at a provider: follows its redirects, fills in its form, and comes back with what it says to the gateway.
//!
//! Without a browser, so that it is quick and can do what browsers do not. What `harness::webdriver` does is the real thing.
#![allow(dead_code, reason = "what a sign-in needs is built test by test")]

use std::sync::{Arc, Mutex};

use url::Url;

use super::browser::Browser;
use super::client::{Answer, Ask};
use super::{ORIGIN, plain};

/// A jar of cookies at providers; clones are tabs.
#[derive(Clone, Default)]
pub struct Person {
    jar: Arc<Mutex<Vec<Cookie>>>,
}

struct Cookie {
    port: u16,
    path: String,
    name: String,
    value: String,
}

/// More steps than any sign-in takes.
const STEPS: usize = 20;

impl Person {
    pub fn new() -> Self {
        Person::default()
    }

    /// From the gateway's redirect to the URL at which the provider sends the browser back to it.
    pub async fn visit(&self, location: &str, login: &str) -> String {
        self.walk(location, Some(login)).await
    }

    /// [`Self::visit`], and presses Cancel there.
    pub async fn cancel(&self, location: &str) -> String {
        self.walk(location, None).await
    }

    async fn walk(&self, location: &str, login: Option<&str>) -> String {
        let mut url = Url::parse(location).unwrap_or_else(|_| panic!("a URL: {location}"));
        let mut ask = Ask::get("");
        for _ in 0..STEPS {
            let answer = self.send(&url, ask).await;
            if let Some(next) = answer.header("location") {
                assert_eq!(answer.status, 303, "a redirect");
                if next.starts_with(ORIGIN) {
                    return next.to_owned();
                }
                url = url.join(next).unwrap();
                ask = Ask::get("");
                continue;
            }
            let page = answer.text();
            let action = between(&page, "action=\"", "\"")
                .unwrap_or_else(|| panic!("{} {url}: {page}", answer.status));
            url = url.join(action).unwrap();
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            if let (Some(login), Some("login")) = (login, between(&page, "data-prompt=\"", "\"")) {
                form.append_pair("login", login)
                    .append_pair("password", "x");
            }
            if let Some(xsrf) = between(&page, "name=\"xsrf\" value=\"", "\"") {
                form.append_pair("xsrf", xsrf).append_pair("logout", "yes");
            }
            let go = if login.is_some() { "yes" } else { "no" };
            let form = form.append_pair("go", go).finish();
            ask = Ask::new("POST", "")
                .header("content-type", "application/x-www-form-urlencoded")
                .body(form);
        }
        panic!("{STEPS} steps and not back from {location}");
    }

    /// One request to the provider with this person's cookies.
    pub async fn send(&self, url: &Url, ask: Ask) -> Answer {
        let port = url.port_or_known_default().unwrap();
        let line: Vec<String> = {
            let jar = self.jar.lock().unwrap();
            let here = |c: &&Cookie| c.port == port && url.path().starts_with(&c.path);
            let cookies = jar.iter().filter(here);
            cookies.map(|c| format!("{}={}", c.name, c.value)).collect()
        };
        let ask = match line.is_empty() {
            true => ask,
            false => ask.header("cookie", line.join("; ")),
        };
        let answer = plain::ask(url, ask)
            .await
            .expect("an answer of the provider");
        let mut jar = self.jar.lock().unwrap();
        for line in answer.all("set-cookie") {
            let (name, rest) = line.split_once('=').unwrap();
            let mut parts = rest.split(';').map(str::trim);
            let value = parts.next().unwrap_or("");
            let path = parts.find_map(|part| part.strip_prefix("path="));
            let path = path.unwrap_or("/").to_owned();
            jar.retain(|c| !(c.port == port && c.path == path && c.name == name));
            if !value.is_empty() {
                jar.push(Cookie {
                    port,
                    path,
                    name: name.to_owned(),
                    value: value.to_owned(),
                });
            }
        }
        answer
    }
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(found, _)| found)
}

/// Where a page sends its reader by itself.
pub fn carries_on(page: &Answer) -> Option<String> {
    let page = page.text();
    let target = between(&page, "http-equiv=\"refresh\" content=\"0;url=", "\"")?;
    Some(target.replace("&#38;", "&").replace("&amp;", "&"))
}

impl Browser {
    /// Begins to sign in by a provider: where the gateway sends the browser.
    pub async fn begin(&self, name: &str, rd: &str) -> String {
        let rd: String = url::form_urlencoded::byte_serialize(rd.as_bytes()).collect();
        let answer = self.navigate(&format!("/.auth/login/{name}?rd={rd}")).await;
        assert_eq!(answer.status, 303, "begin: {}", answer.text());
        answer.header("location").expect("a location").to_owned()
    }

    /// The way back from the provider, which is a navigation that another site began.
    pub async fn come_back(&self, url: &str) -> Answer {
        let target = url.strip_prefix(ORIGIN).expect("a URL of the gateway");
        self.send(
            Ask::get(target)
                .header("sec-fetch-mode", "navigate")
                .header("sec-fetch-dest", "document")
                .header("sec-fetch-site", "cross-site")
                .header("accept", "text/html,*/*;q=0.8"),
        )
        .await
    }

    /// Goes where a page sends its reader by itself after a mishap, through the provider if need be; the last answer.
    pub async fn carried_on(&self, answer: Answer, person: &Person, login: &str) -> Answer {
        let Some(target) = carries_on(&answer) else {
            return answer;
        };
        let answer = self.navigate(&target).await;
        match answer
            .header("location")
            .filter(|to| to.starts_with("http"))
        {
            Some(to) => self.come_back(&person.visit(to, login).await).await,
            None => answer,
        }
    }

    /// Presses the button of the sign-out page: where the browser is led then, and the answer itself.
    pub async fn leave(&self) -> (Option<String>, Answer) {
        let mut form = super::browser::sign_out_form();
        // A page says which host it is of.
        for (name, value) in &mut form.headers {
            if name == "origin" {
                *value = format!("https://{}", self.door.host).into_bytes();
            }
        }
        let form = form
            .header("sec-fetch-mode", "navigate")
            .header("sec-fetch-dest", "document")
            .header("accept", "text/html");
        let answer = self.send(form).await;
        let to = match answer.header("location") {
            Some(to) => Some(to.to_owned()),
            None => carries_on(&answer),
        };
        (to, answer)
    }

    /// The whole way: to the provider, its form, and back.
    pub async fn sign_in_by(&self, name: &str, person: &Person, login: &str, rd: &str) -> Answer {
        let location = self.begin(name, rd).await;
        self.come_back(&person.visit(&location, login).await).await
    }

    /// [`Self::sign_in_by`], and is sure that it worked.
    pub async fn signed_in_by(self, name: &str, login: &str) -> Self {
        let answer = self.sign_in_by(name, &Person::new(), login, "/").await;
        assert_eq!(answer.status, 303, "sign-in of {login}: {}", answer.text());
        assert!(self.access().is_some() && self.refresh().is_some());
        self
    }
}
