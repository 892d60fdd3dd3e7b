//! List of warnings on the overview and on the page of an entry.

use maud::{Markup, html};

use super::words::render_entry_link;
use crate::config::Warning;

/// Maximum number of warnings that are shown. `/status` has all warnings.
const SHOWN: usize = 8;

/// Renders a list of warnings, or nothing if there are none. If `names_entries` is true, each warning begins with the
/// name of its entry.
pub(super) fn warnings(all: &[&Warning], names_entries: bool) -> Markup {
    html! {
        @if !all.is_empty() {
            h2 #warnings { "Warnings" }
            ul aria-labelledby="warnings" {
                @for warning in all.iter().take(SHOWN) {
                    li {
                        @if let (true, Some(entry)) = (names_entries, &warning.entry) {
                            (render_entry_link(entry)) ": "
                        }
                        bdi .error { (warning.text) }
                        @if let Some(remedy) = &warning.remedy { " " small .error { (remedy) } }
                    }
                }
            }
            @if all.len() > SHOWN { p .quiet { "And " (all.len() - SHOWN) " more, in /status." } }
        }
    }
}
