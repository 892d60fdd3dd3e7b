//! Registry clients and layouts, and the pull quotas that registries report.

pub(super) mod clients;
pub(super) mod pull_quotas;
