//! Command `transship plan [ENTRY…]`: prints the changes that a run would make. It changes nothing.

use std::io;

use clap_complete::engine::ArgValueCompleter;
use futures_util::{StreamExt as _, stream};

use crate::cli::context::entry_pattern::EntryPattern;
use crate::cli::context::invocation::Context;
use crate::cli::context::{completion, configuration, runner};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::style::Meaning;
use crate::cli::output::table::{Cell, Column, Table};
use crate::cli::output::units;
use crate::cli::output::writer::Output;
use crate::oci::Tag;
use crate::plan::Action;
use crate::sync::{
    CountedReads, EntryPreview, LeftBehindReport, PairPreview, PlannedPulls, TagOutcome, TagPreview, preview_with_reads,
};

/// Arguments of `transship plan`.
#[derive(Debug, clap::Args)]
pub struct Plan {
    /// Entries to plan, by name or by glob ("app-*"); all by default
    #[arg(value_name = "ENTRY", add = ArgValueCompleter::new(completion::entries))]
    pub entries: Vec<EntryPattern>,
    /// Show every tag of the source, with the reason why it is selected or not
    #[arg(long)]
    pub explain: bool,
    /// Show only these tags, with the reason
    #[arg(long, value_name = "TAGS", value_enum)]
    pub only: Option<Only>,
    /// Read manifests also from registries that count pulls (Docker Hub), to show the bytes of their images. This uses
    /// up as many pulls as the run
    #[arg(long)]
    pub spend_pulls: bool,
    /// Exit with 3 if changes are pending, with 4 if a rule blocks all pending changes
    #[arg(long)]
    pub exit_code: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Tags that `--only` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Only {
    /// Tags that the entry selects.
    In,
    /// Tags that the entry does not select.
    Out,
    /// Tags that a run would write.
    Change,
}

impl Plan {
    pub(crate) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        let config = configuration::load(&context.global)?;
        configuration::warn(&config);
        let requests = runner::requests(&config, &self.entries)?;
        // A plan does not open the journal, because it needs no permission to write the journal.
        let engine = runner::engine(&config, None);
        let reads = if self.spend_pulls { CountedReads::Spend } else { CountedReads::Avoid };
        let previews = stream::iter(&requests).map(|request| preview_with_reads(&engine, request, reads));
        let previews: Vec<EntryPreview> = previews.buffered(config.daemon.entries_at_once).collect().await;
        if self.json {
            context.output.json(&previews)?;
        } else {
            previews.iter().try_for_each(|preview| match self.only {
                Some(only) => print_rows(preview, Shown::Only(only), &mut context.output),
                None => print(preview, self.explain, &mut context.output),
            })?;
            print_total(&previews, &mut context.output)?;
        }
        Ok(exit(&previews, self.exit_code))
    }
}

/// Choice of the rows to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// Changes, without reasons.
    Changes,
    /// All tags of the source, with reasons.
    All,
    /// Some tags, with reasons.
    Only(Only),
}

impl Shown {
    fn shows(self, row: &Row<'_>) -> bool {
        match (self, row) {
            (Self::All, _) | (Self::Only(Only::In), Row::Tag(..)) | (Self::Only(Only::Out), Row::Out { .. }) => true,
            (Self::Changes | Self::Only(Only::Change), Row::Tag(tag, _)) => tag.is_change(),
            _ => false,
        }
    }
}

/// Row of the table.
enum Row<'a> {
    /// Selected tag at a target, with the reason.
    Tag(&'a TagPreview, &'a str),
    /// Tag of the source that the entry does not select, with the reason.
    Out { name: &'a str, why: &'a str },
}

/// Prints one plan as text: its changes, or with `explain` all tags of the source.
pub(super) fn print(preview: &EntryPreview, explain: bool, output: &mut Output) -> io::Result<()> {
    print_rows(preview, if explain { Shown::All } else { Shown::Changes }, output)
}

