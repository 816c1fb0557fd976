//! The command line: one file per command. Human text goes to stderr, data to stdout.
//!
//! Exit codes: 0 good, 1 failed while running, 2 bad usage or bad configuration.

mod check;
mod completions;
mod demo;
mod explain;
mod foreign;
mod keys;
mod operate;
mod password;
mod presented;
mod run;
mod session;
mod store;
mod table;
mod token;
mod user;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::clock::Timestamp;
use crate::config::{self, Config, Purpose, Report};
use crate::observe::say;
use crate::units::count;

/// A reverse-proxy auth gateway: put it in front of any app and the app has sign-in.
#[derive(Debug, Parser)]
#[command(
    name = "vestibule",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Demo(demo::Demo),
    Check(check::Check),
    Explain(explain::Explain),
    User(user::User),
    Session(session::Session),
    Keys(keys::Keys),
    Store(store::Store),
    Token(token::Token),
    Completions(completions::Completions),
    Man(completions::Man),
}

/// The configuration that a command is about.
#[derive(Debug, Args)]
pub(crate) struct ConfigFile {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value = "gateway.toml")]
    config: PathBuf,
}

impl ConfigFile {
    /// Reads it to operate on its store, which takes no certificates; on errors prints all of them, and the exit code is that
    /// of a bad configuration.
    fn load(&self) -> Result<Config, ExitCode> {
        self.load_for(Purpose::Operate)
    }

    /// Reads it; on errors likewise.
    fn load_for(&self, purpose: Purpose) -> Result<Config, ExitCode> {
        config::load_for(&self.config, purpose).map_err(|report| {
            self.show(&report);
            ExitCode::from(BAD_CONFIGURATION)
        })
    }

    fn show(&self, report: &Report) {
        say!("{}\n", report.render(std::io::stderr().is_terminal()));
    }
}

/// Something failed while running.
pub(crate) const FAILED: u8 = 1;
/// Bad usage or bad configuration.
pub(crate) const BAD_CONFIGURATION: u8 = 2;

/// Says what failed.
fn failed(message: &str) -> ExitCode {
    say!("vestibule: {message}");
    ExitCode::from(FAILED)
}

/// Says how the command is meant to be used.
fn bad_usage(message: &str) -> ExitCode {
    say!("vestibule: {message}");
    ExitCode::from(BAD_CONFIGURATION)
}

/// Data for stdout; a reader that went away early (`| head`) is no failure.
fn print_bytes(bytes: &[u8]) -> ExitCode {
    use std::io::Write as _;
    match std::io::stdout().lock().write_all(bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            failed(&format!("stdout cannot be written: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
}

fn print_text(text: &str) -> ExitCode {
    print_bytes(text.as_bytes())
}

/// A moment in UTC, to the second.
fn date(at: Timestamp) -> String {
    jiff::Timestamp::from_second(at.as_secs())
        .map_or_else(|_| format!("{} s", at.as_secs()), |date| date.to_string())
}

/// Parses the arguments and runs the command; bad usage ends the process with code 2.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(command) => command.run(),
        Command::Demo(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Explain(command) => command.run(),
        Command::User(command) => command.run(),
        Command::Session(command) => command.run(),
        Command::Keys(command) => command.run(),
        Command::Store(command) => command.run(),
        Command::Token(command) => command.run(),
        Command::Completions(command) => command.run(),
        Command::Man(command) => command.run(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }
    #[test]
    fn exactly_one_choice_of_sessions_to_revoke() {
        let check = |arguments: &[&str], good: bool| {
            let line = ["vestibule", "session", "revoke"].iter().chain(arguments);
            assert_eq!(Cli::try_parse_from(line).is_ok(), good, "{arguments:?}");
        };
        check(&["--all"], true);
        check(&["--user", "ana"], true);
        check(&["-VJISYmRiJklDKuiPX7VbA"], true);
        check(&["bVJISYmRiJklDKuiPX7VbA", "-c", "other.toml"], true);
        check(&[], false);
        check(&["--all", "--user", "ana"], false);
        check(&["bVJISYmRiJklDKuiPX7VbA", "--all"], false);
        check(&["short"], false);
    }
}
