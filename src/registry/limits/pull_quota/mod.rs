//! Pull quota of one identity at a registry that counts manifest reads (Docker Hub's `ratelimit-limit` and
//! `ratelimit-remaining`). The client does not send a read beyond the quota. The caller decides which tags use the
//! remaining reads.

mod attempt;
mod budget;
mod headers;
mod ledger;
mod quota;

#[cfg(test)]
mod tests;

pub(crate) use attempt::{AnswerHead, AttemptEnd, ProbeGuard, Reads};
pub use quota::QuotaState;
pub(crate) use quota::{Quota, QuotaError};
