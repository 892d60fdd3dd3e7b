//! Page `/`: overall state, causes of failures, runs and transfers in progress, all entries, registries.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::cause::{Cause, group_failures};
use super::condition::Condition;
use super::frame::Frame;
use super::headline::Headline;
use super::view::{Selected, View};
use super::warnings::warnings;
use super::{entries, failing, registries, running};
use crate::status::Snapshot;
use crate::status::history::{HistoryError, LimitedHistory, Marks};

/// Renders the overview with the entries of a view.
pub(crate) async fn overview(snapshot: &Snapshot, history: &LimitedHistory, view: &View, now: DateTime<Utc>) -> Markup {
    let selected = view.select(snapshot, now);
    let marks = history.marks(selected.entries.iter().map(|entry| entry.name.clone()).collect()).await;
    let causes = group_failures(snapshot);
    let headline = Headline::from_snapshot(snapshot, &causes, now);
    let main = html! {
        (headline.render(snapshot, now))
        @match view.condition {
            None => { (render_attention(snapshot, &causes, now)) }
            Some(Condition::Failing) => { (failing::render_causes(&causes, now)) }
            Some(Condition::Running) => { (running::render_running(snapshot, running::ALL_RUNS, now)) }
            Some(_) => {}
        }
        (render_entries(view, &selected, &marks, snapshot, now))
    };
    Frame { title: headline.title(), search_text: "", refreshed: true }.wrap(&main, snapshot, now)
}

/// Renders the sections before the entries. A filtered page omits them, because it is about the filtered entries.
fn render_attention(snapshot: &Snapshot, causes: &[Cause<'_>], now: DateTime<Utc>) -> Markup {
    html! {
        (failing::render_causes(causes, now))
        (warnings(&snapshot.warnings.iter().collect::<Vec<_>>(), true))
        (running::render_running(snapshot, running::RUNS, now))
    }
}

fn render_entries(
    view: &View,
    selected: &Selected<'_>,
    marks: &Result<impl AsRef<Marks>, HistoryError>,
    snapshot: &Snapshot,
    now: DateTime<Utc>,
) -> Markup {
    html! {
        (entries::render_entries(view, selected, marks, snapshot, now))
        @if view.condition.is_none() {
            (registries::registries(&snapshot.registries, now))
            (registries::quotas(&snapshot.quotas, now))
            (failing::render_recovered(snapshot, now))
        }
    }
}
