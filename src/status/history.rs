//! What the page asks of the past, and the limits within which it does: one question at a time, each for a few seconds,
//! and what is asked again at once is not asked again.
//!
//! Who answers is not known here; the program gives a journal that is open for reading.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;

use crate::journal::{Found, RunMark, RunRecord, Search};

/// How long a page waits for the past before it does without.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long the marks of an overview are good for.
const FRESH: Duration = Duration::from_secs(5);
/// How many runs a small chart shows.
pub(super) const MARKS: u32 = 30;
/// How many runs the page of an entry shows.
pub(super) const RUNS: u32 = 60;
/// How many rows each list of a search has at most.
const FINDINGS: usize = 100;
/// How long each of the two lists may be searched for.
const SEARCH_TIME: Duration = Duration::from_secs(1);

/// What the past answers, or why it does not, in words for a person.
pub type Answer<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Who remembers what was.
#[async_trait]
pub trait History: Send + Sync {
    /// The last runs of each of these entries, `each` at most, the latest first.
    ///
    /// # Errors
    /// Why there is no answer.
    async fn latest_marks(&self, entries: Vec<String>, each: u32) -> Answer<Vec<RunMark>>;

    /// The last runs of one entry, the latest first.
    ///
    /// # Errors
    /// Why there is no answer.
    async fn runs(&self, entry: String, at_most: u32) -> Answer<Vec<RunRecord>>;

    /// Where something turned up: at most so many of each kind, found within `time` each.
    ///
    /// # Errors
    /// Why there is no answer.
    async fn search(&self, search: Search, at_most: usize, time: Duration) -> Answer<Found>;
}

/// The runs of each entry in small, the latest last.
pub(super) type Marks = BTreeMap<String, Vec<RunMark>>;

/// Why nothing is known of the past.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswered {
    #[error("there is no journal")]
    Nobody,
    #[error("the journal did not answer in time")]
    Late,
    #[error("{0}")]
    Failed(String),
}

/// Asks, within limits.
pub(super) struct Past {
    history: Option<Arc<dyn History>>,
    /// One place: who takes it keeps it until there is an answer, even if whoever asked has gone.
    turn: Arc<Semaphore>,
    remembered: Mutex<Option<Remembered>>,
}

struct Remembered {
    entries: Vec<String>,
    at: Instant,
    marks: Arc<Marks>,
}

impl Past {
    pub(super) fn new(history: Option<Arc<dyn History>>) -> Self {
        Self { history, turn: Arc::new(Semaphore::new(1)), remembered: Mutex::new(None) }
    }

    /// The last runs of these entries in small. Whoever comes while they are asked for waits and gets the same.
    pub(super) async fn marks(&self, entries: Vec<String>) -> Result<Arc<Marks>, Unanswered> {
        let within = async {
            let mut remembered = self.remembered.lock().await;
            let good = remembered.as_ref().filter(|it| it.at.elapsed() < FRESH && it.entries == entries);
            if let Some(good) = good {
                return Ok(good.marks.clone());
            }
            let asked = entries.clone();
            let found = self.ask(|history| async move { history.latest_marks(asked, MARKS).await }).await?;
            let marks = Arc::new(by_entry(found));
            *remembered = Some(Remembered { entries, at: Instant::now(), marks: marks.clone() });
            Ok(marks)
        };
        tokio::time::timeout(PATIENCE, within).await.unwrap_or(Err(Unanswered::Late))
    }

    /// The last runs of an entry, the latest first.
    pub(super) async fn runs(&self, entry: String) -> Result<Vec<RunRecord>, Unanswered> {
        self.ask(|history| async move { history.runs(entry, RUNS).await }).await
    }

    /// Where something turned up.
    pub(super) async fn search(&self, search: Search) -> Result<Found, Unanswered> {
        self.ask(|history| async move { history.search(search, FINDINGS, SEARCH_TIME).await }).await
    }

    async fn ask<T, F>(&self, question: impl FnOnce(Arc<dyn History>) -> F) -> Result<T, Unanswered>
    where
        T: Send + 'static,
        F: Future<Output = Answer<T>> + Send + 'static,
    {
        let asked = question(self.history.clone().ok_or(Unanswered::Nobody)?);
        let within = async {
            let turn = self.turn.clone().acquire_owned().await.map_err(|_| Unanswered::Nobody)?;
            let answering = tokio::spawn(async move {
                let answer = asked.await;
                drop(turn);
                answer
            });
            let answer = answering.await.map_err(|error| Unanswered::Failed(error.to_string()))?;
            answer.map_err(|error| Unanswered::Failed(error.to_string()))
        };
        tokio::time::timeout(PATIENCE, within).await.unwrap_or(Err(Unanswered::Late))
    }
}

fn by_entry(latest_first: Vec<RunMark>) -> Marks {
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

    /// A past that holds what it is given.
    #[derive(Default)]
    pub(in super::super) struct Told {
        pub(in super::super) marks: Vec<RunMark>,
        pub(in super::super) runs: Vec<RunRecord>,
        pub(in super::super) found: Found,
        /// Nobody answers.
        pub(in super::super) silent: bool,
        pub(in super::super) asked: AtomicUsize,
    }

    impl Told {
        async fn answer<T>(&self, answer: T) -> Answer<T> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            if self.silent {
                std::future::pending::<()>().await;
            }
            Ok(answer)
        }
    }

    #[async_trait]
    impl History for Told {
        async fn latest_marks(&self, _: Vec<String>, _: u32) -> Answer<Vec<RunMark>> {
            self.answer(self.marks.clone()).await
        }

        async fn runs(&self, _: String, _: u32) -> Answer<Vec<RunRecord>> {
            self.answer(self.runs.clone()).await
        }

        async fn search(&self, _: Search, _: usize, _: Duration) -> Answer<Found> {
            self.answer(self.found.clone()).await
        }
    }

    fn past(told: &Arc<Told>) -> Past {
        Past::new(Some(told.clone()))
    }

    #[tokio::test(start_paused = true)]
    async fn marks_are_asked_for_once_in_five_seconds_for_each_part_of_the_entries() {
        let told = Arc::new(Told::default());
        let past = past(&told);
        for expected in [1, 1] {
            past.marks(vec!["a".into()]).await.unwrap();
            assert_eq!(told.asked.load(Ordering::SeqCst), expected);
        }
        past.marks(vec!["b".into()]).await.unwrap();
        assert_eq!(told.asked.load(Ordering::SeqCst), 2);
        tokio::time::advance(FRESH).await;
        past.marks(vec!["b".into()]).await.unwrap();
        assert_eq!(told.asked.load(Ordering::SeqCst), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_past_that_does_not_answer_is_asked_once_and_holds_nobody_up() {
        let told = Arc::new(Told { silent: true, ..Told::default() });
        let past = past(&told);
        for _ in 0..10 {
            let late = past.marks(vec!["a".into()]).await.unwrap_err();
            assert_eq!(late.to_string(), "the journal did not answer in time");
            assert!(matches!(past.search(Search::read("v1").unwrap()).await, Err(Unanswered::Late)));
        }
        assert_eq!(told.asked.load(Ordering::SeqCst), 1, "no question waits behind the one that hangs");
    }

    #[tokio::test]
    async fn without_a_journal_that_is_said() {
        assert_eq!(Past::new(None).runs("a".into()).await.unwrap_err().to_string(), "there is no journal");
    }
}
