//! Layout of a table. On a terminal, the table fits the width, and a line never ends within a reference. In a pipe or a
//! file, tabs separate the full values.

use std::borrow::Cow;

use console::measure_text_width;

use super::style::{Meaning, paint_counts};
use super::table::{Align, Cell, Column, Content, Table};

/// Width of the gap between two columns.
const GAP: usize = 2;

/// Minimum width of a column of sentences.
const NARROWEST_SENTENCE: usize = 24;

/// Steps to save width without dropping a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Saving {
    /// Digests are shown in full.
    None,
    /// Digests are shortened.
    Digests,
    /// Digests are shortened, and the shared part of references moves to a line above the table.
    References,
}

/// Returns the lines of a table for a terminal of this width. If a table is too wide, its sentences are broken, then
/// its digests and references are shortened, then optional columns are dropped. A table that is still too wide becomes
/// cards: one line for each value of a row.
pub(super) fn fitted(table: &Table, width: usize, is_colored: bool) -> Vec<String> {
    let mut shown: Vec<usize> = (0..table.columns.len()).collect();
    loop {
        for saving in [Saving::None, Saving::Digests, Saving::References] {
            let grid = Grid::new(table, &shown, saving);
            if let Some(widths) = grid.widths(width) {
                return grid.lines(&widths, is_colored);
            }
        }
        let is_empty = |index: usize| table.rows.iter().all(|row| row[index].full.is_empty());
        match shown.iter().rposition(|index| table.columns[*index].is_optional || is_empty(*index)) {
            Some(position) => shown.remove(position),
            None => return cards(table, width, is_colored),
        };
    }
}

/// Returns the lines for a pipe or a file: the heading and the rows, with a tab between two cells.
pub(super) fn tab_separated(table: &Table, is_colored: bool) -> Vec<String> {
    let heading = table.columns.iter().map(|column| column.name).collect::<Vec<_>>().join("\t");
    let row =
        |row: &Vec<Cell>| row.iter().map(|cell| paint(cell, &cell.full, is_colored)).collect::<Vec<_>>().join("\t");
    std::iter::once(heading).chain(table.rows.iter().map(row)).collect()
}

/// Returns the text of a cell in its style.
fn paint<'a>(cell: &Cell, text: &'a str, is_colored: bool) -> Cow<'a, str> {
    match cell.meaning {
        _ if !is_colored || text.is_empty() => Cow::Borrowed(text),
        Some(meaning) => Cow::Owned(meaning.paint(text)),
        None if cell.has_counts => Cow::Owned(paint_counts(text)),
        None => Cow::Borrowed(text),
    }
}

/// Columns and texts of a table that may fit a width.
struct Grid<'a> {
    columns: Vec<&'a Column>,
    /// Shared part of the references of each column, which the cells lack.
    hoisted: Vec<&'a str>,
    rows: Vec<Vec<(&'a Cell, &'a str)>>,
}

