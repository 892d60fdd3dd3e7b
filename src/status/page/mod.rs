//! Pages for people: the overview, the page of an entry, the search, and the help. Each page is a complete HTML
//! document that loads nothing from other hosts and needs no script. In a browser with scripts, the pages refresh
//! themselves.
//!
//! Text from other sources (configuration, registries, journal) is never markup, because the templates escape the text.

mod cause;
mod chart;
mod condition;
mod entries;
mod entry;
mod failing;
mod frame;
mod headline;
mod help;
mod not_found;
mod overview;
mod registries;
mod rules;
mod running;
mod search;
mod state;
mod view;
mod warnings;
mod words;

#[cfg(test)]
mod tests;

pub(super) use entry::entry;
pub(super) use frame::policy;
pub(super) use help::help;
pub(super) use not_found::not_found;
pub(super) use overview::overview;
pub(super) use search::search;
pub(super) use view::View;
