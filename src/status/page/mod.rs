//! Pages for people: the overview, one entry, and the search. Complete HTML documents that load nothing from other
//! hosts and need no script; with a script they refresh themselves.
//!
//! Text from other sources (configuration, registries, journal) is never markup: the templates escape it.

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
