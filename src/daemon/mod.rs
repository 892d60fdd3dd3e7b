//! The life of the program: what one run of an entry is, and the loop that starts runs, follows edits and ends cleanly.

mod awaited;
mod checks;
mod choice;
mod compare;
mod content;
mod control;
mod deliveries;
mod derived;
mod endpoints;
mod front;
mod gathering;
mod journaling;
mod late;
mod listing;
mod login;
#[cfg(test)]
mod notice_docs;
mod notices;
mod only;
mod pairs;
mod pauses;
mod places;
mod preview;
mod pruning;
mod pushing;
mod queue;
mod quotas;
mod recovery;
mod repeated;
mod report;
mod rivals;
mod run;
mod service;
mod single;
#[cfg(test)]
mod start_tests;
mod state;
mod systemd;
mod tag;
mod there;
mod traffic;
mod underway;
mod unfinished;
mod watch;
mod wishes;

pub use awaited::Finished;
pub use control::{Accepted, Command, Commands, Control, Refusal};
pub use endpoints::{Behalf, Endpoints, OpenError};
pub use front::{Front, Happening};
pub use login::{LoginAnswer, LoginReport, UnknownHost, login_check};
pub use only::Only;
pub use preview::{EntryPreview, PairPreview, TagPreview, preview};
pub use report::{InDoubt, LeftBehindReport, RunOutcome, RunReport, TagOutcome, TagReport};
pub use run::{Engine, Errand, Stop};
pub use service::{Environment, Setup, serve};
pub use single::Single;
