//! Where results go: standard output, as lines, tables or JSON. Logs go to standard error and not through here.

use std::fmt;
use std::io::{self, BufWriter, IsTerminal as _, Write};

use super::table::Table;

/// The result of a command on its way out.
///
/// A reader that has gone (`transship history | head`) is no error: the rest is dropped, and the exit code still tells
/// how the work went.
pub struct Output {
    writer: Box<dyn Write + Send>,
    closed: bool,
}

impl Output {
    /// Standard output.
    #[must_use]
    pub fn stdout() -> Self {
        Self::to(Box::new(BufWriter::new(io::stdout())))
    }

    /// Anything that can be written to.
    #[must_use]
    pub fn to(writer: Box<dyn Write + Send>) -> Self {
        Self { writer, closed: false }
    }

    /// Writes one line. Characters that would steer a terminal are shown instead of obeyed.
    ///
    /// # Errors
    /// Those of the writer, but for a reader that has gone.
    pub fn line(&mut self, line: impl fmt::Display) -> io::Result<()> {
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

    /// Writes bytes as they are.
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

    /// Hands everything over to the system. Called once at the end, and whenever a wait follows.
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

/// Writes why it did not work for the person at the keyboard. A lost standard error is nobody's concern.
pub(super) fn complain(message: impl fmt::Display) {
    let message = printable(&message.to_string());
    let _ = writeln!(io::stderr(), "{message}");
}

/// Whether standard error is a terminal, where progress can be drawn.
pub(super) fn draws() -> bool {
    io::stderr().is_terminal()
}

/// The text with what would steer a terminal escaped (a registry's error message); line breaks stay.
pub(super) fn printable(text: &str) -> String {
    let is_shown = |c: char| c == '\n' || !steers(c);
    if text.chars().all(is_shown) {
        return text.to_owned();
    }
    text.chars().map(|c| if is_shown(c) { c.to_string() } else { c.escape_default().to_string() }).collect()
}

/// Whether a character would steer a terminal, break a line, hide itself, or turn the order in which others are shown
/// (Unicode, "Bidirectional Character Types" and "Default_Ignorable_Code_Point").
pub(super) fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Takes what is written and shows it again.
    #[derive(Clone, Default)]
    pub(in super::super) struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Paper {
        pub(in super::super) fn output(&self) -> Output {
            Output::to(Box::new(self.clone()))
        }

        pub(in super::super) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Paper {
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
    fn a_reader_that_has_gone_is_no_error_and_a_full_disk_is_one() {
        let mut gone = Output::to(Box::new(Broken(io::ErrorKind::BrokenPipe)));
        gone.line("x").unwrap();
        gone.flush().unwrap();
        let mut full = Output::to(Box::new(Broken(io::ErrorKind::StorageFull)));
        assert!(full.line("x").is_err());
    }

    #[test]
    fn nothing_steers_the_terminal() {
        let paper = Paper::default();
        paper.output().line("denied\u{1b}[2J\r!\u{202e}\u{2028}\u{9b}").unwrap();
        assert_eq!(paper.text(), "denied\\u{1b}[2J\\r!\\u{202e}\\u{2028}\\u{9b}\n");
    }
}
