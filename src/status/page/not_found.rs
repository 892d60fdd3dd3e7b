//! Page for an address that does not exist.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::frame::Frame;
use crate::status::Snapshot;

/// Renders a page that states the problem, and the ways to other pages.
pub(crate) fn not_found(snapshot: &Snapshot, message: &str, now: DateTime<Utc>) -> Markup {
    let main = html! {
        section .state .warn aria-labelledby="state" {
            h2 #state { "Not found" }
            p .error { (message) "." }
            p { "Go to the " a href="/" { "overview" } ", or search for an entry or a tag with the field above." }
        }
    };
    Frame { title: "not found", search_text: "", refreshed: false }.wrap(&main, snapshot, now)
}
