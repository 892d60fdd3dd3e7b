//! Context of an operation: the repository, the step, the subject, the tenant and the retry budget. Error messages name
//! the repository, the step and the subject.

use std::sync::Arc;

use super::retry_budget::{Budget, Budgets};
use crate::fair_queue::Tenant;
use crate::registry::Flavor;
use crate::store::{ErrorKind, Step, StoreError};

/// Context of one operation. The client uses the context to create errors and to limit retries.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    /// Repository or registry, for messages.
    pub(crate) place: Arc<str>,
    pub(crate) step: Step,
    /// Tag or digest, for messages; empty if the operation has no tag and no digest.
    pub(crate) subject: String,
    /// Tenant of the operation. The limits of the client distribute capacity fairly between tenants.
    pub(crate) tenant: Tenant,
    /// Flavour of the registry. The flavour determines the hints in error messages.
    pub(crate) flavor: &'static Flavor,
    /// Retry budget of the blob, manifest or list with which the operation works.
    pub(crate) budget: Budget,
}

impl Context {
    /// Creates the context of an operation, for the default tenant. `place` is the repository or the registry.
    /// `subject` is a tag, a digest or an empty text.
    pub(crate) fn new(
        place: Arc<str>,
        step: Step,
        subject: String,
        flavor: &'static Flavor,
        budgets: &Arc<Budgets>,
    ) -> Self {
        let budget = Budget::new(budgets, &place, step, &subject);
        Self { place, step, subject, tenant: Tenant::default(), flavor, budget }
    }

    /// Creates an error of this operation. If the error is transient and the retry budget is spent, marks the error as
    /// given up.
    pub(crate) fn error(&self, kind: ErrorKind, detail: impl std::fmt::Display) -> StoreError {
        let error = StoreError::new(&self.place, self.step, &self.subject, kind, detail);
        if error.is_transient() && self.budget.is_spent() { error.mark_given_up() } else { error }
    }

    /// Returns the context of another step with the same repository, subject and tenant.
    pub(crate) fn at_step(&self, step: Step) -> Self {
        Self { step, budget: self.budget.at_step(step), ..self.clone() }
    }
}
