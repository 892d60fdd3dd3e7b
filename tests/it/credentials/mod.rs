//! Tests of credentials, identities, `login-check` and secrets.

mod cloud;
mod login;
mod secrets;
mod sources;
