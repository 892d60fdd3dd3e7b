//! Page `/search`: entries, arrivals and tags that match the typed text.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::frame::Frame;
use super::words::{format_count, render_bytes, render_distance, render_entry_link, render_reference, search_url};
use crate::journal::{EvidenceRecord, ListEnd, Search, SearchResults, SeenTag};
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

/// Remedy for a list that may be incomplete.
const REMEDY: &str = "refine the search, or use `transship evidence`.";

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
            Ok(found) if entries.is_empty() && found.arrivals.is_empty() && found.seen.is_empty() => {
                @match found.arrivals_end.max(found.seen_end) {
                    ListEnd::Complete => p { "No results: no entry, no arrival and no observed tag matches. " (HINT) },
                    _ => p .warn-word { "No results within the time limit. Older records may match: " (REMEDY) },
                }
            }
            Ok(_) => {}
        }
        (entry_list(&entries))
        @if let Ok(found) = found {
            (arrivals(&found.arrivals, found.arrivals_end, now))
            (observed_tags(&found.seen, found.seen_end, now))
        }
    }
}

fn entry_list(entries: &[&EntryState]) -> Markup {
    html! {
        @if !entries.is_empty() {
            h2 { (format_count(entries.len(), "entry", "entries")) }
            ul {
                @for entry in entries.iter().take(ENTRIES) {
                    li {
                        (render_entry_link(&entry.name))
                        " " span .quiet {
                            (render_reference(&entry.source))
                            @for target in &entry.targets { " → " (render_reference(target)) }
                        }
                    }
                }
            }
            @if entries.len() > ENTRIES { p .quiet { "And " (entries.len() - ENTRIES) " more." } }
        }
    }
}

fn arrivals(arrivals: &[EvidenceRecord], end: ListEnd, now: DateTime<Utc>) -> Markup {
    html! {
        @if !arrivals.is_empty() {
            h2 #arrived { "Arrivals" }
            (render_incomplete(end, arrivals.len(), "arrivals"))
            table .results aria-labelledby="arrived" {
                caption { "Tags and digests that were copied to a target, from the evidence, the latest first. "
                    "The digest at the source is shown if it differs." }
                thead { tr {
                    th { "Time" } th { "Tag and digest" } th { "Kind" } th { "From and to" } th { "Entry and run" }
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
            td data-name="Time" { (render_distance(arrival.ended, now)) }
            td data-name="Tag" {
                @if let Some(tag) = &arrival.tag { strong { (render_reference(tag.as_str())) } " " }
                (render_digest(&arrival.digest))
                @if arrival.source_digest != arrival.digest {
                    " " small { "source " (render_digest(&arrival.source_digest)) }
                }
            }
            td data-name="Kind" { (describe_kind(arrival.kind.word(), arrival.tag.is_some())) }
            td data-name="From" {
                (render_reference(&arrival.source)) " " span .quiet { "as " (arrival.source_identity) }
                br; "→ " (render_reference(&arrival.target)) " " span .quiet { "as " (arrival.target_identity) }
            }
            td data-name="Entry" { (render_entry_link(&record.entry)) " " small { "run " (record.run) } }
            td .number data-name="Sent" { (render_bytes(arrival.bytes)) }
        }
    }
}

/// Describes the kind of an arrival, from its word in the journal.
fn describe_kind(word: &str, has_tag: bool) -> &str {
    match word {
        "tag" if has_tag => "tag",
        "tag" => "digest without a tag",
        "kept_previous" => "previous tag",
        "referrers_list" => "list of referrers",
        other => other,
    }
}

/// Renders the reason why a list of results may be incomplete, or nothing if the list is complete.
fn render_incomplete(end: ListEnd, shown: usize, noun: &str) -> Markup {
    html! {
        @match end {
            ListEnd::Complete => {}
            ListEnd::Full => { p .warn-word { "More " (noun) " match than the " (shown) " below: " (REMEDY) } }
            ListEnd::TimeLimit => {
                p .warn-word { "The search ended at its time limit, so further " (noun) " may match: " (REMEDY) }
            }
        }
    }
}

fn observed_tags(tags: &[SeenTag], end: ListEnd, now: DateTime<Utc>) -> Markup {
    html! {
        @if !tags.is_empty() {
            h2 #seen { "Observed tags" }
            (render_incomplete(end, tags.len(), "tags"))
            table .results aria-labelledby="seen" {
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
            td data-name="Tag" {
                strong { (render_reference(tag.tag.as_str())) } " " (render_digest(&tag.source_digest))
            }
            td data-name="At the target" {
                @match &tag.target_digest {
                    None => { "the tag was absent" }
                    Some(digest) if *digest == tag.source_digest => { "the same" }
                    Some(digest) => { (render_digest(digest)) }
                }
            }
            td data-name="From" { (render_reference(&tag.source)) br; "→ " (render_reference(&tag.target)) }
            td data-name="Entry" { (render_entry_link(&observed.entry)) }
            td data-name="First and last observed" {
                (render_distance(tag.first_seen, now)) ", " (render_distance(tag.last_seen, now))
            }
        }
    }
}

/// Renders the beginning of a digest. The link and the tooltip have the whole digest.
fn render_digest(digest: &Digest) -> Markup {
    let whole = digest.to_string();
    html! { a .digest href=(search_url(&whole)) title=(whole) { (digest.short()) } }
}
