//! The pages for a person: the overview, one entry, and the search. Whole documents of HTML that need nothing from elsewhere and no
//! script; with one they renew themselves.
//!
//! Whatever was written by others (configuration, registries, journal) is text here: the templates escape it.

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
