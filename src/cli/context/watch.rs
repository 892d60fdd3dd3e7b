//! Repeated output of a command for `--watch`.

use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::cli::context::invocation::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::writer::{Output, OutputForm};

/// Time between two outputs.
const INTERVAL: Duration = Duration::from_secs(2);

/// Calls `frame` every 2 seconds and shows the output until a SIGINT or a SIGTERM. On a terminal, each output replaces
/// the previous output. If the first call of `frame` fails, returns the error. If a later call fails, shows the error
/// and continues.
pub(crate) async fn repeat(
    context: &mut Context,
    frame: impl AsyncFn(&mut Output) -> Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    let is_terminal = io::stdout().is_terminal();
    let mut is_first = true;
    loop {
        let buffer = Buffer::default();
        let mut output = Output::new(Box::new(buffer.clone())).in_form(OutputForm::of_stdout());
        let shown = tokio::select! {
            shown = frame(&mut output) => shown,
            () = context.interrupted.cancelled() => return Ok(Exit::Ok),
        };
        match shown {
            Ok(_) => {}
            Err(failure) if is_first => return Err(failure),
            Err(failure) => output.line(failure)?,
        }
        output.flush()?;
        let text = buffer.take();
        if is_terminal {
            context.output.raw(redrawn(&text, terminal_rows(), is_first).as_bytes())?;
        } else {
            let separator = if is_first { "" } else { "\n" };
            context.output.raw(format!("{separator}{text}").as_bytes())?;
        }
        context.output.flush()?;
        is_first = false;
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = context.interrupted.cancelled() => return Ok(Exit::Ok),
        }
    }
}

/// Returns the text with the control sequences that draw the text over the previous output. If the text has more lines
/// than the terminal, the last line contains the number of omitted lines.
fn redrawn(text: &str, rows: usize, is_first: bool) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let room = rows.saturating_sub(1).max(1);
    let mut drawn = String::from(if is_first { "\u{1b}[2J\u{1b}[H" } else { "\u{1b}[H" });
    let shown = if lines.len() > room { room - 1 } else { lines.len() };
    for line in &lines[..shown] {
        drawn.push_str(line);
        drawn.push_str("\u{1b}[K\n");
    }
    if shown < lines.len() {
        drawn.push_str(&format!("and {} more lines\u{1b}[K\n", lines.len() - shown));
    }
    drawn.push_str("\u{1b}[J");
    drawn
}

/// Returns the number of rows of the terminal at standard output. If the number is unknown, returns 24.
fn terminal_rows() -> usize {
    rustix::termios::tcgetwinsize(io::stdout()).map_or(24, |size| usize::from(size.ws_row).max(2))
}

/// Buffer for one output of a command.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn take(&self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut *self.0.lock())).into_owned()
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::context::invocation::tests::context;
    use crate::cli::output::writer::tests::OutputBuffer;

    #[test]
    fn display_replaces_the_previous_one_and_fits_the_terminal() {
        assert_eq!(redrawn("a\nb\n", 24, true), "\u{1b}[2J\u{1b}[Ha\u{1b}[K\nb\u{1b}[K\n\u{1b}[J");
        let long = redrawn("1\n2\n3\n4\n5\n", 4, false);
        assert_eq!(long, "\u{1b}[H1\u{1b}[K\n2\u{1b}[K\nand 3 more lines\u{1b}[K\n\u{1b}[J");
    }

    #[tokio::test(start_paused = true)]
    async fn watch_repeats_until_interrupted_and_survives_later_errors() {
        let buffer = OutputBuffer::default();
        let mut context = Context { output: buffer.output(), ..context() };
        let (count, interrupted) = (std::cell::Cell::new(0), context.interrupted.clone());
        let frame = async |output: &mut Output| {
            count.set(count.get() + 1);
            match count.get() {
                2 => return Err(Failure::from(anyhow::anyhow!("no daemon answers"))),
                3 => interrupted.cancel(),
                _ => {}
            }
            output.line(format!("display {}", count.get()))?;
            Ok(Exit::Failed)
        };
        assert_eq!(repeat(&mut context, frame).await.unwrap(), Exit::Ok);
        assert_eq!(count.get(), 3);
        assert!(buffer.text().starts_with("display 1\n\nerror: no daemon answers\n"), "{}", buffer.text());
    }

    #[tokio::test]
    async fn error_of_the_first_display_ends_the_watch() {
        let failing = async |_: &mut Output| Err(Failure::usage(anyhow::anyhow!("there is no entry")));
        let failure = repeat(&mut context(), failing).await.unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
    }
}
