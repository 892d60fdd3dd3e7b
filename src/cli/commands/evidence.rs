//! Command `transship evidence`: prints the tags that runs wrote at targets, with source, time and digest. The latest
//! record comes first.

use std::collections::BTreeMap;
use std::io;

use chrono::{DateTime, Utc};

use crate::cli::context::configuration;
use crate::cli::context::filter::Filter;
use crate::cli::context::invocation::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::table::{Cell, Column, Table};
use crate::cli::output::units;
use crate::cli::output::writer::Output;
use crate::copy::event::{Arrival, ArrivalKind, LeftBehind};
use crate::journal::{EvidenceFilter, EvidenceRecord, Journal};
use crate::json_form;

/// Arguments of `transship evidence`.
#[derive(Debug, clap::Args)]
pub struct Evidence {
    /// Filter of the evidence.
    #[command(flatten)]
    pub filter: Filter,
    /// Show only tags whose evidence may be missing because their run was interrupted
    #[arg(long)]
    pub in_doubt: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// Print CSV, with a line of names first
    #[arg(long)]
    pub csv: bool,
}

/// Columns of the CSV. Later versions may append columns but remove none.
const COLUMNS: &str = "id,run,entry,source,source_reference,source_digest,target,tag,digest,media_type,manifests,\
                       blobs_copied,blobs_mounted,blobs_found,bytes,source_identity,target_identity,started,ended,\
                       previous,recovered,kind,listed,left_behind";

impl Evidence {
    pub(crate) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        let recorded = configuration::recorded_runs(self.filter.journal.as_deref(), &context.global)?;
        let (journal, entries) = (&recorded.journal, recorded.select(&self.filter.entries).await?);
        let for_people = !self.json && !self.csv;
        let (now, window) = (Utc::now(), self.filter.window(for_people));
        let filter = self.filter.evidence_filter(entries, now, window);
        let mut in_doubt =
            if self.in_doubt || for_people { journal.evidence_in_doubt(&filter).await? } else { Vec::new() };
        let mut records = if self.in_doubt { std::mem::take(&mut in_doubt) } else { journal.evidence(&filter).await? };
        let more = window.truncate(&mut records);
        warn_of_open_intents(journal).await;
        match (self.json, self.csv) {
            (true, _) => context.output.json(&records)?,
            (_, true) => print_csv(&records, &mut context.output)?,
            _ if self.in_doubt => print_in_doubt(&records, more, now, &mut context.output)?,
            _ => {
                print(&records, more, now, &mut context.output)?;
                let more = window.truncate(&mut in_doubt);
                if !in_doubt.is_empty() {
                    context.output.line("\nin doubt:")?;
                    print_in_doubt(&in_doubt, more, now, &mut context.output)?;
                }
            }
        }
        Ok(Exit::Ok)
    }
}

/// Logs a warning for each entry with tags that an interrupted run was about to write. If the run wrote a tag, the
/// journal may lack the evidence for this tag.
async fn warn_of_open_intents(journal: &Journal) {
    let open = match journal.evidence_in_doubt(&EvidenceFilter::default()).await {
        Ok(open) => open,
        Err(error) => return tracing::warn!(%error, "cannot check for missing evidence"),
    };
    let mut by_entry: BTreeMap<&str, u64> = BTreeMap::new();
    open.iter().for_each(|record| *by_entry.entry(&record.entry).or_default() += 1);
    for (entry, open) in by_entry {
        tracing::warn!(
            entry,
            open,
            "an interrupted run was about to write tags, and may have written them: the next run with the same target \
             checks the tags; list them with evidence --in-doubt"
        );
    }
}

fn print_in_doubt(records: &[EvidenceRecord], more: bool, now: DateTime<Utc>, output: &mut Output) -> io::Result<()> {
    if records.is_empty() {
        return output.line("no evidence is in doubt");
    }
    let mut table = Table::new(&[
        Column::left("RECORDED"),
        Column::left("ENTRY"),
        Column::reference("TARGET"),
        Column::digest("DIGEST"),
        Column::left("PREVIOUS").optional(),
        Column::reference("SOURCE"),
    ]);
    for EvidenceRecord { entry, arrival, .. } in records {
        table.row([
            Cell::time(arrival.ended, now),
            entry.clone().into(),
            destination_cell(arrival),
            Cell::digest_with(&arrival.digest, mark(arrival)),
            arrival.previous.as_ref().map(Cell::digest).unwrap_or_default(),
            arrival.source.clone().into(),
        ]);
    }
    output.table(&table)?;
    if more { output.line("more evidence is in doubt: show it with --limit, --json or --csv") } else { Ok(()) }
}

/// Returns a note that follows the digest in the output, such as ` (derived)`. If the digest is the digest of the
/// source, returns an empty text.
fn mark(arrival: &Arrival) -> &'static str {
    match arrival.kind {
        ArrivalKind::Tag if arrival.source_digest == arrival.digest => "",
        ArrivalKind::Tag => " (derived)",
        ArrivalKind::KeptPrevious => " (kept)",
        // The digest of a written list is unknown until the run reads the list from the target. Until then, the record
        // contains the digest of the subject.
        ArrivalKind::ReferrersList if arrival.source_digest == arrival.digest => {
            " (the subject of a list of referrers)"
        }
        ArrivalKind::ReferrersList => " (list of referrers)",
    }
}

fn describe(item: &LeftBehind) -> String {
    format!("{}: {}", item.what, item.reason)
}

fn destination(arrival: &Arrival) -> String {
    let tag = arrival.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
    format!("{}{tag}", arrival.target)
}

