//! Filter of the rows of `history` and `evidence`, and the journal that both commands read.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap_complete::engine::ArgValueCompleter;

use super::completion;
use super::entry_pattern::EntryPattern;
use crate::cli::output::units::When;
use crate::journal::{DigestPrefix, EvidenceFilter, HistoryFilter};

/// Default number of rows in a table.
const ROWS: u32 = 50;

/// Filters that `history` and `evidence` share. An absent filter does not restrict.
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

/// Number of rows to request from the journal and to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// Maximum number of rows to show; `None` means all rows.
    pub(crate) shown: Option<u32>,
    /// True if the limit is the default. One additional row is then requested, which shows that further rows exist.
    is_default: bool,
}

impl Window {
    fn row_limit(self) -> Option<u32> {
        self.shown.map(|shown| shown.saturating_add(u32::from(self.is_default)))
    }

    /// Truncates `rows` to the rows to show. Returns true if the function removed rows.
    pub(crate) fn truncate<T>(self, rows: &mut Vec<T>) -> bool {
        let shown = self.shown.map_or(usize::MAX, |shown| shown as usize);
        let more = rows.len() > shown;
        rows.truncate(shown);
        more
    }
}

impl Filter {
    /// Returns the number of rows from the arguments. The default is [`ROWS`] for people and all rows for programs.
    pub(crate) fn window(&self, for_people: bool) -> Window {
        match self.limit {
            Some(limit) => Window { shown: Some(limit), is_default: false },
            None => Window { shown: for_people.then_some(ROWS), is_default: for_people },
        }
    }

    /// Returns true if the filter selects runs by the copied content.
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
            // If the filter is about content, the caller filters the rows afterwards.
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
