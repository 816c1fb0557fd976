//! `vestibule check`.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::{BAD_CONFIGURATION, ConfigFile, count, operate};
use crate::config::{self, Config};
use crate::observe::say;
use crate::online::{self, Section, Verdict};

/// Check the configuration and print every problem at once, each with its place and a hint
///
/// Exit code 0: it can be used (there may be warnings). 2: it cannot. The certificate and secret files that it names are
/// read too, and whether the store's folder can be written; nothing is changed, and a running gateway is not disturbed.
#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    file: ConfigFile,
    /// Also ask those whom it names: providers, issuers of tokens, a shared store, upstreams
    ///
    /// Tries discovery, keys and client authentication (with a made-up code), says what has to be registered at providers, and
    /// connects to the rest. Nobody is signed in and no token is spent. Takes half a minute at most; a problem that is found
    /// makes the exit code 2.
    #[arg(long)]
    online: bool,
    /// Print the problems as JSON on stdout
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(crate) fn run(self) -> ExitCode {
        let (report, config) = match config::load(&self.file.config) {
            Ok(config) => (config.warnings.clone(), Some(config)),
            Err(report) => (report, None),
        };
        if !self.json && !report.is_empty() {
            self.file.show(&report);
        }
        let asked = match &config {
            Some(config) if self.online => match self.ask(config) {
                Ok(sections) => Some(sections),
                Err(error) => return operate::not_done(&error),
            },
            _ => None,
        };
        if self.json {
            let mut value = report.to_json();
            if let (Some(sections), Value::Object(members)) = (&asked, &mut value) {
                let sections = sections.iter().map(Section::to_json).collect();
                members.insert("online".to_owned(), Value::Array(sections));
            }
            super::print_text(&format!("{value}\n"));
        } else if let Some(config) = &config {
            for section in asked.iter().flatten() {
                say!("\n{}", section.to_text().trim_end());
            }
            let name = self.file.config.display();
            let parts = format!(
                "{}, {}",
                count(config.upstreams.len(), "upstream"),
                count(config.routes.len(), "route"),
            );
            match asked.as_deref().map(found) {
                None => say!("{name}: good: {parts}"),
                Some((0, 0)) => say!("\n{name}: good, online too: {parts}"),
                Some((problems, warnings)) => say!(
                    "\n{name}: good by itself ({parts}); asked online: {}, {}",
                    count(problems, "problem"),
                    count(warnings, "warning")
                ),
            }
        } else if self.online {
            say!("nobody was asked: mend the file first");
        }
        let problems = asked.as_deref().map_or(0, |sections| found(sections).0);
        match (config, problems) {
            (Some(_), 0) => ExitCode::SUCCESS,
            _ => ExitCode::from(BAD_CONFIGURATION),
        }
    }

    fn ask(&self, config: &Config) -> Result<Vec<Section>, operate::OperateError> {
        say!("asking those whom the configuration names; half a minute at most");
        let told = |about: &str, all: usize| match all {
            1 => {}
            _ => say!("  asked {about}"),
        };
        Ok(operate::runtime()?.block_on(online::look(config, told)))
    }
}

/// How many problems and warnings there are.
fn found(sections: &[Section]) -> (usize, usize) {
    let all = || sections.iter().flat_map(|section| &section.findings);
    let of = |verdict| all().filter(|finding| finding.verdict == verdict).count();
    (of(Verdict::Problem), of(Verdict::Warning))
}
