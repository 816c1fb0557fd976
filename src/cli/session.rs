//! `vestibule session …`: who is signed in, and ending it; running nodes obey at once.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::operate::{Missing, OperateError, not_done, operate};
use super::{ConfigFile, date, table};
use crate::auth::SessionId;
use crate::config::Config;
use crate::config::report::suggest;
use crate::control::{Request, Response, SessionInfo};
use crate::login::local::PROVIDER;
use crate::observe::say;

/// List and end sessions
#[derive(Debug, Args)]
pub(crate) struct Session {
    #[command(subcommand)]
    command: SessionCommand,
}

#[derive(Debug, Subcommand)]
enum SessionCommand {
    /// List live sessions
    List {
        #[command(flatten)]
        file: ConfigFile,
        /// Only those of this user
        #[arg(long)]
        user: Option<String>,
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
    Revoke(Revoke),
}

/// End sessions at once, with their open WebSockets and streams
#[derive(Debug, Args)]
struct Revoke {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    which: Which,
    /// Only what began at this provider (`local`: built-in accounts): the same name elsewhere is somebody else
    #[arg(long, requires = "user")]
    provider: Option<String>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// One session, by the id that `session list` shows
    #[arg(value_name = "SID", value_parser = session_id, allow_hyphen_values = true)]
    session: Option<SessionId>,
    /// All sessions of a user, at whatever provider unless --provider is given
    #[arg(long)]
    user: Option<String>,
    /// All sessions of everybody
    #[arg(long)]
    all: bool,
}

fn session_id(text: &str) -> Result<SessionId, String> {
    SessionId::parse(text)
        .ok_or_else(|| "a session id has 22 characters; see: vestibule session list".to_owned())
}

impl Session {
    pub(crate) fn run(self) -> ExitCode {
        match self.command {
            SessionCommand::List { file, user, json } => list(&file, user, json),
            SessionCommand::Revoke(command) => command.run(),
        }
    }
}

impl Revoke {
    fn run(self) -> ExitCode {
        let config = match self.file.load() {
            Ok(config) => config,
            Err(code) => return code,
        };
        let stranger = self
            .provider
            .as_deref()
            .and_then(|provider| stranger(&config, provider));
        let request = match self.which {
            Which {
                session: Some(session),
                ..
            } => Request::SessionRevoke { session },
            Which {
                user: Some(user), ..
            } => Request::SessionRevokeUser {
                user,
                provider: self.provider,
            },
            Which { .. } => Request::SessionRevokeAll,
        };
        match operate(&config, request, Missing::Refuse) {
            Ok(Response::Ended { sessions }) => {
                say!("{} ended", super::count(sessions, "session"));
                match stranger {
                    // Asked all the same: sessions of a provider that was taken out live until their next renewal.
                    Some(words) if sessions == 0 => super::failed(&words),
                    _ => ExitCode::SUCCESS,
                }
            }
            Ok(_) => {
                say!("ended");
                ExitCode::SUCCESS
            }
            Err(error) => not_done(&error),
        }
    }
}

/// That nobody signs in by this provider, and who could be meant; `None` = they do.
fn stranger(config: &Config, provider: &str) -> Option<String> {
    let mut known = super::explain::logins(config);
    // Sessions of accounts that cannot sign in any more.
    if !known.contains(&PROVIDER) {
        known.push(PROVIDER);
    }
    (!known.contains(&provider)).then(|| {
        format!(
            "there is no provider {provider:?} here: {}",
            suggest(provider, known.into_iter())
        )
    })
}

fn list(file: &ConfigFile, user: Option<String>, json: bool) -> ExitCode {
    let config = match file.load() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let sessions = match operate(&config, Request::SessionList { user }, Missing::Refuse) {
        Ok(Response::Sessions { sessions }) => sessions,
        Ok(_) => return not_done(&OperateError::Unexpected),
        Err(error) => return not_done(&error),
    };
    if json {
        let list: Vec<_> = sessions.iter().map(as_json).collect();
        return super::print_text(&format!("{}\n", json!(list)));
    }
    if config.external.is_some() {
        say!(
            "who is signed in by [external] is not listed: those sessions are kept by its service alone"
        );
    } else if sessions.is_empty() {
        say!("nobody is signed in");
    }
    if sessions.is_empty() {
        return ExitCode::SUCCESS;
    }
    let rows: Vec<_> = sessions
        .iter()
        .map(|session| {
            [
                session.session.to_string(),
                session.user.clone(),
                session.provider.clone(),
                date(session.created_at),
                date(session.last_seen_at),
                session.addr.0.to_string(),
                session.user_agent.chars().take(60).collect(),
            ]
        })
        .collect();
    super::print_text(&table::columns(
        [
            "SID",
            "USER",
            "PROVIDER",
            "SIGNED IN",
            "RENEWED",
            "ADDRESS",
            "BROWSER",
        ],
        &rows,
    ))
}

fn as_json(session: &SessionInfo) -> serde_json::Value {
    json!({
        "sid": session.session.to_string(),
        "user": session.user,
        "provider": session.provider,
        "created_at": date(session.created_at),
        "last_seen_at": date(session.last_seen_at),
        "ends_at": date(session.ends_at),
        "address": session.addr.0.to_string(),
        "user_agent": session.user_agent,
    })
}
