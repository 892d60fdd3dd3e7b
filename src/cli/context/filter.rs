//! Filter of the rows that `history` and `evidence` show, and the journal that they read.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap_complete::engine::ArgValueCompleter;

use super::completion;
use super::entry_pattern::EntryPattern;
use crate::cli::output::units::When;
use crate::journal::{DigestPrefix, EvidenceFilter, HistoryFilter};

/// Number of rows in a table if the arguments set none.
const ROWS: u32 = 50;

/// Filters that `history` and `evidence` share. An absent filter does not restrict.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Filter {
    /// Journal to read; by default the configuration's
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

/// Number of rows to request from the journal and to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// Maximum number of rows to show, or `None` for all.
    pub(crate) shown: Option<u32>,
    /// True if the limit is the default. One further row is then requested, to find out if further rows exist.
    is_default: bool,
}

impl Window {
    fn row_limit(self) -> Option<u32> {
        self.shown.map(|shown| shown.saturating_add(u32::from(self.is_default)))
    }

    /// Truncates `rows` to the rows to show. Returns true if any row was cut off.
    pub(crate) fn truncate<T>(self, rows: &mut Vec<T>) -> bool {
        let shown = self.shown.map_or(usize::MAX, |shown| shown as usize);
        let more = rows.len() > shown;
        rows.truncate(shown);
        more
    }
}

impl Filter {
    /// Returns the rows to show: as many as the arguments set, or else [`ROWS`] for people and all for programs.
    pub(crate) fn window(&self, for_people: bool) -> Window {
        match self.limit {
            Some(limit) => Window { shown: Some(limit), is_default: false },
            None => Window { shown: for_people.then_some(ROWS), is_default: for_people },
        }
    }

    /// Returns true if runs are selected by the content that they copied.
    pub(crate) fn is_about_content(&self) -> bool {
        self.reference.is_some() || self.digest.is_some()
    }

    /// Returns the filter of runs of these entries; an empty list means every entry.
    pub(crate) fn history_filter(&self, entries: Vec<String>, now: DateTime<Utc>, window: Window) -> HistoryFilter {
        HistoryFilter {
            entries,
            failed: false,
            since: self.since.map(|when| when.resolve(now)),
            until: self.until.map(|when| when.resolve(now)),
            // The caller filters by content afterwards.
            limit: if self.is_about_content() { None } else { window.row_limit() },
        }
    }

    /// Returns the filter of evidence of these entries; an empty list means every entry.
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
