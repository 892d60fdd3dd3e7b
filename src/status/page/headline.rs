//! Headline of the overview: the overall state in a sentence, and the facts that a person should know. The headline is
//! green only if nothing fails, waits long, is held or paused, and every selection matched a tag.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::cause::Cause;
use super::condition::{Condition, LONG_WAIT, LONG_WAIT_FOR_SLOT, throttled_registries, throttling_registry};
use super::view::View;
use super::words::{format_clock, format_count, format_distance, render_distance, render_entry_link};
use crate::status::Snapshot;

/// Maximum number of entries in the line of next runs.
const NEXT: usize = 3;

/// Severity of a fact, the least severe first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Severity {
    /// Nothing has run yet, so nothing is known.
    Unknown,
    Good,
    Warning,
    Bad,
}

impl Severity {
    /// Returns the CSS class.
    fn class(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Good => "good",
            Self::Warning => "warn",
            Self::Bad => "bad",
        }
    }
}

/// Fact about the state of the daemon.
#[derive(Debug, PartialEq, Eq)]
struct Fact {
    severity: Severity,
    sentence: String,
    /// The fact in two or three words, for the title of the window; empty if there is no problem.
    short: String,
    /// The entries that the fact is about.
    condition: Option<Condition>,
}

impl Fact {
    fn new(severity: Severity, sentence: String, short: String) -> Self {
        Self { severity, sentence, short, condition: None }
    }

    fn about(condition: Condition, severity: Severity, sentence: String, short: String) -> Self {
        Self { severity, sentence, short, condition: Some(condition) }
    }
}

/// Overall state of the daemon: the most severe fact first.
#[derive(Debug)]
pub(super) struct Headline {
    first: Fact,
    others: Vec<Fact>,
}

