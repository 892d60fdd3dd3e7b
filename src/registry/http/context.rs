//! Context of an operation, for the errors that it may cause: its repository, step, subject and retry budget.

use std::sync::Arc;

use super::retry_budget::{Budget, Budgets};
use crate::fair_queue::Tenant;
use crate::registry::Flavor;
use crate::store::{ErrorKind, Step, StoreError};

/// Operation in progress, for the errors that it may cause.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) place: Arc<str>,
    pub(crate) step: Step,
    pub(crate) subject: String,
    /// Tenant on whose behalf the operation runs.
    pub(crate) tenant: Tenant,
    /// Flavour of the registry, which has the hints in the messages of errors.
    pub(crate) flavor: &'static Flavor,
    /// Retry budget that is left for the item.
    pub(crate) budget: Budget,
}

impl Context {
    /// Creates the context of an operation with `subject` (a tag, a digest or nothing) at `place`, on behalf of the
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

    /// Creates the error of this operation. The error is final if the retry budget of the item is spent.
    pub(crate) fn error(&self, kind: ErrorKind, detail: impl std::fmt::Display) -> StoreError {
        let error = StoreError::new(&self.place, self.step, &self.subject, kind, detail);
        if error.is_transient() && self.budget.is_spent() { error.mark_given_up() } else { error }
    }

    /// Returns the context of the same operation at another step.
    pub(crate) fn at_step(&self, step: Step) -> Self {
        Self { step, budget: self.budget.at_step(step), ..self.clone() }
    }
}
