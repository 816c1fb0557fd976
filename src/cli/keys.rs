//! `vestibule keys …`: the signing keys of access tokens and assertions.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::operate::{Missing, OperateError, not_done, operate};
use super::{ConfigFile, date, table};
use crate::control::{Request, Response};
use crate::observe::say;

/// List and rotate signing keys
#[derive(Debug, Args)]
pub(crate) struct Keys {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// List signing keys
    List {
        #[command(flatten)]
        file: ConfigFile,
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a new signing key; the old one verifies until nothing that it signed can live
    Rotate {
        #[command(flatten)]
        file: ConfigFile,
    },
}

impl Keys {
    pub(crate) fn run(self) -> ExitCode {
        match self.command {
            KeysCommand::List { file, json } => list(&file, json),
            KeysCommand::Rotate { file } => rotate(&file),
        }
    }
}

fn rotate(file: &ConfigFile) -> ExitCode {
    let config = match file.load() {
        Ok(config) => config,
        Err(code) => return code,
    };
    match operate(&config, Request::KeysRotate, Missing::Refuse) {
        Ok(Response::KeyRotated { kid }) => {
            say!("the key {kid} signs from now on");
            ExitCode::SUCCESS
        }
        Ok(_) => not_done(&OperateError::Unexpected),
        Err(error) => not_done(&error),
    }
}

fn list(file: &ConfigFile, json: bool) -> ExitCode {
    let config = match file.load() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let keys = match operate(&config, Request::KeysList, Missing::Refuse) {
        Ok(Response::Keys { keys }) => keys,
        Ok(_) => return not_done(&OperateError::Unexpected),
        Err(error) => return not_done(&error),
    };
    if json {
        let list: Vec<_> = keys
            .iter()
            .map(|key| {
                json!({
                    "kid": key.kid,
                    "created_at": date(key.created_at),
                    "retires_at": key.retires_at.map(date),
                    "signs": key.retires_at.is_none(),
                })
            })
            .collect();
        return super::print_text(&format!("{}\n", json!(list)));
    }
    let rows: Vec<_> = keys
        .iter()
        .map(|key| {
            [
                key.kid.clone(),
                date(key.created_at),
                match key.retires_at {
                    None => "signs".to_owned(),
                    Some(at) => format!("verifies until {}", date(at)),
                },
            ]
        })
        .collect();
    super::print_text(&table::columns(["KID", "MADE", "STATE"], &rows))
}
