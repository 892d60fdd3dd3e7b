//! Page `/search`: entries, arrivals and tags that match the typed text.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::frame::Frame;
use super::words::{entry_url, format_bytes, format_count, render_time, search_url};
use crate::journal::{EvidenceRecord, Search, SearchResults, SeenTag};
use crate::oci::Digest;
use crate::status::history::{HistoryError, LimitedHistory};
use crate::status::{EntryState, Snapshot};

/// Maximum number of entries that are listed.
const ENTRIES: usize = 100;

/// Renders the results of a search for the text `typed`.
pub(crate) async fn search(snapshot: &Snapshot, history: &LimitedHistory, typed: &str, now: DateTime<Utc>) -> Markup {
    let main = match Search::read(typed) {
        None if typed.trim().is_empty() => html! { h2 { "Search" } p { (HINT) } },
        None => {
            html! { h2 { "Search" } p { "The text is too long: a search takes at most " (Search::LONGEST) " bytes." } }
        }
        Some(search) => results(snapshot, typed.trim(), &history.search(search).await, now),
    };
    let title = if typed.trim().is_empty() { "search".to_owned() } else { format!("{}: search", typed.trim()) };
    Frame { title: &title, search_text: typed.trim(), refreshed: false }.wrap(&main, snapshot, now)
}

const HINT: &str = "Type a tag, a repository, repository:tag, a digest, or at least the first six digits of a digest.";

fn results(
    snapshot: &Snapshot,
    typed: &str,
    found: &Result<SearchResults, HistoryError>,
    now: DateTime<Utc>,
) -> Markup {
    let matches = |entry: &&EntryState| {
        entry.name.contains(typed)
            || entry.source.contains(typed)
            || entry.targets.iter().any(|target| target.contains(typed))
    };
    let entries: Vec<_> = snapshot.entries.iter().filter(matches).collect();
    html! {
        h2 { "Results for “" (typed) "”" }
        @match found {
            Err(why) => { p .reason { "The history cannot be searched: " (why) "." } }
            Ok(found) if found.is_cut => {
                p .warn-word {
                    "These results are incomplete: a list was full, or the time limit was reached. "
                    "Refine the search, or use "
                    code { "transship evidence" } "."
                }
            }
            Ok(found) if entries.is_empty() && found.arrivals.is_empty() && found.seen.is_empty() => {
                p { "No results: no entry, no arrival and no observed tag matches. " (HINT) }
            }
            Ok(_) => {}
        }
        (entry_list(&entries))
        @if let Ok(found) = found { (arrivals(&found.arrivals, now)) (observed_tags(&found.seen, now)) }
    }
}

fn entry_list(entries: &[&EntryState]) -> Markup {
    html! {
        @if !entries.is_empty() {
            h2 { (format_count(entries.len(), "entry", "entries")) }
            ul {
                @for entry in entries.iter().take(ENTRIES) {
                    li {
                        a href=(entry_url(&entry.name)) { (entry.name) }
                        " " span .quiet { (entry.source) " → " (entry.targets.join(", ")) }
                    }
                }
            }
            @if entries.len() > ENTRIES { p .quiet { "And " (entries.len() - ENTRIES) " more." } }
        }
    }
}

fn arrivals(arrivals: &[EvidenceRecord], now: DateTime<Utc>) -> Markup {
    html! {
        @if !arrivals.is_empty() {
            h2 #arrived { "Arrivals" }
            table aria-labelledby="arrived" {
                caption { "Tags and digests that were copied to a target, from the evidence, the latest first. "
                    "The digest at the source is shown if it differs." }
                thead { tr {
                    th { "Time" } th { "Tag and digest" } th { "From and to" } th { "Entry and run" }
                    th .number { "Sent" }
                } }
                tbody { @for record in arrivals { (arrival(record, now)) } }
            }
        }
    }
}

fn arrival(record: &EvidenceRecord, now: DateTime<Utc>) -> Markup {
    let arrival = &record.arrival;
    html! {
        tr {
            td data-name="Time" { (render_time(arrival.ended, now)) }
            td data-name="Tag" {
                @match &arrival.tag {
                    Some(tag) => { strong { (tag) } }
                    None => { span .quiet { "without a tag" } }
                }
                " " (render_digest(&arrival.digest))
                @if arrival.source_digest != arrival.digest {
                    " " small { "source " (render_digest(&arrival.source_digest)) }
                }
            }
            td data-name="From" {
                (arrival.source) " " small { "as " (arrival.source_identity) }
                " → " (arrival.target) " " small { "as " (arrival.target_identity) }
            }
            td data-name="Entry" {
                a href=(entry_url(&record.entry)) { (record.entry) } " " small { "run " (record.run) }
            }
            td .number data-name="Sent" { (format_bytes(arrival.bytes)) }
        }
    }
}

fn observed_tags(tags: &[SeenTag], now: DateTime<Utc>) -> Markup {
    html! {
        @if !tags.is_empty() {
            h2 #seen { "Observed tags" }
            table aria-labelledby="seen" {
                caption { "Tags at the source and at the target, as observed by runs, the last observed first." }
                thead { tr {
                    th { "Tag and digest at the source" } th { "At the target" } th { "From and to" } th { "Entry" }
                    th { "First and last observed" }
                } }
                tbody { @for tag in tags { (observed_tag(tag, now)) } }
            }
        }
    }
}

fn observed_tag(observed: &SeenTag, now: DateTime<Utc>) -> Markup {
    let tag = &observed.tag;
    html! {
        tr {
            td data-name="Tag" { strong { (tag.tag) } " " (render_digest(&tag.source_digest)) }
            td data-name="At the target" {
                @match &tag.target_digest {
                    None => { "the tag was absent" }
                    Some(digest) if *digest == tag.source_digest => { "the same" }
                    Some(digest) => { (render_digest(digest)) }
                }
            }
            td data-name="From" { (tag.source) br; "→ " (tag.target) }
            td data-name="Entry" { a href=(entry_url(&observed.entry)) { (observed.entry) } }
            td data-name="First and last observed" {
                (render_time(tag.first_seen, now)) " " (render_time(tag.last_seen, now))
            }
        }
    }
}

fn render_digest(digest: &Digest) -> Markup {
    let digest = digest.to_string();
    html! { a .digest href=(search_url(&digest)) { (digest) } }
}
