//! Start of the program: parses the arguments, starts logging and the runtime, handles signals, runs one command, and
//! returns the exit code.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use indicatif::{MultiProgress, ProgressDrawTarget};
use tokio_util::sync::CancellationToken;

use super::arguments::Arguments;
use super::context::invocation::Context;
use super::exit::{Exit, Failure};
use super::logging;
use super::output::writer::{self, Output};

/// Idle time after which a thread for blocking calls (name resolution, files) ends. Tokio's default is 10 s. Tokio
/// assigns work to idle threads in turn. Under a steady load, each thread would get work at least once in 10 s, so the
/// number of threads would stay at its maximum for ever.
const IDLE_THREAD: Duration = Duration::from_secs(1);

/// Runs the program with these arguments. The first argument is its name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and the version are printed to standard output, and mistakes to standard error. A failure to print
            // is ignored, because the reader may have closed its end.
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
    let (format, command) = (arguments.global.log_format, &arguments.command);
    logging::start(format, command.log_level(), command.prints_report(), &bars).map_err(Failure::usage)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_keep_alive(IDLE_THREAD).build()?;
    let exit = runtime.block_on(async {
        let interrupted = CancellationToken::new();
        listen_for_signals(interrupted.clone())?;
        let mut context = Context { global: arguments.global, output: Output::stdout(), bars, interrupted };
        let exit = arguments.command.perform(&mut context).await;
        context.output.flush()?;
        exit
    });
    // A blocking thread (on a slow disk) does not delay the end of the process.
    runtime.shutdown_background();
    exit
}

/// Listens for SIGINT and SIGTERM. The first signal requests the end of the command. The second signal ends the
/// process.
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
