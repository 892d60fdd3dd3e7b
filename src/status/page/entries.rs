//! Table of the entries: filters, orders, and one part of the entries at a time.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::chart;
use super::condition::Condition;
use super::state::{render_activity, render_next_run};
use super::view::{Order, Selected, View};
use super::words::{render_distance, render_entry_link, render_outcome, render_route};
use crate::status::history::{HistoryError, Marks};
use crate::status::{EntryState, Snapshot};

/// Minimum number of entries for which the page offers filters and orders.
const FILTERED_FROM: usize = 2;

/// Renders the filters, the orders and the table of the selected entries.
pub(super) fn render_entries(
    view: &View,
    selected: &Selected<'_>,
    marks: &Result<impl AsRef<Marks>, HistoryError>,
    snapshot: &Snapshot,
    now: DateTime<Utc>,
) -> Markup {
    html! {
        h2 #entries { "Entries" }
        @if let Some(unknown) = &view.unknown { p .warn-word role="status" { (unknown) " All known ones are below." } }
        @if snapshot.entries.len() >= FILTERED_FROM { (render_filters(view, snapshot, now)) (render_orders(view)) }
        @if selected.entries.is_empty() {
            p { (render_empty_list(view)) }
        } @else {
            (render_part_links(view, selected))
            (render_table(selected, marks, snapshot, now))
            (render_part_links(view, selected))
        }
    }
}

/// Renders a link for each condition that an entry has, with the number of the entries.
fn render_filters(view: &View, snapshot: &Snapshot, now: DateTime<Utc>) -> Markup {
    let counted = Condition::ALL.map(|condition| (condition, condition.count(snapshot, now)));
    let offered = counted.into_iter().filter(|(condition, count)| *count > 0 || view.condition == Some(*condition));
    html! {
        nav .filters aria-label="Show entries" {
            (render_choice(&view.filtered(None), view.condition.is_none(), "All", snapshot.entries.len()))
            @for (condition, count) in offered {
                @let is_chosen = view.condition == Some(condition);
                (render_choice(&view.filtered(Some(condition)), is_chosen, condition.label(), count))
            }
        }
    }
}

fn render_choice(view: &View, is_chosen: bool, label: &str, count: usize) -> Markup {
    html! {
        a href=(view.address()) aria-current=[is_chosen.then_some("true")] { (label) " " span .count { (count) } }
    }
}

fn render_orders(view: &View) -> Markup {
    html! {
        nav .orders aria-label="Sort entries" {
            span .quiet { "Sort by:" }
            @for order in Order::ALL {
                a href=(view.ordered(order).address()) aria-current=[(view.order == order).then_some("true")] {
                    (order.label())
                }
            }
        }
    }
}

fn render_empty_list(view: &View) -> Markup {
    html! {
        @match view.condition {
            Some(condition) => {
                "No entry is in this list now: “" (condition.label()) "”. "
                a href=(view.filtered(None).address()) { "Show all entries" } "."
            }
            None => { "No entries are configured." }
        }
    }
}

fn render_part_links(view: &View, selected: &Selected<'_>) -> Markup {
    html! {
        @if selected.parts > 1 {
            nav .parts aria-label="Parts of the list" {
                span .quiet { (selected.matching) " entries, part " (selected.part) " of " (selected.parts) ":" }
                @for part in 1..=selected.parts {
                    a href=(view.at_part(part).address()) aria-current=[(part == selected.part).then_some("page")] {
                        (part)
                    }
                }
            }
        }
    }
}

fn render_table(
    selected: &Selected<'_>,
    marks: &Result<impl AsRef<Marks>, HistoryError>,
    snapshot: &Snapshot,
    now: DateTime<Utc>,
) -> Markup {
    html! {
        table .entries aria-labelledby="entries" {
            caption {
                @match marks {
                    Ok(_) => {
                        span .history {
                            "History: one bar for each run, the latest at the right. Its height shows the bytes sent. "
                            "× under a bar: the run failed."
                        }
                    }
                    Err(why) => { "No history: " (why) "." }
                }
            }
            thead { tr {
                th { "Entry" } th { "Now" } th { "From and to" } th { "Last run" } th { "Next run" } th { "History" }
            } }
            tbody {
                @for entry in &selected.entries {
                    (render_row(entry, marks.as_ref().ok().map(AsRef::as_ref), snapshot, now))
                }
            }
        }
    }
}

fn render_row(entry: &EntryState, marks: Option<&Marks>, snapshot: &Snapshot, now: DateTime<Utc>) -> Markup {
    html! {
        tr {
            th scope="row" { (render_entry_link(&entry.name)) }
            td data-name="Now" { (render_activity(entry, snapshot, now)) }
            td data-name="From" { (render_route(&entry.source, &entry.targets)) }
            td data-name="Last run" { (render_last_run(entry, now)) }
            td data-name="Next run" {
                (render_next_run(entry, now)) " " small { (entry.schedule) " " (entry.timezone) }
            }
            td .history {
                @if let Some(marks) = marks {
                    (chart::render_small(marks.get(&entry.name).map_or(&[], Vec::as_slice), now))
                }
            }
        }
    }
}

fn render_last_run(entry: &EntryState, now: DateTime<Utc>) -> Markup {
    html! {
        @match &entry.last_run {
            Some(run) => {
                (render_outcome(&run.outcome)) " " (render_distance(run.ended, now)) " " small { (run.counts) }
            }
            None => { span .quiet { "none yet" } }
        }
    }
}
