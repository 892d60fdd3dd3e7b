//! Results on standard output, as lines, tables or JSON. Logs go to standard error, by the module `logging`.

use std::fmt;
use std::io::{self, BufWriter, IsTerminal as _, Write};

use super::escape::printable;
use super::table::Table;

/// Output of a command's results.
///
/// A reader that has closed its end (`transship history | head`) is not an error. The remaining output is dropped, and
/// the exit code still reports the result of the command.
pub struct Output {
    writer: Box<dyn Write + Send>,
    closed: bool,
    quiet: bool,
}

impl Output {
    /// Returns the output on standard output.
    #[must_use]
    pub fn stdout() -> Self {
        Self::new(Box::new(BufWriter::new(io::stdout())))
    }

    /// Returns an output on any writer.
    #[must_use]
    pub fn new(writer: Box<dyn Write + Send>) -> Self {
        Self { writer, closed: false, quiet: false }
    }

    /// Returns the output without its lines and tables if `quiet` is true (`-q`). JSON and raw bytes are not affected.
    #[must_use]
    pub fn quiet(self, quiet: bool) -> Self {
        Self { quiet, ..self }
    }

    /// Writes one line. Characters that could control a terminal are shown escaped.
    ///
    /// # Errors
    /// Errors of the writer, except for a reader that has closed its end.
    pub fn line(&mut self, line: impl fmt::Display) -> io::Result<()> {
        if self.quiet {
            return Ok(());
        }
        let mut line = printable(&line.to_string());
        line.push('\n');
        self.raw(line.as_bytes())
    }

    /// Writes a table.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn table(&mut self, table: &Table) -> io::Result<()> {
        table.lines().iter().try_for_each(|line| self.line(line))
    }

    /// Writes a value as indented JSON.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn json(&mut self, value: &impl serde::Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(value)?;
        text.push(b'\n');
        self.raw(&text)
    }

    /// Writes bytes unchanged.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.closed {
            return Ok(());
        }
        let written = self.writer.write_all(bytes);
        self.unless_closed(written)
    }

    /// Passes all buffered output to the operating system. Commands call it at their end and before each wait.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn flush(&mut self) -> io::Result<()> {
        if self.closed {
            return Ok(());
        }
        let flushed = self.writer.flush();
        self.unless_closed(flushed)
    }

    fn unless_closed(&mut self, result: io::Result<()>) -> io::Result<()> {
        match result {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            other => other,
        }
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Output(closed: {})", self.closed)
    }
}

/// Writes an error message to standard error. An error of standard error is ignored.
pub(crate) fn print_error(message: impl fmt::Display) {
    let message = printable(&message.to_string());
    let _ = writeln!(io::stderr(), "{message}");
}

/// Writes a dim line to standard error, for facts that are neither results nor errors.
pub(crate) fn print_note(note: impl fmt::Display) {
    let note = printable(&note.to_string());
    let is_dim = stderr_is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let _ = if is_dim { writeln!(io::stderr(), "\u{1b}[2m{note}\u{1b}[0m") } else { writeln!(io::stderr(), "{note}") };
}

/// Returns true if standard error is a terminal, on which progress can be drawn.
pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Writer that returns the written text.
    #[derive(Clone, Default)]
    pub(crate) struct OutputBuffer(Arc<Mutex<Vec<u8>>>);

    impl OutputBuffer {
        pub(crate) fn output(&self) -> Output {
            Output::new(Box::new(self.clone()))
        }

        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for OutputBuffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Broken(io::ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn closed_reader_is_no_error_and_full_disk_is_one() {
        let mut gone = Output::new(Box::new(Broken(io::ErrorKind::BrokenPipe)));
        gone.line("x").unwrap();
        gone.flush().unwrap();
        let mut full = Output::new(Box::new(Broken(io::ErrorKind::StorageFull)));
        assert!(full.line("x").is_err());
    }

    #[test]
    fn quiet_output_drops_lines_and_keeps_json() {
        let buffer = OutputBuffer::default();
        let mut output = buffer.output().quiet(true);
        output.line("api: 2 copied").unwrap();
        output.json(&7).unwrap();
        assert_eq!(buffer.text(), "7\n");
    }

    #[test]
    fn terminal_control_characters_are_escaped() {
        let buffer = OutputBuffer::default();
        buffer.output().line("denied\u{1b}[2J\r!\u{202e}\u{2028}\u{9b}").unwrap();
        assert_eq!(buffer.text(), "denied\\u{1b}[2J\\r!\\u{202e}\\u{2028}\\u{9b}\n");
    }
}
