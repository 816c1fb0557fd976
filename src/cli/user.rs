//! `vestibule user …`: built-in accounts, beside a running gateway or without one.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::operate::{Missing, OperateError, not_done, operate};
use super::{ConfigFile, date, password, table};
use crate::accounts::{AccountChange, AccountError, Part};
use crate::config::Config;
use crate::control::{Request, Response, UserInfo};
use crate::login::local::hash_password;
use crate::observe::say;
use crate::units::{Secret, format_duration};

/// Manage built-in accounts
///
/// Works beside a running gateway, which obeys at once, and without one. Passwords come from a prompt or, when stdin is no
/// terminal, from its first line; never from an argument.
#[derive(Debug, Args)]
pub(crate) struct User {
    #[command(subcommand)]
    command: UserCommand,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Add an account; asks for its password
    Add {
        #[command(flatten)]
        file: ConfigFile,
        /// How the person signs in, and the user that apps see
        name: String,
        /// E-mail address
        #[arg(long)]
        email: Option<String>,
        /// Name for people
        #[arg(long = "name", value_name = "DISPLAY_NAME")]
        display_name: Option<String>,
        /// A group; may be repeated
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<String>,
    },
    /// List accounts
    List {
        #[command(flatten)]
        file: ConfigFile,
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
    /// Set a new password and end the account's sessions
    Password {
        #[command(flatten)]
        file: ConfigFile,
        /// The account
        name: String,
    },
    /// Change an account's address, name for people or groups
    ///
    /// What is not named stays as it is. The account's sessions go on, and have the change from their next renewal on:
    /// at most one `session.access_ttl` later.
    // What it was called when it could change groups only.
    #[command(alias = "groups")]
    Change(Change),
    /// Keep an account from signing in and end its sessions
    Block {
        #[command(flatten)]
        file: ConfigFile,
        /// The account
        name: String,
    },
    /// Let a blocked account sign in again
    Unblock {
        #[command(flatten)]
        file: ConfigFile,
        /// The account
        name: String,
    },
    /// Remove an account and end its sessions
    Remove {
        #[command(flatten)]
        file: ConfigFile,
        /// The account
        name: String,
    },
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
struct Change {
    #[command(flatten)]
    file: ConfigFile,
    /// The account
    name: String,
    /// E-mail address
    #[arg(long, group = "what")]
    email: Option<String>,
    /// No e-mail address
    #[arg(long, group = "what", conflicts_with = "email")]
    no_email: bool,
    /// Name for people
    #[arg(long = "name", value_name = "DISPLAY_NAME", group = "what")]
    display_name: Option<String>,
    /// No name for people
    #[arg(long = "no-name", group = "what", conflicts_with = "display_name")]
    no_display_name: bool,
    /// A group; may be repeated; these become all of the account's groups
    #[arg(long = "group", value_name = "GROUP", group = "what")]
    groups: Vec<String>,
    /// No groups
    #[arg(long, group = "what", conflicts_with = "groups")]
    no_groups: bool,
    /// A group to add; may be repeated
    #[arg(long = "add-group", value_name = "GROUP", group = "what")]
    add_groups: Vec<String>,
    /// A group to take away; may be repeated
    #[arg(long = "remove-group", value_name = "GROUP", group = "what")]
    remove_groups: Vec<String>,
}

impl Change {
    fn run(self) -> ExitCode {
        let part = |set: Option<String>, remove: bool| match set {
            Some(text) => Part::Set(text),
            None if remove => Part::Remove,
            None => Part::Keep,
        };
        let all = self.no_groups || !self.groups.is_empty();
        let request = Request::UserChange {
            name: self.name.clone(),
            change: AccountChange {
                email: part(self.email, self.no_email),
                display_name: part(self.display_name, self.no_display_name),
                groups: all.then_some(self.groups),
                add_groups: self.add_groups,
                remove_groups: self.remove_groups,
            },
        };
        let config = match self.file.load() {
            Ok(config) => config,
            Err(code) => return code,
        };
        let done = format!(
            "was changed; its sessions have it from their next renewal on, {} from now at most (session.access_ttl)",
            format_duration(config.session.access_ttl)
        );
        let outcome = operate(&config, request, Missing::Refuse);
        told(&self.name, &done, outcome)
    }
}

impl User {
    pub(crate) fn run(self) -> ExitCode {
        match self.command {
            UserCommand::Add {
                file,
                name,
                email,
                display_name,
                groups,
            } => add(&file, name, email, display_name, groups),
            UserCommand::List { file, json } => list(&file, json),
            UserCommand::Password { file, name } => set_password(&file, name),
            UserCommand::Change(command) => command.run(),
            UserCommand::Block { file, name } => change(
                &file,
                &name,
                "blocked",
                Request::UserBlock { name: name.clone() },
            ),
            UserCommand::Unblock { file, name } => change(
                &file,
                &name,
                "unblocked",
                Request::UserUnblock { name: name.clone() },
            ),
            UserCommand::Remove { file, name } => change(
                &file,
                &name,
                "removed",
                Request::UserRemove { name: name.clone() },
            ),
        }
    }
}

fn add(
    file: &ConfigFile,
    name: String,
    email: Option<String>,
    display_name: Option<String>,
    groups: Vec<String>,
) -> ExitCode {
    let config = match file.load() {
        Ok(config) => config,
        Err(code) => return code,
    };
    match exists(&config, &name) {
        Ok(false) => {}
        Ok(true) => return super::failed(&AccountError::Taken.to_string()),
        Err(error) => return not_done(&error),
    }
    let password_hash = match hashed_password(&name) {
        Ok(hash) => hash,
        Err(message) => return super::failed(&message),
    };
    let request = Request::UserAdd {
        name: name.clone(),
        email,
        display_name,
        groups,
        password_hash,
    };
    match operate(&config, request, Missing::Make) {
        Ok(_) => {
            say!("{} was added", table::visible(&name));
            if config.local.is_none() {
                say!(
                    "built-in accounts cannot sign in yet: add [login.local] to {}",
                    config.source.display()
                );
            }
            ExitCode::SUCCESS
        }
        Err(error) => not_done(&error),
    }
}

/// Whether there is an account of that name, so that nobody is asked for a password in vain.
fn exists(config: &Config, name: &str) -> Result<bool, OperateError> {
    match operate(config, Request::UserList, Missing::Refuse) {
        Ok(Response::Users { users }) => {
            let name = name.to_lowercase();
            Ok(users.iter().any(|user| user.name.to_lowercase() == name))
        }
        Ok(_) => Err(OperateError::Unexpected),
        Err(OperateError::NoStore(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

fn set_password(file: &ConfigFile, name: String) -> ExitCode {
    let config = match file.load() {
        Ok(config) => config,
        Err(code) => return code,
    };
    match exists(&config, &name) {
        Ok(true) => {}
        Ok(false) => return super::failed(&AccountError::Unknown.to_string()),
        Err(error) => return not_done(&error),
    }
    let password_hash = match hashed_password(&name) {
        Ok(hash) => hash,
        Err(message) => return super::failed(&message),
    };
    let request = Request::UserPassword {
        name: name.clone(),
        password_hash,
    };
    told(
        &name,
        "has a new password",
        operate(&config, request, Missing::Refuse),
    )
}

fn change(file: &ConfigFile, name: &str, done: &str, request: Request) -> ExitCode {
    match file.load() {
        Ok(config) => told(
            name,
            &format!("was {done}"),
            operate(&config, request, Missing::Refuse),
        ),
        Err(code) => code,
    }
}

fn told(name: &str, done: &str, outcome: Result<Response, OperateError>) -> ExitCode {
    let name = table::visible(name);
    match outcome {
        Ok(Response::Ended { sessions }) => {
            say!("{name} {done}; {} ended", super::count(sessions, "session"));
            ExitCode::SUCCESS
        }
        Ok(_) => {
            say!("{name} {done}");
            ExitCode::SUCCESS
        }
        Err(error) => not_done(&error),
    }
}

fn hashed_password(user: &str) -> Result<String, String> {
    let password: Secret =
        password::new_password(&table::visible(user)).map_err(|error| error.to_string())?;
    hash_password(&password).map_err(|error| error.to_string())
}

fn list(file: &ConfigFile, json: bool) -> ExitCode {
    let config = match file.load() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let users = match operate(&config, Request::UserList, Missing::Refuse) {
        Ok(Response::Users { users }) => users,
        Ok(_) => return not_done(&OperateError::Unexpected),
        Err(error) => return not_done(&error),
    };
    if json {
        let list: Vec<_> = users.iter().map(as_json).collect();
        return super::print_text(&format!("{}\n", json!(list)));
    }
    if users.is_empty() {
        say!("there are no accounts; add one with: vestibule user add NAME");
        return ExitCode::SUCCESS;
    }
    let rows: Vec<_> = users
        .iter()
        .map(|user| {
            [
                user.name.clone(),
                user.email.clone().unwrap_or_default(),
                user.groups.join(", "),
                if user.blocked { "blocked" } else { "active" }.to_owned(),
                date(user.created_at),
            ]
        })
        .collect();
    super::print_text(&table::columns(
        ["NAME", "EMAIL", "GROUPS", "STATE", "ADDED"],
        &rows,
    ))
}

fn as_json(user: &UserInfo) -> serde_json::Value {
    json!({
        "name": user.name,
        "email": user.email,
        "display_name": user.display_name,
        "groups": user.groups,
        "blocked": user.blocked,
        "created_at": date(user.created_at),
        "password_changed_at": date(user.password_changed_at),
    })
}
