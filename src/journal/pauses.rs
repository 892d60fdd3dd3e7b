//! Which entries are paused, and were: the statements and the methods of [`Journal`] for that alone.

use chrono::{DateTime, Utc};
use rusqlite::{Connection, Result, params};

use super::group::Promise;
use super::queries::{parsed, parsed_if_any, text};
use super::{Journal, JournalError};

/// The last pause of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PauseRecord {
    /// The entry.
    pub entry: String,
    /// When it began.
    pub since: DateTime<Utc>,
    /// When it ends by itself, where it does.
    pub until: Option<DateTime<Utc>>,
    /// When somebody ended it.
    pub ended: Option<DateTime<Utc>>,
}

impl PauseRecord {
    /// When it was over, if it is at `now`.
    #[must_use]
    pub fn over(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.ended.or(self.until.filter(|until| *until <= now))
    }
}

impl Journal {
    /// The last pause of each entry that ever had one, by name.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn pauses(&self) -> std::result::Result<Vec<PauseRecord>, JournalError> {
        self.read(list_pauses).await
    }

    /// Writes down a pause, in place of the entry's last one.
    ///
    /// # Errors
    /// [`JournalError`]; then it may not outlive the process.
    pub async fn note_pause(&self, pause: PauseRecord) -> std::result::Result<(), JournalError> {
        self.write(Promise::Kept, move |db| note_pause(db, &pause)).await
    }
}

fn list_pauses(db: &Connection) -> Result<Vec<PauseRecord>> {
    let mut statement = db.prepare_cached("SELECT * FROM pauses ORDER BY entry")?;
    let rows = statement.query_map([], |row| {
        Ok(PauseRecord {
            entry: row.get("entry")?,
            since: parsed(row, "since")?,
            until: parsed_if_any(row, "until")?,
            ended: parsed_if_any(row, "ended")?,
        })
    })?;
    rows.collect()
}

fn note_pause(db: &Connection, pause: &PauseRecord) -> Result<()> {
    let mut statement =
        db.prepare_cached("INSERT OR REPLACE INTO pauses (entry, since, until, ended) VALUES (?1, ?2, ?3, ?4)")?;
    let PauseRecord { entry, since, until, ended } = pause;
    statement.execute(params![entry, text(*since), until.map(text), ended.map(text)])?;
    Ok(())
}
