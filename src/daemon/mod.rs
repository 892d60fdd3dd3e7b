//! The life of the program: what one run of an entry is, and the loop that starts runs, follows edits and ends cleanly.

mod checks;
mod choice;
mod compare;
mod content;
mod derived;
mod endpoints;
mod front;
mod journaling;
mod late;
mod listing;
mod login;
mod pairs;
mod places;
mod preview;
mod quotas;
mod report;
mod rivals;
mod run;
mod service;
mod state;
mod systemd;
mod tag;
mod there;
mod unfinished;
mod watch;
mod wishes;

pub use endpoints::{Behalf, Endpoints, OpenError};
pub use front::{Front, Happening};
pub use login::{LoginAnswer, LoginReport, UnknownHost, login_check};
pub use preview::{EntryPreview, PairPreview, TagPreview, preview};
pub use report::{RunOutcome, RunReport, TagOutcome, TagReport};
pub use run::{Engine, Errand, Stop};
pub use service::{Environment, Setup, serve};
