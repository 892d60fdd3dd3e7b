//! The pages as text: what they tell, what they let through, and how much they are.

use std::sync::Arc;

use maud::Markup;

use super::*;
use crate::config::Config;
use crate::journal::{Found, Outcome, RunId, RunMark, RunRecord, TagCounts, Trigger};
use crate::status::history::Past;
use crate::status::history::tests::Told;
use crate::status::snapshot::tests::{at, working};
use crate::status::{EntryState, Snapshot};

/// A run in small, so many minutes after second 0.
pub(super) fn mark(entry: &str, minute: i64, outcome: Option<Outcome>, bytes: u64) -> RunMark {
    let started = at(60 * minute);
    let run = RunId::numbered(minute);
    RunMark { run, entry: entry.to_owned(), started, ended: outcome.map(|_| started), outcome, bytes }
}

fn run(minute: i64, outcome: Outcome, error: Option<&str>) -> RunRecord {
    RunRecord {
        id: RunId::numbered(minute),
        entry: "python-base".into(),
        trigger: Trigger::Hand,
        pid: 1,
        started: at(60 * minute),
        ended: Some(at(60 * minute + 90)),
        outcome: Some(outcome),
        tags: TagCounts { copied: 1, ..TagCounts::default() },
        bytes: 4096,
        error: error.map(str::to_owned),
        postponed_until: None,
    }
}

/// The configuration of the entry that works.
fn config() -> Config {
    let text = "version: 1\nsync: [{name: python-base, source: a.example/b, target: c.example/d, tags: {newest: 3}}]";
    let environment = |name: &str| (name == "HOME").then(|| "/home/me".to_owned());
    crate::config::parse("sync.yaml", text, &environment).unwrap()
}

fn past(told: Told) -> Past {
    Past::new(Some(Arc::new(told)))
}

async fn shown(snapshot: &Snapshot) -> String {
    let marks = (0..3).map(|minute| mark("python-base", minute, Some(Outcome::Failed), 1)).collect();
    overview(snapshot, &past(Told { marks, ..Told::default() }), 1, at(0)).await.into_string()
}

#[track_caller]
fn tells(page: &str, all: &[&str]) {
    for told in all {
        assert!(page.contains(told), "{told} is missing in {page}");
    }
}

#[tokio::test]
async fn the_overview_tells_what_fails_what_moves_and_what_comes_next() {
    let page = shown(&working()).await;
    tells(
        &page,
        &[
            "<title>1 failing · transship</title>",
            "The entry fails",
            "resolving &lt;b&gt;3.13&lt;/b&gt;: denied",
            "2 copied, 14 kept, 1 failed",
            "Next: <a href=\"/entry?name=python-base\">python-base</a> in 60m",
            "25% of 1000 B",
            "<progress value=\"25\" max=\"100\"",
            "76 of 200",
            "3 failed",
            "3 of 17",
            "2 of 8 at once",
            "600 reads/min",
            "asked for patience",
            "1 waiting for a place",
            "#run-7\"",
        ],
    );
}

#[tokio::test]
async fn when_all_is_well_the_page_says_so_first() {
    let mut snapshot = working();
    snapshot.entries[0].last_run.as_mut().unwrap().outcome = "succeeded".into();
    let page = shown(&snapshot).await;
    tells(&page, &["<title>transship</title>", "All is well"]);
    assert!(!page.contains("What fails"), "{page}");
}

#[tokio::test]
async fn an_edit_that_was_refused_and_a_journal_that_cannot_be_written_are_told_first() {
    let mut snapshot = working();
    snapshot.entries[0].last_run = None;
    snapshot.configuration.problem = Some("sync.yaml:3:1: unknown key".into());
    tells(&shown(&snapshot).await, &["The last edit was refused", "sync.yaml:3:1: unknown key"]);
    snapshot.journal.writable = false;
    tells(&shown(&snapshot).await, &["Not ready: the journal cannot be written", "<title>not ready"]);
}

/// The markup that is ours, without texts.
fn markup_of(hostile: &str) -> bool {
    ["<script>alert", "<img src", "<b>", "onerror=\"", "javascript:"].iter().any(|markup| hostile.contains(markup))
}

