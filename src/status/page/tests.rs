//! Tests of the pages as text: contents, escaping, and size.

use std::sync::Arc;

use maud::Markup;

use super::*;
use crate::config::Config;
use crate::journal::{Outcome, RunId, RunMark, RunRecord, SearchResults, TagCounts, Trigger};
use crate::status::history::LimitedHistory;
use crate::status::history::tests::FakeHistory;
use crate::status::snapshot::tests::{second, working};
use crate::status::{EntryState, Snapshot};

/// Returns the mark of a run that started `minute` minutes after second 0.
pub(super) fn mark(entry: &str, minute: i64, outcome: Option<Outcome>, bytes: u64) -> RunMark {
    let started = second(60 * minute);
    let run = RunId::numbered(minute);
    RunMark { run, entry: entry.to_owned(), started, ended: outcome.map(|_| started), outcome, bytes }
}

fn run(minute: i64, outcome: Outcome, error: Option<&str>) -> RunRecord {
    RunRecord {
        id: RunId::numbered(minute),
        entry: "python-base".into(),
        trigger: Trigger::Manual,
        pid: 1,
        started: second(60 * minute),
        ended: Some(second(60 * minute + 90)),
        outcome: Some(outcome),
        tags: TagCounts { copied: 1, ..TagCounts::default() },
        bytes: 4096,
        error: error.map(str::to_owned),
        deferred_until: None,
    }
}

/// Returns a configuration of the entry in `working()`.
fn config() -> Config {
    let text = "version: 1\nsync: [{name: python-base, source: a.example/b, target: c.example/d, tags: {newest: 3}}]";
    let environment = |name: &str| (name == "HOME").then(|| "/home/me".to_owned());
    crate::config::parse("sync.yaml", text, &environment).unwrap()
}

fn limited(fake: FakeHistory) -> LimitedHistory {
    LimitedHistory::new(Some(Arc::new(fake)))
}

async fn shown(snapshot: &Snapshot) -> String {
    let marks = (0..3).map(|minute| mark("python-base", minute, Some(Outcome::Failed), 1)).collect();
    overview(snapshot, &limited(FakeHistory { marks, ..FakeHistory::default() }), 1, second(0)).await.into_string()
}

#[track_caller]
fn assert_contains(page: &str, all: &[&str]) {
    for text in all {
        assert!(page.contains(text), "{text} is missing in {page}");
    }
}

#[tokio::test]
async fn overview_shows_failures_activity_and_next_runs() {
    let page = shown(&working()).await;
    assert_contains(
        &page,
        &[
            "<title>1 failing · transship</title>",
            "The entry fails",
            "resolving &lt;b&gt;3.13&lt;/b&gt;: denied",
            "2 copied, 14 unchanged, 1 failed",
            "Next: <a href=\"/entry?name=python-base\">python-base</a> in 60m",
            "25% of 1000 B",
            "<progress value=\"25\" max=\"100\"",
            "76 of 200",
            "3 failed",
            "3 of 17",
            "2 of 8 at once",
            "600 reads/min",
            "throttled",
            "1 waiting for a slot",
            "#run-7\"",
        ],
    );
}

#[tokio::test]
async fn overview_without_problems_says_all_is_well() {
    let mut snapshot = working();
    snapshot.entries[0].last_run.as_mut().unwrap().outcome = "succeeded".into();
    let page = shown(&snapshot).await;
    assert_contains(&page, &["<title>transship</title>", "All is well"]);
    assert!(!page.contains("Failing entries"), "{page}");
}

#[tokio::test]
async fn rejected_edit_and_unwritable_journal_are_shown_first() {
    let mut snapshot = working();
    snapshot.entries[0].last_run = None;
    snapshot.configuration.problem = Some("sync.yaml:3:1: unknown key".into());
    assert_contains(&shown(&snapshot).await, &["The last edit was rejected", "sync.yaml:3:1: unknown key"]);
    snapshot.journal.writable = false;
    assert_contains(&shown(&snapshot).await, &["Not ready: the journal cannot be written", "<title>not ready"]);
}

/// Returns true if the page contains markup from a hostile text.
fn has_foreign_markup(hostile: &str) -> bool {
    ["<script>alert", "<img src", "<b>", "onerror=\"", "javascript:"].iter().any(|markup| hostile.contains(markup))
}

const HOSTILE: &str = "\"><img src=x onerror=\"alert(1)\"><script>alert(1)</script>'&</title>\u{202e}\u{2066}";

