//! Logging to standard error or to systemd's journal, in a format for people or for programs. Results go to
//! [`super::Output`].

mod form;
mod journal;
mod line;

use std::io::{self, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
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
use line::{Lines, LogLine};

use super::output::style::is_stderr_colored;

/// Variable that holds the log filter, in the syntax of `tracing_subscriber::EnvFilter`.
pub(super) const FILTER_VARIABLE: &str = "TRANSSHIP_LOG";

/// Format of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// `journald` if standard error is the journal, else `pretty`.
    #[default]
    Auto,
    /// For people: time, level, message, fields; colours on a terminal.
    Pretty,
    /// One JSON object per line.
    Json,
    /// Lines with a `<N>` priority and no time; entries with fields if standard error is the journal.
    Journald,
}

impl LogFormat {
    /// Returns true if programs parse the lines, so that standard error has no other lines than the log.
    pub(super) fn is_for_programs(self) -> bool {
        matches!(self, Self::Json | Self::Journald)
    }
}

/// Reason why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoggingError {
    #[error("{FILTER_VARIABLE}: {0}")]
    Filter(#[from] ParseError),
    #[error("{FILTER_VARIABLE} is not text")]
    NotText,
}

/// Starts logging. Hides the progress bars of `bars` while it writes a line. The level `by_default` applies unless the
/// variable sets a filter. `prints_report` is true if the command prints the report of its runs for people: the log
/// then does not repeat the report, unless the variable or `--log-format` asks for the log.
pub(super) fn start(
    format: LogFormat,
    by_default: Level,
    prints_report: bool,
    bars: &MultiProgress,
) -> Result<(), LoggingError> {
    let is_journal = std::env::var("JOURNAL_STREAM").is_ok_and(|stream| is_standard_error(&stream));
    let repeats_report = prints_report && format == LogFormat::Auto && !is_journal && outputs_have_one_reader();
    let directives = match std::env::var(FILTER_VARIABLE) {
        Ok(directives) if !directives.is_empty() => directives,
        Err(std::env::VarError::NotUnicode(_)) => return Err(LoggingError::NotText),
        _ if repeats_report => format!("{},{REPORT_LINES}=off", default_filter(by_default)),
        _ => default_filter(by_default),
    };
    let bars = bars.clone();
    let print = move |text: &str| {
        // An error of standard error is ignored, because it cannot be reported anywhere else.
        let _ = bars.suspend(|| io::stderr().write_all(text.as_bytes()));
    };
    let format = if is_journal && format == LogFormat::Auto { LogFormat::Journald } else { format };
    let socket = is_journal.then_some(Path::new(journal::SOCKET));
    let lines = Lines::new(writer_for(format, socket, print)).with_filter(filter(&directives)?);
    // A second call within one process (tests) keeps the first subscriber.
    let _ = tracing_subscriber::registry().with(lines).try_init();
    Ok(())
}

/// Returns the filter that applies if the variable is unset. Messages of rustls_platform_verifier are off: it logs each
/// invalid certificate as an error, and the program reports the same problem with a remedy. A user can enable these
/// messages with the variable.
fn default_filter(level: Level) -> String {
    match level {
        Level::DEBUG | Level::TRACE => level.to_string(),
        Level::ERROR | Level::WARN | Level::INFO => format!("{level},rustls_platform_verifier=off"),
    }
}

/// Returns the filter for these directives. It always drops lines of [`WATCHERS`]. It always enables transship's own
/// spans, so that each line names its run.
fn filter<S>(directives: &str) -> Result<impl Filter<S> + use<S>, ParseError>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let is_quiet = |metadata: &tracing::Metadata<'_>| !is_of_watcher(metadata.target());
    let is_own_span =
        |metadata: &tracing::Metadata<'_>| metadata.is_span() && metadata.target().starts_with("transship");
    let spans = FilterFn::new(is_own_span).with_max_level_hint(LevelFilter::INFO);
    Ok(EnvFilter::try_new(directives)?.and(FilterFn::new(is_quiet)).or(spans))
}

/// Crates that watch the configuration's folder. These crates log each event. If the log file is in the watched folder,
/// each of their lines causes another event.
const WATCHERS: [&str; 3] = ["notify", "notify_types", "inotify"];

fn is_of_watcher(target: &str) -> bool {
    WATCHERS.contains(&target.split("::").next().unwrap_or_default())
}

/// Returns the function that writes a line. `print` gets the text for standard error. `socket` is the socket of the
/// journal, if standard error is the journal.
fn writer_for(
    format: LogFormat,
    socket: Option<&Path>,
    print: impl Fn(&str) + Send + Sync + 'static,
) -> Box<dyn Fn(&LogLine) + Send + Sync> {
    match format {
        LogFormat::Json => Box::new(move |line| print(&json(line, Utc::now()))),
        LogFormat::Journald => {
            let journal = socket.and_then(|socket| Journal::new(socket).ok());
            // Each line is a new attempt to reach the journal, because the journal may be absent for a while.
            Box::new(move |line| {
                if journal.as_ref().is_none_or(|journal| journal.send(line).is_err()) {
                    print(&prefixed(line));
                }
            })
        }
        LogFormat::Pretty | LogFormat::Auto => {
            let colours = is_stderr_colored();
            Box::new(move |line| print(&pretty(line, Utc::now(), colours)))
        }
    }
}

/// Module whose log lines repeat the report of a run.
const REPORT_LINES: &str = "transship::sync::report";

/// Returns true if standard output and standard error seem to have the same reader: both are the same terminal, file or
/// pipe, or both are pipes or sockets, as in a job of a CI system, which shows both in one log. A reader of only one of
/// them (`> report.txt`, `2> log.txt`, `> /dev/null`) needs all facts there.
fn outputs_have_one_reader() -> bool {
    let [Ok(output), Ok(error)] = ["/proc/self/fd/1", "/proc/self/fd/2"].map(std::fs::metadata) else { return false };
    let (output_type, error_type) = (output.file_type(), error.file_type());
    let are_pipes = output_type.is_fifo() && error_type.is_fifo() || output_type.is_socket() && error_type.is_socket();
    are_pipes || (output.dev(), output.ino()) == (error.dev(), error.ino())
}

/// Returns true if `DEVICE:INODE` is standard error (systemd.exec, "$JOURNAL_STREAM"). The variable alone proves
/// nothing, because shells inherit it even if their output is redirected.
fn is_standard_error(stream: &str) -> bool {
    std::fs::metadata("/proc/self/fd/2").is_ok_and(|file| stream == format!("{}:{}", file.dev(), file.ino()))
}

#[cfg(test)]
mod tests;
