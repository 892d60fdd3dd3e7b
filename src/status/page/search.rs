//! The page `/search`: which entries, arrivals and tags meet what was typed.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::frame::Frame;
use super::words::{bytes, many, page_of, search_for, when};
use crate::journal::{EvidenceRecord, Found, Search, SeenTag};
use crate::oci::Digest;
use crate::status::history::{Past, Unanswered};
use crate::status::{EntryState, Snapshot};

/// How many entries are listed.
const ENTRIES: usize = 100;

/// What meets `typed`.
pub(in crate::status) async fn search(snapshot: &Snapshot, past: &Past, typed: &str, now: DateTime<Utc>) -> Markup {
    let main = match Search::read(typed) {
        None if typed.trim().is_empty() => html! { h2 { "Search" } p { (HOW) } },
        None => html! { h2 { "Search" } p { "That is too long: at most " (Search::LONGEST) " bytes are looked for." } },
        Some(search) => results(snapshot, typed.trim(), &past.search(search).await, now),
    };
    let title = if typed.trim().is_empty() { "search".to_owned() } else { format!("{}: search", typed.trim()) };
    Frame { title: &title, sought: typed.trim(), renewed: false }.around(&main, snapshot, now)
}

const HOW: &str = "Type a tag, a repository, repository:tag, or a digest or at least six digits of its beginning.";

fn results(snapshot: &Snapshot, typed: &str, found: &Result<Found, Unanswered>, now: DateTime<Utc>) -> Markup {
    let meets = |entry: &&EntryState| {
        entry.name.contains(typed)
            || entry.source.contains(typed)
            || entry.targets.iter().any(|target| target.contains(typed))
    };
    let entries: Vec<_> = snapshot.entries.iter().filter(meets).collect();
    html! {
        h2 { "What meets “" (typed) "”" }
        @match found {
            Err(why) => { p .reason { "The past cannot be searched: " (why) "." } }
            Ok(found) if found.is_cut => {
                p .warn-word {
                    "This is not all: a list was full, or time was up. Type more of it, or ask "
                    code { "transship evidence" } "."
                }
            }
            Ok(found) if entries.is_empty() && found.arrivals.is_empty() && found.seen.is_empty() => {
                p { "Nothing: no such entry, nothing that arrived, and no tag that was seen. " (HOW) }
            }
            Ok(_) => {}
        }
        (entry_list(&entries))
        @if let Ok(found) = found { (arrivals(&found.arrivals, now)) (seen(&found.seen, now)) }
    }
}

fn entry_list(entries: &[&EntryState]) -> Markup {
    html! {
        @if !entries.is_empty() {
            h2 { (many(entries.len(), "entry", "entries")) }
            ul {
                @for entry in entries.iter().take(ENTRIES) {
                    li { a href=(page_of(&entry.name)) { (entry.name) } " " span .quiet { (entry.source) " → " (entry.targets.join(", ")) } }
                }
            }
            @if entries.len() > ENTRIES { p .quiet { "And " (entries.len() - ENTRIES) " more." } }
        }
    }
}

fn arrivals(arrivals: &[EvidenceRecord], now: DateTime<Utc>) -> Markup {
    html! {
        @if !arrivals.is_empty() {
            h2 #arrived { "What arrived" }
            table aria-labelledby="arrived" {
                caption { "By evidence, the latest first. A digest at the source is told where it is another one." }
                thead { tr { th { "When" } th { "Tag and digest" } th { "From and to" } th { "Entry and run" } th .number { "Sent" } } }
                tbody { @for record in arrivals { (arrival(record, now)) } }
            }
        }
    }
}

fn arrival(record: &EvidenceRecord, now: DateTime<Utc>) -> Markup {
    let arrival = &record.arrival;
    html! {
        tr {
            td data-name="When" { (when(arrival.ended, now)) }
            td data-name="Tag" {
                @match &arrival.tag {
                    Some(tag) => { strong { (tag) } }
                    None => { span .quiet { "without a tag" } }
                }
                " " (full(&arrival.digest))
                @if arrival.source_digest != arrival.digest { " " small { "source " (full(&arrival.source_digest)) } }
            }
            td data-name="From" { (arrival.source) " " small { "as " (arrival.source_identity) } " → " (arrival.target) " " small { "as " (arrival.target_identity) } }
            td data-name="Entry" { a href=(page_of(&record.entry)) { (record.entry) } " " small { "run " (record.run) } }
            td .number data-name="Sent" { (bytes(arrival.bytes)) }
        }
    }
}

fn seen(seen: &[SeenTag], now: DateTime<Utc>) -> Markup {
    html! {
        @if !seen.is_empty() {
            h2 #seen { "What runs saw" }
            table aria-labelledby="seen" {
                caption { "Tags at the source and at the target, as runs of an entry saw them; the last seen first." }
                thead { tr { th { "Tag and digest at the source" } th { "At the target" } th { "From and to" } th { "Entry" } th { "First and last seen" } } }
                tbody { @for tag in seen { (seen_tag(tag, now)) } }
            }
        }
    }
}

fn seen_tag(seen: &SeenTag, now: DateTime<Utc>) -> Markup {
    let tag = &seen.tag;
    html! {
        tr {
            td data-name="Tag" { strong { (tag.tag) } " " (full(&tag.source_digest)) }
            td data-name="At the target" {
                @match &tag.target_digest {
                    None => { "no such tag then" }
                    Some(digest) if *digest == tag.source_digest => { "the same" }
                    Some(digest) => { (full(digest)) }
                }
            }
            td data-name="From" { (tag.source) br; "→ " (tag.target) }
            td data-name="Entry" { a href=(page_of(&seen.entry)) { (seen.entry) } }
            td data-name="First seen" { (when(tag.first_seen, now)) " " (when(tag.last_seen, now)) }
        }
    }
}

fn full(digest: &Digest) -> Markup {
    let digest = digest.to_string();
    html! { a .digest href=(search_for(&digest)) { (digest) } }
}
