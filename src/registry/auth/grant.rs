//! `Authorization` headers, each with a serial number. The serial number distinguishes two headers with the same value.

use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderValue;

use super::credentials::Login;
use super::error::AuthError;

/// `Authorization` header with a unique serial number.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    header: HeaderValue,
    number: u64,
}

impl Grant {
    pub(crate) fn header(&self) -> &HeaderValue {
        &self.header
    }

    /// Returns true if both grants have the same serial number.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

/// Source of the serial numbers for the grants of one identity.
#[derive(Debug, Default)]
pub(super) struct GrantNumbers(AtomicU64);

impl GrantNumbers {
    /// Creates a grant with the next serial number.
    pub(super) fn create_grant(&self, header: HeaderValue) -> Grant {
        Grant { header, number: self.0.fetch_add(1, Ordering::Relaxed) }
    }

    /// Creates a Basic grant from a user name and a password.
    pub(super) fn create_basic(&self, login: &Login) -> Result<Grant, AuthError> {
        let token = "the registry requires a user name and a password, and only a token is configured: set `username` \
                     and `password` under `credentials`";
        let header = login.basic()?.ok_or_else(|| AuthError::denied(token))?;
        Ok(self.create_grant(header))
    }
}
