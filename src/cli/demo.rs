//! `vestibule demo`.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::demo::Options;
use crate::units::parse_duration;

/// Start everything embedded, to look at: gateway, app, user; nothing to install, nothing is kept
///
/// Prints the URL, the user, the password and what to watch. The certificate is self-signed: the browser will warn.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Where to listen; the port is part of the URL to open
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Life of an access token; short, so that a renewal can be watched
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = access_ttl)]
    access_ttl: Duration,
}

impl Demo {
    pub(crate) fn run(self) -> ExitCode {
        crate::demo::run(Options {
            listen: self.listen,
            access_ttl: self.access_ttl,
        })
    }
}

fn access_ttl(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text).map_err(|error| error.to_string())?;
    if (Duration::from_secs(2)..=Duration::from_secs(86_400)).contains(&duration) {
        Ok(duration)
    } else {
        Err("from 2s to 1d".to_owned())
    }
}