/// Prints one plan as text, with some of its rows.
fn print_rows(preview: &EntryPreview, shown: Shown, output: &mut Output) -> io::Result<()> {
    if preview.problems.is_empty() && preview.tags().all(|tag| tag.action == Some(Action::Unchanged)) {
        output.line_with(Some(Meaning::Quiet), headline(preview))?;
    } else {
        output.counts_line(headline(preview))?;
    }
    let table = table(preview.pairs.iter().flat_map(rows).filter(|row| shown.shows(row)), shown);
    if !table.is_empty() {
        output.indented_table(&table)?;
    }
    for problem in preview.tags().filter_map(problem_line) {
        output.outcome_line(format!("  {problem}"))?;
    }
    for left in preview.left_behind.iter().map(LeftBehindReport::in_words) {
        output.line(format!("  {left}"))?;
    }
    preview.warnings.iter().try_for_each(|warning| output.outcome_line(format!("  warning: {warning}")))?;
    preview.problems.iter().try_for_each(|problem| output.outcome_line(format!("  failed: {problem}")))
}

/// Prints the bytes of all plans together, if there are several plans.
fn print_total(previews: &[EntryPreview], output: &mut Output) -> io::Result<()> {
    if previews.len() < 2 || !previews.iter().any(EntryPreview::has_changes) {
        return Ok(());
    }
    let bytes = units::bytes(previews.iter().map(EntryPreview::bytes).sum());
    let minimum = if previews.iter().all(EntryPreview::knows_all_bytes) { "" } else { "at least " };
    output.line(format!("all entries: {minimum}{bytes} to send"))
}

/// Returns the rows of a source repository: the selected tags, then the other tags.
fn rows(pair: &PairPreview) -> Vec<Row<'_>> {
    let tag_row = |tag| Row::Tag(tag, reason(pair, tag));
    // A signature that comes with its image has a row, although the entry does not select its tag.
    let has_row = |name: &Tag| pair.tags.iter().any(|tag| tag.source_tag.as_ref().or(tag.tag.as_ref()) == Some(name));
    let out = pair.verdicts.iter().filter(|verdict| !verdict.chosen && !has_row(&verdict.tag));
    let out = out.map(|verdict| Row::Out { name: verdict.tag.as_str(), why: &verdict.why });
    let unusable = pair.unusable.iter();
    let unusable = unusable.map(|name| Row::Out { name, why: "not a tag by the specification" });
    pair.tags.iter().map(tag_row).chain(out).chain(unusable).collect()
}

/// Returns the reason why a tag is selected.
fn reason<'a>(pair: &'a PairPreview, tag: &TagPreview) -> &'a str {
    let at_source = tag.source_tag.as_ref().or(tag.tag.as_ref());
    match at_source.and_then(|name| pair.verdicts.iter().find(|verdict| verdict.tag == *name && verdict.chosen)) {
        Some(verdict) => &verdict.why,
        None if tag.tag.is_none() => "a pinned digest",
        None => "comes with its image",
    }
}

/// Returns the exit code for these plans. Pending changes affect the exit code only if `pending` is true
/// (`--exit-code`).
fn exit(previews: &[EntryPreview], pending: bool) -> Exit {
    let is_held = |tag: &TagPreview| matches!(tag.action, Some(Action::Block { .. }));
    if previews.iter().any(EntryPreview::has_failures) {
        Exit::Failed
    } else if pending && previews.iter().any(EntryPreview::has_changes) {
        Exit::ChangesPending
    } else if pending && previews.iter().flat_map(EntryPreview::tags).any(is_held) {
        Exit::Withheld
    } else {
        Exit::Ok
    }
}

fn headline(preview: &EntryPreview) -> String {
    let count = |word: &str| preview.tags().filter(|tag| action_word(tag) == word).count();
    let counted = ["to copy", "to replace", "unchanged", "blocked", "deferred", "conflict", "failed"]
        .map(|word| (count(word), word));
    let shown = counted.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
    let counts = shown.collect::<Vec<_>>().join(", ");
    let entry = &preview.entry;
    if !preview.problems.is_empty() && counts.is_empty() {
        return format!("{entry}: cannot be planned");
    }
    if preview.problems.is_empty() && preview.tags().all(|tag| tag.action == Some(Action::Unchanged)) {
        let tags = if counts.is_empty() { "no tags" } else { &counts };
        return format!("{entry}: nothing to change ({tags})");
    }
    format!("{entry}: {counts}{}{}", bytes_text(preview), pulls_text(preview))
}

