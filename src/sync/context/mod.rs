//! Context of a run: the services that it uses, its request, and the results that it collects.

pub(super) mod engine;
pub(super) mod run;
