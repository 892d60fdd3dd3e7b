//! Problems of a configuration. The text of a problem contains `file:line:column`, the line with a caret, and a remedy.

use std::fmt;

/// Replacement for a secret in a message.
pub(crate) const COVER: &str = "***";
/// Maximum number of problems in a list. If a configuration has more problems, the list also contains the number of
/// omitted problems.
const SHOWN: usize = 50;
/// Maximum number of characters of a line that a message shows.
const WINDOW: usize = 160;

/// Problems of one configuration, in the order of the files. The list is never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    found: Vec<Problem>,
    /// Number of problems that `found` omits.
    more: usize,
}

/// Problem with its place in a file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// File name as the caller wrote the name.
    pub file: String,
    /// Line, counted from 1. If the problem concerns the whole file, the line is 0.
    pub line: usize,
    /// Column in characters, counted from 1. If the problem concerns the whole file, the column is 0.
    pub column: usize,
    /// Description of the problem.
    pub message: String,
    /// Remedy, such as ``did you mean `schedule`?``. `None` means that no remedy is known.
    pub hint: Option<String>,
    #[serde(skip)]
    pub(crate) excerpt: Option<Excerpt>,
}

/// Line of a file with masked secrets, and the underlined part of the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Excerpt {
    pub(crate) text: String,
    /// Index of the first underlined character, counted from 0.
    pub(crate) start: usize,
    /// Number of underlined characters, at least 1.
    pub(crate) length: usize,
}

impl Problems {
    /// Returns at most 50 problems, in the order of the files. [`Problems::more`] returns the number of omitted
    /// problems.
    #[must_use]
    pub fn as_slice(&self) -> &[Problem] {
        &self.found
    }

    /// Returns the number of problems that [`Problems::as_slice`] omits.
    #[must_use]
    pub fn more(&self) -> usize {
        self.more
    }

    /// Returns the first problem and the number of all other problems, as one line.
    #[must_use]
    pub fn headline(&self) -> String {
        let first = self.found.first().map(|problem| Problem { excerpt: None, ..problem.clone() }.to_string());
        let line: String = first.unwrap_or_default().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        match self.found.len().saturating_sub(1) + self.more {
            0 => line,
            more => format!("{line} (and {more} more)"),
        }
    }

    /// Creates a list with one problem that concerns the whole file.
    pub(crate) fn whole_file(file: &str, message: String) -> Self {
        let problem = Problem { file: file.to_owned(), line: 0, column: 0, message, hint: None, excerpt: None };
        Self::from_problem(problem)
    }

    pub(crate) fn from_problem(problem: Problem) -> Self {
        Self { found: vec![problem], more: 0 }
    }

    /// Joins the problems of several files. If there are no problems, returns `None`.
    pub(crate) fn join(files: impl Iterator<Item = Self>) -> Option<Self> {
        files.reduce(|mut joined, next| {
            joined.found.extend(next.found);
            joined.more += next.more + joined.found.len().saturating_sub(SHOWN);
            joined.found.truncate(SHOWN);
            joined
        })
    }

    /// Creates a list and sorts the problems by place. If `found` is empty, returns `None`. `more` is the number of
    /// problems that `found` omits.
    pub(crate) fn new(mut found: Vec<Problem>, more: usize) -> Option<Self> {
        found.sort_by_key(|problem| (problem.line, problem.column));
        let more = more + found.len().saturating_sub(SHOWN);
        found.truncate(SHOWN);
        (!found.is_empty()).then_some(Self { found, more })
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.found.iter()
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.found.iter().enumerate() {
            if i > 0 {
                f.write_str("\n\n")?;
            }
            problem.fmt(f)?;
        }
        if self.more > 0 {
            write!(f, "\n\nand {} more problems", self.more)?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, message, hint, excerpt } = self;
        if *line == 0 {
            write!(f, "{file}: {message}")?;
        } else {
            write!(f, "{file}:{line}:{column}: {message}")?;
        }
        let margin = " ".repeat(line.to_string().len());
        if let Some(excerpt) = excerpt {
            let (text, padding, carets) = excerpt.drawn();
            write!(f, "\n{margin} |\n{line} | {text}\n{margin} | {padding}{carets}")?;
        }
        match (hint, excerpt) {
            (Some(hint), Some(_)) => write!(f, " {hint}"),
            (Some(hint), None) => write!(f, "; {hint}"),
            (None, _) => Ok(()),
        }
    }
}

impl Excerpt {
    /// Returns the line without unprintable characters, the spaces before the carets, and the carets.
    fn drawn(&self) -> (String, String, String) {
        let characters: Vec<char> = self.text.chars().collect();
        let start = self.start.min(characters.len());
        let from = if characters.len() > WINDOW { start.saturating_sub(WINDOW / 2) } else { 0 };
        let to = (from + WINDOW).min(characters.len());
        let end = (start + self.length.max(1)).min(to).max(start);
        let (before, after) = (if from > 0 { "…" } else { "" }, if to < characters.len() { "…" } else { "" });
        let shown: String = characters[from..to].iter().map(|c| drawable(*c)).collect();
        let cells = |part: &[char]| part.iter().map(|c| cells(*c)).sum::<usize>();
        let padding = " ".repeat(before.chars().count() + cells(&characters[from..start]));
        let carets = "^".repeat(cells(&characters[start..end]).max(1));
        (format!("{before}{}{after}", shown.trim_end()), padding, carets)
    }
}

/// Returns the printed character for `c`. A tab becomes a space, so that the caret is in the right column. Control
/// characters, and characters that change the direction of text, become U+FFFD.
fn drawable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => '\u{fffd}',
        c => c,
    }
}

/// Returns the width of a character in terminal cells. East Asian wide characters and emoji have two cells.
fn cells(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036f | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str, start: usize, length: usize) -> Problem {
        Problem {
            file: "sync.yaml".into(),
            line: 12,
            column: start + 1,
            message: "wrong".into(),
            hint: Some("write better".into()),
            excerpt: Some(Excerpt { text: text.into(), start, length }),
        }
    }

    #[test]
    fn a_problem_shows_its_line_and_a_caret() {
        assert_eq!(
            problem("  a: b # c", 5, 1).to_string(),
            "sync.yaml:12:6: wrong\n   |\n12 |   a: b # c\n   |      ^ write better"
        );
    }

    #[test]
    fn caret_is_below_its_character_after_tabs_and_wide_characters() {
        let shown = problem("\t日本: x", 5, 1).to_string();
        assert!(shown.ends_with("12 |  日本: x\n   |        ^ write better"), "{shown}");
    }

    #[test]
    fn a_long_line_is_cut_around_the_caret() {
        let shown = problem(&"x".repeat(100_000), 50_000, 3).to_string();
        assert!(shown.len() < 500, "{}", shown.len());
        assert!(shown.contains("12 | …xxx") && shown.contains("xxx…\n"), "{shown}");
    }

    #[test]
    fn control_characters_of_a_line_never_reach_the_terminal() {
        let shown = problem("a: \u{1b}[2J\u{202e}x", 0, 1).to_string();
        assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown:?}");
    }

    #[test]
    fn caret_beyond_the_line_is_at_its_end() {
        let shown = problem("a:", 9, 4).to_string();
        assert!(shown.ends_with("12 | a:\n   |   ^ write better"), "{shown}");
    }
}
