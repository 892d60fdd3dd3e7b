//! History queries of the pages, and their limits:
//! - one query at a time;
//! - at most three seconds for each query;
//! - the marks on the overview are cached for five seconds.
//!
//! A mark is one run in a small chart. The caller provides a journal that is open for reading.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;

use crate::journal::{RunRecord, RunSummary, Search, SearchResults};

/// Maximum time that a page waits for the history. After this time, the page is shown without the history.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Lifetime of the cached marks of an overview.
const CACHE_LIFETIME: Duration = Duration::from_secs(5);
/// Number of runs in a small chart.
pub(super) const MARKS: u32 = 30;
/// Number of runs on the page of an entry.
pub(super) const RUNS: u32 = 60;
/// Maximum number of rows in each list of a search.
const SEARCH_RESULTS: usize = 100;
/// Maximum time of a search for each of the two lists.
const SEARCH_TIME: Duration = Duration::from_secs(1);

/// Result of a history query. The pages show the text of the error.
pub type HistoryResult<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Store of past runs.
#[async_trait]
pub trait History: Send + Sync {
    /// Returns the last runs of each of these entries, the latest run of an entry first. `each` is the maximum number
    /// of runs for each entry.
    ///
    /// # Errors
    /// Returns the cause of the failure.
    async fn latest_marks(&self, entries: Vec<String>, each: u32) -> HistoryResult<Vec<RunSummary>>;

    /// Returns the last runs of one entry, the latest first.
    ///
    /// # Errors
    /// Returns the cause of the failure.
    async fn runs(&self, entry: String, at_most: u32) -> HistoryResult<Vec<RunRecord>>;

    /// Searches for tags and digests. Returns at most `at_most` results of each kind, and searches at most `time` for
    /// each kind.
    ///
    /// # Errors
    /// Returns the cause of the failure.
    async fn search(&self, search: Search, at_most: usize, time: Duration) -> HistoryResult<SearchResults>;
}

/// Marks of the last runs by entry, the latest last.
pub(super) type Marks = BTreeMap<String, Vec<RunSummary>>;

/// Reason why a page has no history.
#[derive(Debug, thiserror::Error)]
pub(super) enum HistoryError {
    #[error("there is no journal")]
    NoJournal,
    #[error("the journal did not answer in time")]
    TimedOut,
    #[error("{0}")]
    Failed(String),
}

/// History with limits on its queries.
pub(super) struct LimitedHistory {
    history: Option<Arc<dyn History>>,
    /// Semaphore with one permit. A query keeps the permit until the journal responds, even if the client has
    /// disconnected.
    permit: Arc<Semaphore>,
    cached: Mutex<Option<CachedMarks>>,
}

/// Marks of the last overview, with the time of their query.
struct CachedMarks {
    entries: Vec<String>,
    at: Instant,
    marks: Arc<Marks>,
}

impl LimitedHistory {
    pub(super) fn new(history: Option<Arc<dyn History>>) -> Self {
        Self { history, permit: Arc::new(Semaphore::new(1)), cached: Mutex::new(None) }
    }

    /// Returns marks of the last runs of these entries. If the last query was for the same entries and is less than
    /// five seconds old, returns the result of this query.
    pub(super) async fn marks(&self, entries: Vec<String>) -> Result<Arc<Marks>, HistoryError> {
        let within = async {
            let mut cached = self.cached.lock().await;
            let is_valid = |marks: &&CachedMarks| marks.at.elapsed() < CACHE_LIFETIME && marks.entries == entries;
            if let Some(valid) = cached.as_ref().filter(is_valid) {
                return Ok(valid.marks.clone());
            }
            let names = entries.clone();
            let found = self.query(|history| async move { history.latest_marks(names, MARKS).await }).await?;
            let marks = Arc::new(group_by_entry(found));
            *cached = Some(CachedMarks { entries, at: Instant::now(), marks: marks.clone() });
            Ok(marks)
        };
        tokio::time::timeout(TIMEOUT, within).await.unwrap_or(Err(HistoryError::TimedOut))
    }

    /// Returns the last runs of an entry, the latest first.
    pub(super) async fn runs(&self, entry: String) -> Result<Vec<RunRecord>, HistoryError> {
        self.query(|history| async move { history.runs(entry, RUNS).await }).await
    }

