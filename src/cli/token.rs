//! `vestibule token inspect`: says what a token is, what it claims, and why it is (in)valid here. Never prints a token or
//! its signature.

mod inspection;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use self::inspection::{Inspection, Kind, inspect};
use super::operate::{Missing, OperateError, not_done, operate};
use super::{ConfigFile, foreign, presented};
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
        let token = match presented::token(&config, "vestibule token inspect") {
            Ok(token) => token,
            Err(code) => return code,
        };
        let now = Clock::System.now();
        let mut inspection = inspect(&token, now);
        let judged = match is_foreign(&config, &token, &inspection) {
            true => {
                inspection.kind = foreign_kind(&config, &token, inspection.kind);
                judge_foreign(&config, &token, now)
            }
            false => judge(&config, &token, &inspection),
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

/// Whether somebody else issued it, as far as can be told. Beside `[external]` the gateway issues nothing but assertions.
fn is_foreign(config: &Config, token: &str, inspection: &Inspection) -> bool {
    let own = foreign::issuer_of(token).is_none_or(|issuer| issuer == config.origin.to_string());
    match &config.external {
        Some(_) => !own || inspection.kind != Kind::Assertion,
        None => !own && !config.bearers.is_empty(),
    }
}

fn foreign_kind(config: &Config, token: &str, seems: Kind) -> Kind {
    let external = config.external.as_ref();
    let service = external.map(|external| &external.settings.issuer);
    match (foreign::issuer_of(token), seems) {
        // Whatever the service calls a refresh token, it is none of ours.
        (_, Kind::Refresh | Kind::Unknown) => Kind::Unknown,
        (Some(issuer), _) if Some(&issuer) == service => Kind::External,
        _ => Kind::Foreign,
    }
}

/// What the gateway would make of it: the same engines, with keys that are read or fetched here and now.
fn judge_foreign(config: &Config, token: &str, now: Timestamp) -> Result<Judgement, OperateError> {
    let judged = foreign::judge(config, token, now)?;
    let judged = judged.iter().map(|one| one.in_words(config, token));
    let (valid, why): (Vec<bool>, Vec<String>) = judged.unzip();
    let why = match why.is_empty() {
        true => {
            let known = config.bearers.iter().map(|one| one.issuer.as_str());
            format!(
                "its issuer {} is none of [[bearer]], which are compared exactly: {}",
                foreign::issuer_of(token).unwrap_or_default(),
                known.collect::<Vec<_>>().join(", ")
            )
        }
        false => why.join("; "),
    };
    Ok(Judgement {
        valid: valid.contains(&true),
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
