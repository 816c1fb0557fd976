//! `gateway.toml` -> [`Config`], or every problem at once with file:line:column and a hint.
//!
//! Order: [`toml`] reads the syntax, `survey` looks over the keys, `check` turns what was typed into what was meant, `report`
//! shows what is wrong. Must not open a socket or a store: everything here can be done beside a running gateway.

mod check;
pub mod defaults;
mod file;
pub mod report;
mod survey;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use toml::de::DeTable;

use crate::auth::route::Route;
use crate::headers::cookie::CookieStyle;
use crate::units::Secret;
use crate::{admin, bearer, external, login, observe, outbound, server, session, store, upstream};

pub use check::Purpose;
pub use report::Report;

/// What the deployer meant: each engine's settings, ready to use.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it came from, for messages.
    pub source: PathBuf,
    /// What the deployer should know although the file can be used.
    pub warnings: Report,
    /// `[server]`.
    pub server: server::Settings,
    /// What users type: scheme, host, port; no trailing slash.
    pub origin: Origin,
    /// `trusted_proxies`.
    pub trusted_proxies: Vec<IpNet>,
    /// `[tls]`.
    pub tls: server::tls::Settings,
    /// `[session]`.
    pub session: session::Settings,
    /// How our cookies are written.
    pub cookies: CookieStyle,
    /// `[store]`, `[secret]`.
    pub store: StoreSettings,
    /// `[login.local]`, when present.
    pub local: Option<login::local::Settings>,
    /// `[external]`, when present.
    pub external: Option<External>,
    /// `[login.oidc.NAME]` and `[login.oauth2.NAME]`, in the order of the file.
    pub providers: Vec<login::oidc::Settings>,
    /// `[[bearer]]`.
    pub bearers: Vec<bearer::Settings>,
    /// `[[upstream]]`.
    pub upstreams: Vec<upstream::Settings>,
    /// `[[route]]`, in the file's order.
    pub routes: Vec<Route>,
    /// `[admin]`, when present.
    pub admin: Option<admin::Settings>,
    /// `[log]`.
    pub log: observe::Settings,
}

/// `[external]` and what its calls need.
#[derive(Clone, Debug)]
pub struct External {
    /// The engine's part.
    pub settings: external::Settings,
    /// Whom its calls believe.
    pub outbound: outbound::Settings,
}

/// An https origin (RFC 6454): `https://host[:port]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Lower case, without port.
    pub host: String,
    /// Port as seen by users.
    pub port: u16,
}

impl Origin {
    /// Reads `https://host[:port]` and nothing else; the error says what is expected.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        check::names::origin(text)
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.port == 443 {
            write!(f, "https://{}", self.host)
        } else {
            write!(f, "https://{}:{}", self.host, self.port)
        }
    }
}

/// Where state is kept.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// Which store, and how it is reached.
    pub kind: store::Kind,
    /// This node's folder: `control.sock`, `self-signed.pem`; of an embedded store also `store.redb`, `master.key`.
    pub path: PathBuf,
    /// Master key from `[secret]`; `None` = `master.key` under `path`, made on first start with mode 0600. Never `None`
    /// with a shared store.
    pub master: Option<Secret>,
    /// Former master keys that still open refresh tokens.
    pub previous: Vec<Secret>,
}

/// `[admin]`'s default.
pub const DEFAULT_ADMIN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9091);

/// Largest file that is read; a configuration is never that large.
const MAX_FILE: u64 = 4 << 20;

/// Reads and checks a file, to serve with it.
pub fn load(path: &Path) -> Result<Config, Report> {
    load_for(path, Purpose::Serve)
}

/// Reads and checks a file.
pub fn load_for(path: &Path, purpose: Purpose) -> Result<Config, Report> {
    let name = path.display().to_string();
    let size = std::fs::metadata(path).map(|meta| meta.len());
    if size.is_ok_and(|size| size > MAX_FILE) {
        return Err(Report::whole_file(
            &name,
            "the file is larger than 4 MiB".to_owned(),
            "this is no gateway.toml; name the right file with -c",
        ));
    }
    let bytes = std::fs::read(path).map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "copy the annotated gateway.toml and edit it, or name another file with -c FILE"
            }
            std::io::ErrorKind::PermissionDenied => "let the user who runs vestibule read it",
            _ => "name a readable file with -c FILE",
        };
        Report::whole_file(&name, format!("the file cannot be read: {error}"), hint)
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        Report::whole_file(
            &name,
            format!(
                "the file is not UTF-8 text (byte {} is not)",
                error.utf8_error().valid_up_to()
            ),
            "save it as UTF-8",
        )
    })?;
    parse_for(&text, &name, purpose)
}

/// Checks a text, to serve with it; `name` is the file's path: messages show it, and relative paths in the text start at
/// its folder.
pub fn parse(text: &str, name: &str) -> Result<Config, Report> {
    parse_for(text, name, Purpose::Serve)
}

fn parse_for(text: &str, name: &str, purpose: Purpose) -> Result<Config, Report> {
    let problems = report::Problems::default();
    let (root, syntax) = DeTable::parse_recoverable(text);
    if !syntax.is_empty() {
        return Err(Report::new(name, text, syntax_problems(text, &syntax)));
    }
    survey::survey(root.get_ref(), &problems);
    let root = file::Section::root(root.get_ref());
    let config = check::check(&root, Path::new(name), &problems, purpose);
    let report = Report::new(name, text, problems.into_vec());
    match config {
        Some(config) if report.errors() == 0 => Ok(Config {
            warnings: report,
            ..config
        }),
        _ => Err(report),
    }
}

/// Syntax errors, one per line: what follows on the same line is mostly the same slip again. Keys are not surveyed then,
/// because what the parser made of a broken line is a guess.
fn syntax_problems(text: &str, errors: &[toml::de::Error]) -> Vec<report::Problem> {
    let mut lines_seen = std::collections::HashSet::new();
    errors
        .iter()
        .filter_map(|error| {
            let span = error.span().unwrap_or(0..0);
            let start = span.start.min(text.len());
            let line = text
                .as_bytes()
                .get(..start)?
                .iter()
                .filter(|b| **b == b'\n')
                .count();
            lines_seen.insert(line).then(|| report::Problem {
                severity: report::Severity::Error,
                span: Some(span),
                message: format!("this is not TOML: {}", error.message()),
                hint: Some(syntax_hint(error.message()).to_owned()),
                related: None,
            })
        })
        .collect()
}

fn syntax_hint(message: &str) -> &'static str {
    if message.contains("duplicate") {
        "a key or table can be there once; lists of tables are written [[upstream]]"
    } else {
        "a line is `key = value`, `[table]` or `[[table]]`; texts are in \"quotes\""
    }
}

#[cfg(test)]
mod tests;
