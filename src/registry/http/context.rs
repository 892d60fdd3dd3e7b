//! Context of an operation: its repository, step, subject, tenant and retry budget. Error messages name the repository,
//! the step and the subject.

use std::sync::Arc;

use super::retry_budget::{Budget, Budgets};
use crate::fair_queue::Tenant;
use crate::registry::Flavor;
use crate::store::{ErrorKind, Step, StoreError};

/// Context of an operation in progress, for its errors and its retries.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    /// Repository or registry, for messages.
    pub(crate) place: Arc<str>,
    pub(crate) step: Step,
    /// Tag or digest, for messages; empty if the operation has neither.
    pub(crate) subject: String,
    /// Tenant of the operation, for fair limits.
    pub(crate) tenant: Tenant,
    /// Flavour of the registry, which determines the hints in error messages.
    pub(crate) flavor: &'static Flavor,
    /// Retry budget of the item.
    pub(crate) budget: Budget,
}

impl Context {
    /// Creates the context of an operation with `subject` (a tag, a digest or an empty text) at `place`, for the
    /// default tenant.
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

    /// Creates an error of this operation. If the retry budget of the item is spent, a transient error is marked as
    /// given up.
    pub(crate) fn error(&self, kind: ErrorKind, detail: impl std::fmt::Display) -> StoreError {
        let error = StoreError::new(&self.place, self.step, &self.subject, kind, detail);
        if error.is_transient() && self.budget.is_spent() { error.mark_given_up() } else { error }
    }

    /// Returns the same context with another step.
    pub(crate) fn at_step(&self, step: Step) -> Self {
        Self { step, budget: self.budget.at_step(step), ..self.clone() }
    }
}