/// Returns a text such as `, 12.3 MiB to send`. If the bytes of some changes are unknown, the text says so.
fn bytes_text(preview: &EntryPreview) -> String {
    if !preview.has_changes() {
        return String::new();
    }
    let bytes = units::bytes(preview.bytes());
    match (preview.knows_all_bytes(), preview.bytes()) {
        (true, _) => format!(", {bytes} to send"),
        (false, 0) => ", unknown bytes".to_owned(),
        (false, _) => format!(", at least {bytes} to send"),
    }
}

/// Returns a text such as `, 24 pulls of docker.io`.
fn pulls_text(preview: &EntryPreview) -> String {
    let text = |planned: &PlannedPulls| {
        let PlannedPulls { registry, pulls, is_minimum } = planned;
        let word = if *pulls == 1 { "pull" } else { "pulls" };
        match is_minimum {
            true => format!(", at least {pulls} {word} of {registry} (see --spend-pulls)"),
            false => format!(", {pulls} {word} of {registry}"),
        }
    };
    preview.pulls.iter().map(text).collect()
}

fn table<'a>(rows: impl Iterator<Item = Row<'a>>, shown: Shown) -> Table {
    let columns = [
        Column::left("TAG"),
        Column::left("ACTION"),
        Column::left("NOW").optional(),
        Column::left("THEN").optional(),
        Column::right("BYTES"),
        Column::reference("TARGET"),
        Column::sentence("REASON"),
    ];
    let count = if shown == Shown::Changes { columns.len() - 1 } else { columns.len() };
    let mut table = Table::new(&columns[..count]);
    for row in rows {
        match row {
            Row::Tag(tag, why) => table.row(tag_cells(tag, why)),
            Row::Out { name, why } => table.row([
                Cell::shortened(name, name.parse().map_or_else(|_| name.to_owned(), |tag| units::tag_name(&tag))),
                Cell::outcome("out"),
                Cell::default(),
                Cell::default(),
                Cell::default(),
                Cell::default(),
                Cell::from(why),
            ]),
        }
    }
    table
}

fn tag_cells(tag: &TagPreview, why: &str) -> [Cell; 7] {
    let (action, now) = match &tag.action {
        Some(Action::Copy) => ("copy".to_owned(), Cell::default()),
        Some(Action::Replace { previous }) => ("replace".to_owned(), Cell::digest(previous)),
        Some(Action::ReplaceKeeping { previous, under }) => {
            (format!("replace, old one as {under}"), Cell::digest(previous))
        }
        _ => (action_word(tag).to_owned(), Cell::default()),
    };
    let bytes = match tag.content {
        Some(content) => units::bytes(content.bytes),
        None if tag.is_change() => "unknown".to_owned(),
        None => String::new(),
    };
    [
        Cell::shortened(tag_or_digest(tag), short_name(tag)),
        Cell::outcome(action),
        now,
        tag.digest.as_ref().map(Cell::digest).unwrap_or_default(),
        bytes.into(),
        tag.target.clone().into(),
        why.into(),
    ]
}

/// Returns a line for a tag that would not be synced, with the reason.
fn problem_line(tag: &TagPreview) -> Option<String> {
    let (what, target) = (tag_or_digest(tag), &tag.target);
    if let Some(Action::Block { reason }) = &tag.action {
        return Some(format!("blocked {what} at {target}: {reason}"));
    }
    match tag.failure.as_ref()? {
        TagOutcome::Failed { message, .. } => Some(format!("failed {what} at {target}: {message}")),
        TagOutcome::Deferred { reason, .. } => Some(format!("deferred {what} at {target}: {reason}")),
        TagOutcome::Conflict { entries } => {
            let claim = match entries.as_slice() {
                [entry] => format!("the entry {entry} gives this name to several tags"),
                entries => format!("the entries {} claim it for different sources", entries.join(" and ")),
            };
            Some(format!("conflict of {what} at {target}: {claim}"))
        }
        _ => None,
    }
}

