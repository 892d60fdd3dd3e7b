//! Context of a run: the services that the run uses, the request for the run, and the results that the run collects.

pub(super) mod engine;
pub(super) mod run;
pub(super) mod staged_records;
