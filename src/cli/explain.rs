//! `vestibule explain`: what the pure core would say of a request; no socket, no store. (But for a token: the keys that judge it, where
//! they are fetched.)

mod asker;
mod by_token;
mod outcome;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::Args;
use http::Method;
use serde::Serialize;

use super::ConfigFile;
use asker::Options;
pub(super) use asker::logins;
use outcome::explain;

/// Explain what would happen to a request: which route, which rule, which headers the app would see
///
/// Nothing is sent. Without --user or --token the request comes from somebody who is not signed in.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    #[command(flatten)]
    file: ConfigFile,
    /// The method, in capitals
    #[arg(value_name = "METHOD", value_parser = method)]
    method: Method,
    /// The address as a browser would have it, or a path on the origin
    #[arg(value_name = "URL")]
    url: String,
    #[command(flatten)]
    asker: Options,
    /// By the token on stdin: a bearer token of a configured issuer, or the access token of [external]
    ///
    /// It is judged as the gateway would judge it, with the issuer's keys fetched where they are not in the configuration.
    #[arg(long, conflicts_with = "user")]
    token: bool,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

fn method(text: &str) -> Result<Method, String> {
    match Method::from_bytes(text.as_bytes()) {
        Ok(method) if !text.bytes().any(|byte| byte.is_ascii_lowercase()) => Ok(method),
        _ => Err(format!(
            "methods are written in capitals: {}",
            text.to_ascii_uppercase()
        )),
    }
}

impl Explain {
    pub(crate) fn run(self) -> ExitCode {
        let config = match self.file.load() {
            Ok(config) => config,
            Err(code) => return code,
        };
        let asker = match self.token {
            true => by_token::asker(&config),
            false => self
                .asker
                .resolve(&config)
                .map_err(|message| super::bad_usage(&message)),
        };
        let asker = match asker {
            Ok(asker) => asker,
            Err(code) => return code,
        };
        match explain(&config, &self.method, &self.url, asker) {
            Ok(explanation) if self.json => {
                super::print_text(&format!("{}\n", serde_json::json!(explanation)))
            }
            Ok(explanation) => super::print_text(&explanation.to_string()),
            Err(hint) => super::bad_usage(&format!("{:?} is not an address: {hint}", self.url)),
        }
    }
}

/// What would happen.
#[derive(Debug, Default, Serialize)]
struct Explanation {
    request: String,
    path: Option<String>,
    /// Counted from 1, as in `rule`.
    route: Option<usize>,
    rule: Option<String>,
    upstream: Option<String>,
    who: String,
    outcome: String,
    forwarded: bool,
    /// Identity headers by name.
    headers: Vec<(String, String)>,
    notes: Vec<String>,
}

impl std::fmt::Display for Explanation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut line =
            |name: &str, value: &str| writeln!(f, "{name:<10}{}", crate::units::visible(value));
        line("request", &self.request)?;
        line("who", &self.who)?;
        if let Some(path) = &self.path {
            line("path", path)?;
        }
        if let Some(rule) = &self.rule {
            line("rule", rule)?;
        }
        if let Some(upstream) = &self.upstream {
            line("upstream", upstream)?;
        }
        line("outcome", &self.outcome)?;
        for (index, (name, value)) in self.headers.iter().enumerate() {
            line(
                if index == 0 { "headers" } else { "" },
                &format!("{name}: {value}"),
            )?;
        }
        for note in &self.notes {
            line("note", note)?;
        }
        Ok(())
    }
}
