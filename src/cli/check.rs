//! `vestibule check`.

use std::process::ExitCode;

use clap::Args;

use super::{BAD_CONFIGURATION, ConfigFile, count};
use crate::config;
use crate::observe::say;

/// Check the configuration and print every problem at once, each with its place and a hint
///
/// Exit code 0: it can be used (there may be warnings). 2: it cannot. The certificate and secret files that it names are
/// read too, and whether the store's folder can be written; nothing is changed, and a running gateway is not disturbed.
#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    file: ConfigFile,
    /// Print the problems as JSON on stdout
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(crate) fn run(self) -> ExitCode {
        let (report, summary) = match config::load(&self.file.config) {
            Ok(config) => {
                let counts = format!(
                    "good: {}, {}",
                    count(config.upstreams.len(), "upstream"),
                    count(config.routes.len(), "route"),
                );
                (config.warnings, Some(counts))
            }
            Err(report) => (report, None),
        };
        if self.json {
            super::print_text(&format!("{}\n", report.to_json()));
        } else {
            if !report.is_empty() {
                self.file.show(&report);
            }
            if let Some(summary) = &summary {
                say!("{}: {summary}", self.file.config.display());
            }
        }
        match summary {
            Some(_) => ExitCode::SUCCESS,
            None => ExitCode::from(BAD_CONFIGURATION),
        }
    }
}
