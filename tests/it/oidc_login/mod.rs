//! Signing in by an OpenID provider: the way there and back, what may go wrong on it, and who is let in. Against the real
//! provider where that can be made to do it, and against one that lies where it cannot.

mod answers;
mod people;
mod there_and_back;
mod tricks;

use url::Url;

use crate::harness::client::Answer;
use crate::harness::{ACCESS, App, Ask, Browser, Gateway, Provider, REFRESH};
use crate::oidc::{LOGIN, by};

/// A gateway whose people sign in by the real provider, and by nothing else.
async fn at_corp() -> (Provider, App, Gateway) {
    let (provider, app) = (Provider::start(), App::start().await);
    let gateway = by(&app, &provider.table("corp", "")).run();
    (provider, app, gateway)
}

/// The query of a URL, each parameter once.
fn query(url: &str) -> Vec<(String, String)> {
    let url = Url::parse(url).unwrap();
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    for (name, _) in &pairs {
        assert_eq!(pairs.iter().filter(|(n, _)| n == name).count(), 1, "{name}");
    }
    pairs
}

fn one(url: &str, name: &str) -> String {
    let pairs = query(url);
    let found = pairs.iter().find(|(n, _)| n == name);
    found
        .unwrap_or_else(|| panic!("no {name} in {url}"))
        .1
        .clone()
}

/// The same callback with one parameter changed.
fn with(url: &str, name: &str, value: &str) -> String {
    let mut changed = Url::parse(url).unwrap();
    let pairs = query(url);
    changed.query_pairs_mut().clear().extend_pairs(
        pairs
            .iter()
            .map(|(n, v)| (n.as_str(), if n == name { value } else { v.as_str() })),
    );
    changed.into()
}

/// The button of the sign-out page.
fn sign_out_by_a_person() -> Ask {
    Ask::post("/.auth/logout", "")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("sec-fetch-mode", "navigate")
        .header("sec-fetch-dest", "document")
        .header("sec-fetch-site", "same-origin")
        .header("accept", "text/html")
}

fn sets_session(answer: &Answer) -> bool {
    let lines = answer.all("set-cookie");
    lines
        .iter()
        .any(|line| line.starts_with(ACCESS) || line.starts_with(REFRESH))
}

fn is_anonymous(browser: &Browser) -> bool {
    browser.cookie(ACCESS).is_none() && browser.cookie(REFRESH).is_none()
}
