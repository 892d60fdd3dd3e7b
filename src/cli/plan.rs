//! `transship plan [ENTRY…]`: what a run would change. Changes nothing.

use std::io;

use super::exit::Exit;
use super::output::Output;
use super::report::{PlanReport, PlannedTag};
use super::table::{Align, Table};
use crate::oci::Digest;
use crate::plan::Action;

/// The arguments of `transship plan`.
#[derive(Debug, clap::Args)]
pub struct Plan {
    /// The entries; all of them by default
    #[arg(value_name = "ENTRY")]
    pub entries: Vec<String>,
    /// Say of every tag why it is in or out
    #[arg(long)]
    pub explain: bool,
    /// End with 3 where changes are pending, with 4 where a rule holds all that would change
    #[arg(long)]
    pub exit_code: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Prints one plan for people.
///
/// # Errors
/// Those of the output.
pub fn print(plan: &PlanReport, output: &mut Output) -> io::Result<()> {
    output.line(headline(plan))?;
    let changes: Vec<&PlannedTag> = plan.tags.iter().filter(|tag| tag.action != Action::Keep).collect();
    for line in table_of(&changes).lines().iter().skip(usize::from(changes.is_empty())) {
        output.line(format!("  {line}"))?;
    }
    for tag in &plan.tags {
        if let Action::Refuse { reason } = &tag.action {
            output.line(format!("  refuse {} at {}: {reason}", named(tag), tag.target))?;
        }
    }
    for line in plan.verdicts.iter().map(|of| {
        let way = if of.verdict.chosen { "in" } else { "out" };
        format!("  {way}: {}:{}: {}", of.source, of.verdict.tag, of.verdict.why)
    }) {
        output.line(line)?;
    }
    plan.problems.iter().try_for_each(|problem| output.line(format!("  {problem}")))
}

/// The exit code of some plans. `pending` is `--exit-code`: only then are changes more than information.
#[must_use]
pub fn exit(plans: &[PlanReport], pending: bool) -> Exit {
    let is_any = |test: fn(&Action) -> bool| plans.iter().flat_map(|plan| &plan.tags).any(|tag| test(&tag.action));
    if plans.iter().any(|plan| !plan.problems.is_empty()) {
        Exit::Failed
    } else if pending && is_any(|action| !matches!(action, Action::Keep | Action::Refuse { .. })) {
        Exit::ChangesPending
    } else if pending && is_any(|action| matches!(action, Action::Refuse { .. })) {
        Exit::Held
    } else {
        Exit::Ok
    }
}

fn headline(plan: &PlanReport) -> String {
    let words = ["copy", "replace", "refuse", "keep"];
    let count = |word: &str| plan.tags.iter().filter(|tag| told(&tag.action) == word).count();
    let counts: Vec<String> = words
        .iter()
        .map(|word| (count(word), word))
        .filter(|(n, _)| *n > 0)
        .map(|(n, word)| format!("{n} to {word}"))
        .collect();
    let entry = &plan.entry;
    match plan.tags.iter().all(|tag| tag.action == Action::Keep) {
        true if plan.problems.is_empty() => format!("{entry}: nothing to change ({} to keep)", plan.tags.len()),
        _ if counts.is_empty() => format!("{entry}: no plan"),
        _ => format!("{entry}: {}", counts.join(", ")),
    }
}

fn table_of(changes: &[&PlannedTag]) -> Table {
    let mut table = Table::new(&[
        ("TAG", Align::Left),
        ("ACTION", Align::Left),
        ("NOW", Align::Left),
        ("THEN", Align::Left),
        ("TARGET", Align::Left),
    ]);
    for tag in changes {
        let (now, then) = match &tag.action {
            Action::Copy => (String::new(), tag.digest.short()),
            Action::Replace { previous } => (previous.short(), tag.digest.short()),
            Action::ReplaceKeeping { previous, under } => (previous.short(), kept_under(tag.digest, under.as_str())),
            Action::Keep | Action::Refuse { .. } => (String::new(), String::new()),
        };
        table.row([named(tag), told(&tag.action).to_owned(), now, then, tag.target.clone()]);
    }
    table
}

fn kept_under(digest: Digest, under: &str) -> String {
    format!("{}, the old one under {under}", digest.short())
}

fn named(tag: &PlannedTag) -> String {
    tag.tag.as_ref().map_or_else(|| format!("@{}", tag.digest.short()), ToString::to_string)
}

fn told(action: &Action) -> &'static str {
    match action {
        Action::Copy => "copy",
        Action::Replace { .. } | Action::ReplaceKeeping { .. } => "replace",
        Action::Keep => "keep",
        Action::Refuse { .. } => "refuse",
    }
}

#[cfg(test)]
mod tests {
    use super::super::output::tests::Paper;
    use super::super::report::SourceVerdict;
    use super::*;
    use crate::plan::Verdict;

    fn planned(tag: &str, action: Action) -> PlannedTag {
        PlannedTag {
            source: "h/a".into(),
            target: "t/a".into(),
            tag: Some(tag.parse().unwrap()),
            digest: Digest::of(tag.as_bytes()),
            action,
        }
    }

    fn plan(tags: Vec<PlannedTag>) -> PlanReport {
        PlanReport { entry: "a".into(), tags, verdicts: Vec::new(), problems: Vec::new() }
    }

    fn printed(plan: &PlanReport) -> String {
        let paper = Paper::default();
        print(plan, &mut paper.output()).unwrap();
        paper.text()
    }

    #[test]
    fn a_plan_without_changes_is_one_line_and_exit_0() {
        let plan = plan(vec![planned("v1", Action::Keep)]);
        assert_eq!(printed(&plan), "a: nothing to change (1 to keep)\n");
        assert_eq!(exit(&[plan], true), Exit::Ok);
    }

    #[test]
    fn changes_show_both_digests_and_end_with_3_only_when_asked() {
        let previous = Digest::of(b"old");
        let plan = plan(vec![planned("v1", Action::Copy), planned("v2", Action::Replace { previous })]);
        let (v1, v2) = (Digest::of(b"v1").short(), Digest::of(b"v2").short());
        let expected = format!(
            "a: 1 to copy, 1 to replace\n  TAG  ACTION   NOW           THEN          TARGET\n  \
             v1   copy                   {v1}  t/a\n  v2   replace  {}  {v2}  t/a\n",
            previous.short()
        );
        assert_eq!(printed(&plan), expected);
        assert_eq!((exit(&[plan.clone()], false), exit(&[plan], true)), (Exit::Ok, Exit::ChangesPending));
    }

    #[test]
    fn every_verdict_is_told_with_its_reason() {
        let verdict = Verdict { tag: "v1-rc1".parse().unwrap(), chosen: false, why: "excluded by \"*-rc*\"".into() };
        let mut plan = plan(vec![]);
        plan.verdicts.push(SourceVerdict { source: "h/a".into(), verdict });
        assert_eq!(printed(&plan), "a: nothing to change (0 to keep)\n  out: h/a:v1-rc1: excluded by \"*-rc*\"\n");
    }

    #[test]
    fn what_a_rule_holds_ends_with_4_and_what_cannot_be_found_out_with_1() {
        let mut plan = plan(vec![planned("v1", Action::Refuse { reason: "never".into() })]);
        assert!(printed(&plan).ends_with("  refuse v1 at t/a: never\n"));
        assert_eq!(exit(std::slice::from_ref(&plan), true), Exit::Held);
        plan.problems.push("h/a: listing tags: denied".into());
        assert_eq!(exit(&[plan], true), Exit::Failed);
    }
}
