//! Rows of arrivals: the columns that evidence and intents share, and the statements that write, filter and read these
//! rows.

use rusqlite::{Connection, Result, Row, named_params};

use super::queries::{
    bounded, column_error, count, current_run, execute_cached, limit, list_text, number, parsed, parsed_if_any, text,
};
use super::record::{EvidenceFilter, EvidenceRecord, RunId};
use crate::copy::event::{Arrival, ArrivalKind, BlobCounts, LeftBehind};
use crate::oci::{Digest, ManifestRef, MediaType, Tag};

/// Maximum number of digests in one row. One row also lists at most this number of items that were not copied.
const MAX_LISTED: usize = 1000;

/// Columns that the tables `evidence` and `intents` share.
pub(super) const ARRIVAL: &str = "run, entry, source, source_reference, source_digest, target, tag, previous, digest,
    media_type, manifests, blobs_copied, blobs_mounted, blobs_found, bytes, source_identity, target_identity, started,
    ended,
    kind, listed, left_behind";

pub(super) fn insert_evidence(db: &Connection, run: RunId, entry: &str, arrival: &Arrival) -> Result<()> {
    insert_arrival(db, "evidence", run, entry, arrival)
}

/// Inserts an arrival into `table`, which is `evidence` or `intents`.
pub(super) fn insert_arrival(db: &Connection, table: &str, run: RunId, entry: &str, arrival: &Arrival) -> Result<()> {
    let run = current_run(db, run)?;
    execute_cached(
        db,
        &format!(
            "INSERT INTO {table} ({ARRIVAL})
             VALUES (:run, :entry, :source, :source_reference, :source_digest, :target, :tag, :previous, :digest,
                :media_type, :manifests, :copied, :mounted, :found, :bytes, :source_identity,
                :target_identity, :started,
                :ended, :kind, :listed, :left_behind)"
        ),
        named_params! {
            ":run": run.0, ":entry": entry, ":source": arrival.source,
            ":source_reference": arrival.source_reference.to_string(),
            ":source_digest": arrival.source_digest.to_string(), ":target": arrival.target,
            ":tag": arrival.tag.as_ref().map(Tag::as_str), ":digest": arrival.digest.to_string(),
            ":previous": arrival.previous.map(|digest| digest.to_string()),
            ":media_type": arrival.media_type.as_str(), ":manifests": number(arrival.manifests),
            ":copied": number(arrival.blobs.copied), ":mounted": number(arrival.blobs.mounted),
            ":found": number(arrival.blobs.found), ":bytes": number(arrival.bytes),
            ":source_identity": arrival.source_identity, ":target_identity": arrival.target_identity,
            ":started": text(arrival.started), ":ended": text(arrival.ended), ":kind": arrival.kind.word(),
            ":listed": listed_text(&arrival.listed),
            ":left_behind": left_behind_text(&arrival.left_behind),
        },
    )?;
    Ok(())
}

/// Returns the statement that selects the rows of `table` that match an [`EvidenceFilter`], the latest first. `table`
/// is `evidence` or `intents`.
fn filtered(table: &str) -> String {
    format!(
        "SELECT * FROM {table}
         WHERE (:entries IS NULL OR entry IN (SELECT value FROM json_each(:entries)))
           AND (:reference IS NULL OR :reference IN (source, source || ':' || source_reference,
               source || '@' || source_digest, target, target || ':' || tag, target || '@' || digest))
           AND (:digest IS NULL OR digest LIKE :digest OR source_digest LIKE :digest)
           AND (:since IS NULL OR ended >= :since) AND (:until IS NULL OR ended < :until)
         ORDER BY ended DESC, id DESC LIMIT :limit"
    )
}

