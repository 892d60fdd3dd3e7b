//! Frame of each page: head, search field, foot, and the content security policy. The policy forbids the browser to
//! load or run anything that is not part of the page.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};

use super::words::render_time;
use crate::status::Snapshot;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("refresh.js");

/// Interval in seconds at which a page reloads in a browser without scripts.
const RELOAD: u32 = 30;

/// Returns the value of `Content-Security-Policy`. The policy allows the style and the script of the page. The script
/// may connect only to this port.
pub(crate) fn policy() -> String {
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    format!(
        "default-src 'none'; style-src {}; script-src {}; connect-src 'self'; form-action 'self'; img-src data:; \
         frame-ancestors 'none'; base-uri 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
}

/// HTML document around a page's main part.
pub(super) struct Frame<'a> {
    /// The text before the program's name in the title.
    pub(super) title: &'a str,
    /// The text in the search field.
    pub(super) search_text: &'a str,
    /// True if the page refreshes itself automatically.
    pub(super) refreshed: bool,
}

impl Frame<'_> {
    /// Puts the main part into the document. Replaces directional characters.
    pub(super) fn wrap(&self, main: &Markup, snapshot: &Snapshot, now: DateTime<Utc>) -> Markup {
        PreEscaped(self.document(main, snapshot, now).into_string().replace(is_bidi_control, "\u{fffd}"))
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
                    @if self.refreshed { noscript { meta http-equiv="refresh" content=(RELOAD); } }
                }
                body {
                    header {
                        h1 { a href="/" { "transship" } }
                        form action="/search" role="search" {
                            label .hidden for="q" { "Entry, tag, digest or repository" }
                            input #q type="search" name="q" value=(self.search_text) maxlength="1024" autocomplete="off"
                                spellcheck="false" placeholder="Entry, tag or digest";
                            button { "Search" }
                        }
                    }
                    p #stale role="alert" hidden { "The daemon does not respond. The data below is outdated." }
                    main { (main) }
                    (foot(snapshot, now))
                    @if self.refreshed { script { (PreEscaped(SCRIPT)) } }
                }
            }
        }
    }
}

/// Returns true for a directional character (Unicode Bidirectional Algorithm, 2.1 to 2.4). An unclosed directional
/// character in a foreign text would reverse the text of the page after it, and no style prevents this.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn foot(snapshot: &Snapshot, now: DateTime<Utc>) -> Markup {
    html! {
        footer {
            p {
                "Running since " (render_time(snapshot.started, now)) ". Configuration "
                @match snapshot.configuration.loaded_at {
                    Some(read) => { code { (snapshot.configuration.path) } ", read " (render_time(read, now)) "." }
                    None => { "not read yet." }
                }
                " Journal " code { (snapshot.journal.path) } ". All times are UTC."
            }
            p { a href="/status" { "As JSON" } " · " a href="/metrics" { "Metrics" } " · " a href="/help" { "Help" } }
        }
    }
}