#[tokio::test]
async fn foreign_text_is_never_rendered_as_markup() {
    let mut snapshot = working();
    snapshot.configuration.problem = Some(HOSTILE.into());
    snapshot.configuration.path = HOSTILE.into();
    snapshot.journal.path = HOSTILE.into();
    let hostile = &mut snapshot.entries[0];
    (hostile.name, hostile.source, hostile.targets) = (HOSTILE.into(), HOSTILE.into(), vec![HOSTILE.into()]);
    (hostile.schedule, hostile.timezone) = (HOSTILE.into(), HOSTILE.into());
    hostile.running.as_mut().unwrap().trigger = HOSTILE.into();
    hostile.last_run.as_mut().unwrap().error = Some(HOSTILE.into());
    (snapshot.in_flight[0].source, snapshot.in_flight[0].target) = (HOSTILE.into(), HOSTILE.into());
    snapshot.registries[0].registry = HOSTILE.into();
    snapshot.registries[0].identities = vec![HOSTILE.into()];
    snapshot.recent_failures[0].entry = HOSTILE.into();
    snapshot.recent_failures[0].error = Some(HOSTILE.into());
    (snapshot.quotas[0].registry, snapshot.quotas[0].identity) = (HOSTILE.into(), HOSTILE.into());
    let runs = vec![run(1, Outcome::Failed, Some(HOSTILE))];
    let history = limited(FakeHistory { runs, ..FakeHistory::default() });
    for page in [
        overview(&snapshot, &history, 1, second(0)).await,
        entry(&snapshot, &history, &config(), HOSTILE, second(0)).await.unwrap(),
        search(&snapshot, &history, HOSTILE, second(0)).await,
    ] {
        let page = page.into_string();
        assert!(page.contains("&lt;script&gt;alert(1)"), "{page}");
        assert!(!has_foreign_markup(&page), "{page}");
        assert!(page.contains("\u{fffd}\u{fffd}") && !page.contains(['\u{202e}', '\u{2066}']), "{page}");
    }
}

#[tokio::test]
async fn pages_load_nothing_from_other_hosts() {
    let (snapshot, history) = (Snapshot::starting(second(0)), limited(FakeHistory::default()));
    let pages: [Markup; 2] =
        [overview(&snapshot, &history, 1, second(0)).await, search(&snapshot, &history, "v1", second(0)).await];
    for page in pages {
        let page = page.into_string();
        for reference in ["http://", "https://", "src=", "@import", "url(", "style=\""] {
            assert!(!page.contains(reference), "{reference} in {page}");
        }
    }
}

#[tokio::test]
async fn entry_page_lists_runs_with_reasons() {
    let runs = vec![run(2, Outcome::TimedOut, Some("took longer than 1h")), run(1, Outcome::Succeeded, None)];
    let history = limited(FakeHistory { runs, ..FakeHistory::default() });
    let page = entry(&working(), &history, &config(), "python-base", second(0)).await.unwrap().into_string();
    assert_contains(
        &page,
        &[
            "python-base: failing",
            "id=\"run-2\"",
            "href=\"#run-2\"",
            "timed out",
            "took longer than 1h",
            "4.00 KiB",
            "all; the newest 3 of these",
        ],
    );
    assert!(entry(&working(), &history, &config(), "another", second(0)).await.is_none());
}

#[tokio::test]
async fn search_reports_incomplete_and_empty_results() {
    let (snapshot, nothing) = (working(), limited(FakeHistory::default()));
    let page = search(&snapshot, &nothing, "v9", second(0)).await.into_string();
    assert_contains(&page, &["No results: no entry, no arrival", "value=\"v9\""]);
    let cut = limited(FakeHistory {
        found: SearchResults { is_cut: true, ..SearchResults::default() },
        ..FakeHistory::default()
    });
    let page = search(&snapshot, &cut, " python ", second(0)).await.into_string();
    assert_contains(
        &page,
        &["These results are incomplete", "1 entry", "href=\"/entry?name=python-base\"", "value=\"python\""],
    );
    let page = search(&snapshot, &nothing, "", second(0)).await.into_string();
    assert_contains(&page, &["Type a tag"]);
    assert!(search(&snapshot, &nothing, &"x".repeat(2000), second(0)).await.into_string().contains("too long"));
}

#[tokio::test(start_paused = true)]
async fn pages_answer_when_the_journal_does_not() {
    let history = limited(FakeHistory { silent: true, ..FakeHistory::default() });
    let late = "the journal did not answer in time";
    assert_contains(
        &overview(&working(), &history, 1, second(0)).await.into_string(),
        &["No history: ", late, "python-base"],
    );
    assert_contains(
        &entry(&working(), &history, &config(), "python-base", second(0)).await.unwrap().into_string(),
        &["No history: ", late],
    );
    assert_contains(
        &search(&working(), &history, "v1", second(0)).await.into_string(),
        &["cannot be searched: ", late],
    );
}

#[tokio::test]
async fn thousand_entries_are_shown_hundred_at_a_time() {
    let mut snapshot = working();
    let one = snapshot.entries.remove(0);
    snapshot.entries = (0..1000).map(|i| EntryState { name: format!("entry-{i}"), ..one.clone() }).collect();
    for (part, first, beyond) in
        [(1, "entry-0<", "entry-100<"), (10, "entry-900<", "entry-899<"), (99, "entry-999<", "x-x")]
    {
        let page = overview(&snapshot, &limited(FakeHistory::default()), part, second(0)).await.into_string();
        let (_, table) = page.split_once("id=\"entries\"").unwrap();
        assert!(table.contains(first) && !table.contains(beyond), "{part}");
        assert!(page.len() < 300_000, "{} bytes", page.len());
    }
}
