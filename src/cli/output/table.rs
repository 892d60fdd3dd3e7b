//! Tables of text: columns and cells. [`super::table_layout`] turns a table into lines.

use chrono::{DateTime, Utc};

use super::escape::printable;
use super::style::Meaning;
use super::units;
use crate::oci::Digest;

/// Number of hexadecimal digits of a digest in a table on a terminal.
const DIGEST_DIGITS: usize = 12;

/// Alignment of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    /// Left, for words.
    Left,
    /// Right, for numbers.
    Right,
}

/// Form of a column's values, which decides the way to save width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// Values that are never shortened or broken.
    Value,
    /// Repositories and references. The part that all rows share can move to a line above the table.
    Reference,
    /// Digests, which are shown in full if the table then fits.
    Digest,
    /// Sentences, which may continue on a further line of their column.
    Sentence,
}

/// Column of a table.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    pub(super) name: &'static str,
    pub(super) align: Align,
    pub(super) content: Content,
    pub(super) is_optional: bool,
}

impl Column {
    /// Creates a column of words, aligned to the left.
    #[must_use]
    pub const fn left(name: &'static str) -> Self {
        Self { name, align: Align::Left, content: Content::Value, is_optional: false }
    }

    /// Creates a column of numbers, aligned to the right.
    #[must_use]
    pub const fn right(name: &'static str) -> Self {
        Self { align: Align::Right, ..Self::left(name) }
    }

    /// Creates a column of repositories or references.
    #[must_use]
    pub const fn reference(name: &'static str) -> Self {
        Self { content: Content::Reference, ..Self::left(name) }
    }

    /// Creates a column of digests that are shown in full if the table then fits.
    #[must_use]
    pub const fn digest(name: &'static str) -> Self {
        Self { content: Content::Digest, ..Self::left(name) }
    }

    /// Creates a column of sentences.
    #[must_use]
    pub const fn sentence(name: &'static str) -> Self {
        Self { content: Content::Sentence, ..Self::left(name) }
    }

    /// Marks the column as optional: a terminal that is too narrow does not show the column. The last optional column
    /// is dropped first.
    #[must_use]
    pub const fn optional(self) -> Self {
        Self { is_optional: true, ..self }
    }
}

/// Cell of a table.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    /// Text for pipes and files.
    pub(super) full: String,
    /// Text for terminals, if it differs from `full`.
    pub(super) short: Option<String>,
    pub(super) meaning: Option<Meaning>,
    pub(super) has_counts: bool,
}

impl Cell {
    /// Creates the cell of an outcome or action. The first word decides the style.
    pub(crate) fn outcome(text: impl Into<String>) -> Self {
        let full = text.into();
        let meaning = Meaning::from_word(&full).or_else(|| Meaning::from_word(full.split(' ').next()?));
        Self { meaning, ..Self::from(full) }
    }

    /// Creates the cell of counts such as `2 copied, 1 failed`.
    pub(crate) fn counts(counts: impl ToString) -> Self {
        Self { has_counts: true, ..Self::from(counts.to_string()) }
    }

    /// Creates the cell of a time. Terminals show the distance from now.
    pub(crate) fn time(at: DateTime<Utc>, now: DateTime<Utc>) -> Self {
        Self { short: Some(units::distance(at, now)), ..Self::from(units::moment(at)) }
    }

    /// Creates the cell of a digest. Terminals show its first digits.
    pub(crate) fn digest(digest: &Digest) -> Self {
        Self::digest_with(digest, "")
    }

    /// Creates the cell of a digest, followed by a remark.
    pub(crate) fn digest_with(digest: &Digest, remark: &str) -> Self {
        let full = digest.to_string();
        let digits = full.find(':').map_or(0, |colon| colon + 1) + DIGEST_DIGITS;
        let short = full.get(..digits).map(|short| format!("{short}{remark}"));
        Self { short, ..Self::from(format!("{full}{remark}")) }
    }

    /// Creates a cell with one text for pipes and files, and a shorter text for terminals.
    pub(crate) fn shortened(full: impl Into<String>, short: impl Into<String>) -> Self {
        Self { short: Some(short.into()), ..Self::from(full.into()) }
    }

    /// Returns the text for terminals.
    pub(super) fn on_terminal(&self) -> &str {
        self.short.as_deref().unwrap_or(&self.full)
    }
}

impl From<String> for Cell {
    fn from(full: String) -> Self {
        Self { full, ..Self::default() }
    }
}

impl From<&str> for Cell {
    fn from(full: &str) -> Self {
        full.to_owned().into()
    }
}

/// Table with a heading and rows.
#[derive(Debug)]
pub struct Table {
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Creates a table of these columns without rows.
    #[must_use]
    pub fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row. If there are too few cells, the remaining cells are empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<Cell>>) {
        let one_line = |text: &str| printable(&text.replace('\n', " "));
        let clean =
            |cell: Cell| Cell { full: one_line(&cell.full), short: cell.short.as_deref().map(one_line), ..cell };
        let mut row: Vec<Cell> = cells.into_iter().map(|cell| clean(cell.into())).take(self.columns.len()).collect();
        row.resize_with(self.columns.len(), Cell::default);
        self.rows.push(row);
    }

    /// Returns true if there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}
