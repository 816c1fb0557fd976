//! `vestibule completions` and `vestibule man`: what a package installs beside the program.

use std::process::ExitCode;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::Cli;

/// Print a completion script for a shell
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) -> ExitCode {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "vestibule", &mut script);
        super::print_bytes(&script)
    }
}

/// Print the manual page (roff): vestibule man | man -l -
#[derive(Debug, Args)]
pub(crate) struct Man {}

impl Man {
    pub(crate) fn run(self) -> ExitCode {
        let mut page = Vec::new();
        match render(&mut page) {
            Ok(()) => super::print_bytes(&page),
            Err(error) => super::failed(&format!("the manual page cannot be written: {error}")),
        }
    }
}

/// The main page, then the options of every command in the same page.
fn render(page: &mut Vec<u8>) -> std::io::Result<()> {
    let mut command = Cli::command();
    command.build();
    clap_mangen::Man::new(command.clone()).render(page)?;
    for inner in command
        .get_subcommands()
        .filter(|inner| inner.get_name() != "help")
    {
        render_command(inner, page)?;
    }
    Ok(())
}

fn render_command(command: &clap::Command, page: &mut Vec<u8>) -> std::io::Result<()> {
    let mut inner = command
        .get_subcommands()
        .filter(|inner| inner.get_name() != "help")
        .peekable();
    if inner.peek().is_some() {
        return inner.try_for_each(|inner| render_command(inner, page));
    }
    let name = command
        .get_bin_name()
        .unwrap_or(command.get_name())
        .to_owned();
    let man = clap_mangen::Man::new(command.clone());
    page.extend_from_slice(format!(".SH {}\n", name.to_uppercase()).as_bytes());
    let mut section = Vec::new();
    man.render_synopsis_section(&mut section)?;
    man.render_description_section(&mut section)?;
    man.render_options_section(&mut section)?;
    // Headings of a command are subheadings here.
    page.extend_from_slice(
        String::from_utf8_lossy(&section)
            .replace(".SH ", ".SS ")
            .as_bytes(),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_page_has_every_command() {
        let mut page = Vec::new();
        render(&mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        for name in [
            "RUN",
            "DEMO",
            "CHECK",
            "EXPLAIN",
            "STORE RESTORE",
            "TOKEN INSPECT",
        ] {
            assert!(
                page.contains(&format!(".SH VESTIBULE {name}\n")),
                "{name}: {page}"
            );
        }
    }
}
