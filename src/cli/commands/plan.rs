//! Command `transship plan [ENTRY…]`: prints the changes that a run would make. It changes nothing.

use std::io;

use clap_complete::engine::ArgValueCompleter;
use futures_util::{StreamExt as _, stream};

use crate::cli::context::entry_pattern::EntryPattern;
use crate::cli::context::invocation::Context;
use crate::cli::context::{completion, configuration, runner};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::table::{Cell, Column, Table};
use crate::cli::output::units;
use crate::cli::output::writer::Output;
use crate::plan::Action;
use crate::sync::{EntryPreview, TagOutcome, TagPreview, preview};

/// Arguments of `transship plan`.
#[derive(Debug, clap::Args)]
pub struct Plan {
    /// Entries to plan, by name or by glob ("app-*"); all by default
    #[arg(value_name = "ENTRY", add = ArgValueCompleter::new(completion::entries))]
    pub entries: Vec<EntryPattern>,
    /// Show for every tag whether it is selected (in or out), and the reason
    #[arg(long)]
    pub explain: bool,
    /// Exit with 3 if changes are pending, with 4 if a rule blocks all pending changes
    #[arg(long)]
    pub exit_code: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl Plan {
    pub(crate) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        let config = configuration::load(&context.global)?;
        configuration::warn(&config);
        let requests = runner::requests(&config, &self.entries)?;
        // A plan does not open the journal, because it needs no permission to write the journal.
        let engine = runner::engine(&config, None);
        let previews = stream::iter(&requests).map(|request| preview(&engine, request));
        let previews: Vec<EntryPreview> = previews.buffered(config.daemon.entries_at_once).collect().await;
        if self.json {
            context.output.json(&previews)?;
        } else {
            previews.iter().try_for_each(|preview| print(preview, self.explain, &mut context.output))?;
        }
        Ok(exit(&previews, self.exit_code))
    }
}

/// Prints one plan as text.
pub(super) fn print(preview: &EntryPreview, explain: bool, output: &mut Output) -> io::Result<()> {
    output.line(headline(preview))?;
    let changes: Vec<&TagPreview> = tags(preview).filter(|tag| is_pending(tag)).collect();
    if !changes.is_empty() {
        output.indented_table(&changes_table(&changes))?;
    }
    for problem in tags(preview).filter_map(problem_line) {
        output.line(format!("  {problem}"))?;
    }
    for pair in preview.pairs.iter().filter(|_| explain) {
        for verdict in &pair.verdicts {
            let word = if verdict.chosen { "in" } else { "out" };
            output.line(format!("  {word}: {}:{}: {}", pair.source, verdict.tag, verdict.why))?;
        }
        for name in &pair.unusable {
            output.line(format!("  out: {}:{name}: not a tag by the specification", pair.source))?;
        }
    }
    preview.warnings.iter().try_for_each(|warning| output.line(format!("  warning: {warning}")))?;
    preview.problems.iter().try_for_each(|problem| output.line(format!("  failed: {problem}")))
}

/// Returns the exit code for these plans. Pending changes affect the exit code only if `pending` is true
/// (`--exit-code`).
fn exit(previews: &[EntryPreview], pending: bool) -> Exit {
    let is_held = |tag: &TagPreview| matches!(tag.action, Some(Action::Block { .. }));
    if previews.iter().any(EntryPreview::has_failures) {
        Exit::Failed
    } else if pending && previews.iter().any(EntryPreview::has_changes) {
        Exit::ChangesPending
    } else if pending && previews.iter().flat_map(tags).any(is_held) {
        Exit::Withheld
    } else {
        Exit::Ok
    }
}

fn tags(preview: &EntryPreview) -> impl Iterator<Item = &TagPreview> {
    preview.pairs.iter().flat_map(|pair| &pair.tags)
}

fn is_pending(tag: &TagPreview) -> bool {
    tag.action.as_ref().is_some_and(|action| !matches!(action, Action::Unchanged | Action::Block { .. }))
}

fn headline(preview: &EntryPreview) -> String {
    let count = |word: &str| tags(preview).filter(|tag| action_word(tag) == word).count();
    let counted = ["to copy", "to replace", "unchanged", "blocked", "deferred", "conflict", "failed"]
        .map(|word| (count(word), word));
    let shown = counted.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
    let counts = shown.collect::<Vec<_>>().join(", ");
    let entry = &preview.entry;
    if !preview.problems.is_empty() && counts.is_empty() {
        return format!("{entry}: cannot be planned");
    }
    if preview.problems.is_empty() && tags(preview).all(|tag| tag.action == Some(Action::Unchanged)) {
        let tags = if counts.is_empty() { "no tags" } else { &counts };
        return format!("{entry}: nothing to change ({tags})");
    }
    format!("{entry}: {counts}")
}

fn changes_table(changes: &[&TagPreview]) -> Table {
    let mut table = Table::new(&[
        Column::left("TAG"),
        Column::left("ACTION"),
        Column::left("NOW").optional(),
        Column::left("THEN").optional(),
        Column::reference("TARGET"),
    ]);
    for tag in changes {
        let then = tag.digest.as_ref().map(Cell::digest).unwrap_or_default();
        let (action, now) = match &tag.action {
            Some(Action::Replace { previous }) => ("replace".to_owned(), Cell::digest(previous)),
            Some(Action::ReplaceKeeping { previous, under }) => {
                (format!("replace, old one as {under}"), Cell::digest(previous))
            }
            _ => ("copy".to_owned(), Cell::default()),
        };
        table.row([
            Cell::shortened(tag_or_digest(tag), short_name(tag)),
            Cell::outcome(action),
            now,
            then,
            tag.target.clone().into(),
        ]);
    }
    table
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
    match (&tag.tag, tag.source_digest.or(tag.digest)) {
        (Some(name), _) => match &tag.source_tag {
            Some(from) => format!("{name} (from {from})"),
            None => name.to_string(),
        },
        (None, Some(digest)) => format!("@{}", digest.short()),
        (None, None) => "?".to_owned(),
    }
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
    use crate::oci::Digest;
    use crate::plan::Verdict;
    use crate::sync::PairPreview;

    fn planned(tag: &str, action: Action) -> TagPreview {
        let digest = Some(Digest::of(tag.as_bytes()));
        let tag = Some(tag.parse().unwrap());
        TagPreview {
            target: "t/a".into(),
            tag,
            source_tag: None,
            source_digest: digest,
            digest,
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
        EntryPreview { entry: "a".into(), pairs: vec![pair], problems: Vec::new(), warnings: Vec::new() }
    }

    fn printed(plan: &EntryPreview, explain: bool) -> String {
        let buffer = OutputBuffer::default();
        print(plan, explain, &mut buffer.output()).unwrap();
        buffer.text()
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
            "a: 1 to copy, 1 to replace\n  TAG\tACTION\tNOW\tTHEN\tTARGET\n  \
             v1\tcopy\t\t{v1}\tt/a\n  v2\treplace\t{previous}\t{v2}\tt/a\n"
        );
        assert_eq!(printed(&plan, false), expected);
        assert_eq!((exit(std::slice::from_ref(&plan), false), exit(&[plan], true)), (Exit::Ok, Exit::ChangesPending));
    }

    #[test]
    fn explain_shows_every_verdict_with_its_reason() {
        let expected = "a: nothing to change (no tags)\n  out: h/a:v1-rc1: excluded by \"*-rc*\"\n  \
                        out: h/a:-x: not a tag by the specification\n";
        assert_eq!(printed(&plan(vec![]), true), expected);
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
