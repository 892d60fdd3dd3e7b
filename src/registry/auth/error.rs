//! Errors of authentication: the reasons why a request has no credentials.

use crate::store::ErrorKind;

/// Reason why a request has no authorization.
#[derive(Debug, Clone)]
pub(crate) struct AuthError {
    pub(crate) kind: ErrorKind,
    pub(crate) detail: String,
}

impl AuthError {
    pub(crate) fn denied(detail: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Denied, detail: detail.into() }
    }
}
