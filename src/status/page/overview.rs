//! The page `/`: how it is, what fails, what moves, what comes next, and what each entry did.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::entries::{self, Part};
use super::frame::Frame;
use super::warnings::warnings;
use super::{registries, running, state};
use crate::status::Snapshot;
use crate::status::history::{Marks, Past, Unanswered};

/// The overview with this part of the entries, from 1.
pub(in crate::status) async fn overview(snapshot: &Snapshot, past: &Past, part: usize, now: DateTime<Utc>) -> Markup {
    let part = Part::of(&snapshot.entries, part);
    let marks = past.marks(part.entries.iter().map(|entry| entry.name.clone()).collect()).await;
    Frame { title: &state::title(snapshot), sought: "", renewed: true }.around(
        &body(snapshot, &part, &marks, now),
        snapshot,
        now,
    )
}

fn body(
    snapshot: &Snapshot,
    part: &Part<'_>,
    marks: &Result<impl AsRef<Marks>, Unanswered>,
    now: DateTime<Utc>,
) -> Markup {
    html! {
        (state::whole(snapshot, now))
        (entries::failing(snapshot, now))
        (warnings(&snapshot.warnings.iter().collect::<Vec<_>>(), true))
        (running::running(snapshot, now))
        (entries::table(part, marks, snapshot, now))
        (registries::registries(&snapshot.registries, now))
        (registries::quotas(&snapshot.quotas, now))
        (entries::recent(&snapshot.recent_failures, now))
    }
}
