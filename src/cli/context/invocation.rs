//! Context of a command: the global arguments, the output, the progress bars, and the cancellation token for signals.

use std::path::PathBuf;

use clap::{ArgAction, ValueHint};
use indicatif::MultiProgress;
use tokio_util::sync::CancellationToken;
use tracing::Level;

use crate::cli::logging::LogFormat;
use crate::cli::output::style::ColorMode;
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
    /// Use of colours
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t, help_heading = GLOBAL)]
    pub color: ColorMode,
    /// True if the command prints the path of its configuration to standard error. The command line has no option for
    /// this field.
    #[arg(skip)]
    pub announces_configuration: bool,
}

/// Heading of these arguments in the help text.
const GLOBAL: &str = "Options of every command";

/// Log levels, from the fewest to the most log lines.
const LEVELS: [Level; 5] = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];

impl Global {
    /// Returns the log level: `usual`, and one level more for each `-v`. With `-q`, returns the error level.
    pub(crate) fn log_level(&self, usual: Level) -> Level {
        if self.quiet {
            return Level::ERROR;
        }
        let position = LEVELS.iter().position(|level| *level == usual).unwrap_or_default();
        LEVELS[(position + usize::from(self.verbose)).min(LEVELS.len() - 1)]
    }
}

#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) global: Global,
    /// Standard output for the result of the command.
    pub(crate) output: Output,
    /// Progress bars. The bars are hidden until a command draws a bar.
    pub(crate) bars: MultiProgress,
    /// Token that a SIGINT or a SIGTERM cancels.
    pub(crate) interrupted: CancellationToken,
}

#[cfg(test)]
pub(crate) mod tests {
    use indicatif::ProgressDrawTarget;

    use super::*;

    /// Returns the global arguments of an empty command line.
    pub(crate) fn global() -> Global {
        let log_format = LogFormat::Auto;
        let color = ColorMode::Auto;
        Global { config: None, quiet: false, verbose: 0, log_format, color, announces_configuration: false }
    }

    /// Returns a context that has no configuration and discards the output.
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
