//! What is wrong with a configuration, and how it is shown: `file:line:column`, the line, a caret and a way
//! out. Not what is wrong in particular: that is said where it is found.

use std::fmt;

/// How many problems are shown; the rest is counted.
const SHOWN: usize = 50;
/// How much of a long line is shown.
const WINDOW: usize = 160;

/// Everything that is wrong with one configuration, in the order of the files; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    found: Vec<Problem>,
    /// How many more there are than were kept.
    more: usize,
}

/// One thing that is wrong, with its place.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// The file, as it was named.
    pub file: String,
    /// From 1 on; 0 where the problem is about the file as a whole.
    pub line: usize,
    /// In characters, from 1 on; 0 where the problem is about the file as a whole.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// The way out, where one can be guessed: ``did you mean `schedule`?``.
    pub hint: Option<String>,
    #[serde(skip)]
    pub(crate) excerpt: Option<Excerpt>,
}

/// One line of the file, without secrets, and what to underline in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Excerpt {
    /// The line.
    pub(crate) text: String,
    /// The first character to underline, from 0 on.
    pub(crate) start: usize,
    /// How many characters to underline, 1 at least.
    pub(crate) length: usize,
}

impl Problems {
    /// All that was found, in the order of the file. A file of nothing but mistakes is cut off after the first
    /// fifty; see [`Problems::more`].
    #[must_use]
    pub fn all(&self) -> &[Problem] {
        &self.found
    }

    /// How many problems there are beyond [`Problems::all`].
    #[must_use]
    pub fn more(&self) -> usize {
        self.more
    }

    /// The first problem in one line, without the line of the file, and how many more there are.
    #[must_use]
    pub fn headline(&self) -> String {
        let first = self.found.first().map(|problem| Problem { excerpt: None, ..problem.clone() }.to_string());
        let line: String = first.unwrap_or_default().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        match self.found.len().saturating_sub(1) + self.more {
            0 => line,
            more => format!("{line} (and {more} more)"),
        }
    }

    /// One problem of the file as a whole.
    pub(crate) fn whole_file(file: &str, message: String) -> Self {
        let problem = Problem { file: file.to_owned(), line: 0, column: 0, message, hint: None, excerpt: None };
        Self::one(problem)
    }

    /// One problem.
    pub(crate) fn one(problem: Problem) -> Self {
        Self { found: vec![problem], more: 0 }
    }

    /// Those of several files, in the order of the files. `None` where there are none.
    pub(crate) fn joined(all: impl Iterator<Item = Self>) -> Option<Self> {
        all.reduce(|mut all, next| {
            all.found.extend(next.found);
            all.more += next.more + all.found.len().saturating_sub(SHOWN);
            all.found.truncate(SHOWN);
            all
        })
    }

    /// `None` where nothing was found; `more` are known besides.
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
    /// The line as a terminal can show it, the spaces before the carets, and the carets.
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

/// Tabs become a space, so that the caret stands right; nothing else that moves a cursor or turns the
/// direction of writing reaches the terminal.
fn drawable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => '\u{fffd}',
        c => c,
    }
}

/// How many cells of a terminal a character takes: East Asian wide characters and emoji take two.
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
    fn the_caret_stands_right_after_tabs_and_wide_characters() {
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
    fn nothing_in_the_line_can_steer_the_terminal() {
        let shown = problem("a: \u{1b}[2J\u{202e}x", 0, 1).to_string();
        assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown:?}");
    }

    #[test]
    fn a_caret_beyond_the_line_stands_at_its_end() {
        let shown = problem("a:", 9, 4).to_string();
        assert!(shown.ends_with("12 | a:\n   |   ^ write better"), "{shown}");
    }
}
