//! Invocation of a command: the arguments that every command has, its output, and the signal that interrupts it.

use std::path::PathBuf;

use indicatif::MultiProgress;
use tokio_util::sync::CancellationToken;

use crate::cli::logging::LogFormat;
use crate::cli::output::writer::Output;

/// Arguments of every command.
#[derive(Debug, Clone, clap::Args)]
pub struct Global {
    /// Configuration file [default: /etc/transship/sync.yaml, then ./sync.yaml]
    #[arg(long, short, global = true, value_name = "FILE", env = "TRANSSHIP_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// Format of log lines on standard error; TRANSSHIP_LOG sets the filter (info, debug, transship=trace)
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
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

    /// Returns a context without configuration that discards its output.
    pub(crate) fn context() -> Context {
        Context {
            global: Global { config: None, log_format: LogFormat::Auto },
            output: Output::new(Box::new(std::io::sink())),
            bars: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
            interrupted: CancellationToken::new(),
        }
    }
}