/// Runs a statement with the parameters of [`filtered`].
fn query_filtered<T>(
    db: &Connection,
    statement: &str,
    filter: &EvidenceFilter,
    read: impl FnMut(&Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let mut statement = db.prepare_cached(statement)?;
    let rows = statement.query_map(
        named_params! {
            ":entries": list_text(&filter.entries), ":reference": filter.reference,
            ":digest": filter.digest.as_ref().map(|prefix| prefix.like()),
            ":since": filter.since.map(text), ":until": filter.until.map(text), ":limit": limit(filter.limit),
        },
        read,
    )?;
    rows.collect()
}

pub(super) fn list_evidence(db: &Connection, filter: &EvidenceFilter) -> Result<Vec<EvidenceRecord>> {
    query_filtered(db, &filtered("evidence"), filter, read_evidence)
}

/// Lists the open intents. Each item also contains a flag that is true if the intent's run has ended, and the name of
/// the lock file of the process that runs or ran it.
pub(super) fn list_intents(db: &Connection, filter: &EvidenceFilter) -> Result<Vec<(EvidenceRecord, bool, String)>> {
    let statement = format!(
        "SELECT open.*, NULL AS recovered, runs.ended IS NOT NULL AS is_over, lock FROM ({}) AS open
         JOIN runs ON runs.id = open.run JOIN processes ON processes.id = runs.process
         ORDER BY open.ended DESC, open.id DESC",
        filtered("intents")
    );
    query_filtered(db, &statement, filter, |row| Ok((read_evidence(row)?, row.get("is_over")?, row.get("lock")?)))
}

pub(super) fn read_evidence(row: &Row<'_>) -> Result<EvidenceRecord> {
    let (arrival, recovered) = (read_arrival(row)?, parsed_if_any(row, "recovered")?);
    Ok(EvidenceRecord { id: row.get("id")?, run: RunId(row.get("run")?), entry: row.get("entry")?, arrival, recovered })
}

/// Reads the columns of [`ARRIVAL`] except the run and the entry.
pub(super) fn read_arrival(row: &Row<'_>) -> Result<Arrival> {
    let reference: String = row.get("source_reference")?;
    let source_reference = match reference.parse::<Digest>() {
        Ok(digest) => ManifestRef::Digest(digest),
        Err(_) => ManifestRef::Tag(parsed(row, "source_reference")?),
    };
    Ok(Arrival {
        kind: kind(row)?,
        source: row.get("source")?,
        source_reference,
        source_digest: parsed(row, "source_digest")?,
        target: row.get("target")?,
        tag: parsed_if_any(row, "tag")?,
        previous: parsed_if_any(row, "previous")?,
        digest: parsed(row, "digest")?,
        media_type: MediaType::new(&row.get::<_, String>("media_type")?),
        manifests: count(row, "manifests")?,
        blobs: BlobCounts {
            copied: count(row, "blobs_copied")?,
            mounted: count(row, "blobs_mounted")?,
            found: count(row, "blobs_found")?,
        },
        bytes: count(row, "bytes")?,
        source_identity: row.get("source_identity")?,
        target_identity: row.get("target_identity")?,
        listed: listed(row)?,
        left_behind: left_behind(row)?,
        started: parsed(row, "started")?,
        ended: parsed(row, "ended")?,
    })
}

fn kind(row: &Row<'_>) -> Result<ArrivalKind> {
    let word: String = row.get("kind")?;
    ArrivalKind::from_word(&word).ok_or_else(|| column_error(row, "kind", &word))
}

/// Returns the JSON text for the column `listed`: the first [`MAX_LISTED`] digests. Returns `None` for an empty list.
pub(super) fn listed_text(listed: &[Digest]) -> Option<String> {
    let digests: Vec<String> = listed.iter().take(MAX_LISTED).map(ToString::to_string).collect();
    (!digests.is_empty()).then(|| serde_json::json!(digests).to_string())
}

fn listed(row: &Row<'_>) -> Result<Vec<Digest>> {
    let Some(text) = row.get::<_, Option<String>>("listed")? else { return Ok(Vec::new()) };
    let failed = || column_error(row, "listed", &text);
    let digests: Vec<String> = serde_json::from_str(&text).map_err(|_| failed())?;
    digests.iter().map(|digest| digest.parse().map_err(|_| failed())).collect()
}

/// Returns the JSON text for the column `left_behind`: the first [`MAX_LISTED`] items that were not copied, then one
/// item with the number of further items. Returns `None` for an empty list.
fn left_behind_text(items: &[LeftBehind]) -> Option<String> {
    let shorten = |item: &LeftBehind| LeftBehind { what: bounded(&item.what), reason: bounded(&item.reason) };
    let mut written: Vec<LeftBehind> = items.iter().take(MAX_LISTED).map(shorten).collect();
    if items.len() > MAX_LISTED {
        let (what, reason) = (format!("{} more", items.len() - MAX_LISTED), "not listed one by one".to_owned());
        written.push(LeftBehind { what, reason });
    }
    (!written.is_empty()).then(|| serde_json::json!(written).to_string())
}

fn left_behind(row: &Row<'_>) -> Result<Vec<LeftBehind>> {
    let Some(text) = row.get::<_, Option<String>>("left_behind")? else { return Ok(Vec::new()) };
    serde_json::from_str(&text).map_err(|_| column_error(row, "left_behind", &text))
}
