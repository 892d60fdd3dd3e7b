//! Run of one entry: its decisions, its requests and its copies. The daemon, `once`, `copy` and `plan` use it.

mod choice;
mod compare;
mod conflicts;
mod coverage;
mod derived;
mod endpoints;
mod journaling;
mod late_referrers;
mod listing;
mod login;
mod pairs;
pub(super) mod preview;
mod quotas;
pub(super) mod recovery;
mod referrer_checks;
mod repeated_failures;
pub(super) mod report;
mod repository_sync;
mod required_access;
mod reserved_tags;
pub(super) mod run;
mod run_events;
mod single;
mod tag_filter;
mod tag_slots;
mod target_listing;
mod unfinished;

pub use endpoints::{AccessContext, Endpoints, OpenError};
pub use login::{LoginAnswer, LoginReport, UnknownHost, login_check};
pub use preview::{EntryPreview, PairPreview, TagPreview, preview};
pub use recovery::report_orphaned_intents;
pub use report::{InDoubt, LeftBehindReport, RunOutcome, RunReport, TagOutcome, TagReport};
pub use run::{Engine, RunRequest, Stop};
pub use run_events::{RunEvent, RunObserver};
pub use single::SingleCopy;
pub use tag_filter::TagFilter;
