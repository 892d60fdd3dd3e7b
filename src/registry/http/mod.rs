//! HTTP to one registry: connections, requests with their policy, responses and what their headers say.

pub(super) mod body;
pub(super) mod connect;
pub(super) mod error;
pub(super) mod hints;
pub(super) mod link_header;
pub(super) mod pagination;
pub(super) mod redact;
pub(super) mod redirect;
pub(super) mod response;
pub(super) mod retry;
pub(super) mod retry_budget;
pub(super) mod send;
pub(super) mod wrong_port;
