//! What is around each page: head, search field, foot, and the policy by which a browser runs and loads nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};

use super::words::when;
use crate::status::Snapshot;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("refresh.js");

/// How often the page comes anew without a script, in seconds.
const RELOAD: u32 = 30;

/// The value of `Content-Security-Policy`: our style, our script, which asks this port only, and nothing else.
pub(in crate::status) fn policy() -> String {
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    format!(
        "default-src 'none'; style-src {}; script-src {}; connect-src 'self'; form-action 'self'; img-src data:; \
         frame-ancestors 'none'; base-uri 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
}

/// A document.
pub(super) struct Frame<'a> {
    /// What stands before the program's name in the title.
    pub(super) title: &'a str,
    /// What stands in the search field.
    pub(super) sought: &'a str,
    /// Whether it comes anew by itself.
    pub(super) renewed: bool,
}

impl Frame<'_> {
    pub(super) fn around(&self, main: &Markup, snapshot: &Snapshot, now: DateTime<Utc>) -> Markup {
        PreEscaped(self.document(main, snapshot, now).into_string().replace(turns_text_round, "\u{fffd}"))
    }

    fn document(&self, main: &Markup, snapshot: &Snapshot, now: DateTime<Utc>) -> Markup {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    title { @if !self.title.is_empty() { (self.title) " · " } "transship" }
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    link rel="icon" href="data:,";
                    style { (PreEscaped(STYLE)) }
                    @if self.renewed { noscript { meta http-equiv="refresh" content=(RELOAD); } }
                }
                body {
                    header {
                        h1 { a href="/" { "transship" } }
                        form action="/search" role="search" {
                            label .hidden for="q" { "Tag, digest or repository" }
                            input #q type="search" name="q" value=(self.sought) maxlength="1024" autocomplete="off"
                                spellcheck="false" placeholder="Tag, digest or repository";
                            button { "Search" }
                        }
                    }
                    p #stale role="alert" hidden { "The daemon does not answer. What stands below is old." }
                    main { (main) }
                    (foot(snapshot, now))
                    @if self.renewed { script { (PreEscaped(SCRIPT)) } }
                }
            }
        }
    }
}

/// Marks of direction (Unicode Bidirectional Algorithm, 2.1 to 2.4). One that others left open would turn round what is ours, and no
/// style keeps it in.
fn turns_text_round(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn foot(snapshot: &Snapshot, now: DateTime<Utc>) -> Markup {
    html! {
        footer {
            p {
                "Running since " (when(snapshot.started, now)) ". Configuration "
                @match snapshot.configuration.loaded_at {
                    Some(read) => { code { (snapshot.configuration.path) } ", read " (when(read, now)) "." }
                    None => { "not read yet." }
                }
                " Journal " code { (snapshot.journal.path) } ". All times are UTC."
            }
            p { a href="/status" { "As JSON" } " · " a href="/metrics" { "Metrics" } }
        }
    }
}
