//! Tests of the pages as text: contents, escaping, and size.

use std::sync::Arc;

use maud::Markup;

use super::*;
use crate::config::Config;
use crate::journal::{ListEnd, Outcome, RunId, RunMark, RunRecord, SearchResults, TagCounts, Trigger};
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
    let history = limited(FakeHistory { marks, ..FakeHistory::default() });
    overview(snapshot, &history, &View::default(), second(0)).await.into_string()
}

/// Returns the text of a page without its markup.
fn text(page: &str) -> String {
    regex::Regex::new("<[^>]+>").unwrap().replace_all(page, "").into_owned()
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
            "The only entry fails: docker.io: denied",
            "resolving &lt;b&gt;3.13&lt;/b&gt;: denied",
            "2 copied, 14 unchanged, 1 failed",
            "<progress value=\"25\" max=\"100\"",
            "76 of 200",
            "3 failed",
            "2 of 8 at once",
            "600 reads/min",
            "throttled",
            "1 waiting for a slot",
        ],
    );
    assert_contains(
        &text(&page),
        &["Next: python-base in 60m.", "25% of 1000 B", "3 of 17", "docker.io limits requests", "UTC"],
    );
}

#[tokio::test]
async fn overview_without_problems_says_all_is_well() {
    let mut snapshot = working();
    snapshot.entries[0].last_run.as_mut().unwrap().outcome = "succeeded".into();
    let page = shown(&snapshot).await;
    assert_contains(&page, &["<title>transship</title>", "All is well", "Earlier failures", "#run-7\""]);
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
        overview(&snapshot, &history, &View::default(), second(0)).await,
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
    let pages: [Markup; 2] = [
        overview(&snapshot, &history, &View::default(), second(0)).await,
        search(&snapshot, &history, "v1", second(0)).await,
    ];
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
        found: SearchResults { arrivals_end: ListEnd::Full, ..SearchResults::default() },
        ..FakeHistory::default()
    });
    let page = search(&snapshot, &cut, " python ", second(0)).await.into_string();
    assert_contains(
        &page,
        &["1 entry", "href=\"/entry?name=python-base\"", "value=\"python\"", "placeholder=\"Entry, tag or digest\""],
    );
    assert!(!page.contains("More arrivals match"), "a list without rows is not shown: {page}");
    let late = limited(FakeHistory {
        found: SearchResults { seen_end: ListEnd::TimeLimit, ..SearchResults::default() },
        ..FakeHistory::default()
    });
    let page = search(&snapshot, &late, "v9", second(0)).await.into_string();
    assert_contains(&page, &["No results within the time limit", "transship evidence"]);
    let page = search(&snapshot, &nothing, "", second(0)).await.into_string();
    assert_contains(&page, &["Type a tag"]);
    assert!(search(&snapshot, &nothing, &"x".repeat(2000), second(0)).await.into_string().contains("too long"));
}

