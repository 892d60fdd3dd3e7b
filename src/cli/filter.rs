//! Which rows `history` and `evidence` show, and from which journal.

use std::path::PathBuf;

use chrono::{DateTime, Utc};

use super::units::When;
use crate::journal::{DigestPrefix, EvidenceFilter, HistoryFilter};

/// How many rows a table has when nothing else is asked for.
const ROWS: u32 = 50;

/// The filters that `history` and `evidence` share. What is not given does not restrict.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Filter {
    /// The journal; by default the configuration's
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,
    /// Only this entry
    #[arg(long, value_name = "NAME")]
    pub entry: Option<String>,
    /// Only from then on: how long ago (7d), a date or a moment
    #[arg(long, value_name = "WHEN")]
    pub since: Option<When>,
    /// Only before then
    #[arg(long, value_name = "WHEN")]
    pub until: Option<When>,
    /// At most so many, the latest [default: 50 for people, all of them as JSON or CSV]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Only what arrived from or at this repository, with :TAG or @DIGEST or without
    #[arg(long, value_name = "REFERENCE")]
    pub reference: Option<String>,
    /// Only this digest; its first 12 digits are enough
    #[arg(long, value_name = "DIGEST")]
    pub digest: Option<DigestPrefix>,
}

/// How many rows are asked of the journal and shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    /// The most rows to show, `None` for all.
    pub(super) shown: Option<u32>,
    /// Whether it is our own choice that there is an end: then one more row is asked for, to tell whether there are more.
    by_default: bool,
}

impl Window {
    fn asked(self) -> Option<u32> {
        self.shown.map(|shown| shown.saturating_add(u32::from(self.by_default)))
    }

    /// Cuts `rows` to what is shown and tells whether any were cut off.
    pub(super) fn cut<T>(self, rows: &mut Vec<T>) -> bool {
        let shown = self.shown.map_or(usize::MAX, |shown| shown as usize);
        let more = rows.len() > shown;
        rows.truncate(shown);
        more
    }
}

impl Filter {
    /// The rows to show: as many as asked for, else some for people and all for programs.
    pub(super) fn window(&self, for_people: bool) -> Window {
        match self.limit {
            Some(limit) => Window { shown: Some(limit), by_default: false },
            None => Window { shown: for_people.then_some(ROWS), by_default: for_people },
        }
    }

    /// Whether runs are to be found by what they brought.
    pub(super) fn is_about_content(&self) -> bool {
        self.reference.is_some() || self.digest.is_some()
    }

    pub(super) fn of_runs(&self, now: DateTime<Utc>, window: Window) -> HistoryFilter {
        HistoryFilter {
            entry: self.entry.clone(),
            since: self.since.map(|when| when.resolve(now)),
            until: self.until.map(|when| when.resolve(now)),
            // What the runs brought is looked at afterwards.
            limit: if self.is_about_content() { None } else { window.asked() },
        }
    }

    pub(super) fn of_evidence(&self, now: DateTime<Utc>, window: Window) -> EvidenceFilter {
        EvidenceFilter {
            entry: self.entry.clone(),
            reference: self.reference.clone(),
            digest: self.digest.clone(),
            since: self.since.map(|when| when.resolve(now)),
            until: self.until.map(|when| when.resolve(now)),
            limit: window.asked(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_get_the_latest_rows_and_are_told_of_more() {
        let window = Filter::default().window(true);
        assert_eq!(window.asked(), Some(ROWS + 1));
        let mut rows: Vec<u32> = (0..=ROWS).collect();
        assert!(window.cut(&mut rows));
        assert_eq!(rows.len(), ROWS as usize);
        assert!(!window.cut(&mut rows));
    }

    #[test]
    fn programs_get_all_unless_they_ask_for_less() {
        assert_eq!(Filter::default().window(false).asked(), None);
        let filter = Filter { limit: Some(3), ..Filter::default() };
        assert_eq!((filter.window(false).asked(), filter.window(true).asked()), (Some(3), Some(3)));
    }
}