    /// Searches for tags and digests.
    pub(super) async fn search(&self, search: Search) -> Result<SearchResults, HistoryError> {
        self.query(|history| async move { history.search(search, SEARCH_RESULTS, SEARCH_TIME).await }).await
    }

    /// Runs a query within the limits.
    async fn query<T, F>(&self, start: impl FnOnce(Arc<dyn History>) -> F) -> Result<T, HistoryError>
    where
        T: Send + 'static,
        F: Future<Output = HistoryResult<T>> + Send + 'static,
    {
        let query = start(self.history.clone().ok_or(HistoryError::NoJournal)?);
        let within = async {
            let permit = self.permit.clone().acquire_owned().await.map_err(|_| HistoryError::NoJournal)?;
            let answering = tokio::spawn(async move {
                let answer = query.await;
                drop(permit);
                answer
            });
            let answer = answering.await.map_err(|error| HistoryError::Failed(error.to_string()))?;
            answer.map_err(|error| HistoryError::Failed(error.to_string()))
        };
        tokio::time::timeout(TIMEOUT, within).await.unwrap_or(Err(HistoryError::TimedOut))
    }
}

fn group_by_entry(latest_first: Vec<RunSummary>) -> Marks {
    let mut marks = Marks::new();
    for mark in latest_first.into_iter().rev() {
        marks.entry(mark.entry.clone()).or_default().push(mark);
    }
    marks
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// History that returns its own fields.
    #[derive(Default)]
    pub(crate) struct FakeHistory {
        pub(crate) marks: Vec<RunSummary>,
        pub(crate) runs: Vec<RunRecord>,
        pub(crate) found: SearchResults,
        /// True if the history never responds to a query.
        pub(crate) silent: bool,
        pub(crate) queries: AtomicUsize,
    }

    impl FakeHistory {
        async fn answer<T>(&self, answer: T) -> HistoryResult<T> {
            self.queries.fetch_add(1, Ordering::SeqCst);
            if self.silent {
                std::future::pending::<()>().await;
            }
            Ok(answer)
        }
    }

    #[async_trait]
    impl History for FakeHistory {
        async fn latest_marks(&self, _: Vec<String>, _: u32) -> HistoryResult<Vec<RunSummary>> {
            self.answer(self.marks.clone()).await
        }

        async fn runs(&self, _: String, _: u32) -> HistoryResult<Vec<RunRecord>> {
            self.answer(self.runs.clone()).await
        }

        async fn search(&self, _: Search, _: usize, _: Duration) -> HistoryResult<SearchResults> {
            self.answer(self.found.clone()).await
        }
    }

    fn limited(fake: &Arc<FakeHistory>) -> LimitedHistory {
        LimitedHistory::new(Some(fake.clone()))
    }

    #[tokio::test(start_paused = true)]
    async fn marks_are_queried_once_in_five_seconds_per_part() {
        let fake = Arc::new(FakeHistory::default());
        let history = limited(&fake);
        for expected in [1, 1] {
            history.marks(vec!["a".into()]).await.unwrap();
            assert_eq!(fake.queries.load(Ordering::SeqCst), expected);
        }
        history.marks(vec!["b".into()]).await.unwrap();
        assert_eq!(fake.queries.load(Ordering::SeqCst), 2);
        tokio::time::advance(CACHE_LIFETIME).await;
        history.marks(vec!["b".into()]).await.unwrap();
        assert_eq!(fake.queries.load(Ordering::SeqCst), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn unresponsive_history_is_queried_once_and_blocks_nobody() {
        let fake = Arc::new(FakeHistory { silent: true, ..FakeHistory::default() });
        let history = limited(&fake);
        for _ in 0..10 {
            let late = history.marks(vec!["a".into()]).await.unwrap_err();
            assert_eq!(late.to_string(), "the journal did not answer in time");
            assert!(matches!(history.search(Search::read("v1").unwrap()).await, Err(HistoryError::TimedOut)));
        }
        assert_eq!(fake.queries.load(Ordering::SeqCst), 1, "no other query starts while one query hangs");
    }

    #[tokio::test]
    async fn missing_journal_is_reported() {
        assert_eq!(LimitedHistory::new(None).runs("a".into()).await.unwrap_err().to_string(), "there is no journal");
    }
}
