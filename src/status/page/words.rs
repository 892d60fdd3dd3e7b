//! Moments, spans, sizes and outcomes as they stand on a page.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use indicatif::{HumanBytes, HumanDuration};
use maud::{Markup, html};

use crate::journal::Outcome;

/// A moment as seen from now, and on the clock: `in 3m 14:05:00`.
pub(super) fn when(moment: DateTime<Utc>, now: DateTime<Utc>) -> Markup {
    html! {
        time datetime=(moment.to_rfc3339_opts(SecondsFormat::Secs, true)) { (distance(moment, now)) }
        " " small { (clock(moment, now)) }
    }
}

/// `in 3m`, `3m ago`.
pub(super) fn distance(moment: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let seconds = (moment - now).num_seconds();
    let span = span(Duration::from_secs(seconds.unsigned_abs()));
    match seconds {
        0 => "now".to_owned(),
        1.. => format!("in {span}"),
        _ => format!("{span} ago"),
    }
}

/// `14:05:00` today, else with the date and without seconds.
pub(super) fn clock(moment: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let is_today = moment.date_naive() == now.date_naive();
    moment.format(if is_today { "%H:%M:%S" } else { "%Y-%m-%d %H:%M" }).to_string()
}

/// One unit, rounded: `12s`, `3m`, `5d`.
pub(super) fn span(span: Duration) -> String {
    format!("{:#}", HumanDuration(span))
}

/// The span from one moment to a later one.
pub(super) fn between(start: DateTime<Utc>, end: DateTime<Utc>) -> String {
    span((end - start).to_std().unwrap_or_default())
}

/// `1.21 GiB`.
pub(super) fn bytes(count: u64) -> String {
    HumanBytes(count).to_string()
}

/// How many, and of what: `1 run`, `2 runs`.
pub(super) fn many(count: usize, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

/// The word of an outcome (the journal's own) for people, coloured by what it means.
pub(super) fn outcome(word: &str) -> Markup {
    let class = match word {
        "succeeded" => "good",
        "failed" | "timed_out" => "bad-word",
        "postponed" | "interrupted" => "warn-word",
        _ => "",
    };
    html! { span .word .(class) { (word.replace('_', " ")) } }
}

/// The outcome of a run that may still go on.
pub(super) fn outcome_of(ended: Option<Outcome>) -> Markup {
    match ended {
        Some(ended) => outcome(ended.word()),
        None => html! { span .word .busy { "running" } },
    }
}

/// The address of what a search for this text finds.
pub(super) fn search_for(text: &str) -> String {
    format!("/search?q={}", encoded(text))
}

/// The address of an entry's page.
pub(super) fn page_of(entry: &str) -> String {
    format!("/entry?name={}", encoded(entry))
}

fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
