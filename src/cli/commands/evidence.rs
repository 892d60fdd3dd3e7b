//! Command `transship evidence`: prints the recorded arrivals (source, time and digest), the latest first.

use std::collections::BTreeMap;
use std::io;

use chrono::Utc;

use crate::cli::context::configuration;
use crate::cli::context::filter::Filter;
use crate::cli::context::invocation::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::table::{Align, Table};
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
    /// Show only evidence in doubt: tags that a run was about to write when it was interrupted
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
            _ if self.in_doubt => print_in_doubt(&records, more, &mut context.output)?,
            _ => {
                print(&records, more, &mut context.output)?;
                let more = window.truncate(&mut in_doubt);
                if !in_doubt.is_empty() {
                    context.output.line("\nin doubt:")?;
                    print_in_doubt(&in_doubt, more, &mut context.output)?;
                }
            }
        }
        Ok(Exit::Ok)
    }
}

/// Logs a warning about possibly missing evidence, by entry: tags that an interrupted run was about to write.
async fn warn_of_open_intents(journal: &Journal) {
    let open = match journal.evidence_in_doubt(&EvidenceFilter::default()).await {
        Ok(open) => open,
        Err(error) => return tracing::warn!(%error, "cannot tell whether evidence is missing"),
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

fn print_in_doubt(records: &[EvidenceRecord], more: bool, output: &mut Output) -> io::Result<()> {
    if records.is_empty() {
        return output.line("no evidence is in doubt");
    }
    let columns = ["RECORDED", "ENTRY", "TARGET", "DIGEST", "PREVIOUS", "SOURCE"].map(|name| (name, Align::Left));
    let mut table = Table::new(&columns);
    for EvidenceRecord { entry, arrival, .. } in records {
        table.row([
            units::moment(arrival.ended),
            entry.clone(),
            destination(arrival),
            format!("{}{}", arrival.digest, mark(arrival)),
            arrival.previous.map(|previous| previous.short()).unwrap_or_default(),
            arrival.source.clone(),
        ]);
    }
    output.table(&table)?;
    if more { output.line("more evidence is in doubt: show it with --limit, --json or --csv") } else { Ok(()) }
}

/// Returns a remark on the digest: derived, kept, or a list of referrers.
fn mark(arrival: &Arrival) -> &'static str {
    match arrival.kind {
        ArrivalKind::Tag if arrival.source_digest == arrival.digest => "",
        ArrivalKind::Tag => " (derived)",
        ArrivalKind::KeptPrevious => " (kept)",
        // The digest of an unwritten list is unknown. Its record has the digest of the subject instead.
        ArrivalKind::ReferrersList if arrival.source_digest == arrival.digest => {
            " (the subject of a list of referrers)"
        }
        ArrivalKind::ReferrersList => " (list of referrers)",
    }
}

fn describe(item: &LeftBehind) -> String {
    format!("{}: {}", item.what, item.reason)
}

/// Returns the target, with the tag if the arrival has one.
fn destination(arrival: &Arrival) -> String {
    let tag = arrival.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
    format!("{}{tag}", arrival.target)
}

fn print(records: &[EvidenceRecord], more: bool, output: &mut Output) -> io::Result<()> {
    if records.is_empty() {
        return output.line("no evidence");
    }
    let mut table = Table::new(&[
        ("ARRIVED", Align::Left),
        ("ENTRY", Align::Left),
        ("TARGET", Align::Left),
        ("DIGEST", Align::Left),
        ("PREVIOUS", Align::Left),
        ("SOURCE", Align::Left),
        ("BYTES", Align::Right),
    ]);
    for EvidenceRecord { entry, arrival, recovered, .. } in records {
        let recovered = if recovered.is_some() { " (recovered)" } else { "" };
        table.row([
            units::moment(arrival.ended),
            entry.clone(),
            destination(arrival),
            format!("{}{}{recovered}", arrival.digest, mark(arrival)),
            arrival.previous.map(|previous| previous.short()).unwrap_or_default(),
            arrival.source.clone(),
            units::bytes(arrival.bytes),
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
        print(&records().await, true, &mut buffer.output()).unwrap();
        let (digest, previous) = (Digest::of(b"v1"), Digest::of(b"v0").short());
        let expected = format!("2027-01-15T08:00:02Z  api    t/a:v1  {digest}  {previous}  h/a     2.0 KiB\n");
        assert!(buffer.text().contains(&expected), "{}", buffer.text());
        assert!(buffer.text().ends_with("earlier evidence exists: show it with --limit, --until, --json or --csv\n"));
    }
}
