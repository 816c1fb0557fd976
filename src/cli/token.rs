//! `vestibule token inspect`: says what a token is, what it claims, and why it is (in)valid here. Never prints a token or
//! its signature.

mod inspection;

use std::io::{BufRead as _, Read as _};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use self::inspection::{Inspection, Kind, inspect};
use super::ConfigFile;
use super::operate::{Missing, OperateError, not_done, operate};
use crate::auth::foreign_token::UnverifiedIssuer;
use crate::bearer::Bearers;
use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::control::{Judgement, Request, Response, TokenText};

/// Look into tokens
#[derive(Debug, Args)]
pub(crate) struct Token {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    Inspect(Inspect),
}

/// Read a token from stdin, say what it is and why it is (in)valid here
///
/// Exit code 0: valid. 1: not valid, or it could not be judged.
#[derive(Debug, Args)]
struct Inspect {
    #[command(flatten)]
    file: ConfigFile,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// Longer than any token, and than any cookie line that holds one.
const MOST_BYTES: u64 = 32 << 10;

impl Token {
    pub(crate) fn run(self) -> ExitCode {
        let TokenCommand::Inspect(command) = self.command;
        command.run()
    }
}

impl Inspect {
    fn run(self) -> ExitCode {
        let config = match self.file.load() {
            Ok(config) => config,
            Err(code) => return code,
        };
        let mut line = Vec::new();
        let mut input = std::io::stdin().lock().take(MOST_BYTES);
        if let Err(error) = input.read_until(b'\n', &mut line) {
            return super::failed(&format!("stdin cannot be read: {error}"));
        }
        let text = String::from_utf8_lossy(&line);
        let token = inspection::bare(&text);
        if token.is_empty() {
            return super::bad_usage("there is no token on stdin: vestibule token inspect < FILE");
        }
        let now = Clock::System.now();
        let mut inspection = inspect(token, now);
        let named = UnverifiedIssuer::of(token).map(|named| named.0);
        let judged = match named {
            Some(issuer) if issuer != config.origin.to_string() && !config.bearers.is_empty() => {
                inspection.kind = Kind::Foreign;
                judge_foreign(&config, token, &issuer, now)
            }
            _ => judge(&config, token, &inspection),
        };
        let judgement = match judged {
            Ok(judgement) => judgement,
            Err(error) => return not_done(&error),
        };
        if let Some(refresh) = &judgement.refresh {
            inspection.add_refresh(refresh, now);
        }
        super::print_text(&match self.json {
            true => format!("{}\n", inspection.to_json(judgement.valid, &judgement.why)),
            false => inspection.to_text(judgement.valid, &judgement.why),
        });
        match judgement.valid {
            true => ExitCode::SUCCESS,
            false => ExitCode::from(super::FAILED),
        }
    }
}

/// What the gateway would make of a bearer token: the same engine, with keys that are read or fetched here and now.
fn judge_foreign(
    config: &Config,
    token: &str,
    issuer: &str,
    now: Timestamp,
) -> Result<Judgement, OperateError> {
    let runtime = super::operate::runtime()?;
    let judged = runtime.block_on(async {
        let settings = config.bearers.clone();
        let bearers = Bearers::start(settings, runtime.handle())?;
        Ok::<_, OperateError>(bearers.explain(token, now).await)
    })?;
    let (valid, why) = match judged {
        Some(Ok(subject)) => {
            let scopes = subject.scopes().unwrap_or_default().join(" ");
            let user = &subject.identity().user;
            let with = match scopes.is_empty() {
                true => "without scopes".to_owned(),
                false => format!("with the scopes {scopes}"),
            };
            (
                true,
                format!("a bearer token of {issuer} for the user {user}, {with}"),
            )
        }
        Some(Err(why)) => (
            false,
            format!("refused as a bearer token of {issuer}: {why}"),
        ),
        None => {
            let known: Vec<_> = config
                .bearers
                .iter()
                .map(|one| one.issuer.as_str())
                .collect();
            let why = format!(
                "its issuer {issuer} is none of [[bearer]], which are compared exactly: {}",
                known.join(", ")
            );
            (false, why)
        }
    };
    Ok(Judgement {
        valid,
        why,
        refresh: None,
    })
}

/// The gateway's judgement, or ours where the token is none that it could issue.
fn judge(config: &Config, token: &str, inspection: &Inspection) -> Result<Judgement, OperateError> {
    if !inspection.can_be_judged() {
        let why = match inspection.kind {
            Kind::OtherJwt => "its `typ` is none that this gateway issues",
            _ => "this is neither a JWT nor a refresh token",
        };
        return Ok(Judgement {
            valid: false,
            why: why.to_owned(),
            refresh: None,
        });
    }
    let request = Request::TokenCheck {
        token: TokenText(token.to_owned()),
    };
    match operate(config, request, Missing::Refuse)? {
        Response::Token { judgement } => Ok(judgement),
        _ => Err(OperateError::Unexpected),
    }
}
