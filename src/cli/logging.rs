//! Logs: to standard error, in the form that whoever reads it there wants. Results are [`super::Output`]'s.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _};
use std::os::unix::fs::MetadataExt as _;

use indicatif::MultiProgress;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

/// The variable that holds the log filter, in the syntax of `tracing_subscriber::EnvFilter`.
pub(super) const FILTER_VARIABLE: &str = "TRANSSHIP_LOG";

/// The form of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// `journald` where standard error is the journal, else `pretty`.
    #[default]
    Auto,
    /// For people: time, level, message; colours on a terminal.
    Pretty,
    /// One JSON object a line.
    Json,
    /// Lines with a `<N>` priority and no time, as systemd reads them.
    Journald,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoggingError {
    #[error("{FILTER_VARIABLE}: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    #[error("{FILTER_VARIABLE} is not text")]
    NotText,
}

/// Begins to log, around whatever `bars` draws, what `by_default` lets through unless the variable says otherwise.
pub(super) fn start(format: LogFormat, by_default: Level, bars: &MultiProgress) -> Result<(), LoggingError> {
    let filter = match std::env::var(FILTER_VARIABLE) {
        Ok(filter) if !filter.is_empty() => EnvFilter::try_new(filter)?,
        Err(std::env::VarError::NotUnicode(_)) => return Err(LoggingError::NotText),
        _ => EnvFilter::new(default_filter(by_default)),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(AroundBars(bars.clone()));
    // A second call within one process (tests) keeps the first subscriber.
    let _ = match resolved(format) {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Journald => builder.with_ansi(false).event_format(Journald).try_init(),
        LogFormat::Pretty | LogFormat::Auto => {
            let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
            builder.with_target(false).with_ansi(colours).try_init()
        }
    };
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

/// Writes to standard error while the bars are out of the way.
#[derive(Clone)]
struct AroundBars(MultiProgress);

impl io::Write for AroundBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for AroundBars {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// `<4>message key=value`, without time and colour: the journal has its own.
struct Journald;

impl<S, N> FormatEvent<S, N> for Journald
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut text = String::new();
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            write!(text, "{}", span.name())?;
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>().filter(|fields| !fields.is_empty()) {
                write!(text, "{{{fields}}}")?;
            }
            text.push_str(": ");
        }
        context.field_format().format_fields(Writer::new(&mut text), event)?;
        let priority = priority(*event.metadata().level());
        // Without a prefix of its own a further line would get the unit's default priority.
        text.lines().try_for_each(|line| writeln!(writer, "<{priority}>{line}"))
    }
}

/// The priority of syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn every_line_for_the_journal_carries_its_priority() {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).event_format(Journald).with_writer(lines.clone());
        tracing::subscriber::with_default(subscriber.finish(), || {
            let _run = tracing::info_span!("run", entry = "api").entered();
            tracing::info!(tags = 3, "started");
            tracing::error!("sync.yaml:1:1: bad\n1 | x");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let expected = "<6>run{entry=\"api\"}: started tags=3\n<3>run{entry=\"api\"}: sync.yaml:1:1: bad\n<3>1 | x\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_journal_stream_of_another_process_is_not_ours() {
        assert!(!is_standard_error("0:0"));
        assert!(!is_standard_error(""));
    }
}
