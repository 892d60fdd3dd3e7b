//! Logs: to standard error or the journal, in the form that whoever reads them there wants. Results are [`super::Output`]'s.

mod form;
mod journal;
mod line;

use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use chrono::Utc;
use indicatif::MultiProgress;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Subscriber};
use tracing_subscriber::filter::{EnvFilter, FilterFn, ParseError};
use tracing_subscriber::layer::{Filter, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, filter::FilterExt as _};

use form::{json, prefixed, pretty};
use journal::Journal;
use line::{Line, Lines};

/// The variable that holds the log filter, in the syntax of `tracing_subscriber::EnvFilter`.
pub(super) const FILTER_VARIABLE: &str = "TRANSSHIP_LOG";

/// The form of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// `journald` where standard error is the journal, else `pretty`.
    #[default]
    Auto,
    /// For people: time, level, message, fields; colours on a terminal.
    Pretty,
    /// One JSON object a line.
    Json,
    /// Entries of systemd's journal, with fields; without it lines with a `<N>` priority and no time.
    Journald,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoggingError {
    #[error("{FILTER_VARIABLE}: {0}")]
    Filter(#[from] ParseError),
    #[error("{FILTER_VARIABLE} is not text")]
    NotText,
}

/// Begins to log, around whatever `bars` draws, what `by_default` lets through unless the variable says otherwise.
pub(super) fn start(format: LogFormat, by_default: Level, bars: &MultiProgress) -> Result<(), LoggingError> {
    let directives = match std::env::var(FILTER_VARIABLE) {
        Ok(directives) if !directives.is_empty() => directives,
        Err(std::env::VarError::NotUnicode(_)) => return Err(LoggingError::NotText),
        _ => default_filter(by_default),
    };
    let bars = bars.clone();
    let print = move |text: &str| {
        // A lost standard error is nobody's concern.
        let _ = bars.suspend(|| io::stderr().write_all(text.as_bytes()));
    };
    let lines =
        Lines::new(written_as(resolved(format), journal::SOCKET.as_ref(), print)).with_filter(filter(&directives)?);
    // A second call within one process (tests) keeps the first subscriber.
    let _ = tracing_subscriber::registry().with(lines).try_init();
    Ok(())
}

/// What is let through unless the variable says otherwise. The verifier of certificates logs as an error what our own error
/// says with a way out; who looks for more asks for it by the variable.
fn default_filter(level: Level) -> String {
    match level {
        Level::DEBUG | Level::TRACE => level.to_string(),
        Level::ERROR | Level::WARN | Level::INFO => format!("{level},rustls_platform_verifier=off"),
    }
}

/// Lets lines through by the directives. Spans of our own always: what is let through of a run says of which.
fn filter<S>(directives: &str) -> Result<impl Filter<S> + use<S>, ParseError>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let is_own_span =
        |metadata: &tracing::Metadata<'_>| metadata.is_span() && metadata.target().starts_with("transship");
    let spans = FilterFn::new(is_own_span).with_max_level_hint(LevelFilter::INFO);
    Ok(EnvFilter::try_new(directives)?.or(spans))
}

/// How a line is written: `print` is given what belongs on standard error.
fn written_as(
    format: LogFormat,
    socket: &Path,
    print: impl Fn(&str) + Send + Sync + 'static,
) -> Box<dyn Fn(&Line) + Send + Sync> {
    match format {
        LogFormat::Json => Box::new(move |line| print(&json(line, Utc::now()))),
        LogFormat::Journald => {
            let journal = Journal::at(socket);
            // Each line tries anew: the journal may be gone for a while.
            Box::new(move |line| {
                if !journal.as_ref().is_ok_and(|journal| journal.send(line).is_ok()) {
                    print(&prefixed(line));
                }
            })
        }
        LogFormat::Pretty | LogFormat::Auto => {
            let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
            Box::new(move |line| print(&pretty(line, Utc::now(), colours)))
        }
    }
}

fn resolved(format: LogFormat) -> LogFormat {
    match format {
        LogFormat::Auto if std::env::var("JOURNAL_STREAM").is_ok_and(|stream| is_standard_error(&stream)) => {
            LogFormat::Journald
        }
        other => other,
    }
}

/// Whether `DEVICE:INODE` is standard error (systemd.exec, "$JOURNAL_STREAM"): the variable alone is inherited by shells
/// and the like, whose output goes elsewhere.
fn is_standard_error(stream: &str) -> bool {
    std::fs::metadata("/proc/self/fd/2").is_ok_and(|file| stream == format!("{}:{}", file.dev(), file.ino()))
}

#[cfg(test)]
mod tests;
