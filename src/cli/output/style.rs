//! Styles of results by their meaning, and the choice of colours (`--color`, `NO_COLOR`).

use std::borrow::Cow;
use std::io;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

/// Use of colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ColorMode {
    /// Colours on a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Colours, also in a pipe or a file.
    Always,
    /// No colours.
    Never,
}

impl ColorMode {
    /// Applies the mode to standard output and to standard error of the process.
    pub(crate) fn apply(self) {
        let choice = match self {
            Self::Auto => ColorChoice::Auto,
            Self::Always => ColorChoice::Always,
            Self::Never => ColorChoice::Never,
        };
        choice.write_global();
    }
}

/// Returns true if standard output gets colours.
pub(crate) fn is_stdout_colored() -> bool {
    AutoStream::choice(&io::stdout()) != ColorChoice::Never
}

/// Returns true if standard error gets colours.
pub(crate) fn is_stderr_colored() -> bool {
    AutoStream::choice(&io::stderr()) != ColorChoice::Never
}

/// Meaning of a text, which decides its style.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A failure: red.
    Failure,
    /// A tag or a run that waits, a rule that blocks, or a warning: yellow.
    Warning,
    /// A change or a success: green.
    Change,
    /// A fact that needs no attention: dim.
    Quiet,
}

impl Meaning {
    /// Returns the meaning of an outcome, an action or a label. Returns `None` for other words.
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        match word.trim_end_matches([':', ',']) {
            "failed" | "conflict" | "timed_out" | "timed out" | "interrupted" | "error" => Some(Self::Failure),
            "held" | "blocked" | "deferred" | "withheld" | "paused" | "warning" | "warn" => Some(Self::Warning),
            "copied" | "replaced" | "copy" | "replace" | "succeeded" | "ok" => Some(Self::Change),
            "unchanged" | "out" => Some(Self::Quiet),
            _ => None,
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Failure => AnsiColor::Red.on_default().bold(),
            Self::Warning => AnsiColor::Yellow.on_default(),
            Self::Change => AnsiColor::Green.on_default(),
            Self::Quiet => Style::new().dimmed(),
        }
    }

    /// Returns the text in the style of the meaning.
    pub(crate) fn paint(self, text: &str) -> String {
        let style = self.style();
        format!("{style}{text}{style:#}")
    }
}

/// Returns the line with its first word in the style of the word.
pub(crate) fn paint_first_word(line: &str) -> Cow<'_, str> {
    let text = line.trim_start();
    let (indent, word) = (&line[..line.len() - text.len()], text.split(' ').next().unwrap_or_default());
    match Meaning::from_word(word) {
        Some(meaning) => Cow::Owned(format!("{indent}{}{}", meaning.paint(word), &text[word.len()..])),
        None => Cow::Borrowed(line),
    }
}

/// Returns a text such as `api: 2 copied, 1 failed, 2.0 KiB sent in 3s` with each count in the style of its outcome. A
/// part without a count has the style of its first word.
pub(crate) fn paint_counts(text: &str) -> String {
    let parts: Vec<Cow<'_, str>> = text.split(", ").map(paint_count).collect();
    parts.join(", ")
}

fn paint_count(part: &str) -> Cow<'_, str> {
    let start = part.rfind(": ").map_or(0, |colon| colon + 2);
    let (label, count) = part.split_at(start);
    let mut words = count.split(' ');
    let Some(first) = words.next() else { return Cow::Borrowed(part) };
    if first.parse::<u64>().is_err() {
        return match paint_first_word(count) {
            Cow::Owned(painted) => Cow::Owned(format!("{label}{painted}")),
            Cow::Borrowed(_) => Cow::Borrowed(part),
        };
    }
    let mut end = first.len();
    for word in words {
        end += 1 + word.len();
        if let Some(meaning) = Meaning::from_word(word) {
            return Cow::Owned(format!("{label}{}{}", meaning.paint(&count[..end]), &count[end..]));
        }
    }
    Cow::Borrowed(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RED: &str = "\u{1b}[1m\u{1b}[31m";
    const GREEN: &str = "\u{1b}[32m";
    const END: &str = "\u{1b}[0m";

    #[test]
    fn counts_of_outcomes_have_their_own_colours() {
        let painted = paint_counts("api: 2 copied, 1 failed, 2.0 KiB sent in 3s");
        assert_eq!(painted, format!("api: {GREEN}2 copied{END}, {RED}1 failed{END}, 2.0 KiB sent in 3s"));
        assert_eq!(paint_counts("api: 2 to copy"), format!("api: {GREEN}2 to copy{END}"));
        assert_eq!(paint_counts("api: failed after 3s"), format!("api: {RED}failed{END} after 3s"));
        assert_eq!(paint_counts("2 B sent"), "2 B sent");
    }

    #[test]
    fn first_word_of_a_problem_is_painted() {
        let line = format!("  {RED}failed{END} v1 at t/a: denied, 3 failed");
        assert_eq!(paint_first_word("  failed v1 at t/a: denied, 3 failed"), line);
        assert_eq!(paint_first_word("  v1 failed"), "  v1 failed");
    }
}
