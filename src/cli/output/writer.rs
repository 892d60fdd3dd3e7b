//! Writer of results to standard output, as lines, tables or JSON. The module `logging` writes logs to standard error.

use std::fmt;
use std::io::{self, BufWriter, IsTerminal as _, Write};

use chrono::{DateTime, Utc};

use super::escape::printable;
use super::style::{self, Meaning, paint_counts, paint_first_word};
use super::table::Table;
use super::table_layout;
use super::units::Times;

/// Width of a terminal that does not state its width.
const DEFAULT_WIDTH: usize = 80;

/// Indentation of the lines below an entry.
const INDENT: &str = "  ";

/// Form of the output: the width of the terminal, and the use of colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct OutputForm {
    /// Width of the terminal. `None` for a pipe or a file.
    width: Option<usize>,
    is_colored: bool,
}

impl OutputForm {
    /// Returns the form of standard output.
    pub(crate) fn of_stdout() -> Self {
        let size = console::Term::stdout().size_checked().map(|(_, columns)| usize::from(columns));
        let width = size.filter(|width| *width > 0).unwrap_or(DEFAULT_WIDTH);
        Self { width: io::stdout().is_terminal().then_some(width), is_colored: style::is_stdout_colored() }
    }
}

/// Output of a command's results.
///
/// If a reader closes its end (`transship history | head`), the remaining output is dropped. The exit code still
/// reports the result of the command.
pub struct Output {
    writer: Box<dyn Write + Send>,
    closed: bool,
    quiet: bool,
    form: OutputForm,
}

impl Output {
    /// Creates the output on standard output.
    #[must_use]
    pub fn stdout() -> Self {
        Self::new(Box::new(BufWriter::new(io::stdout()))).in_form(OutputForm::of_stdout())
    }

    /// Creates an output on any writer, in the form for a pipe.
    #[must_use]
    pub fn new(writer: Box<dyn Write + Send>) -> Self {
        Self { writer, closed: false, quiet: false, form: OutputForm::default() }
    }

    /// Returns the output with this form.
    pub(crate) fn in_form(self, form: OutputForm) -> Self {
        Self { form, ..self }
    }

    /// Returns the form of times: relative on a terminal, exact in a pipe or a file.
    pub(crate) fn times(&self, now: DateTime<Utc>) -> Times {
        if self.form.width.is_some() { Times::RelativeTo(now) } else { Times::Exact }
    }

    /// Returns the output with `-q` set or unset. With `-q`, lines and tables are dropped. JSON and raw bytes are still
    /// written.
    #[must_use]
    pub fn quiet(self, quiet: bool) -> Self {
        Self { quiet, ..self }
    }

    /// Writes one line. Characters that could control a terminal are escaped.
    ///
    /// # Errors
    /// Errors of the writer. A reader that closes its end is no error.
    pub fn line(&mut self, line: impl fmt::Display) -> io::Result<()> {
        self.styled(line, str::to_owned)
    }

    /// Writes one line in the style of a meaning. Without a meaning, as [`Output::line`].
    ///
    /// # Errors
    /// As [`Output::line`].
    pub(crate) fn line_with(&mut self, meaning: Option<Meaning>, line: impl fmt::Display) -> io::Result<()> {
        self.styled(line, |line| meaning.map_or_else(|| line.to_owned(), |meaning| meaning.paint(line)))
    }

    /// Writes one line whose first word is an outcome such as `failed` or `warning:`. The word has the style of the
    /// outcome.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub(crate) fn outcome_line(&mut self, line: impl fmt::Display) -> io::Result<()> {
        self.styled(line, |line| paint_first_word(line).into_owned())
    }

    /// Writes one line with counts such as `2 copied, 1 failed`. Each count has the style of its outcome.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub(crate) fn counts_line(&mut self, line: impl fmt::Display) -> io::Result<()> {
        self.styled(line, paint_counts)
    }

    fn styled(&mut self, line: impl fmt::Display, paint: impl Fn(&str) -> String) -> io::Result<()> {
        if self.quiet {
            return Ok(());
        }
        let line = printable(&line.to_string());
        let mut line = if self.form.is_colored { paint(&line) } else { line };
        line.push('\n');
        self.raw(line.as_bytes())
    }

    /// Writes a table. On a terminal, the table fits the width. In a pipe or a file, tabs separate the cells.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn table(&mut self, table: &Table) -> io::Result<()> {
        self.table_lines(table, "")
    }

    /// Writes a table below the line of an entry.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub(crate) fn indented_table(&mut self, table: &Table) -> io::Result<()> {
        self.table_lines(table, INDENT)
    }

    /// Writes the lines of a table unchanged, because the cells are escaped and may have a style.
    fn table_lines(&mut self, table: &Table, indent: &str) -> io::Result<()> {
        if self.quiet {
            return Ok(());
        }
        let OutputForm { width, is_colored } = self.form;
        let lines = match width {
            Some(width) => table_layout::fitted(table, width.saturating_sub(indent.len()), is_colored),
            None => table_layout::tab_separated(table, is_colored),
        };
        for line in lines {
            let indent = if line.is_empty() { "" } else { indent };
            self.raw(format!("{indent}{line}\n").as_bytes())?;
        }
        Ok(())
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

    /// Passes all buffered output to the operating system. Commands call the function at their end and before each
    /// wait.
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

/// Writes an error message to standard error, and ignores errors of the write.
pub(crate) fn print_error(message: impl fmt::Display) {
    let message = printable(&message.to_string());
    let _ = if style::is_stderr_colored() {
        writeln!(io::stderr(), "{}", paint_first_word(&message))
    } else {
        writeln!(io::stderr(), "{message}")
    };
}

/// Writes a dim line to standard error, for information that is no result and no error.
pub(crate) fn print_note(note: impl fmt::Display) {
    let note = printable(&note.to_string());
    let note = if style::is_stderr_colored() { Meaning::Quiet.paint(&note) } else { note };
    let _ = writeln!(io::stderr(), "{note}");
}

/// Returns true if standard error is a terminal.
pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Writer that collects the written text.
    #[derive(Clone, Default)]
    pub(crate) struct OutputBuffer(Arc<Mutex<Vec<u8>>>);

    impl OutputBuffer {
        pub(crate) fn output(&self) -> Output {
            Output::new(Box::new(self.clone()))
        }

        /// Returns an output on a terminal of this width without colours.
        pub(crate) fn terminal(&self, width: usize) -> Output {
            self.output().in_form(OutputForm { width: Some(width), is_colored: false })
        }

        /// Returns an output in a pipe with colours.
        pub(crate) fn colored(&self) -> Output {
            self.output().in_form(OutputForm { width: None, is_colored: true })
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
    fn colours_are_added_after_the_escape_of_control_characters() {
        let buffer = OutputBuffer::default();
        let mut output = buffer.colored();
        output.outcome_line("  failed v1: \u{1b}[2J").unwrap();
        output.line_with(Some(Meaning::Quiet), "api: nothing changed").unwrap();
        let failed = "  \u{1b}[1m\u{1b}[31mfailed\u{1b}[0m v1: \\u{1b}[2J\n";
        assert_eq!(buffer.text(), format!("{failed}\u{1b}[2mapi: nothing changed\u{1b}[0m\n"));
    }

    #[test]
    fn terminal_control_characters_are_escaped() {
        let buffer = OutputBuffer::default();
        buffer.output().line("denied\u{1b}[2J\r!\u{202e}\u{2028}\u{9b}").unwrap();
        assert_eq!(buffer.text(), "denied\\u{1b}[2J\\r!\\u{202e}\\u{2028}\\u{9b}\n");
    }
}
