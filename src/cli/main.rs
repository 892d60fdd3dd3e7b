//! Start of the program: from the arguments of the process to its exit code, with logging, the runtime, signals, and
//! one command.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};
use indicatif::{MultiProgress, ProgressDrawTarget};
use tokio_util::sync::CancellationToken;
use tracing::Level;

use super::arguments::{Arguments, Command};
use super::context::invocation::Context;
use super::exit::{Exit, Failure};
use super::logging;
use super::output::writer::{self, Output};

/// Idle time after which a thread for blocking calls (name resolution, files) ends. Idle threads take turns. Within
/// tokio's own 10 s, a steady load wakes each of them once, so that as many threads would stay for ever as were ever
/// busy at one instant.
const IDLE_THREAD: Duration = Duration::from_secs(1);

/// Runs the program with these arguments. The first argument is its name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // The user requested help or the version. Anything else is a mistake. A closed reader is not an error.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() };
        }
    };
    match start(arguments) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            writer::print_error(&failure);
            failure.exit().into()
        }
    }
}

fn start(arguments: Arguments) -> Result<Exit, Failure> {
    let bars = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
    logging::start(arguments.global.log_format, arguments.command.log_level(), &bars).map_err(Failure::usage)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_keep_alive(IDLE_THREAD).build()?;
    let exit = runtime.block_on(async {
        let interrupted = CancellationToken::new();
        listen_for_signals(interrupted.clone())?;
        let mut context = Context { global: arguments.global, output: Output::stdout(), bars, interrupted };
        let exit = perform(arguments.command, &mut context).await;
        context.output.flush()?;
        exit
    });
    // A blocking thread (on a slow disk) does not delay the end of the process.
    runtime.shutdown_background();
    exit
}

impl Command {
    /// Returns the log level that applies unless TRANSSHIP_LOG is set. On a terminal, the progress bars and the
    /// summary report the work.
    fn log_level(&self) -> Level {
        match self {
            Self::Run(_) => Level::INFO,
            Self::Once(_) | Self::Copy(_) if !writer::stderr_is_terminal() => Level::INFO,
            _ => Level::WARN,
        }
    }
}

async fn perform(command: Command, context: &mut Context) -> Result<Exit, Failure> {
    let interrupted = context.interrupted.clone();
    match command {
        Command::Run(command) => command.perform(context).await,
        Command::Copy(command) => command.perform(context).await,
        Command::Once(command) => command.perform(context).await,
        Command::Plan(command) => unless_interrupted(&interrupted, command.perform(context)).await,
        Command::Check(command) => command.perform(context),
        Command::Next(command) => command.perform(context).await,
        Command::LoginCheck(command) => unless_interrupted(&interrupted, command.perform(context)).await,
        Command::Limits(command) => command.perform(context).await,
        Command::History(command) => unless_interrupted(&interrupted, command.perform(context)).await,
        Command::Evidence(command) => unless_interrupted(&interrupted, command.perform(context)).await,
        Command::ImportConfig(command) => command.perform(context),
        Command::Schema(command) => command.perform(context),
        Command::Completions(command) => command.perform(Arguments::command(), context),
        Command::Man(command) => command.perform(Arguments::command(), context),
        Command::Tags(command) => unless_interrupted(&interrupted, command.perform(context)).await,
        Command::Inspect(command) => unless_interrupted(&interrupted, command.perform(context)).await,
        Command::Trigger(command) => unless_interrupted(&interrupted, command.perform(context)).await,
        Command::Pause(command) => unless_interrupted(&interrupted, command.perform(context)).await,
        Command::Resume(command) => unless_interrupted(&interrupted, command.perform(context)).await,
        Command::Status(command) => unless_interrupted(&interrupted, command.perform(context)).await,
    }
}

/// Runs a command that only reads and may be dropped at any point.
async fn unless_interrupted(
    interrupted: &CancellationToken,
    command: impl Future<Output = Result<Exit, Failure>>,
) -> Result<Exit, Failure> {
    tokio::select! {
        exit = command => exit,
        () = interrupted.cancelled() => Ok(Exit::Interrupted),
    }
}

/// Listens for SIGINT and SIGTERM. The first signal asks the command to end, the second ends the process.
fn listen_for_signals(interrupted: CancellationToken) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if interrupted.is_cancelled() {
                tracing::warn!("received a second signal: work in progress is dropped");
                std::process::exit(Exit::Interrupted as i32);
            }
            interrupted.cancel();
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn interruption_ends_a_waiting_command() {
        let interrupted = CancellationToken::new();
        interrupted.cancel();
        let exit = unless_interrupted(&interrupted, std::future::pending()).await;
        assert!(matches!(exit, Ok(Exit::Interrupted)));
    }
}
