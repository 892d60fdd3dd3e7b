//! Filter arguments of `history` and `evidence`.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap_complete::engine::ArgValueCompleter;

use super::completion;
use super::entry_pattern::EntryPattern;
use crate::cli::output::units::When;
use crate::journal::{DigestPrefix, EvidenceFilter, HistoryFilter};

/// Default maximum number of rows in a table.
const ROWS: u32 = 50;

/// Filters of `history` and `evidence`. If a filter is absent, the rows are not restricted by this filter.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Filter {
    /// Journal to read [default: the journal of the configuration]
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,
    /// Entries to show, by name or by glob ("app-*"); all by default
    #[arg(value_name = "ENTRY", add = ArgValueCompleter::new(completion::recorded_entries))]
    pub entries: Vec<EntryPattern>,
    /// Show only rows since this time: a duration before now (1h, "2 days ago"), today, yesterday, a date or a time
    #[arg(long, value_name = "WHEN")]
    pub since: Option<When>,
    /// Show only rows before this time
    #[arg(long, value_name = "WHEN")]
    pub until: Option<When>,
    /// Maximum number of rows; the latest rows are shown [default: 50 in a table, all as JSON or CSV]
    #[arg(long, short = 'n', value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Show only copies from or to this repository, optionally with :TAG or @DIGEST
    #[arg(long, value_name = "REFERENCE")]
    pub reference: Option<String>,
    /// Show only this digest; its first 12 digits are enough
    #[arg(long, value_name = "DIGEST")]
    pub digest: Option<DigestPrefix>,
}

/// Maximum number of rows for a query of the journal and for the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// Maximum number of rows to show; `None` means all rows.
    pub(crate) shown: Option<u32>,
    /// True if the limit is a default. The query then requests one additional row, to find out whether the journal has
    /// more rows.
    is_default: bool,
}

impl Window {
    fn row_limit(self) -> Option<u32> {
        self.shown.map(|shown| shown.saturating_add(u32::from(self.is_default)))
    }

    /// Removes the rows beyond the limit. Returns true if `rows` had more rows than the limit.
    pub(crate) fn truncate<T>(self, rows: &mut Vec<T>) -> bool {
        let shown = self.shown.map_or(usize::MAX, |shown| shown as usize);
        let more = rows.len() > shown;
        rows.truncate(shown);
        more
    }
}

impl Filter {
    /// Returns the maximum number of rows from the arguments. Without `--limit`, a table has [`ROWS`] rows, and JSON or
    /// CSV has all rows.
    pub(crate) fn window(&self, for_people: bool) -> Window {
        match self.limit {
            Some(limit) => Window { shown: Some(limit), is_default: false },
            None => Window { shown: for_people.then_some(ROWS), is_default: for_people },
        }
    }

    /// Returns true if the filter contains a repository, a tag or a digest.
    pub(crate) fn is_about_content(&self) -> bool {
        self.reference.is_some() || self.digest.is_some()
    }

    /// Returns the journal query for the runs of these entries. An empty list means every entry.
    pub(crate) fn history_filter(&self, entries: Vec<String>, now: DateTime<Utc>, window: Window) -> HistoryFilter {
        HistoryFilter {
            entries,
            failed: false,
            since: self.since.map(|when| when.resolve(now)),
            until: self.until.map(|when| when.resolve(now)),
            // The query cannot filter runs by content. The caller filters the returned runs and applies the limit.
            limit: if self.is_about_content() { None } else { window.row_limit() },
        }
    }

    /// Returns the journal query for the evidence of these entries. An empty list means every entry.
    pub(crate) fn evidence_filter(&self, entries: Vec<String>, now: DateTime<Utc>, window: Window) -> EvidenceFilter {
        EvidenceFilter {
            entries,
            reference: self.reference.clone(),
            digest: self.digest.clone(),
            since: self.since.map(|when| when.resolve(now)),
            until: self.until.map(|when| when.resolve(now)),
            limit: window.row_limit(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_show_the_latest_rows_and_report_more() {
        let window = Filter::default().window(true);
        assert_eq!(window.row_limit(), Some(ROWS + 1));
        let mut rows: Vec<u32> = (0..=ROWS).collect();
        assert!(window.truncate(&mut rows));
        assert_eq!(rows.len(), ROWS as usize);
        assert!(!window.truncate(&mut rows));
    }

    #[test]
    fn machine_output_has_all_rows_unless_limited() {
        assert_eq!(Filter::default().window(false).row_limit(), None);
        let filter = Filter { limit: Some(3), ..Filter::default() };
        assert_eq!((filter.window(false).row_limit(), filter.window(true).row_limit()), (Some(3), Some(3)));
    }
}
