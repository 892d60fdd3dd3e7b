//! Tests of webhooks.

mod webhooks;