fn tag_or_digest(tag: &TagPreview) -> String {
    units::tag_or_digest(tag.tag.as_ref(), tag.source_tag.as_ref(), tag.source_digest.or(tag.digest))
}

fn action_word(tag: &TagPreview) -> &'static str {
    match &tag.action {
        Some(Action::Copy) => "to copy",
        Some(Action::Replace { .. } | Action::ReplaceKeeping { .. }) => "to replace",
        Some(Action::Unchanged) => "unchanged",
        Some(Action::Block { .. }) => "blocked",
        None => tag.failure.as_ref().map_or("failed", TagOutcome::word),
    }
}

/// Returns the same as [`tag_or_digest`], shortened for a table.
fn short_name(tag: &TagPreview) -> String {
    match (&tag.tag, &tag.source_tag) {
        (Some(name), None) => units::tag_name(name),
        _ => tag_or_digest(tag),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::writer::tests::OutputBuffer;
    use crate::copy::event::BlobCounts;
    use crate::oci::Digest;
    use crate::plan::Verdict;
    use crate::sync::PlannedContent;

    fn planned(tag: &str, action: Action) -> TagPreview {
        let digest = Some(Digest::of(tag.as_bytes()));
        let tag = Some(tag.parse().unwrap());
        let content = PlannedContent { bytes: 2048, manifests: 1, blobs: BlobCounts::default() };
        TagPreview {
            target: "t/a".into(),
            tag,
            source_tag: None,
            source_digest: digest,
            digest,
            content: matches!(action, Action::Copy | Action::Replace { .. }).then_some(content),
            action: Some(action),
            failure: None,
        }
    }

    fn plan(tags: Vec<TagPreview>) -> EntryPreview {
        let verdict = Verdict { tag: "v1-rc1".parse().unwrap(), chosen: false, why: "excluded by \"*-rc*\"".into() };
        let pair = PairPreview {
            source: "h/a".into(),
            targets: vec!["t/a".into()],
            verdicts: vec![verdict],
            unusable: vec!["-x".into()],
            tags,
        };
        EntryPreview {
            entry: "a".into(),
            pairs: vec![pair],
            problems: Vec::new(),
            pulls: Vec::new(),
            left_behind: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn printed(plan: &EntryPreview, explain: bool) -> String {
        let buffer = OutputBuffer::default();
        print(plan, explain, &mut buffer.output()).unwrap();
        buffer.text()
    }

    fn only(plan: &EntryPreview, only: Only) -> Vec<String> {
        let buffer = OutputBuffer::default();
        print_rows(plan, Shown::Only(only), &mut buffer.terminal(100)).unwrap();
        buffer
            .text()
            .lines()
            .skip(2)
            .map(|line| line.split_whitespace().next().unwrap_or_default().to_owned())
            .collect()
    }

    #[test]
    fn signature_that_comes_with_its_image_has_one_row() {
        let mut preview = plan(vec![planned("v1-rc1", Action::Copy)]);
        preview.pairs[0].tags[0].source_tag = None;
        assert_eq!(printed(&preview, true).matches("v1-rc1").count(), 1, "{}", printed(&preview, true));
    }

    #[test]
    fn plan_without_changes_is_one_line_and_exit_0() {
        let plan = plan(vec![planned("v1", Action::Unchanged)]);
        assert_eq!(printed(&plan, false), "a: nothing to change (1 unchanged)\n");
        assert_eq!(exit(&[plan], true), Exit::Ok);
    }

    #[test]
    fn changes_show_both_digests_and_exit_with_3_on_request() {
        let previous = Digest::of(b"old");
        let plan = plan(vec![planned("v1", Action::Copy), planned("v2", Action::Replace { previous })]);
        let (v1, v2) = (Digest::of(b"v1"), Digest::of(b"v2"));
        let expected = format!(
            "a: 1 to copy, 1 to replace, 4.0 KiB to send\n  TAG\tACTION\tNOW\tTHEN\tBYTES\tTARGET\n  \
             v1\tcopy\t\t{v1}\t2.0 KiB\tt/a\n  v2\treplace\t{previous}\t{v2}\t2.0 KiB\tt/a\n"
        );
        assert_eq!(printed(&plan, false), expected);
        assert_eq!((exit(std::slice::from_ref(&plan), false), exit(&[plan], true)), (Exit::Ok, Exit::ChangesPending));
    }

    #[test]
    fn explain_adds_a_reason_to_each_row_of_the_table() {
        let mut plan = plan(vec![planned("v1", Action::Copy), planned("v2", Action::Unchanged)]);
        let why = "selected by \"v*\"";
        plan.pairs[0].verdicts.push(Verdict { tag: "v1".parse().unwrap(), chosen: true, why: why.into() });
        let (v1, v2) = (Digest::of(b"v1").short(), Digest::of(b"v2").short());
        let expected = format!(
            "\
a: 1 to copy, 1 unchanged, 2.0 KiB to send
  TAG     ACTION     NOW  THEN                   BYTES  TARGET  REASON
  v1      copy            sha256:{v1}  2.0 KiB  t/a     selected by \"v*\"
  v2      unchanged       sha256:{v2}           t/a     comes with its image
  v1-rc1  out                                                   excluded by \"*-rc*\"
  -x      out                                                   not a tag by the specification
"
        );
        let buffer = OutputBuffer::default();
        print(&plan, true, &mut buffer.terminal(100)).unwrap();
        assert_eq!(buffer.text(), expected);
        assert_eq!(only(&plan, Only::Out), ["v1-rc1", "-x"]);
        assert_eq!(only(&plan, Only::In), ["v1", "v2"]);
        assert_eq!(only(&plan, Only::Change), ["v1"]);
    }

    #[test]
    fn counted_pulls_and_unknown_bytes_are_in_the_headline() {
        let unread = TagPreview { content: None, ..planned("v1", Action::Copy) };
        let pulls = |is_minimum| vec![PlannedPulls { registry: "docker.io".into(), pulls: 3, is_minimum }];
        let mut plan = EntryPreview { pulls: pulls(true), ..plan(vec![unread]) };
        let first = |plan: &EntryPreview| printed(plan, false).lines().next().unwrap().to_owned();
        assert_eq!(first(&plan), "a: 1 to copy, unknown bytes, at least 3 pulls of docker.io (see --spend-pulls)");
        plan = EntryPreview { pulls: pulls(false), ..self::plan(vec![planned("v1", Action::Copy)]) };
        assert_eq!(first(&plan), "a: 1 to copy, 2.0 KiB to send, 3 pulls of docker.io");
        let buffer = OutputBuffer::default();
        print_total(&[plan.clone(), plan], &mut buffer.output()).unwrap();
        assert_eq!(buffer.text(), "all entries: 4.0 KiB to send\n");
    }

    #[test]
    fn held_changes_exit_with_4_and_failures_with_1() {
        let mut plan = plan(vec![planned("v1", Action::Block { reason: "never".into() })]);
        assert_eq!(printed(&plan, false), "a: 1 blocked\n  blocked v1 at t/a: never\n");
        assert_eq!(exit(std::slice::from_ref(&plan), true), Exit::Withheld);
        plan.problems.push("source h/b: listing tags: denied".into());
        assert!(printed(&plan, false).ends_with("  failed: source h/b: listing tags: denied\n"));
        assert_eq!(exit(&[plan], true), Exit::Failed);
    }

    #[test]
    fn tag_claimed_by_two_entries_is_shown_with_both_names() {
        let failure = Some(TagOutcome::Conflict { entries: vec!["a".into(), "b".into()] });
        let plan = plan(vec![TagPreview { action: None, failure, ..planned("v1", Action::Copy) }]);
        let expected = "a: 1 conflict\n  conflict of v1 at t/a: the entries a and b claim it for different sources\n";
        assert_eq!((printed(&plan, false).as_str(), exit(&[plan], false)), (expected, Exit::Failed));
    }
}
