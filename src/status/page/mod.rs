//! Pages for people: the overview, the page of an entry, and the search. Each page is a complete HTML document that
//! loads nothing from other hosts and needs no script. In a browser with scripts, the pages refresh themselves.
//!
//! Text from other sources (configuration, registries, journal) is never markup, because the templates escape the text.

mod chart;
mod entries;
mod entry;
mod frame;
mod overview;
mod registries;
mod rules;
mod running;
mod search;
mod state;
mod warnings;
mod words;

#[cfg(test)]
mod tests;

pub(super) use entry::entry;
pub(super) use frame::policy;
pub(super) use overview::overview;
pub(super) use search::search;