impl Headline {
    /// Collects the facts of a snapshot. `causes` contains the causes of all failures.
    pub(super) fn from_snapshot(snapshot: &Snapshot, causes: &[Cause<'_>], now: DateTime<Utc>) -> Self {
        let obstacles = snapshot.obstacles();
        let mut facts = Vec::new();
        if !obstacles.is_empty() {
            facts.push(Fact::new(
                Severity::Bad,
                format!("Not ready: {}", obstacles.join(", ")),
                "not ready".to_owned(),
            ));
        }
        facts.extend(find_failures(snapshot, causes));
        if snapshot.configuration.problem.is_some() {
            let sentence = "The last edit was rejected".to_owned();
            facts.push(Fact::new(Severity::Warning, sentence, "edit rejected".to_owned()));
        }
        facts.extend(find_throttling(snapshot, now));
        facts.extend(find_waits(snapshot, now));
        facts.extend(find_held_tags(snapshot, now));
        let paused = Condition::Paused.count(snapshot, now);
        facts.extend(state_count(Condition::Paused, paused, ["is paused", "are paused"], "paused"));
        let unmatched = Condition::NeverMatched.count(snapshot, now);
        let words = ["has a selection without a match", "have selections without a match"];
        facts.extend(state_count(Condition::NeverMatched, unmatched, words, "never matched"));
        if facts.is_empty() {
            facts.push(describe_calm(snapshot));
        }
        let first = facts.remove(0);
        Self { first, others: facts }
    }

    /// Returns the overall state for the window's title; empty if there is no problem.
    pub(super) fn title(&self) -> &str {
        &self.first.short
    }

    /// Renders the headline, with the rejected edit and the next runs.
    pub(super) fn render(&self, snapshot: &Snapshot, now: DateTime<Utc>) -> Markup {
        html! {
            section .state .(self.first.severity.class()) aria-labelledby="state" {
                h2 #state { (self.first.sentence) }
                @if !self.others.is_empty() {
                    ul .facts {
                        @for fact in &self.others { li .(fact.severity.class()) { (render_fact(fact)) } }
                    }
                }
                p {
                    (count_entries(snapshot)) (render_next_runs(snapshot, now))
                    " " small { "As of " (now.format("%H:%M:%S")) " UTC." }
                }
                @if let Some(problem) = &snapshot.configuration.problem {
                    p .reason { "The last edit of the configuration was rejected; the previous one stays active:" }
                    pre { (problem) }
                }
            }
        }
    }
}

fn render_fact(fact: &Fact) -> Markup {
    html! {
        @match fact.condition {
            Some(condition) => { a href=(View::with_condition(condition).address()) { (fact.sentence) } }
            None => { (fact.sentence) }
        }
    }
}

fn find_failures(snapshot: &Snapshot, causes: &[Cause<'_>]) -> Option<Fact> {
    let (count, all) = (causes.iter().map(|cause| cause.entries.len()).sum::<usize>(), snapshot.entries.len());
    let sentence = match (count, all) {
        (0, _) => return None,
        (1, 1) => "The only entry fails".to_owned(),
        (count, all) if count == all => format!("All {all} entries fail"),
        (1, all) => format!("1 entry of {all} fails"),
        (count, all) => format!("{count} entries of {all} fail"),
    };
    let sentence = match causes {
        [only] => format!("{sentence}: {}", only.title),
        _ => sentence,
    };
    Some(Fact::about(Condition::Failing, Severity::Bad, sentence, format!("{count} failing")))
}

/// Returns a fact for each registry that throttles for a long time, with the runs that wait for the registry.
fn find_throttling(snapshot: &Snapshot, now: DateTime<Utc>) -> impl Iterator<Item = Fact> {
    let long = throttled_registries(snapshot, now).filter(move |(_, until)| *until - now >= LONG_WAIT);
    long.map(move |(registry, until)| {
        let is_used = |(used, _): (&crate::status::RegistryState, _)| used.registry == registry.registry;
        let running = snapshot.entries.iter().filter(|entry| entry.running.is_some());
        let runs = running.filter(|entry| throttling_registry(entry, snapshot, now).is_some_and(is_used)).count();
        let waits = match runs {
            0 => String::new(),
            1 => "; 1 run waits".to_owned(),
            runs => format!("; {runs} runs wait"),
        };
        let (name, end) = (&registry.registry, format_clock(until, now));
        let sentence = format!("{name} limits requests until {end} UTC, {}{waits}", format_distance(until, now));
        let fact = Fact::new(Severity::Warning, sentence, format!("{name} limits requests"));
        Fact { condition: (runs > 0).then_some(Condition::Waiting), ..fact }
    })
}

/// Returns the facts about deferred tags and about entries that wait long for a slot.
fn find_waits(snapshot: &Snapshot, now: DateTime<Utc>) -> impl Iterator<Item = Fact> {
    let ends = snapshot.entries.iter().filter_map(|entry| entry.deferred_until).filter(|until| *until > now);
    let ends: Vec<DateTime<Utc>> = ends.collect();
    let deferred = ends.iter().min().map(|first| {
        let noun = if ends.len() == 1 { "entry has" } else { "entries have" };
        let first = format!("the first resumes at {} UTC", format_clock(*first, now));
        let sentence = format!("{} {noun} deferred tags, because a pull limit is used up; {first}", ends.len());
        Fact::about(Condition::Waiting, Severity::Warning, sentence, format!("{} deferred", ends.len()))
    });
    let is_long = |since: DateTime<Utc>| now - since >= LONG_WAIT_FOR_SLOT;
    let slots = snapshot.waiting.iter().filter(|waiting| is_long(waiting.since)).count();
    let words = ["has waited for a slot for over 10 minutes", "have waited for a slot for over 10 minutes"];
    deferred.into_iter().chain(state_count(Condition::Waiting, slots, words, "waiting"))
}

fn find_held_tags(snapshot: &Snapshot, now: DateTime<Utc>) -> Option<Fact> {
    state_count(Condition::Held, Condition::Held.count(snapshot, now), ["has held tags", "have held tags"], "held")
}

/// Returns a warning about a number of entries; [`None`] if the number is 0.
fn state_count(condition: Condition, count: usize, [one, more]: [&str; 2], short: &str) -> Option<Fact> {
    let sentence = match count {
        0 => return None,
        1 => format!("1 entry {one}"),
        count => format!("{count} entries {more}"),
    };
    Some(Fact::about(condition, Severity::Warning, sentence, format!("{count} {short}")))
}

/// Returns the fact of a daemon without problems.
fn describe_calm(snapshot: &Snapshot) -> Fact {
    let (severity, sentence) = match snapshot.entries.as_slice() {
        [] => (Severity::Unknown, "No entries are configured"),
        entries if entries.iter().all(|entry| entry.last_run.is_none()) => (Severity::Unknown, "No run has ended yet"),
        _ => (Severity::Good, "All is well"),
    };
    Fact::new(severity, sentence.to_owned(), String::new())
}

fn count_entries(snapshot: &Snapshot) -> String {
    let running = snapshot.entries.iter().filter(|entry| entry.running.is_some()).count();
    let mut words = vec![format_count(snapshot.entries.len(), "entry", "entries"), format!("{running} running")];
    if !snapshot.waiting.is_empty() {
        words.push(format!("{} waiting for a slot", snapshot.waiting.len()));
    }
    format!("{}.", words.join(", "))
}

fn render_next_runs(snapshot: &Snapshot, now: DateTime<Utc>) -> Markup {
    let mut coming: Vec<_> = snapshot.entries.iter().filter_map(|entry| Some((entry.next_firing?, entry))).collect();
    coming.sort_by_key(|(at, entry)| (*at, &entry.name));
    html! {
        @if !coming.is_empty() { " Next: " }
        @for (index, (at, entry)) in coming.iter().take(NEXT).enumerate() {
            @if index > 0 { ", " }
            (render_entry_link(&entry.name)) " " (render_distance(*at, now))
        }
        @if !coming.is_empty() { "." }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cause::group_failures;
    use super::*;
    use crate::status::snapshot::tests::{second, working};
    use crate::status::{EntryState, WaitingState};

    /// Returns a snapshot of three entries that succeeded.
    fn calm_snapshot() -> Snapshot {
        let mut snapshot = working();
        let mut entry = snapshot.entries.remove(0);
        let run = entry.last_run.as_mut().unwrap();
        (run.outcome, run.error, run.counts.failed) = ("succeeded".into(), None, 0);
        entry.running = None;
        snapshot.entries = ["a", "b", "c"].map(|name| EntryState { name: name.into(), ..entry.clone() }).into();
        snapshot.registries[0].paused_until = None;
        snapshot
    }

    fn headline(snapshot: &Snapshot) -> Headline {
        Headline::from_snapshot(snapshot, &group_failures(snapshot), second(0))
    }

    /// Returns the CSS class, the sentence and the window's title.
    fn summary(snapshot: &Snapshot) -> (&'static str, String, String) {
        let headline = headline(snapshot);
        (headline.first.severity.class(), headline.first.sentence, headline.first.short)
    }

    fn expected(class: &'static str, sentence: &str, short: &str) -> (&'static str, String, String) {
        (class, sentence.to_owned(), short.to_owned())
    }

    #[test]
    fn headline_is_green_only_without_any_problem() {
        type Change = fn(&mut Snapshot);
        let changes: [(Change, &str); 7] = [
            (|snapshot| snapshot.registries[0].paused_until = Some(second(3600)), "docker.io limits requests"),
            (|snapshot| snapshot.entries[0].paused_since = Some(second(-9)), "1 paused"),
            (|snapshot| snapshot.entries[0].never_matched = true, "1 never matched"),
            (|snapshot| snapshot.entries[0].last_run.as_mut().unwrap().counts.held = 2, "1 held"),
            (|snapshot| snapshot.entries[0].deferred_until = Some(second(60)), "1 deferred"),
            (
                |snapshot| {
                    let since = second(-600);
                    snapshot.waiting = vec![WaitingState { entry: "a".into(), since, trigger: "schedule".into() }];
                },
                "1 waiting",
            ),
            (|snapshot| snapshot.configuration.problem = Some("sync.yaml:1:1: no".into()), "edit rejected"),
        ];
        assert_eq!(summary(&calm_snapshot()), expected("good", "All is well", ""));
        for (change, short) in changes {
            let mut snapshot = calm_snapshot();
            change(&mut snapshot);
            let (class, _, found) = summary(&snapshot);
            assert_eq!((class, found.as_str()), ("warn", short));
        }
    }

    #[test]
    fn throttled_registry_is_named_with_its_end_and_waiting_runs() {
        let mut snapshot = calm_snapshot();
        snapshot.registries[0].paused_until = Some(second(3420));
        snapshot.entries[1].running = working().entries[0].running.clone();
        let sentence = "docker.io limits requests until 08:57:00 UTC, in 57m; 1 run waits";
        assert_eq!(summary(&snapshot), expected("warn", sentence, "docker.io limits requests"));
        let page = headline(&snapshot).render(&snapshot, second(0)).into_string();
        assert!(page.contains("class=\"state warn\"") && page.contains("As of 08:00:00 UTC."), "{page}");
        snapshot.registries[0].paused_until = Some(second(20));
        assert_eq!(summary(&snapshot), expected("good", "All is well", ""), "a short wait is usual");
    }

    #[test]
    fn failures_come_first_and_other_facts_link_to_filters() {
        let mut snapshot = calm_snapshot();
        for entry in &mut snapshot.entries[..2] {
            let run = entry.last_run.as_mut().unwrap();
            (run.outcome, run.error) = ("failed".into(), Some("source docker.io/a/b: listing tags: 401".into()));
        }
        snapshot.entries[2].paused_since = Some(second(-9));
        let sentence = "2 entries of 3 fail: docker.io rejects mirror-bot";
        assert_eq!(summary(&snapshot), expected("bad", sentence, "2 failing"));
        let page = headline(&snapshot).render(&snapshot, second(0)).into_string();
        assert!(page.contains("<a href=\"/?show=paused#entries\">1 entry is paused</a>"), "{page}");
    }

    #[test]
    fn daemon_without_ended_runs_is_neither_green_nor_red() {
        let mut snapshot = calm_snapshot();
        snapshot.entries.iter_mut().for_each(|entry| entry.last_run = None);
        assert_eq!(summary(&snapshot), expected("unknown", "No run has ended yet", ""));
        snapshot.entries.clear();
        assert_eq!(summary(&snapshot), expected("unknown", "No entries are configured", ""));
        snapshot.journal.writable = false;
        let obstacle = "Not ready: the journal cannot be written";
        assert_eq!(summary(&snapshot), expected("bad", obstacle, "not ready"));
    }
}
