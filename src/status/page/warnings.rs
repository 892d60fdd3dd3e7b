//! Warnings, as the overview and the page of an entry show them.

use maud::{Markup, html};

use super::words::page_of;
use crate::config::Warning;

/// The most warnings that are shown; `/status` has all.
const SHOWN: usize = 20;

/// A list of warnings, nothing where there are none. The overview names the entry of each.
pub(super) fn warnings(all: &[&Warning], names_entries: bool) -> Markup {
    html! {
        @if !all.is_empty() {
            h2 #warnings { "Warnings" }
            ul aria-labelledby="warnings" {
                @for warning in all.iter().take(SHOWN) {
                    li {
                        @if let (true, Some(entry)) = (names_entries, &warning.entry) {
                            a href=(page_of(entry)) { (entry) } ": "
                        }
                        bdi { (warning.text) }
                        @if let Some(remedy) = &warning.remedy { " " small { (remedy) } }
                    }
                }
            }
            @if all.len() > SHOWN { p .quiet { "And " (all.len() - SHOWN) " more, in /status." } }
        }
    }
}
