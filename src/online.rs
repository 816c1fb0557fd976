//! `vestibule check --online`: whether those whom the configuration names are there, and say what it takes for granted.
//!
//! Asks everybody at once, each call bounded, and says what was tried, what came back and how to mend it. Must not change
//! anything anywhere, present a token that somebody could still use, or show a secret, a token or a query.

mod calls;
mod client;
mod near;
mod offers;
mod provider;
mod redirects;
mod service;

use std::pin::Pin;
use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::config::Config;
use crate::store;
use crate::units::visible;

/// How something was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Worth knowing.
    Note,
    /// It works, or nobody can tell; somebody should look.
    Warning,
    /// It will not work.
    Problem,
}

impl Verdict {
    /// In output.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Good => "good",
            Verdict::Note => "note",
            Verdict::Warning => "warning",
            Verdict::Problem => "problem",
        }
    }
}

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How it was found.
    pub verdict: Verdict,
    /// What was tried and what came back.
    pub text: String,
    /// What to do about it.
    pub mend: Option<String>,
}

impl Finding {
    fn good(text: String) -> Self {
        Finding {
            verdict: Verdict::Good,
            text,
            mend: None,
        }
    }

    fn of(verdict: Verdict, text: String, mend: impl Into<String>) -> Self {
        Finding {
            verdict,
            text,
            mend: Some(mend.into()),
        }
    }
}

/// Everything about one table of the configuration.
#[derive(Clone, Debug)]
pub struct Section {
    /// The table, as it is written.
    pub about: String,
    /// In the order in which they were tried.
    pub findings: Vec<Finding>,
    /// What has to be registered there, character for character: what it is called, and the address.
    pub register: Vec<(&'static str, String)>,
}

impl Section {
    fn new(about: String, findings: Vec<Finding>) -> Self {
        Section {
            about,
            findings,
            register: Vec::new(),
        }
    }

    /// For scripts.
    pub fn to_json(&self) -> Value {
        let findings = self.findings.iter().map(|finding| {
            json!({ "verdict": finding.verdict.word(), "text": finding.text, "mend": finding.mend })
        });
        let register = self
            .register
            .iter()
            .map(|(what, url)| json!({ "what": what, "url": url }));
        json!({
            "about": self.about,
            "findings": findings.collect::<Vec<_>>(),
            "register": register.collect::<Vec<_>>(),
        })
    }

    /// For people: several lines, each of them ours whatever those who were asked say.
    pub fn to_text(&self) -> String {
        let mut text = format!("{}\n", self.about);
        for finding in &self.findings {
            let (verdict, what) = (finding.verdict.word(), visible(&finding.text));
            text.push_str(&format!("  {verdict:<8} {what}\n"));
            if let Some(mend) = &finding.mend {
                text.push_str(&format!("  {:<8} -> {}\n", "", visible(mend)));
            }
        }
        if !self.register.is_empty() {
            text.push_str("  to be registered there, character for character:\n");
        }
        for (what, url) in &self.register {
            text.push_str(&format!("    {what:<24} {url}\n"));
        }
        text
    }
}

type Asking<'a> = Pin<Box<dyn Future<Output = Section> + Send + 'a>>;

/// Asks everybody at once; `told` hears the table of each that has been asked, and how many there are. In the order of the
/// configuration.
pub async fn look(config: &Config, told: impl Fn(&str, usize) + Sync) -> Vec<Section> {
    let origins = Arc::new(redirects::origins(config));
    let mut asking: Vec<Asking<'_>> = Vec::new();
    for settings in &config.providers {
        asking.push(match &settings.kind {
            crate::login::oidc::Kind::OpenId { issuer } => {
                Box::pin(provider::look(settings, issuer, Arc::clone(&origins)))
            }
            crate::login::oidc::Kind::OAuth2(endpoints) => {
                Box::pin(service::oauth2(settings, endpoints, Arc::clone(&origins)))
            }
        });
    }
    for settings in &config.bearers {
        asking.push(Box::pin(service::bearer(settings)));
    }
    if let Some(external) = &config.external {
        asking.push(Box::pin(service::external(external)));
    }
    if let store::Kind::Redis(settings) = &config.store.kind {
        asking.push(Box::pin(near::store(settings)));
    }
    for upstream in &config.upstreams {
        asking.push(Box::pin(near::upstream(upstream)));
    }
    let (all, told) = (asking.len(), &told);
    join_all(asking.into_iter().map(|asking| async move {
        let section = asking.await;
        told(&section.about, all);
        section
    }))
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_moves_no_cursor_and_begins_no_line() {
        let forged = "keys at https://x/\u{9b}2J\u{1b}[1A\r\n  good     client: accepted\u{202e}";
        // Addresses are theirs, too, and are told in what to do.
        let finding = Finding::of(Verdict::Problem, forged.to_owned(), forged);
        let text = Section::new("[store]".to_owned(), vec![finding]).to_text();
        assert_eq!(text.lines().count(), 3, "{text:?}");
        let ours = |c: char| c == '\n' || !crate::units::is_unsafe(c);
        assert!(text.chars().all(ours), "{text:?}");
        assert!(text.contains("keys at https://x/\\u{9b}2J"), "{text:?}");
    }
}
