//! Run of one entry: its decisions, its requests and its copies. The daemon, `once`, `copy` and `plan` use this module.

mod comparison;
mod context;
mod endpoints;
mod journaling;
mod login;
mod referrers;
mod report;
mod repository;
mod run;
mod selection;

pub use context::engine::{Engine, RunRequest, Stop};
pub use endpoints::clients::{AccessContext, Endpoints, OpenError, RateLimited};
pub use journaling::recovery::report_orphaned_intents;
pub use login::answers::{LoginAnswer, LoginReport, UnknownHost};
pub use login::login_check::login_check;
pub use report::run_events::{RunEvent, RunObserver};
pub use report::run_report::{InDoubt, LeftBehindReport, RunOutcome, RunReport, TagOutcome, TagReport};
pub use run::preview::{
    CountedReads, EntryPreview, PairPreview, PlannedContent, PlannedPulls, TagPreview, preview, preview_with_reads,
};
pub use run::single_copy::{SingleCopy, preview_copy};
pub use selection::tag_filter::TagFilter;

pub(crate) use journaling::recovery::recover_at_start;
pub(crate) use report::run_report::{conflict_message, format_instant};
pub(crate) use run::entry_run::RUN_PANICKED;
pub(crate) use selection::near_tags::NearTags;
