//! Checks of `login-check`, and the access that they check.

pub(super) mod answers;
pub(super) mod login_check;
mod required_access;
