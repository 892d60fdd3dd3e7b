//! Start of the program: parses the arguments, starts logging and the runtime, handles signals, runs one command, and
//! returns the exit code.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Parser as _};
use indicatif::{MultiProgress, ProgressDrawTarget};
use tokio_util::sync::CancellationToken;

use super::arguments::Arguments;
use super::commands::completions;
use super::context::connection::separate_plain_http;
use super::context::entry_pattern::is_file_name;
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
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if let Some(exit) = completions::answer_shell(&arguments, Arguments::command) {
        return exit.into();
    }
    let arguments = match parse(&arguments).map_err(with_file_tip) {
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

/// Parses the arguments. The argument after `--plain-http` is its HOST, or the next argument of the command if the
/// arguments are valid only so.
fn parse(arguments: &[OsString]) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from(arguments).or_else(|error| {
        let separated = separate_plain_http(arguments).filter(|_| error.use_stderr());
        separated.and_then(|arguments| Arguments::try_parse_from(arguments).ok()).ok_or(error)
    })
}

/// Adds a tip to the error of a superfluous argument that names a configuration file.
fn with_file_tip(mut error: clap::Error) -> clap::Error {
    if error.kind() == ErrorKind::UnknownArgument
        && let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg)
        && is_file_name(argument)
    {
        let tip = format!("to read this configuration file, write '--config {argument}'");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

fn start(mut arguments: Arguments) -> Result<Exit, Failure> {
    arguments.global.color.apply();
    let bars = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
    let level = arguments.global.log_level(arguments.command.log_level());
    let prints_report = arguments.prints_report();
    logging::start(arguments.global.log_format, level, prints_report, &bars).map_err(Failure::usage)?;
    let is_for_programs = arguments.command.is_for_programs() || arguments.global.log_format.is_for_programs();
    arguments.global.announces_configuration = !arguments.global.quiet && !is_for_programs;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_keep_alive(IDLE_THREAD).build()?;
    let exit = runtime.block_on(async {
        let interrupted = CancellationToken::new();
        listen_for_signals(interrupted.clone())?;
        let output = Output::stdout().quiet(arguments.global.quiet);
        let mut context = Context { global: arguments.global, output, bars, interrupted };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::arguments::Command;
    use crate::cli::context::connection::PlainHttp;

    #[test]
    fn argument_after_plain_http_is_its_host_if_possible() {
        let plain = |line: &str| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let parsed = parse(&words).map_err(|error| error.to_string())?;
            let connection = match parsed.command {
                Command::Copy(copy) => copy.connection,
                Command::Repositories(repositories) => repositories.connection,
                _ => panic!("{line}"),
            };
            Ok::<_, String>(connection.plain_http)
        };
        let host = PlainHttp::Host("h.example:5000".parse().unwrap());
        for line in
            ["copy --plain-http h.example:5000 a h.example:5000/a", "copy a h.example/a --plain-http h.example:5000"]
        {
            assert_eq!(plain(&format!("transship {line}")), Ok(vec![host.clone()]), "{line}");
        }
        for line in [
            "copy a h.example/a --plain-http",
            "copy --plain-http a h.example/a",
            "copy --plain-http h.example:5000/a h.example/a",
            "copy a --plain-http h.example/a",
            "repositories --plain-http h.example:5000",
        ] {
            assert_eq!(plain(&format!("transship {line}")), Ok(vec![PlainHttp::Named]), "{line}");
        }
        let refused = plain("transship copy --plain-http h.example:5000").unwrap_err();
        assert!(refused.contains("<SOURCE>"), "{refused}");
    }

    #[test]
    fn superfluous_configuration_file_is_refused_with_a_tip() {
        let message = |argument: &str| {
            let refused = Arguments::try_parse_from(["transship", "run", argument]).map_err(with_file_tip);
            refused.map(|_| ()).unwrap_err().to_string()
        };
        let refused = message("sync.yaml");
        assert!(refused.contains("tip: to read this configuration file, write '--config sync.yaml'"), "{refused}");
        assert!(!message("other").contains("configuration file, write"));
    }
}
