//! Run history for the pages of the status port. The pages read the journal through a second, read-only connection with
//! its own thread, so that no run waits for a query of a page.

use std::time::Duration;

use async_trait::async_trait;

use crate::journal::{HistoryFilter, Journal, RunMark, RunRecord, Search, SearchResults};
use crate::status::{History, HistoryResult};

#[async_trait]
impl History for Journal {
    async fn latest_marks(&self, entries: Vec<String>, each: u32) -> HistoryResult<Vec<RunMark>> {
        Ok(Self::latest_marks(self, entries, each).await?)
    }

    async fn runs(&self, entry: String, at_most: u32) -> HistoryResult<Vec<RunRecord>> {
        Ok(self
            .history(&HistoryFilter { entries: vec![entry], limit: Some(at_most), ..HistoryFilter::default() })
            .await?)
    }

    async fn search(&self, search: Search, at_most: usize, time: Duration) -> HistoryResult<SearchResults> {
        Ok(Self::search(self, search, at_most, time).await?)
    }
}