/// Returns the cell of a destination. On a terminal, the tag of a signature is shortened.
fn destination_cell(arrival: &Arrival) -> Cell {
    let tag = arrival.tag.as_ref().map(|tag| format!(":{}", units::tag_name(tag))).unwrap_or_default();
    Cell::shortened(destination(arrival), format!("{}{tag}", arrival.target))
}

fn print(records: &[EvidenceRecord], more: bool, now: DateTime<Utc>, output: &mut Output) -> io::Result<()> {
    if records.is_empty() {
        return output.line("no evidence");
    }
    let mut table = Table::new(&[
        Column::left("ARRIVED"),
        Column::left("ENTRY"),
        Column::reference("TARGET"),
        Column::digest("DIGEST"),
        Column::left("PREVIOUS").optional(),
        Column::reference("SOURCE"),
        Column::right("BYTES").optional(),
    ]);
    for EvidenceRecord { entry, arrival, recovered, .. } in records {
        let recovered = if recovered.is_some() { " (recovered)" } else { "" };
        table.row([
            Cell::time(arrival.ended, now),
            entry.clone().into(),
            destination_cell(arrival),
            Cell::digest_with(&arrival.digest, &format!("{}{recovered}", mark(arrival))),
            arrival.previous.as_ref().map(Cell::digest).unwrap_or_default(),
            arrival.source.clone().into(),
            units::bytes(arrival.bytes).into(),
        ]);
    }
    output.table(&table)?;
    for EvidenceRecord { arrival, .. } in records {
        for left in &arrival.left_behind {
            output.line(format!("left behind when {} was copied: {}", destination(arrival), describe(left)))?;
        }
    }
    if more { output.line("earlier evidence exists: show it with --limit, --until, --json or --csv") } else { Ok(()) }
}

fn print_csv(records: &[EvidenceRecord], output: &mut Output) -> io::Result<()> {
    output.raw(format!("{COLUMNS}\r\n").as_bytes())?;
    records.iter().try_for_each(|record| output.raw(csv_row(record).as_bytes()))
}

/// Returns a record as one line of CSV (RFC 4180).
fn csv_row(record: &EvidenceRecord) -> String {
    let EvidenceRecord { id, run, entry, arrival, recovered } = record;
    let fields = [
        id.to_string(),
        run.to_string(),
        entry.clone(),
        arrival.source.clone(),
        arrival.source_reference.to_string(),
        arrival.source_digest.to_string(),
        arrival.target.clone(),
        arrival.tag.as_ref().map(ToString::to_string).unwrap_or_default(),
        arrival.digest.to_string(),
        arrival.media_type.to_string(),
        arrival.manifests.to_string(),
        arrival.blobs.copied.to_string(),
        arrival.blobs.mounted.to_string(),
        arrival.blobs.found.to_string(),
        arrival.bytes.to_string(),
        arrival.source_identity.clone(),
        arrival.target_identity.clone(),
        json_form::format_instant(arrival.started),
        json_form::format_instant(arrival.ended),
        arrival.previous.map(|previous| previous.to_string()).unwrap_or_default(),
        recovered.map(json_form::format_instant).unwrap_or_default(),
        arrival.kind.word().to_owned(),
        arrival.listed.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        arrival.left_behind.iter().map(describe).collect::<Vec<_>>().join("; "),
    ];
    format!("{}\r\n", fields.map(quoted).join(","))
}

fn quoted(field: String) -> String {
    if field.contains([',', '"', '\r', '\n']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
}

#[cfg(test)]
mod tests {
    use super::super::history::tests::journal_of_two_runs;
    use super::*;
    use crate::cli::output::writer::tests::OutputBuffer;
    use crate::oci::Digest;

    async fn records() -> Vec<EvidenceRecord> {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal_of_two_runs(folder.path()).await;
        journal.evidence(&EvidenceFilter::default()).await.unwrap()
    }

    #[tokio::test]
    async fn csv_has_one_quoted_line_for_each_arrival() {
        let buffer = OutputBuffer::default();
        print_csv(&records().await, &mut buffer.output()).unwrap();
        let digest = Digest::of(b"v1");
        let row = format!(
            "1,1,api,h/a,v1,{digest},t/a,v1,{digest},application/vnd.oci.image.manifest.v1+json,1,2,1,0,2048,anonymous,\
             \"robot, \"\"the\"\" first\",2027-01-15T08:00:01.000Z,2027-01-15T08:00:02.000Z,{},,tag,,",
            Digest::of(b"v0")
        );
        assert_eq!(buffer.text(), format!("{COLUMNS}\r\n{row}\r\n"));
        assert_eq!(COLUMNS.split(',').count(), 24);
    }

    #[tokio::test]
    async fn table_shows_arrivals_with_their_digests() {
        let buffer = OutputBuffer::default();
        let now = "2027-01-15T08:03:02Z".parse().unwrap();
        print(&records().await, true, now, &mut buffer.output()).unwrap();
        let (digest, previous) = (Digest::of(b"v1"), Digest::of(b"v0"));
        let expected = format!("2027-01-15T08:00:02Z\tapi\tt/a:v1\t{digest}\t{previous}\th/a\t2.0 KiB\n");
        assert!(buffer.text().contains(&expected), "{}", buffer.text());
        let terminal = OutputBuffer::default();
        print(&records().await, false, now, &mut terminal.terminal(100)).unwrap();
        let (digest, previous) = (digest.short(), previous.short());
        let expected = format!("3m ago   api    t/a:v1  sha256:{digest}  sha256:{previous}  h/a     2.0 KiB\n");
        assert!(terminal.text().contains(&expected), "{}", terminal.text());
        assert!(buffer.text().ends_with("earlier evidence exists: show it with --limit, --until, --json or --csv\n"));
    }
}
