//! Error of authentication: the reason why a request has no credentials.

use crate::store::ErrorKind;

/// Reason why the client cannot provide credentials for a request.
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
