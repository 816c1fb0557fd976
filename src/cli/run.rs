//! `vestibule run`.

use std::process::ExitCode;

use clap::Args;

use super::ConfigFile;
use crate::config::Purpose;

/// Run the gateway until SIGTERM or Ctrl-C, then let requests in flight end
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    file: ConfigFile,
}

impl Run {
    pub(crate) fn run(self) -> ExitCode {
        match self.file.load_for(Purpose::Serve) {
            Ok(config) => {
                if !config.warnings.is_empty() {
                    self.file.show(&config.warnings);
                }
                crate::app::run(config)
            }
            Err(code) => code,
        }
    }
}
