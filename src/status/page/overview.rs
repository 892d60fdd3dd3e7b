//! The page `/`: how it is, what fails, what moves, what comes next, and what each entry did.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::entries::{self, Part};
use super::frame::Frame;
use super::words::when;
use super::{running, state};
use crate::status::history::{Past, Unanswered};
use crate::status::{Quota, Snapshot};

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
    marks: &Result<impl AsRef<crate::status::history::Marks>, Unanswered>,
    now: DateTime<Utc>,
) -> Markup {
    html! {
        (state::whole(snapshot, now))
        (entries::failing(snapshot, now))
        (running::running(snapshot, now))
        (entries::table(part, marks, now))
        (quotas(&snapshot.quotas, now))
    }
}

fn quotas(quotas: &[Quota], now: DateTime<Utc>) -> Markup {
    html! {
        @if !quotas.is_empty() {
            h2 #quotas { "Pull limits" }
            table aria-labelledby="quotas" {
                thead { tr { th { "Registry" } th { "As" } th { "Pulls left" } th { "Told" } } }
                tbody { @for quota in quotas {
                    tr {
                        th scope="row" { (quota.registry) }
                        td data-name="As" { (quota.identity) }
                        td data-name="Pulls left" {
                            (quota.remaining) " of " (quota.limit)
                            @if quota.kept > 0 { small { (quota.kept) " kept for others" } }
                        }
                        td data-name="Told" { (when(quota.told, now)) }
                    }
                } }
            }
        }
    }
}
