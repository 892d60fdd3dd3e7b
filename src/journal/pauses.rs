//! Last pause of each entry. This file contains the statements and the methods of [`Journal`] for pauses.

use chrono::{DateTime, Utc};
use rusqlite::{Connection, Result, params};

use super::group::Durability;
use super::queries::{parsed, parsed_if_any, text};
use super::{Journal, JournalError};

/// Last pause of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PauseRecord {
    /// Name of the entry.
    pub entry: String,
    /// Time at which the pause started.
    pub since: DateTime<Utc>,
    /// Time at which the pause ends automatically. `None` if only an operator can end the pause.
    pub until: Option<DateTime<Utc>>,
    /// Time at which an operator ended the pause. `None` if no operator ended the pause.
    pub ended: Option<DateTime<Utc>>,
}

impl PauseRecord {
    /// Returns the time at which the pause ended. Returns `None` if the pause has not ended at `now`.
    #[must_use]
    pub fn ended_at(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.ended.or(self.until.filter(|until| *until <= now))
    }
}

impl Journal {
    /// Returns the last pause of each entry, ordered by the name of the entry.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn pauses(&self) -> std::result::Result<Vec<PauseRecord>, JournalError> {
        self.read(list_pauses).await
    }

    /// Records a pause. The record of the entry's previous pause is deleted.
    ///
    /// # Errors
    /// [`JournalError`]. In this case, the journal still contains the previous pause.
    pub async fn record_pause(&self, pause: PauseRecord) -> std::result::Result<(), JournalError> {
        self.write(Durability::Synced, move |db| record_pause(db, &pause)).await
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

fn record_pause(db: &Connection, pause: &PauseRecord) -> Result<()> {
    let mut statement =
        db.prepare_cached("INSERT OR REPLACE INTO pauses (entry, since, until, ended) VALUES (?1, ?2, ?3, ?4)")?;
    let PauseRecord { entry, since, until, ended } = pause;
    statement.execute(params![entry, text(*since), until.map(text), ended.map(text)])?;
    Ok(())
}
