//! Sets up logging once per process: tracing events and our own lines, through one writer, to stderr.
//!
//! `VESTIBULE_LOG` chooses what is shown (`debug`, `vestibule::session=debug`; default `info`). Libraries never speak below
//! `info`, whatever it says: their debug output holds header values.

use std::io::{IsTerminal as _, Write};
use std::sync::Arc;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{EnvFilter, ParseError, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::observe::access::AccessLog;
use crate::observe::metrics::Stream;
use crate::observe::writer::Lines;
use crate::observe::{Format, Settings};

/// The variable that chooses which events are shown.
pub const VARIABLE: &str = "VESTIBULE_LOG";

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The variable holds no filter.
    #[error("{VARIABLE} is not a log filter (try \"info\" or \"vestibule=debug\")")]
    Filter(#[source] ParseError),
    /// No thread for the writer.
    #[error("cannot start the log writer")]
    Writer(#[source] std::io::Error),
}

/// The process's log: keep it until the end, then everything is written.
pub struct Logging {
    lines: Arc<Lines>,
    settings: Settings,
}

impl Logging {
    /// The access log, unless `[log] access = false`.
    pub fn access(&self) -> Option<AccessLog> {
        self.settings
            .access
            .then(|| AccessLog::new(self.lines.clone(), self.settings.format))
    }

    /// The writer, for the audit stream and the metric of dropped lines.
    pub fn lines(&self) -> &Arc<Lines> {
        &self.lines
    }

    /// How lines are written.
    pub fn format(&self) -> Format {
        self.settings.format
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        // The subscriber keeps the writer alive until the process ends, so it cannot end by being dropped.
        self.lines.flush(Duration::from_secs(5));
    }
}

/// Sends tracing events to stderr as `settings` say. A second call in one process (tests) leaves the first in force.
pub fn init_logging(settings: &Settings) -> Result<Logging, LoggingError> {
    let filter = filter(from_environment().as_deref())?;
    let lines = Lines::start(std::io::stderr()).map_err(LoggingError::Writer)?;
    let registry = tracing_subscriber::registry()
        .with(filter)
        .with(filter_fn(|event| {
            event.target().starts_with("vestibule") || *event.level() <= LevelFilter::INFO
        }));
    let events = Events(lines.clone());
    let installed = match settings.format {
        Format::Json => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_current_span(false)
                    .with_span_list(false)
                    .with_writer(events),
            )
            .try_init(),
        Format::Text => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .with_ansi(std::io::stderr().is_terminal())
                    .with_writer(events),
            )
            .try_init(),
    };
    if installed.is_err() {
        tracing::debug!("logging was already set up");
    }
    Ok(Logging {
        lines,
        settings: settings.clone(),
    })
}

fn filter(text: Option<&str>) -> Result<EnvFilter, LoggingError> {
    EnvFilter::try_new(text.unwrap_or("info")).map_err(LoggingError::Filter)
}

#[allow(
    clippy::disallowed_methods,
    reason = "logging starts before a configuration is read; this is its only variable"
)]
fn from_environment() -> Option<String> {
    std::env::var(VARIABLE)
        .ok()
        .filter(|text| !text.trim().is_empty())
}

/// Hands each formatted event to the writer as one line.
struct Events(Arc<Lines>);

impl<'a> MakeWriter<'a> for Events {
    type Writer = OneEvent<'a>;

    fn make_writer(&'a self) -> OneEvent<'a> {
        OneEvent {
            lines: &self.0,
            text: Vec::new(),
        }
    }
}

/// Gathers one event; what a message brought along to begin a line of its own is escaped.
pub struct OneEvent<'a> {
    lines: &'a Lines,
    text: Vec<u8>,
}

impl Write for OneEvent<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for OneEvent<'_> {
    fn drop(&mut self) {
        let event = self.text.strip_suffix(b"\n").unwrap_or(&self.text);
        if event.is_empty() {
            return;
        }
        let mut line = Vec::with_capacity(event.len() + 1);
        for &byte in event {
            match byte {
                b'\n' => line.extend_from_slice(b"\\n"),
                b'\r' => line.extend_from_slice(b"\\r"),
                byte => line.push(byte),
            }
        }
        line.push(b'\n');
        self.lines.push(Stream::Log, &line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::writer::tests::Memory;

    #[test]
    fn a_filter_that_is_none_is_an_error() {
        assert!(filter(None).is_ok());
        assert!(filter(Some("vestibule=debug")).is_ok());
        assert!(filter(Some("vestibule=loud")).is_err());
    }

    #[test]
    fn an_event_is_one_line_even_when_its_text_has_several() {
        let memory = Memory::default();
        let lines = Lines::start(memory.clone()).unwrap();
        let subscriber = tracing_subscriber::registry().with(
            tracing_subscriber::fmt::layer()
                .with_ansi(false)
                .with_writer(Events(lines.clone())),
        );
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("first\n1970-01-01T00:00:00Z  INFO forged");
        });
        assert!(lines.flush(Duration::from_secs(60)));
        let text = memory.text();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("first\\n1970"), "{text}");
    }
}
