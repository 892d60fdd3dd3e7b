//! Page `/`: overall state, failing entries, runs and transfers in progress, all entries, registries.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::entries::{self, Part};
use super::frame::Frame;
use super::warnings::warnings;
use super::{registries, running, state};
use crate::status::Snapshot;
use crate::status::history::{HistoryError, LimitedHistory, Marks};

/// Renders the overview with one part of the entries. `part` is the number of the part, from 1.
pub(crate) async fn overview(snapshot: &Snapshot, history: &LimitedHistory, part: usize, now: DateTime<Utc>) -> Markup {
    let part = Part::from_number(&snapshot.entries, part);
    let marks = history.marks(part.entries.iter().map(|entry| entry.name.clone()).collect()).await;
    Frame { title: &state::title(snapshot), search_text: "", refreshed: true }.wrap(
        &body(snapshot, &part, &marks, now),
        snapshot,
        now,
    )
}

fn body(
    snapshot: &Snapshot,
    part: &Part<'_>,
    marks: &Result<impl AsRef<Marks>, HistoryError>,
    now: DateTime<Utc>,
) -> Markup {
    html! {
        (state::render_state(snapshot, now))
        (entries::failing(snapshot, now))
        (warnings(&snapshot.warnings.iter().collect::<Vec<_>>(), true))
        (running::running(snapshot, now))
        (entries::table(part, marks, snapshot, now))
        (registries::registries(&snapshot.registries, now))
        (registries::quotas(&snapshot.quotas, now))
        (entries::recent(&snapshot.recent_failures, now))
    }
}