const HOSTILE: &str = "\"><img src=x onerror=\"alert(1)\"><script>alert(1)</script>'&</title>\u{202e}\u{2066}";

#[tokio::test]
async fn what_others_wrote_is_text_and_never_markup() {
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
    let past = past(Told { runs, ..Told::default() });
    for page in [
        overview(&snapshot, &past, 1, at(0)).await,
        entry(&snapshot, &past, &config(), HOSTILE, at(0)).await.unwrap(),
        search(&snapshot, &past, HOSTILE, at(0)).await,
    ] {
        let page = page.into_string();
        assert!(page.contains("&lt;script&gt;alert(1)"), "{page}");
        assert!(!markup_of(&page), "{page}");
        assert!(page.contains("\u{fffd}\u{fffd}") && !page.contains(['\u{202e}', '\u{2066}']), "{page}");
    }
}

#[tokio::test]
async fn the_pages_load_nothing_from_elsewhere() {
    let (snapshot, past) = (Snapshot::starting(at(0)), past(Told::default()));
    let pages: [Markup; 2] = [overview(&snapshot, &past, 1, at(0)).await, search(&snapshot, &past, "v1", at(0)).await];
    for page in pages {
        let page = page.into_string();
        for reference in ["http://", "https://", "src=", "@import", "url(", "style=\""] {
            assert!(!page.contains(reference), "{reference} in {page}");
        }
    }
}

#[tokio::test]
async fn the_page_of_an_entry_has_its_runs_with_reasons() {
    let runs = vec![run(2, Outcome::TimedOut, Some("took longer than 1h")), run(1, Outcome::Succeeded, None)];
    let past = past(Told { runs, ..Told::default() });
    let page = entry(&working(), &past, &config(), "python-base", at(0)).await.unwrap().into_string();
    tells(
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
    assert!(entry(&working(), &past, &config(), "another", at(0)).await.is_none());
}

#[tokio::test]
async fn a_search_says_when_there_is_more_and_when_there_is_nothing() {
    let (snapshot, nothing) = (working(), past(Told::default()));
    let page = search(&snapshot, &nothing, "v9", at(0)).await.into_string();
    tells(&page, &["Nothing: no such entry", "value=\"v9\""]);
    let cut = past(Told { found: Found { is_cut: true, ..Found::default() }, ..Told::default() });
    let page = search(&snapshot, &cut, " python ", at(0)).await.into_string();
    tells(&page, &["This is not all", "1 entry", "href=\"/entry?name=python-base\"", "value=\"python\""]);
    let page = search(&snapshot, &nothing, "", at(0)).await.into_string();
    tells(&page, &["Type a tag"]);
    assert!(search(&snapshot, &nothing, &"x".repeat(2000), at(0)).await.into_string().contains("too long"));
}

#[tokio::test(start_paused = true)]
async fn the_pages_answer_although_the_journal_does_not() {
    let past = past(Told { silent: true, ..Told::default() });
    let late = "the journal did not answer in time";
    tells(&overview(&working(), &past, 1, at(0)).await.into_string(), &["No history: ", late, "python-base"]);
    tells(
        &entry(&working(), &past, &config(), "python-base", at(0)).await.unwrap().into_string(),
        &["No history: ", late],
    );
    tells(&search(&working(), &past, "v1", at(0)).await.into_string(), &["cannot be searched: ", late]);
}

#[tokio::test]
async fn a_thousand_entries_are_shown_a_hundred_at_a_time() {
    let mut snapshot = working();
    let one = snapshot.entries.remove(0);
    snapshot.entries = (0..1000).map(|i| EntryState { name: format!("entry-{i}"), ..one.clone() }).collect();
    for (part, first, beyond) in
        [(1, "entry-0<", "entry-100<"), (10, "entry-900<", "entry-899<"), (99, "entry-999<", "x-x")]
    {
        let page = overview(&snapshot, &past(Told::default()), part, at(0)).await.into_string();
        let (_, table) = page.split_once("id=\"entries\"").unwrap();
        assert!(table.contains(first) && !table.contains(beyond), "{part}");
        assert!(page.len() < 300_000, "{} bytes", page.len());
    }
}
