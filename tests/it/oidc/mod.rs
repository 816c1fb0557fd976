//! Signing in by OpenID Connect: a real provider, one that lies, and everything in between.

mod backchannel;
mod journey;
mod logout;
pub mod online;
mod plain_oauth2;
mod renewal;
mod several_hosts;
mod sign_in;
pub mod the_providers;
mod whose_name;

use url::Url;

use crate::harness::client::Answer;
use crate::harness::gateway::Setup;
use crate::harness::{ACCESS, App, Gateway, REFRESH};

/// The cookie of sign-ins under way.
pub const LOGIN: &str = "__Host-vestibule-login";

/// A gateway whose people sign in by these tables, and by nothing else.
pub fn by(app: &App, tables: &str) -> Setup {
    Gateway::before(app).login(tables)
}

/// This answer gives nobody a session.
pub fn nobody(answer: &Answer, what: &str) {
    for line in answer.all("set-cookie") {
        let (name, rest) = line.split_once('=').unwrap();
        let value = rest.split(';').next().unwrap();
        assert!(
            !matches!(name, ACCESS | REFRESH) || value.is_empty(),
            "{what}: signed in with {line}"
        );
    }
}

/// The text of a page for people; fails when it is something else.
pub fn page_of(answer: &Answer, what: &str) -> String {
    let kind = answer.header("content-type").unwrap_or("");
    assert!(kind.starts_with("text/html"), "{what}: {kind}");
    assert!(answer.header("content-security-policy").is_some(), "{what}");
    answer.text()
}

/// The only value of a parameter of a URL.
pub fn parameter(url: &str, name: &str) -> String {
    let parsed = Url::parse(url).unwrap();
    let mut all = parsed.query_pairs().filter(|(n, _)| n == name);
    let value = all.next().unwrap_or_else(|| panic!("no {name} in {url}")).1;
    assert!(all.next().is_none(), "{name} twice in {url}");
    value.into_owned()
}

/// The URL with another value of a parameter, or without it.
pub fn with_parameter(url: &str, name: &str, value: Option<&str>) -> String {
    let mut parsed = Url::parse(url).unwrap();
    let others: Vec<(String, String)> = parsed
        .query_pairs()
        .into_owned()
        .filter(|(n, _)| n != name)
        .collect();
    parsed.query_pairs_mut().clear().extend_pairs(&others);
    if let Some(value) = value {
        parsed.query_pairs_mut().append_pair(name, value);
    }
    parsed.into()
}