impl<'a> Grid<'a> {
    fn new(table: &'a Table, shown: &[usize], saving: Saving) -> Self {
        let columns: Vec<&Column> = shown.iter().map(|index| &table.columns[*index]).collect();
        let hoisted: Vec<&str> = shown
            .iter()
            .zip(&columns)
            .map(|(index, column)| {
                let is_hoisted = saving == Saving::References && column.content == Content::Reference;
                if is_hoisted { shared_path(table.rows.iter().map(|row| row[*index].on_terminal())) } else { "" }
            })
            .collect();
        let cells = |row: &'a Vec<Cell>| {
            let cells = shown.iter().zip(columns.iter().zip(&hoisted)).map(|(index, (column, prefix))| {
                let cell = &row[*index];
                let is_full = saving == Saving::None && column.content == Content::Digest;
                let text = if is_full { cell.full.as_str() } else { cell.on_terminal() };
                (cell, text.strip_prefix(prefix).unwrap_or(text))
            });
            cells.collect()
        };
        let rows = table.rows.iter().map(cells).collect();
        Self { columns, hoisted, rows }
    }

    /// Returns the widths of the columns, or `None` if the columns do not fit.
    fn widths(&self, available: usize) -> Option<Vec<usize>> {
        let gaps = GAP * self.columns.len().saturating_sub(1);
        let texts = |index: usize| self.rows.iter().map(move |row| row[index].1).chain([self.columns[index].name]);
        let natural = |index: usize| texts(index).map(measure_text_width).max().unwrap_or(0);
        let mut widths: Vec<usize> = (0..self.columns.len()).map(natural).collect();
        let mut excess = (widths.iter().sum::<usize>() + gaps).saturating_sub(available);
        for (index, column) in self.columns.iter().enumerate().rev() {
            if excess > 0 && column.content == Content::Sentence {
                let words = texts(index).flat_map(str::split_whitespace).map(measure_text_width);
                let narrowest = words.max().unwrap_or(0).max(NARROWEST_SENTENCE);
                let saved = excess.min(widths[index].saturating_sub(narrowest));
                widths[index] -= saved;
                excess -= saved;
            }
        }
        (excess == 0).then_some(widths)
    }

    fn lines(&self, widths: &[usize], is_colored: bool) -> Vec<String> {
        let above = self.columns.iter().zip(&self.hoisted).filter(|(_, prefix)| !prefix.is_empty());
        let above = above.map(|(column, prefix)| format!("{} in {prefix}", column.name));
        let mut lines: Vec<String> =
            above.map(|line| if is_colored { Meaning::Quiet.paint(&line) } else { line }).collect();
        let heading: Vec<(Cow<'_, str>, usize)> =
            self.columns.iter().map(|column| (column.name.into(), measure_text_width(column.name))).collect();
        lines.push(self.line(&heading, widths));
        for row in &self.rows {
            let broken: Vec<Vec<String>> = row
                .iter()
                .zip(widths)
                .map(|((_, text), width)| if text.is_empty() { Vec::new() } else { break_words(text, *width) })
                .collect();
            let height = broken.iter().map(Vec::len).max().unwrap_or(1).max(1);
            for at in 0..height {
                let cells: Vec<_> = row
                    .iter()
                    .zip(&broken)
                    .map(|((cell, _), pieces)| {
                        let piece = pieces.get(at).map_or("", String::as_str);
                        (paint(cell, piece, is_colored), measure_text_width(piece))
                    })
                    .collect();
                lines.push(self.line(&cells, widths));
            }
        }
        lines
    }

    /// Returns one line. Each cell has its text and the width of the text without its style.
    fn line(&self, cells: &[(Cow<'_, str>, usize)], widths: &[usize]) -> String {
        let mut line = String::new();
        for (((text, text_width), column), width) in cells.iter().zip(&self.columns).zip(widths) {
            let padding = " ".repeat(width.saturating_sub(*text_width));
            match column.align {
                Align::Left => line.extend([text, padding.as_str()]),
                Align::Right => line.extend([padding.as_str(), text]),
            }
            line.push_str(&" ".repeat(GAP));
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// Returns the path that all references begin with, including its last `/`.
fn shared_path<'a>(references: impl Iterator<Item = &'a str>) -> &'a str {
    let mut references = references.filter(|reference| !reference.is_empty());
    let Some(first) = references.next() else { return "" };
    let path = |text: &'a str| &text[..text.rfind('/').map_or(0, |slash| slash + 1)];
    references.fold(path(first), |shared, reference| {
        let same = shared.char_indices().zip(reference.chars()).take_while(|((_, a), b)| a == b);
        path(&shared[..same.last().map_or(0, |((at, c), _)| at + c.len_utf8())])
    })
}

/// Breaks a text at spaces into lines of this width. A longer word has a line of its own.
fn break_words(text: &str, width: usize) -> Vec<String> {
    if measure_text_width(text) <= width {
        return vec![text.to_owned()];
    }
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if measure_text_width(line) + 1 + measure_text_width(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Returns a card for each row: one line for each value that is not empty, and an empty line between two cards.
fn cards(table: &Table, width: usize, is_colored: bool) -> Vec<String> {
    let label_width = table.columns.iter().map(|column| column.name.len() + 1).max().unwrap_or(0) + 1;
    let room = width.saturating_sub(label_width).max(1);
    let mut lines = Vec::new();
    for (number, row) in table.rows.iter().enumerate() {
        if number > 0 {
            lines.push(String::new());
        }
        for (cell, column) in row.iter().zip(&table.columns).filter(|(cell, _)| !cell.full.is_empty()) {
            let text = cell.on_terminal();
            let pieces = match column.content {
                Content::Reference => vec![keep_end(text, room)],
                Content::Value | Content::Digest | Content::Sentence => break_words(text, room),
            };
            for (at, piece) in pieces.iter().enumerate() {
                let label = if at == 0 { format!("{}:", column.name) } else { String::new() };
                lines.push(format!("{label:<label_width$}{}", paint(cell, piece, is_colored)));
            }
        }
    }
    lines
}

/// Returns a reference that fits the width. A longer reference keeps its end.
fn keep_end(reference: &str, width: usize) -> String {
    let length = reference.chars().count();
    if length <= width {
        return reference.to_owned();
    }
    let kept: String = reference.chars().skip(length + 1 - width).collect();
    format!("…{kept}")
}

#[cfg(test)]
mod tests;
