//! Results of the checks of `login-check`, and the limits of each check.

use std::time::Duration;

use crate::oci::RegistryHost;

/// Maximum number of checks that run at one registry at once. The registry's own limits apply in addition.
pub(crate) const CHECKS_AT_ONCE: usize = 8;

/// Maximum duration of one check, including the waits that the registry requests.
pub(crate) const CHECK_TIMEOUT: Duration = Duration::from_secs(60);

/// Result of the checks of one registry.
#[derive(Debug, Clone, serde::Serialize)]
pub struct LoginReport {
    /// The registry.
    pub registry: RegistryHost,
    /// The checks, in the order in which they were made.
    pub checks: Vec<LoginAnswer>,
}

/// One check and its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginAnswer {
    /// True if a run gets the access that it needs.
    pub ok: bool,
    /// True if the check failed for access that runs can do without, or if its result is uncertain.
    pub warning: bool,
    /// Kind of the check: `reach`, `auth`, `login`, `catalog`, `pull`, `push`, `mirror` or `limits`.
    pub check: &'static str,
    /// The identity with which the check was made.
    pub identity: Option<String>,
    /// The repository of the check, if the check concerns only one repository.
    pub repository: Option<String>,
    /// The entries that need this access.
    pub entries: Vec<String>,
    /// The result, or the error and its remedy.
    pub detail: String,
}

/// Error of a request to check a host that no registry and no entry of the configuration has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the configuration has no registry {0}; its registries: {1}")]
pub struct UnknownHost(pub(super) RegistryHost, pub(super) String);

impl LoginReport {
    /// Returns true if no check failed.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }
}

impl serde::Serialize for LoginAnswer {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Json<'a> {
            check: &'static str,
            outcome: &'static str,
            identity: &'a Option<String>,
            repository: &'a Option<String>,
            entries: &'a [String],
            reason: &'a str,
        }
        let Self { ok: _, warning: _, check, identity, repository, entries, detail } = self;
        Json { check, outcome: self.outcome_word(), identity, repository, entries, reason: detail }
            .serialize(serializer)
    }
}

impl LoginAnswer {
    /// Returns the outcome in JSON: `ok`, `warning` or `failed`.
    #[must_use]
    pub fn outcome_word(&self) -> &'static str {
        match (self.ok, self.warning) {
            (true, false) => "ok",
            (true, true) => "warning",
            (false, _) => "failed",
        }
    }

    /// Creates a check from its result or its error.
    pub(crate) fn new(check: &'static str, result: Result<String, String>) -> Self {
        let ok = result.is_ok();
        let detail = result.unwrap_or_else(|error| error);
        Self { ok, warning: false, check, identity: None, repository: None, entries: Vec::new(), detail }
    }

    /// Returns this check with the identity with which it was made.
    pub(super) fn with_identity(self, identity: String) -> Self {
        Self { identity: Some(identity), ..self }
    }

    /// Returns this check with a warning, because its result is uncertain.
    pub(super) fn doubtful(self) -> Self {
        Self { warning: true, ..self }
    }

    /// Returns this check as passed, because runs continue without the checked access. A failure becomes a warning.
    pub(super) fn dispensable(self) -> Self {
        Self { ok: true, warning: self.warning || !self.ok, ..self }
    }
}

/// Returns the message of a check that took longer than `limit`.
pub(crate) fn timeout_message(limit: Duration) -> String {
    format!("no answer within {}", humantime::format_duration(limit))
}
