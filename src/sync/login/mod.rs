//! Checks of `login-check`, and the list of the access that runs need.

pub(super) mod answers;
pub(super) mod login_check;
mod required_access;
