//! Tables of text for people. Scripts use `--json`.

use super::escape::printable;

/// Alignment of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Left, for words.
    Left,
    /// Right, for numbers.
    Right,
}

/// Table with a heading and rows. The content determines the width of the columns.
#[derive(Debug)]
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Creates a table of these columns without rows.
    #[must_use]
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row. If there are too few cells, the remaining cells are empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let one_line = |cell: String| printable(&cell.replace('\n', " "));
        self.rows.push(cells.into_iter().map(one_line).take(self.columns.len()).collect());
    }

    /// Returns true if there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the heading and the rows. No line ends with spaces.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let width = |text: &str| text.chars().count();
        let widest = |at: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(at)).map(|cell| width(cell));
            cells.chain([width(self.columns[at].0)]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(widest).collect();
        let line = |cells: &[&str]| {
            let padded = cells.iter().enumerate().map(|(at, cell)| match self.columns[at].1 {
                Align::Left => format!("{cell:<0$}", widths[at]),
                Align::Right => format!("{cell:>0$}", widths[at]),
            });
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let heading: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
        let rows = self.rows.iter().map(|row| line(&row.iter().map(String::as_str).collect::<Vec<_>>()));
        std::iter::once(line(&heading)).chain(rows).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_content() {
        let mut table = Table::new(&[("TAG", Align::Left), ("BYTES", Align::Right), ("WHY", Align::Left)]);
        table.row(["3.12-slim".into(), "7".into(), "new\nhere".into()]);
        table.row(["é".into(), "123456".into(), String::new()]);
        assert_eq!(table.lines(), ["TAG         BYTES  WHY", "3.12-slim       7  new here", "é          123456"]);
    }
}
