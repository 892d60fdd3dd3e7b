//! Formats of times, durations, sizes, references, outcomes and addresses on a page.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use indicatif::{HumanBytes, HumanDuration};
use maud::{Markup, html};

use crate::journal::Outcome;

/// Renders a time both relative to now and as clock time: `in 3m 14:05:00`.
pub(super) fn render_time(moment: DateTime<Utc>, now: DateTime<Utc>) -> Markup {
    html! {
        time datetime=(moment.to_rfc3339_opts(SecondsFormat::Secs, true)) { (format_distance(moment, now)) }
        " " small { (format_clock(moment, now)) }
    }
}

/// Renders a time relative to now: `in 3m`. The tooltip shows the date and the time in UTC.
pub(super) fn render_distance(moment: DateTime<Utc>, now: DateTime<Utc>) -> Markup {
    let stated = moment.to_rfc3339_opts(SecondsFormat::Secs, true);
    let title = moment.format("%Y-%m-%d %H:%M:%S UTC");
    html! { time datetime=(stated) title=(title) { (format_distance(moment, now)) } }
}

/// Returns `in 3m` or `3m ago`.
pub(super) fn format_distance(moment: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let seconds = (moment - now).num_seconds();
    let span = format_duration(Duration::from_secs(seconds.unsigned_abs()));
    match seconds {
        0 => "now".to_owned(),
        1.. => format!("in {span}"),
        _ => format!("{span} ago"),
    }
}

/// Returns `14:05:00` for today, else the date and the time without seconds.
pub(super) fn format_clock(moment: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let is_today = moment.date_naive() == now.date_naive();
    moment.format(if is_today { "%H:%M:%S" } else { "%Y-%m-%d %H:%M" }).to_string()
}

/// Returns a duration in one unit, rounded: `12s`, `3m`, `5d`.
pub(super) fn format_duration(duration: Duration) -> String {
    format!("{:#}", HumanDuration(duration))
}

/// Returns the duration between two times.
pub(super) fn format_elapsed(start: DateTime<Utc>, end: DateTime<Utc>) -> String {
    format_duration((end - start).to_std().unwrap_or_default())
}

/// Returns a size such as `1.21 GiB`.
pub(super) fn format_bytes(count: u64) -> String {
    HumanBytes(count).to_string()
}

/// Renders a size in one piece: a line never ends between the number and its unit.
pub(super) fn render_bytes(count: u64) -> Markup {
    html! { span .size { (format_bytes(count)) } }
}

/// Length in characters of the longest piece of a reference that stays in one line.
const LONGEST_PIECE: usize = 32;

/// Renders a reference such as `docker.io/library/python`. A line may end after a separator, and within a piece only if
/// the piece is too long for a line.
pub(super) fn render_reference(text: &str) -> Markup {
    html! {
        bdi .reference {
            @for piece in text.split_inclusive(['/', ':', '@', '-', '_']) {
                @if piece.chars().count() > LONGEST_PIECE { span .long { (piece) } } @else { (piece) }
                wbr;
            }
        }
    }
}

/// Renders the source and the targets of an entry.
pub(super) fn render_route(source: &str, targets: &[String]) -> Markup {
    html! {
        (render_reference(source))
        @for target in targets { br; "→ " (render_reference(target)) }
    }
}

/// Renders the name of an entry. A short name stays in one line.
pub(super) fn render_name(entry: &str) -> Markup {
    html! {
        @if entry.chars().count() > LONGEST_PIECE { (render_reference(entry)) } @else { bdi .whole { (entry) } }
    }
}

/// Renders a link to the page of an entry.
pub(super) fn render_entry_link(entry: &str) -> Markup {
    html! { a href=(entry_url(entry)) { (render_name(entry)) } }
}

/// Returns a count with its noun: `1 run`, `2 runs`.
pub(super) fn format_count(count: usize, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

/// Renders the journal's word for an outcome, coloured by its meaning.
pub(super) fn render_outcome(word: &str) -> Markup {
    let class = match word {
        "succeeded" => "good",
        "failed" | "timed_out" => "bad-word",
        "deferred" | "interrupted" => "warn-word",
        _ => "",
    };
    html! { span .word .(class) { (word.replace('_', " ")) } }
}

/// Renders the outcome of a run, or `running` if the run has not ended.
pub(super) fn render_run_outcome(ended: Option<Outcome>) -> Markup {
    match ended {
        Some(ended) => render_outcome(ended.word()),
        None => html! { span .word .busy { "running" } },
    }
}

/// Returns the address of the search for this text.
pub(super) fn search_url(text: &str) -> String {
    format!("/search?q={}", url_encode(text))
}

/// Returns the address of an entry's page.
pub(super) fn entry_url(entry: &str) -> String {
    format!("/entry?name={}", url_encode(entry))
}

fn url_encode(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