#[tokio::test(start_paused = true)]
async fn pages_answer_when_the_journal_does_not() {
    let history = limited(FakeHistory { silent: true, ..FakeHistory::default() });
    let late = "the journal did not answer in time";
    assert_contains(
        &overview(&working(), &history, &View::default(), second(0)).await.into_string(),
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

/// Returns a snapshot of 300 entries: every third fails, every fifth is paused.
fn three_hundred() -> Snapshot {
    let mut snapshot = working();
    let mut entry = snapshot.entries.remove(0);
    entry.running = None;
    for number in 0..300 {
        let mut entry = EntryState { name: format!("entry-{number}"), ..entry.clone() };
        let run = entry.last_run.as_mut().unwrap();
        run.outcome = if number % 3 == 0 { "failed" } else { "succeeded" }.into();
        run.error = Some("source docker.io/a/b: listing tags: 401 Unauthorized".into());
        entry.paused_since = (number % 5 == 0).then(|| second(-60));
        snapshot.entries.push(entry);
    }
    snapshot
}

#[tokio::test]
async fn filters_have_counts_and_survive_sorting_and_parts() {
    let snapshot = three_hundred();
    let page = shown(&snapshot).await;
    for (show, label, count) in [("failing", "Failing", 100), ("paused", "Paused", 60)] {
        let link = format!("<a href=\"/?show={show}#entries\">{label} <span class=\"count\">{count}</span></a>");
        assert_contains(&page, &[&link]);
    }
    assert_contains(&page, &["aria-current=\"true\">All <span class=\"count\">300</span>", "part 1 of 3", "part=3#"]);
    assert!(!page.contains("show=held"), "no entry has held tags");
    let view = View::from_query(Some("failing"), Some("name"), None);
    let page = overview(&snapshot, &limited(FakeHistory::default()), &view, second(0)).await.into_string();
    let (_, list) = page.split_once("id=\"entries\"").unwrap();
    assert_eq!(list.matches("<th scope=\"row\">").count(), 100, "all failing entries are in one part");
    assert_contains(list, &["href=\"/?show=paused&amp;sort=name#entries\"", "href=\"/?sort=name#entries\""]);
    let view = View::from_query(Some("held"), None, None);
    let page = overview(&snapshot, &limited(FakeHistory::default()), &view, second(0)).await.into_string();
    assert_contains(&page, &["No entry is in this list now: “Held”", "Show all entries"]);
}

#[tokio::test]
async fn one_cause_of_many_failures_takes_one_row() {
    let page = shown(&three_hundred()).await;
    let (_, table) = page.split_once("aria-labelledby=\"failing\"").unwrap();
    let (table, _) = table.split_once("</table>").unwrap();
    assert_eq!(table.matches("<th scope=\"row\">").count(), 1, "{table}");
    assert_contains(&text(table), &["docker.io rejects mirror-bot", "100 entries: entry-0, entry-3", "and 92 more"]);
    assert_contains(&page, &["100 entries of 300 fail: docker.io rejects mirror-bot"]);
}

#[tokio::test]
async fn entry_with_one_run_has_table_and_no_chart() {
    let runs = vec![run(1, Outcome::Succeeded, None)];
    let history = limited(FakeHistory { runs, ..FakeHistory::default() });
    let page = entry(&working(), &history, &config(), "python-base", second(0)).await.unwrap().into_string();
    assert_contains(&page, &["The only run so far.", "id=\"run-1\""]);
    assert!(!page.contains("<svg") && !page.contains("1 runs"), "{page}");
}

#[tokio::test]
async fn each_page_links_to_help_that_names_commands() {
    let page = shown(&working()).await;
    assert_contains(&page, &["<a href=\"/help\">Help</a>"]);
    let help = help(&working(), second(0)).into_string();
    assert_contains(&help, &["transship resume NAME", "man transship", "/usr/share/doc/transship/book/index.html"]);
    let lost = not_found(&working(), "there is no entry \"x\"", second(0)).into_string();
    assert_contains(&lost, &["there is no entry &quot;x&quot;.", "<a href=\"/\">overview</a>", "role=\"search\""]);
}

#[tokio::test]
async fn thousand_entries_are_shown_hundred_at_a_time() {
    let mut snapshot = working();
    let one = snapshot.entries.remove(0);
    snapshot.entries = (0..1000).map(|i| EntryState { name: format!("entry-{i}"), ..one.clone() }).collect();
    for (part, first, beyond) in
        [(1, "entry-0\"", "entry-100\""), (10, "entry-900\"", "entry-899\""), (99, "entry-999\"", "x-x")]
    {
        let view = View::from_query(None, None, Some(&part.to_string()));
        let page = overview(&snapshot, &limited(FakeHistory::default()), &view, second(0)).await.into_string();
        let (_, table) = page.split_once("id=\"entries\"").unwrap();
        assert!(table.contains(first) && !table.contains(beyond), "{part}");
        assert!(page.len() < 300_000, "{} bytes", page.len());
    }
}
