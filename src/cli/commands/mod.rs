//! Commands of the command line, one file each.

pub(super) mod check;
pub(super) mod completions;
pub(super) mod copy;
pub(super) mod evidence;
pub(super) mod history;
pub(super) mod import_config;
pub(super) mod inspect;
pub(super) mod limits;
pub(super) mod login_check;
pub(super) mod man;
pub(super) mod next;
mod offline_status;
pub(super) mod once;
pub(super) mod pause;
pub(super) mod plan;
pub(super) mod repositories;
pub(super) mod resume;
pub(super) mod run;
pub(super) mod schema;
pub(super) mod status;
pub(super) mod tags;
pub(super) mod trigger;
