//! Invocation of a command: the arguments that every command has, its output, and the signal that interrupts it.

use std::path::PathBuf;

use clap::{ArgAction, ValueHint};
use indicatif::MultiProgress;
use tokio_util::sync::CancellationToken;
use tracing::Level;

use crate::cli::logging::LogFormat;
use crate::cli::output::writer::Output;

/// Arguments of every command.
#[derive(Debug, Clone, clap::Args)]
pub struct Global {
    /// Configuration file [default: ./sync.yaml, then /etc/transship/sync.yaml]
    #[arg(long, short, visible_alias = "file", visible_short_alias = 'f', global = true, help_heading = GLOBAL)]
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath, env = "TRANSSHIP_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// Print errors only
    #[arg(long, short, global = true, help_heading = GLOBAL)]
    pub quiet: bool,
    /// Log more: -v one level more, -vv two levels; TRANSSHIP_LOG takes precedence
    #[arg(long, short, global = true, action = ArgAction::Count, help_heading = GLOBAL)]
    pub verbose: u8,
    /// Format of log lines on standard error; TRANSSHIP_LOG sets the filter (info, debug, transship=trace)
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t, help_heading = GLOBAL)]
    pub log_format: LogFormat,
    /// True if a command that reads a configuration prints the name of the file to standard error.
    #[arg(skip)]
    pub announces_configuration: bool,
}

/// Heading of these arguments in the help.
const GLOBAL: &str = "Options of every command";

/// Log levels, from the fewest lines to the most.
const LEVELS: [Level; 5] = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];

impl Global {
    /// Returns the log level: `usual`, more for each `-v`, or errors only with `-q`.
    pub(crate) fn log_level(&self, usual: Level) -> Level {
        if self.quiet {
            return Level::ERROR;
        }
        let position = LEVELS.iter().position(|level| *level == usual).unwrap_or_default();
        LEVELS[(position + usize::from(self.verbose)).min(LEVELS.len() - 1)]
    }
}

/// Environment of a command.
#[derive(Debug)]
pub(crate) struct Context {
    /// Arguments of every command.
    pub(crate) global: Global,
    /// Output of the result.
    pub(crate) output: Output,
    /// Progress bars, hidden until a command shows them.
    pub(crate) bars: MultiProgress,
    /// Token that SIGINT and SIGTERM cancel.
    pub(crate) interrupted: CancellationToken,
}

#[cfg(test)]
pub(crate) mod tests {
    use indicatif::ProgressDrawTarget;

    use super::*;

    /// Returns the global arguments of a command line without any.
    pub(crate) fn global() -> Global {
        let log_format = LogFormat::Auto;
        Global { config: None, quiet: false, verbose: 0, log_format, announces_configuration: false }
    }

    /// Returns a context without configuration that discards its output.
    pub(crate) fn context() -> Context {
        Context {
            global: global(),
            output: Output::new(Box::new(std::io::sink())),
            bars: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
            interrupted: CancellationToken::new(),
        }
    }

    #[test]
    fn log_level_follows_quiet_and_verbose() {
        let verbose = |verbose| Global { verbose, ..global() };
        let levels = [0, 1, 2, 9].map(|count| verbose(count).log_level(Level::WARN));
        assert_eq!(levels, [Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE]);
        assert_eq!(Global { quiet: true, ..global() }.log_level(Level::INFO), Level::ERROR);
    }
}
